-- Blobs: immutable octets, in the row (place 0) or in a file (place 1).

-- name: blob_insert
INSERT INTO blob (id, place, size, sha256, octets, file) VALUES (:id, :place, :size, :sha256, :octets, :file);

-- name: blob_find
SELECT id, size, sha256, octets, file FROM blob WHERE id = :id;

-- name: blobs_find
-- `ids`: a JSON list.
SELECT b.id, b.size, b.sha256, b.octets, b.file FROM json_each(:ids) AS r CROSS JOIN blob AS b ON b.id = r.value;

-- name: blob_suspect_insert
INSERT INTO blob_suspect (blob, since_at) VALUES (:blob, :since_at) ON CONFLICT DO NOTHING;

-- name: blob_suspects
-- Suspects, and whether anything refers to them. Every table that holds a reference to a blob stands here.
SELECT suspect.blob, blob.file,
       EXISTS (SELECT 1 FROM message WHERE message.id = suspect.blob)
    OR EXISTS (SELECT 1 FROM queued_message WHERE queued_message.blob = suspect.blob)
    OR EXISTS (SELECT 1 FROM list_held WHERE list_held.blob = suspect.blob)
  FROM blob_suspect AS suspect LEFT JOIN blob ON blob.id = suspect.blob
 ORDER BY suspect.blob
 LIMIT :limit;

-- name: blob_delete
DELETE FROM blob WHERE id = :id;

-- name: blob_suspect_delete
DELETE FROM blob_suspect WHERE blob = :blob;

-- name: blob_gone_insert
INSERT INTO blob_gone (file, gone_at) VALUES (:file, :gone_at) ON CONFLICT DO NOTHING;

-- name: blob_gone_before
SELECT file FROM blob_gone WHERE gone_at < :before LIMIT :limit;

-- name: blob_gone_delete
DELETE FROM blob_gone WHERE file = :file;

-- name: blob_file_known
SELECT EXISTS (SELECT 1 FROM blob WHERE file = :file) OR EXISTS (SELECT 1 FROM blob_gone WHERE file = :file);

