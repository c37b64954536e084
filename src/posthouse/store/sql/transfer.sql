-- Statements of transfer/.

-- name: imported_find
SELECT i.key FROM json_each(:keys) AS k CROSS JOIN imported AS i ON i.account = :account AND i.key = unhex(k.value)

-- name: imported_note
INSERT INTO imported (account, key, at) VALUES (:account, :key, :at) ON CONFLICT DO NOTHING

-- name: export_placements
SELECT uid, email, deleted FROM placement WHERE account = :account AND mailbox = :mailbox AND uid > :after
ORDER BY uid LIMIT :limit
