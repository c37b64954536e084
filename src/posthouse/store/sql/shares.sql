-- Mailboxes that others may use (mailbox/shares.py).

-- name: share_rights
SELECT s.rights FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.account = :account AND s.mailbox = :mailbox AND s.grantee = :grantee AND a.removed_at IS NULL

-- name: share_owner
SELECT s.account FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.grantee = :grantee AND a.name = :name AND a.removed_at IS NULL LIMIT 1

-- name: shares_with
SELECT s.account, a.name, s.mailbox, s.rights, s.subscribed FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.grantee = :grantee AND a.removed_at IS NULL ORDER BY a.name

-- name: shares_of_mailbox
SELECT a.name, s.rights FROM share AS s JOIN account AS a ON a.id = s.grantee
WHERE s.account = :account AND s.mailbox = :mailbox ORDER BY a.name

-- name: shares_of_account
SELECT s.mailbox, a.name, s.rights FROM share AS s JOIN account AS a ON a.id = s.grantee
WHERE s.account = :account ORDER BY s.mailbox, a.name

-- name: share_count
SELECT count(*) FROM share WHERE account = :account AND mailbox = :mailbox

-- name: share_put
INSERT INTO share (account, mailbox, grantee, rights) VALUES (:account, :mailbox, :grantee, :rights)
ON CONFLICT (account, mailbox, grantee) DO UPDATE SET rights = excluded.rights

-- name: share_delete
DELETE FROM share WHERE account = :account AND mailbox = :mailbox AND grantee = :grantee

-- name: share_subscribe
UPDATE share SET subscribed = :subscribed WHERE account = :account AND mailbox = :mailbox AND grantee = :grantee

-- name: shares_inherit
INSERT INTO share (account, mailbox, grantee, rights)
SELECT account, :mailbox, grantee, rights FROM share WHERE account = :account AND mailbox = :parent

-- name: shares_drop
DELETE FROM share WHERE account = :account AND mailbox = :mailbox RETURNING grantee
