-- The index of words (mailbox/search.py).

-- name: search_accounts
SELECT account, search_mark, next_email - 1 FROM account_state
WHERE search_mark < next_email - 1 ORDER BY account LIMIT :limit

-- name: search_texts
SELECT e.id, t.head, t.body FROM email AS e JOIN message_text AS t ON t.message = e.message
WHERE e.account = :account AND e.id > :mark AND e.id <= :upto ORDER BY e.id

-- name: search_mark
UPDATE account_state SET search_mark = :mark WHERE account = :account

-- name: words_insert
INSERT OR REPLACE INTO email_words (rowid, text) VALUES (:rowid, :text)

-- name: words_delete
DELETE FROM email_words WHERE rowid = :rowid

-- name: words_find
SELECT rowid FROM email_words WHERE email_words MATCH :match AND rowid BETWEEN :low AND :high ORDER BY rowid LIMIT :limit
