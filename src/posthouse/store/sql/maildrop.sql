-- Statements of mailbox/maildrop.py.

-- name: maildrop
-- What POP3 shows of a mailbox: all but what is marked \Deleted. The third: NULL where the message is sent as it is stored, 1
-- where dots of it are doubled and that is all, else 2; a prologue that is not ASCII has fewer characters than octets.
SELECT p.email, e.size,
  CASE WHEN length(CAST(e.prologue AS TEXT)) < length(e.prologue) THEN 2
    ELSE (SELECT 2 - m.only_dots FROM message_mended AS m WHERE m.message = e.message) END
FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.deleted = 0 ORDER BY p.uid
