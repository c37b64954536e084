-- Annotations of mailboxes, and of accounts: of mailbox 0 (mailbox/metadata.py).

-- name: annotation_get
SELECT value FROM annotation WHERE account = :account AND mailbox = :mailbox AND entry = :entry

-- name: annotations_get
SELECT entry, value FROM annotation WHERE account = :account AND mailbox = :mailbox

-- name: annotations_all
SELECT mailbox, entry, value FROM annotation WHERE account = :account ORDER BY mailbox, entry

-- name: annotation_put
INSERT INTO annotation (account, mailbox, entry, value) VALUES (:account, :mailbox, :entry, :value)
ON CONFLICT (account, mailbox, entry) DO UPDATE SET value = excluded.value WHERE value <> excluded.value

-- name: annotation_delete
DELETE FROM annotation WHERE account = :account AND mailbox = :mailbox AND entry = :entry

-- name: annotation_count
SELECT count(*) FROM annotation WHERE account = :account AND mailbox = :mailbox

-- name: annotation_octets
SELECT sum(length(entry) + length(value)) FROM annotation WHERE account = :account

-- name: annotations_copy
INSERT INTO annotation (account, mailbox, entry, value)
SELECT account, :to, entry, value FROM annotation WHERE account = :account AND mailbox = :mailbox

-- name: annotations_drop
DELETE FROM annotation WHERE account = :account AND mailbox = :mailbox
