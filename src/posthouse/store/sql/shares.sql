-- Mailboxes that others may use (mailbox/shares.py). Grantee 0 is anyone.

-- name: share_rights
-- What is granted to an account, and to anyone; and what is taken from either.
SELECT s.rights, s.denied FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.account = :account AND s.mailbox = :mailbox AND s.grantee IN (0, :grantee) AND a.removed_at IS NULL

-- name: share_get
SELECT rights, denied FROM share WHERE account = :account AND mailbox = :mailbox AND grantee = :grantee

-- name: share_owner
SELECT s.account FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.grantee IN (0, :grantee) AND s.account <> :grantee AND s.rights <> '' AND a.name = :name AND a.removed_at IS NULL
LIMIT 1

-- name: shares_with
-- By one owner, or (0) by all.
SELECT s.account, a.name, s.mailbox, s.rights, s.denied, s.subscribed FROM share AS s JOIN account AS a ON a.id = s.account
WHERE s.grantee IN (0, :grantee) AND s.account <> :grantee AND a.removed_at IS NULL
AND (:owner = 0 OR s.account = :owner) ORDER BY a.name, s.mailbox

-- name: shares_of_account
SELECT s.mailbox, a.name, s.rights, s.denied FROM share AS s
LEFT JOIN account AS a ON a.id = s.grantee AND a.removed_at IS NULL
WHERE s.account = :account AND (s.grantee = 0 OR a.id IS NOT NULL) ORDER BY s.mailbox, a.name

-- name: shares_of_mailbox
SELECT a.name, s.rights, s.denied FROM share AS s
LEFT JOIN account AS a ON a.id = s.grantee AND a.removed_at IS NULL
WHERE s.account = :account AND s.mailbox = :mailbox AND (s.grantee = 0 OR a.id IS NOT NULL) ORDER BY a.name

-- name: share_count
SELECT count(*) FROM share WHERE account = :account AND mailbox = :mailbox AND (rights <> '' OR denied <> '')

-- name: share_put
INSERT INTO share (account, mailbox, grantee, rights) VALUES (:account, :mailbox, :grantee, :rights)
ON CONFLICT (account, mailbox, grantee) DO UPDATE SET rights = excluded.rights

-- name: share_deny
INSERT INTO share (account, mailbox, grantee, denied) VALUES (:account, :mailbox, :grantee, :rights)
ON CONFLICT (account, mailbox, grantee) DO UPDATE SET denied = excluded.denied

-- name: share_subscribe
INSERT INTO share (account, mailbox, grantee, subscribed) VALUES (:account, :mailbox, :grantee, :subscribed)
ON CONFLICT (account, mailbox, grantee) DO UPDATE SET subscribed = excluded.subscribed

-- name: share_tidy
-- Rows that say nothing any more: a subscription alone is worth something where anyone may use the mailbox.
DELETE FROM share WHERE account = :account AND mailbox = :mailbox AND rights = '' AND denied = ''
AND NOT (subscribed AND EXISTS (SELECT 1 FROM share AS y
                                WHERE y.account = :account AND y.mailbox = :mailbox AND y.grantee = 0 AND y.rights <> ''))

-- name: shares_inherit
INSERT INTO share (account, mailbox, grantee, rights, denied)
SELECT account, :mailbox, grantee, rights, denied FROM share
WHERE account = :account AND mailbox = :parent AND (rights <> '' OR denied <> '')

-- name: shares_drop
DELETE FROM share WHERE account = :account AND mailbox = :mailbox RETURNING grantee

-- name: shares_forget
DELETE FROM share WHERE grantee = :account
