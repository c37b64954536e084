-- The queue: messages that wait, the lanes they wait in, and each recipient's row.

-- name: queue_message_insert
INSERT INTO queued_message (id, journey, blob, size, sender, account, queued_at, expires_at, body, smtputf8, envid, ret,
  requiretls, priority, by_at, by_mode)
VALUES (:id, :journey, :blob, :size, :sender, :account, :queued_at, :expires_at, :body, :smtputf8, :envid, :ret,
  :requiretls, :priority, :by_at, :by_mode);

-- name: queue_message
SELECT id, journey, blob, size, sender, account, queued_at, expires_at, body, smtputf8, envid, ret, requiretls, priority,
  by_at, by_mode
FROM queued_message WHERE id = :id;

-- Still wanted by any recipient?
-- name: queue_message_wanted
SELECT 1 FROM queued_recipient WHERE message = :id LIMIT 1;

-- name: queue_message_delete
DELETE FROM queued_message WHERE id = :id RETURNING blob;

-- A destination that backs off keeps its time; one that is held, holds what comes later too.
-- name: queue_lane_open
INSERT INTO lane (destination, sender, due_at, failures, held)
VALUES (:destination, :sender, :due_at, 0, EXISTS (SELECT 1 FROM lane WHERE destination = :destination AND held = 1))
ON CONFLICT (destination, sender) DO UPDATE
SET due_at = CASE WHEN failures = 0 THEN min(due_at, excluded.due_at) ELSE due_at END
RETURNING id;

-- name: queue_recipient_insert
INSERT INTO queued_recipient (id, lane, message, address, original, notify, orcpt, prologue, due_at, attempts, held)
VALUES (:id, :lane, :message, :address, :original, :notify, :orcpt, :prologue, :due_at, 0, 0);

-- lanes: what is due ---------------------------------------------------------------------------------------------------

-- name: lanes_due
SELECT id, destination, sender, due_at, site FROM lane
WHERE held = 0 AND due_at <= :now AND lease_until <= :now
ORDER BY due_at LIMIT :limit;

-- The sender after this one that has a lane which is due: a step of a walk over senders.
-- name: lanes_next_sender
SELECT sender FROM lane
WHERE held = 0 AND sender > :sender AND due_at <= :now AND lease_until <= :now
ORDER BY sender LIMIT 1;

-- name: lanes_due_of_sender
SELECT id, destination, sender, due_at, site FROM lane
WHERE held = 0 AND sender = :sender AND due_at <= :now AND lease_until <= :now
ORDER BY due_at LIMIT :limit;

-- name: lanes_next_due
SELECT min(due_at) FROM lane WHERE held = 0 AND due_at > :now;

-- name: lanes_next_lease_end
SELECT min(lease_until) FROM lane WHERE lease_until > :now;

-- lanes: the lease -----------------------------------------------------------------------------------------------------

-- name: lane_lease
UPDATE lane SET lease_token = lease_token + 1, lease_until = :until
WHERE id = :lane AND held = 0 AND lease_until <= :now
RETURNING lease_token, destination, sender, failures, site;

-- name: lane_renew
UPDATE lane SET lease_until = :until WHERE id = :lane AND lease_token = :token AND lease_until > 0;

-- name: lane_of_lease
SELECT held FROM lane WHERE id = :lane AND lease_token = :token AND lease_until > 0;

-- name: lanes_abandon
UPDATE lane SET lease_until = 1 WHERE lease_until > 1;

-- name: lane_past_dot
SELECT r.id, r.address, m.journey FROM queued_recipient r JOIN queued_message m ON m.id = r.message
WHERE r.lane = :lane AND r.past_dot = 1;

-- name: lane_clear_past_dot
UPDATE queued_recipient SET past_dot = 0 WHERE lane = :lane AND past_dot = 1;

-- name: lane_backs_off
UPDATE lane SET failures = :failures, due_at = :due_at, last_reply = :reply, last_remote = :remote WHERE id = :lane;

-- name: lane_lives
UPDATE lane SET failures = 0 WHERE id = :lane;

-- name: lane_site
UPDATE lane SET site = :site WHERE id = :lane;

-- A lane that does not back off is due when the first of its recipients is.
-- name: lane_release
UPDATE lane SET lease_until = 0, due_at = max(:not_before, CASE
    WHEN failures > 0 THEN due_at
    ELSE coalesce((SELECT min(due_at) FROM queued_recipient WHERE lane = :lane AND held = 0), :never) END)
WHERE id = :lane;

-- name: lane_delete_if_empty
DELETE FROM lane WHERE id = :lane AND held = 0 AND lease_until = 0
AND NOT EXISTS (SELECT 1 FROM queued_recipient WHERE lane = :lane);

-- claiming and settling ------------------------------------------------------------------------------------------------

-- name: queue_claim
SELECT id, message, address, original, notify, orcpt, prologue, due_at, attempts, last_reply, last_remote
FROM queued_recipient
WHERE lane = :lane AND held = 0 AND due_at <= :now AND (due_at, id) > (:after_due, :after_id)
ORDER BY due_at, id LIMIT :limit;

-- Recipients whose time is up in lanes that are not about to be tried: what was never tried is tried once more first.
-- name: queue_expired_lanes
SELECT DISTINCT r.lane FROM queued_message m
JOIN queued_recipient r ON r.message = m.id
JOIN lane l ON l.id = r.lane
WHERE m.expires_at <= :now AND r.held = 0 AND l.held = 0 AND l.due_at > :now AND l.lease_until <= :now
LIMIT :limit;

-- name: queue_next_expiry
SELECT min(expires_at) FROM queued_message WHERE expires_at > :now;

-- name: queue_claim_expired
SELECT r.id, r.message, r.address, r.original, r.notify, r.orcpt, r.prologue, r.due_at, r.attempts,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END
FROM queued_message m
JOIN queued_recipient r ON r.message = m.id
JOIN lane l ON l.id = r.lane
WHERE m.expires_at <= :now AND r.lane = :lane AND r.held = 0
ORDER BY r.message, r.id LIMIT :limit;

-- name: queue_past_dot
UPDATE queued_recipient SET past_dot = 1 WHERE id = :id AND lane = :lane;

-- name: queue_settle_final
DELETE FROM queued_recipient WHERE id = :id AND lane = :lane;

-- name: queue_settle_deferred
UPDATE queued_recipient
SET attempts = attempts + 1, due_at = :due_at, past_dot = 0, last_reply = :reply, last_remote = :remote
WHERE id = :id AND lane = :lane;

-- what a person does with it -------------------------------------------------------------------------------------------

-- name: queue_list
SELECT r.id, m.journey, m.size, m.sender, m.queued_at, m.expires_at, r.address, r.original,
  l.destination, max(r.due_at, l.due_at), r.attempts, r.held OR l.held, l.lease_until > :now,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END,
  r.lane, r.message
FROM queued_recipient r
JOIN queued_message m ON m.id = r.message
JOIN lane l ON l.id = r.lane
WHERE r.id > :after
  AND (:id IS NULL OR r.id = :id)
  AND (:journey IS NULL OR m.journey = :journey)
  AND (:sender IS NULL OR lower(coalesce(m.sender, '')) = :sender)
  AND (:recipient IS NULL OR lower(r.address) = :recipient OR lower(r.original) = :recipient)
  AND (:destination IS NULL OR l.destination = :destination)
ORDER BY r.id LIMIT :limit;

-- name: queue_lanes
SELECT l.destination, l.sender, l.due_at, l.failures, l.held, l.lease_until > :now, l.last_reply, l.last_remote,
  (SELECT count(*) FROM (SELECT 1 FROM queued_recipient r WHERE r.lane = l.id LIMIT :most))
FROM lane l ORDER BY l.destination, l.sender LIMIT :limit;

-- name: queue_hold_recipient
UPDATE queued_recipient SET held = 1 WHERE id = :id AND held = 0;

-- name: queue_release_recipient
UPDATE queued_recipient SET held = 0 WHERE id = :id AND held = 1;

-- Recipients in flight are due already and stay where the claim found them.
-- name: queue_retry_recipient
UPDATE queued_recipient SET due_at = :now WHERE id = :id AND due_at > :now;

-- name: queue_retry_lane
UPDATE lane SET due_at = :now WHERE id = :lane AND due_at > :now;

-- name: queue_hold_destination
UPDATE lane SET held = 1 WHERE destination = :destination AND held = 0;

-- name: queue_release_destination
UPDATE lane SET held = 0, due_at = :now WHERE destination = :destination AND held = 1;

-- name: queue_lanes_of
SELECT id FROM lane WHERE destination = :destination;
