-- Statements of mailbox/maildrop.py.

-- name: maildrop
-- What POP3 shows of a mailbox: all but what is marked \Deleted.
SELECT p.email, e.size
FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.deleted = 0 ORDER BY p.uid
