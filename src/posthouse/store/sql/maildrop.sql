-- Statements of mailbox/maildrop.py.

-- name: maildrop
-- What POP3 shows of a mailbox: all but what is marked \Deleted. The third: it is not sent as it is stored; a prologue that is
-- not ASCII has fewer characters than octets.
SELECT p.email, e.size,
  EXISTS (SELECT 1 FROM message_mended AS m WHERE m.message = e.message)
  OR length(CAST(e.prologue AS TEXT)) < length(e.prologue)
FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.deleted = 0 ORDER BY p.uid
