-- The index of words (mailbox/search.py).

-- name: search_accounts
SELECT account, search_mark, next_email - 1 FROM account_state
WHERE search_mark < next_email - 1 ORDER BY account LIMIT :limit

-- name: search_accounts_of
SELECT s.account, s.search_mark, s.next_email - 1 FROM json_each(:accounts) AS r
CROSS JOIN account_state AS s ON s.account BETWEEN r.value ->> 0 AND r.value ->> 1
WHERE s.search_mark < s.next_email - 1 ORDER BY s.account LIMIT :limit

-- name: search_sizes
-- Of how many octets the text is, about; and whether SQL can index it: ASCII that stands in the row's blob as it is.
SELECT m.size, m.text_at IS NOT NULL AND b.place = 0 AND length(m.head) = octet_length(m.head)
FROM email AS e JOIN message AS m ON m.id = e.message JOIN blob AS b ON b.id = m.id
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto

-- name: search_texts
-- Of a text that stands as it is in a blob elsewhere only that there is more (message/text.py, CUT).
SELECT e.id, m.head, coalesce(t.body, CAST(substr(b.octets, m.text_at + 1) AS TEXT), iif(b.place, char(10), '')), b.place = 0
FROM email AS e JOIN message AS m ON m.id = e.message
LEFT JOIN message_text AS t ON t.message = m.id LEFT JOIN blob AS b ON b.id = m.id AND m.text_at IS NOT NULL
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto ORDER BY e.id

-- name: search_mark
UPDATE account_state SET search_mark = :mark WHERE account = :account

-- name: search_reset
UPDATE account_state SET search_mark = 0, words_mark = words_mark * 0 WHERE account = :account

-- name: words_insert
INSERT OR REPLACE INTO email_words (rowid, body, head) VALUES (:rowid, :body, :head)

-- name: words_insert_in_place
INSERT OR REPLACE INTO email_words (rowid, body, head)
SELECT (:account << 32) | e.id, CAST(substr(b.octets, m.text_at + 1) AS TEXT), m.head
FROM email AS e JOIN message AS m ON m.id = e.message JOIN blob AS b ON b.id = m.id
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto ORDER BY e.id

-- name: words_delete
DELETE FROM email_words WHERE rowid = :rowid

-- name: words_find
SELECT rowid FROM email_words WHERE email_words MATCH :match AND rowid BETWEEN :low AND :high ORDER BY rowid LIMIT :limit

-- the words themselves, of accounts that are searched by substrings ------------------------------------------------------

-- name: search_words_mark
SELECT words_mark FROM account_state WHERE account = :account

-- name: search_words_want
UPDATE account_state SET words_mark = 0 WHERE account = :account AND words_mark IS NULL

-- name: search_words_due
SELECT s.account, s.words_mark FROM json_each(:accounts) AS r
CROSS JOIN account_state AS s ON s.account BETWEEN r.value ->> 0 AND r.value ->> 1
WHERE s.words_mark + :together <= s.search_mark LIMIT 1

-- name: search_words_move
UPDATE account_state SET words_mark = :upto WHERE account = :account AND words_mark = :mark AND search_mark >= :upto

-- name: search_words_insert
INSERT INTO search_words (account, upto, words, fields, unread) VALUES (:account, :upto, :words, :fields, :unread)

-- name: search_words_forget
DELETE FROM search_words WHERE account = :account

-- name: search_words_next
SELECT upto, words FROM search_words WHERE account = :account AND upto > :after ORDER BY upto LIMIT :limit

-- name: search_fields_next
SELECT upto, fields, unread FROM search_words WHERE account = :account AND upto > :after ORDER BY upto LIMIT :limit

-- looking into headers ---------------------------------------------------------------------------------------------------

-- name: search_headers
-- Prologue and at least the header of those that lie in the database. Of a blob without octets substr makes NULL.
SELECT e.id, e.prologue, coalesce(substr(b.octets, 1, coalesce(nullif(instr(b.octets, x'0A0D0A'), 0) + 2, length(b.octets))), x'')
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN blob AS b ON b.id = e.message AND b.place = 0

-- name: search_headers_upto
-- The same of emails with ids in (mark, upto]; NULL for a header that lies elsewhere.
SELECT e.id, e.prologue, CASE WHEN b.octets IS NOT NULL THEN
coalesce(substr(b.octets, 1, coalesce(nullif(instr(b.octets, x'0A0D0A'), 0) + 2, length(b.octets))), x'') END
FROM email AS e CROSS JOIN blob AS b ON b.id = e.message
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto

-- columns (mailbox/columns.py): one value of each placement of a mailbox, by uid --------------------------------------------

-- name: column_subject
-- The first line, as far as HEAD goes, in octets, which need not be counted as characters are; of all in one row, uids and
-- lines in one order: a row each takes half as long again. Of a blob without octets substr makes NULL.
SELECT group_concat(uid), CAST(group_concat(line, x'0A') AS BLOB) FROM (
SELECT p.uid AS uid,
coalesce(substr(CAST(m.head AS BLOB), 1, min(coalesce(nullif(instr(CAST(m.head AS BLOB), x'0A'), 0), 4001) - 1, 4000)), '') AS line
FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
CROSS JOIN message AS m ON m.id = e.message
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after AND p.uid <= :upto ORDER BY p.uid LIMIT :limit)

-- name: column_head
SELECT p.uid, substr(m.head, 1, 4000) FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
CROSS JOIN message AS m ON m.id = e.message
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_sorting
SELECT p.uid, m.sorting FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
CROSS JOIN message AS m ON m.id = e.message
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_links
SELECT p.uid, m.links FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
CROSS JOIN message AS m ON m.id = e.message
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_sent
-- Far in the past where there is no Date that can be read.
SELECT p.uid, coalesce(m.sent_at, -4611686018427387904) FROM placement AS p
CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email CROSS JOIN message AS m ON m.id = e.message
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_received
SELECT p.uid, e.received_at FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_size
SELECT p.uid, e.size FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_thread
SELECT p.uid, e.thread FROM placement AS p CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: column_saved
SELECT uid, saved_at FROM placement
WHERE account = :account AND mailbox = :mailbox AND uid > :after ORDER BY uid LIMIT :limit
