-- Networks that nobody is served from.

-- name: blocks
SELECT network, since_at, until_at, reason, times FROM block ORDER BY network LIMIT :limit;

-- name: block_find
SELECT until_at, times FROM block WHERE network = :network;

-- name: blocks_by_hand_count
SELECT count(*) FROM block WHERE times = 0;

-- name: block_record
-- Another process may have blocked it, too; by hand it may be in force or over.
INSERT INTO block (network, since_at, until_at, reason, times)
VALUES (:network, :since, :until, :reason, :times)
ON CONFLICT (network) DO UPDATE
SET since_at = excluded.since_at, until_at = excluded.until_at, reason = excluded.reason, times = excluded.times
WHERE block.times > 0 OR block.until_at < excluded.since_at;

-- name: block_put
INSERT INTO block (network, since_at, until_at, reason, times)
VALUES (:network, :since, :until, :reason, :times)
ON CONFLICT (network) DO UPDATE
SET since_at = excluded.since_at, until_at = excluded.until_at, reason = excluded.reason, times = excluded.times;

-- name: blocks_crowded_out
DELETE FROM block WHERE times > 0 AND network IN (
  SELECT network FROM block WHERE times > 0 ORDER BY until_at DESC LIMIT -1 OFFSET :most
);

-- name: block_delete
DELETE FROM block WHERE network = :network;

-- name: blocks_forget
DELETE FROM block WHERE until_at < :before;
