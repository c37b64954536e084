-- Blobs: immutable octets, in the row (place 0) or under a name in another place.

-- name: blob_insert
INSERT INTO blob (id, place, size, sha256, octets, name) VALUES (:id, :place, :size, :sha256, :octets, :name);

-- name: blob_find
SELECT id, size, sha256, octets, name, place FROM blob WHERE id = :id;

-- name: blobs_find
-- `ids`: a JSON list.
SELECT b.id, b.size, b.sha256, b.octets, b.name, b.place
  FROM json_each(:ids) AS r CROSS JOIN blob AS b ON b.id = r.value;

-- name: blob_suspect_insert
INSERT INTO blob_suspect (blob, since_at) VALUES (:blob, :since_at) ON CONFLICT DO NOTHING;

-- name: blob_suspects
-- Suspects, and whether anything refers to them. Every table that holds a reference to a blob stands here.
SELECT suspect.blob, blob.place, blob.name,
       EXISTS (SELECT 1 FROM message WHERE message.id = suspect.blob)
    OR EXISTS (SELECT 1 FROM queued_recipient AS r
       WHERE r.id BETWEEN suspect.blob << 24 AND (suspect.blob << 24) + 16777215)
    OR EXISTS (SELECT 1 FROM list_held WHERE list_held.blob = suspect.blob)
    OR EXISTS (SELECT 1 FROM list_digest_post WHERE list_digest_post.blob = suspect.blob)
  FROM blob_suspect AS suspect LEFT JOIN blob ON blob.id = suspect.blob
 ORDER BY suspect.blob
 LIMIT :limit;

-- name: blob_delete
DELETE FROM blob WHERE id = :id;

-- name: blob_suspect_delete
DELETE FROM blob_suspect WHERE blob = :blob;

-- name: blob_gone_insert
INSERT INTO blob_gone (place, name, gone_at) VALUES (:place, :name, :gone_at) ON CONFLICT DO NOTHING;

-- name: blob_gone_before
SELECT name FROM blob_gone WHERE place = :place AND gone_at < :before LIMIT :limit;

-- name: blob_gone_delete
DELETE FROM blob_gone WHERE place = :place AND name = :name;

-- name: blob_known
SELECT EXISTS (SELECT 1 FROM blob WHERE place = :place AND name = :name)
    OR EXISTS (SELECT 1 FROM blob_gone WHERE place = :place AND name = :name);

