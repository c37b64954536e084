-- The index of words (mailbox/search.py).

-- name: search_accounts
SELECT account, search_mark, next_email - 1 FROM account_state
WHERE search_mark < next_email - 1 ORDER BY account LIMIT :limit

-- name: search_accounts_of
SELECT s.account, s.search_mark, s.next_email - 1 FROM json_each(:accounts) AS r
CROSS JOIN account_state AS s ON s.account BETWEEN r.value ->> 0 AND r.value ->> 1
WHERE s.search_mark < s.next_email - 1 ORDER BY s.account LIMIT :limit

-- name: search_sizes
-- Of how many octets the text is, about; and whether SQL can index it: ASCII that stands in the blob as it is.
SELECT m.size, m.text_at IS NOT NULL AND length(m.head) = octet_length(m.head)
FROM email AS e JOIN message AS m ON m.id = e.message
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto

-- name: search_texts
SELECT e.id, m.head, coalesce(t.body, CAST(substr(b.octets, m.text_at + 1) AS TEXT), '')
FROM email AS e JOIN message AS m ON m.id = e.message
LEFT JOIN message_text AS t ON t.message = m.id LEFT JOIN blob AS b ON b.id = m.id AND m.text_at IS NOT NULL
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto ORDER BY e.id

-- name: search_mark
UPDATE account_state SET search_mark = :mark WHERE account = :account

-- name: words_insert
INSERT OR REPLACE INTO email_words (rowid, text) VALUES (:rowid, :text)

-- name: words_insert_in_place
INSERT OR REPLACE INTO email_words (rowid, text)
SELECT (:account << 32) | e.id, m.head || char(10) || CAST(substr(b.octets, m.text_at + 1) AS TEXT)
FROM email AS e JOIN message AS m ON m.id = e.message JOIN blob AS b ON b.id = m.id
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto ORDER BY e.id

-- name: words_delete
DELETE FROM email_words WHERE rowid = :rowid

-- name: words_find
SELECT rowid FROM email_words WHERE email_words MATCH :match AND rowid BETWEEN :low AND :high ORDER BY rowid LIMIT :limit
