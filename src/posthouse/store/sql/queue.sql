-- The queue: recipients that wait, each with its envelope, and the lanes they wait in.

-- name: queue_messages
-- The envelopes of these recipients; `ids`: a JSON list.
SELECT r.id, r.message, r.journey, r.size, r.sender, r.account, r.queued_at, r.expires_at,
  r.body, r.smtputf8, r.envid, r.ret, r.requiretls, r.priority, r.by_at, r.by_mode
FROM json_each(:ids) AS j CROSS JOIN queued_recipient AS r ON r.id = j.value;

-- The lane, where it is there and need not be written.
-- name: queue_lane_find
SELECT id FROM lane WHERE destination = :destination AND sender = :sender AND priority = :priority
AND (failures > 0 OR due_at <= :due_at);

-- A destination that backs off keeps its time; one that is held, holds what comes later too.
-- name: queue_lane_open
INSERT INTO lane (destination, sender, priority, due_at, failures, held)
VALUES (:destination, :sender, :priority, :due_at, 0,
  EXISTS (SELECT 1 FROM lane WHERE destination = :destination AND held = 1))
ON CONFLICT (destination, sender, priority) DO UPDATE
SET due_at = CASE WHEN failures = 0 THEN min(due_at, excluded.due_at) ELSE due_at END
RETURNING id;

-- name: queue_recipient_insert
INSERT INTO queued_recipient
  (id, lane, due_at, expires_at, waits_since, attempts, address, original, notify, orcpt, return_path, message, journey,
  size, sender, account, queued_at, body, smtputf8, envid, ret, requiretls, priority, by_at, by_mode, by_told, prologue)
VALUES (:id, :lane, :due_at, :expires_at, :waits_since, 0, :address, :original, :notify, :orcpt, :return_path, :message,
  :journey, :size, :sender, :account, :queued_at, :body, :smtputf8, :envid, :ret, :requiretls, :priority, :by_at,
  :by_mode, :by_told, :prologue);

-- lanes: what is due ---------------------------------------------------------------------------------------------------

-- A destination that was not routed yet is a site of its own.
-- name: lanes_due
SELECT l.id, l.destination, l.sender, l.due_at, l.site, l.priority, l.failures, s.failures, s.due_at
FROM lane AS l LEFT JOIN site AS s ON s.name = coalesce(l.site, l.destination)
WHERE l.held = 0 AND l.due_at <= :now AND l.lease_until <= :now
  AND NOT (s.holder IS NOT NULL AND s.holder <> :holder AND s.lease_until > :now)
ORDER BY l.due_at LIMIT :limit;

-- name: lanes_due_elsewhere
-- `full`, a JSON list: sites and destinations that have all the connections they may have.
SELECT l.id, l.destination, l.sender, l.due_at, l.site, l.priority, l.failures, s.failures, s.due_at
FROM lane AS l LEFT JOIN site AS s ON s.name = coalesce(l.site, l.destination)
WHERE l.held = 0 AND l.due_at <= :now AND l.lease_until <= :now
  AND NOT (s.holder IS NOT NULL AND s.holder <> :holder AND s.lease_until > :now)
  AND coalesce(l.site, l.destination) NOT IN (SELECT value FROM json_each(:full))
ORDER BY l.due_at LIMIT :limit;

-- name: lanes_due_urgent
SELECT l.id, l.destination, l.sender, l.due_at, l.site, l.priority, l.failures, s.failures, s.due_at
FROM lane AS l LEFT JOIN site AS s ON s.name = coalesce(l.site, l.destination)
WHERE l.held = 0 AND l.priority > 0 AND l.due_at <= :now AND l.lease_until <= :now
  AND NOT (s.holder IS NOT NULL AND s.holder <> :holder AND s.lease_until > :now)
ORDER BY l.due_at LIMIT :limit;

-- The sender after this one that has a lane which is due: a step of a walk over senders.
-- name: lanes_next_sender
SELECT sender FROM lane
WHERE held = 0 AND sender > :sender AND due_at <= :now AND lease_until <= :now
ORDER BY sender LIMIT 1;

-- name: lanes_due_of_sender
SELECT l.id, l.destination, l.sender, l.due_at, l.site, l.priority, l.failures, s.failures, s.due_at
FROM lane AS l LEFT JOIN site AS s ON s.name = coalesce(l.site, l.destination)
WHERE l.held = 0 AND l.sender = :sender AND l.due_at <= :now AND l.lease_until <= :now
  AND NOT (s.holder IS NOT NULL AND s.holder <> :holder AND s.lease_until > :now)
ORDER BY l.due_at LIMIT :limit;

-- name: lanes_next_due
SELECT min(due_at) FROM lane WHERE held = 0 AND due_at > :now;

-- name: lanes_next_lease_end
SELECT min(lease_until) FROM lane WHERE lease_until > :now;

-- lanes: the lease -----------------------------------------------------------------------------------------------------

-- name: lane_lease
UPDATE lane SET lease_token = lease_token + 1, lease_until = :until
WHERE id = :lane AND held <= :even_held AND lease_until = 0
RETURNING lease_token, destination, sender, failures, site;

-- A lease that ran out: who was past the dot under it may have been served.
-- name: lane_take_over
UPDATE lane SET lease_token = lease_token + 1, lease_until = :until
WHERE id = :lane AND held <= :even_held AND lease_until BETWEEN 1 AND :now
RETURNING lease_token, destination, sender, failures, site;

-- name: lane_renew
UPDATE lane SET lease_until = :until WHERE id = :lane AND lease_token = :token AND lease_until > 0;

-- name: lane_of_lease
SELECT held, failures FROM lane WHERE id = :lane AND lease_token = :token AND lease_until > 0;

-- name: lanes_of_leases
-- `leases`, a JSON list of [lane, token]: the lanes of those that stand, and whether they are held by now.
SELECT l.id, l.held FROM json_each(:leases) AS j CROSS JOIN lane AS l ON l.id = j.value ->> 0
WHERE l.lease_token = j.value ->> 1 AND l.lease_until > 0;

-- The second condition is what makes the index of leased lanes fit.
-- name: lanes_abandon
UPDATE lane SET lease_until = 1 WHERE lease_until > 1 AND lease_until > 0;

-- name: lane_abandon
UPDATE lane SET lease_until = 1 WHERE id = :lane AND lease_token = :token AND lease_until > 1;

-- name: lane_past_dot
SELECT r.id, r.address, r.journey FROM past_dot AS dot CROSS JOIN queued_recipient AS r ON r.id = dot.recipient
WHERE dot.lane = :lane;

-- name: lane_clear_past_dot
DELETE FROM past_dot WHERE lane = :lane;

-- name: lane_backs_off
UPDATE lane SET failures = :failures, due_at = :due_at, last_reply = :reply, last_remote = :remote WHERE id = :lane;

-- name: lane_lives
UPDATE lane SET failures = 0 WHERE id = :lane;

-- name: lane_site
UPDATE lane SET site = :site WHERE id = :lane;

-- A lane backs off for somebody who would be due by then: where all are held or to go later, it would be started in vain,
-- again and again.
-- name: lane_backs_off_for_nobody
UPDATE lane SET failures = 0 WHERE id = :lane AND NOT EXISTS
  (SELECT 1 FROM queued_recipient AS r WHERE r.lane = lane.id AND r.held = 0 AND r.due_at <= lane.due_at);

-- A lane that does not back off is due when the first of its recipients is.
-- name: lane_release
UPDATE lane SET lease_until = 0, due_at = max(:not_before, CASE
    WHEN failures > 0 THEN due_at
    ELSE coalesce((SELECT min(due_at) FROM queued_recipient WHERE lane = :lane AND held = 0), :never) END)
WHERE id = :lane;

-- name: lane_delete_if_empty
DELETE FROM lane WHERE id = :lane AND held = 0 AND lease_until = 0
AND NOT EXISTS (SELECT 1 FROM queued_recipient WHERE lane = :lane);

-- sites ----------------------------------------------------------------------------------------------------------------

-- name: site_lease
INSERT INTO site (name, holder, lease_until) VALUES (:site, :holder, :until)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
WHERE site.holder = excluded.holder OR site.lease_until <= :now
RETURNING failures, due_at;

-- name: site_renew
UPDATE site SET lease_until = :until WHERE name = :site AND holder = :holder AND lease_until > 0;

-- name: site_let_go
UPDATE site SET lease_until = 0 WHERE name = :site AND holder = :holder;

-- name: site_delete_if_idle
DELETE FROM site WHERE name = :site AND lease_until = 0 AND failures = 0;

-- name: sites_abandon
UPDATE site SET lease_until = 0 WHERE lease_until > 0;

-- Those that nothing waits for any more.
-- name: sites_forget
DELETE FROM site WHERE name IN (
  SELECT name FROM site AS s WHERE s.lease_until <= :now AND s.due_at <= :now
  AND NOT EXISTS (SELECT 1 FROM lane WHERE site = s.name) AND NOT EXISTS (SELECT 1 FROM lane WHERE destination = s.name)
  LIMIT :limit);

-- name: site_get
SELECT failures, due_at FROM site WHERE name = :site;

-- name: site_backs_off
INSERT INTO site (name, failures, due_at, last_reply, last_remote)
VALUES (:site, :failures, :due_at, :reply, :remote)
ON CONFLICT (name) DO UPDATE SET failures = excluded.failures, due_at = excluded.due_at,
  last_reply = excluded.last_reply, last_remote = excluded.last_remote;

-- name: site_lives
UPDATE site SET failures = 0, due_at = 0, last_reply = NULL, last_remote = NULL
WHERE name = :site AND failures > 0;

-- A lane waits with its site, without an attempt of its own.
-- name: lane_postpone
UPDATE lane SET due_at = :until, failures = max(failures, 1), site = :site,
  last_reply = coalesce((SELECT last_reply FROM site WHERE name = :site), last_reply),
  last_remote = coalesce((SELECT last_remote FROM site WHERE name = :site), last_remote)
WHERE id = :lane AND lease_until <= :now AND due_at <= :now;

-- name: site_wake_lanes
UPDATE lane SET due_at = :now, failures = 0 WHERE id IN
  (SELECT id FROM lane WHERE site = :site AND failures > 0 AND due_at > :now LIMIT :limit);

-- name: destination_wake_lanes
UPDATE lane SET due_at = :now, failures = 0 WHERE id IN
  (SELECT id FROM lane WHERE destination = :destination AND failures > 0 AND due_at > :now LIMIT :limit);

-- claiming and settling ------------------------------------------------------------------------------------------------

-- name: queue_claim
SELECT r.id, r.message, r.address, r.original, r.notify, r.orcpt, r.prologue, r.due_at, r.attempts, r.last_reply,
  r.last_remote, r.return_path, r.journey, r.size, r.sender, r.account, r.queued_at,
  r.expires_at, r.body, r.smtputf8, r.envid, r.ret, r.requiretls, r.priority, r.by_at, r.by_mode
FROM queued_recipient AS r
WHERE r.lane = :lane AND r.held = 0 AND r.due_at <= :now AND (r.due_at, r.id) > (:after_due, :after_id)
ORDER BY r.due_at, r.id LIMIT :limit;

-- time -----------------------------------------------------------------------------------------------------------------

-- The next so many rows behind `after`: where they end, how many, how many have expired or wait since `since` or longer,
-- the first time that is to come, and how many are to wait beyond `latest`, which no schedule says.
-- name: queue_walk
SELECT max(id), count(*), total(expires_at <= :now), total(waits_since <= :since),
  min(CASE WHEN expires_at > :now THEN expires_at END), min(CASE WHEN waits_since > :since THEN waits_since END),
  total(astray)
FROM (SELECT id, expires_at, waits_since, due_at > :latest AND (attempts > 0 OR due_at <= queued_at) AS astray
  FROM queued_recipient WHERE id > :after ORDER BY id LIMIT :limit);

-- Those that are to leave later by their sender's wish (RFC 4865) were not tried, and are due behind their acceptance.
-- name: queue_call_back
UPDATE queued_recipient SET due_at = :now
WHERE id > :after AND id <= :upto AND due_at > :latest AND (attempts > 0 OR due_at <= queued_at);

-- name: lanes_call_back
UPDATE lane SET due_at = :now WHERE held = 0 AND due_at > :latest AND (failures > 0
  OR EXISTS (SELECT 1 FROM queued_recipient AS r WHERE r.lane = lane.id AND r.held = 0 AND r.due_at <= :latest));

-- name: sites_call_back
UPDATE site SET due_at = :now WHERE failures > 0 AND due_at > :latest;

-- Those among them whose time is up, and whether that is so of a lane that is not about to be tried: what was never tried
-- is tried once more first.
-- name: queue_expired
SELECT r.id, r.lane, r.held = 0 AND l.held = 0 AND l.due_at > :now AND l.lease_until <= :now
FROM queued_recipient AS r CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.id > :after AND r.id <= :upto AND r.expires_at <= :now ORDER BY r.id LIMIT :limit;

-- name: queue_next_expiry
SELECT min(expires_at) FROM queued_recipient WHERE expires_at - queued_at < 7200000 AND expires_at > :now;

-- name: queue_claim_expired
-- Of these; `ids`: a JSON list.
SELECT r.id, r.message, r.address, r.original, r.notify, r.orcpt, r.prologue, r.due_at, r.attempts,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END,
  r.return_path, r.journey, r.size, r.sender, r.account, r.queued_at, r.expires_at,
  r.body, r.smtputf8, r.envid, r.ret, r.requiretls, r.priority, r.by_at, r.by_mode
FROM json_each(:ids) AS j
CROSS JOIN queued_recipient AS r ON r.id = j.value
CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.lane = :lane AND r.held = 0
ORDER BY r.message, r.id LIMIT :limit;

-- recipients that wait for long ----------------------------------------------------------------------------------------

-- Whoever of a stretch waits since then or longer, and whether his lane is tried just now or soon.
-- name: queue_delayed
SELECT r.id, r.message, r.held = 0 AND l.held = 0 AND (l.due_at <= :now OR l.lease_until > :now)
FROM queued_recipient AS r CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.id > :after AND r.id <= :upto AND r.waits_since <= :since
ORDER BY r.id LIMIT :limit;

-- RFC 2852 §4.1.4: past their time, and the sender wants to be told.
-- name: queue_overdue
SELECT message FROM queued_recipient WHERE by_at IS NOT NULL AND by_told = 0 AND by_at <= :now LIMIT :limit;

-- name: queue_next_overdue
SELECT min(by_at) FROM queued_recipient WHERE by_at IS NOT NULL AND by_told = 0 AND by_at > :now;

-- name: queue_by_told
-- Whether the sender was told of the message already.
SELECT EXISTS (SELECT 1 FROM queued_recipient
  WHERE id BETWEEN (:message >> 24) << 24 AND ((:message >> 24) << 24) + 16777215 AND message = :message
  AND by_told = 1);

-- name: queue_overdue_told
UPDATE queued_recipient SET by_told = 1
WHERE id BETWEEN (:message >> 24) << 24 AND ((:message >> 24) << 24) + 16777215 AND message = :message;

-- name: queue_waiting_of
-- Those of the message whose sender wants to hear that they wait.
SELECT r.id, r.message, r.address, r.original, r.notify, r.orcpt, r.prologue, r.due_at, r.attempts,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END,
  r.return_path, r.journey, r.size, r.sender, r.account, r.queued_at, r.expires_at,
  r.body, r.smtputf8, r.envid, r.ret, r.requiretls, r.priority, r.by_at, r.by_mode
FROM queued_recipient AS r CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.id BETWEEN (:message >> 24) << 24 AND ((:message >> 24) << 24) + 16777215
  AND r.message = :message AND r.waits_since IS NOT NULL
ORDER BY r.id LIMIT :limit;

-- name: queue_delay_told
-- `ids`: a JSON list.
UPDATE queued_recipient SET waits_since = NULL, delayed_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND waits_since IS NOT NULL RETURNING id;

-- settling -------------------------------------------------------------------------------------------------------------

-- name: queue_past_dot
-- `ids`: a JSON list. Those that are held by now are left out.
INSERT INTO past_dot (recipient, lane) SELECT r.id, r.lane FROM json_each(:ids) AS j
CROSS JOIN queued_recipient AS r ON r.id = j.value WHERE r.held = 0 ON CONFLICT DO NOTHING;

-- name: queue_held_of
-- `ids`: a JSON list.
SELECT r.id FROM json_each(:ids) AS j CROSS JOIN queued_recipient AS r ON r.id = j.value WHERE r.held = 1;

-- name: queue_not_past_dot
-- `ids`: a JSON list.
DELETE FROM past_dot WHERE recipient IN (SELECT value FROM json_each(:ids));

-- name: queue_settle_final
-- `ids`: a JSON list.
DELETE FROM queued_recipient WHERE id IN (SELECT value FROM json_each(:ids));

-- Behind that: their blobs, where no other recipient needs them, are suspects of the sweep.
-- name: queue_settle_blobs
INSERT INTO blob_suspect (blob, since_at) SELECT j.value >> 24, :now FROM json_each(:ids) AS j
WHERE NOT EXISTS (SELECT 1 FROM queued_recipient AS r
  WHERE r.id BETWEEN (j.value >> 24) << 24 AND ((j.value >> 24) << 24) + 16777215)
ON CONFLICT DO NOTHING;

-- name: queue_settle_deferred
UPDATE queued_recipient
SET attempts = attempts + 1, due_at = :due_at, last_reply = :reply, last_remote = :remote
WHERE id = :id;

-- what a person does with it -------------------------------------------------------------------------------------------

-- name: queue_list
SELECT r.id, r.journey, r.size, r.sender, r.queued_at, r.expires_at, r.address, r.original,
  l.destination, max(r.due_at, l.due_at), r.attempts, r.held OR l.held, l.lease_until > :now,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END,
  r.lane, r.attempts = 0 AND r.due_at > :now, r.delayed_at
FROM queued_recipient AS r CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.id > :after AND r.id <= :upto AND r.queued_at <= :queued_by
  AND (:recipient IS NULL OR lower(r.address) = :recipient OR lower(r.original) = :recipient)
  AND (:destination IS NULL OR r.lane IN (SELECT id FROM lane WHERE destination = :destination))
  AND (:journey IS NULL OR r.journey = :journey)
  AND (:sender IS NULL OR lower(coalesce(r.sender, '')) = :sender)
ORDER BY r.id LIMIT :limit;

-- name: queue_newest
SELECT max(id), max(queued_at) FROM queued_recipient;

-- name: queue_count
SELECT count(*) FROM (SELECT 1 FROM queued_recipient AS r
WHERE (:recipient IS NULL OR lower(r.address) = :recipient OR lower(r.original) = :recipient)
  AND (:destination IS NULL OR r.lane IN (SELECT id FROM lane WHERE destination = :destination))
  AND (:journey IS NULL OR r.journey = :journey)
  AND (:sender IS NULL OR lower(coalesce(r.sender, '')) = :sender)
LIMIT :most);

-- name: queue_lanes
SELECT l.destination, l.sender, l.due_at, l.failures, l.held, l.lease_until > :now, l.last_reply, l.last_remote,
  (SELECT count(*) FROM (SELECT 1 FROM queued_recipient r WHERE r.lane = l.id LIMIT :most)), l.site, l.priority
FROM lane l ORDER BY l.destination, l.sender LIMIT :limit;

-- name: queue_hold_recipient
UPDATE queued_recipient SET held = 1 WHERE id = :id AND held = 0;

-- Whose octets are on their way just now: nobody can call these back.
-- name: queue_under_way
SELECT dot.recipient FROM json_each(:ids) AS j CROSS JOIN past_dot AS dot ON dot.recipient = j.value
CROSS JOIN lane AS l ON l.id = dot.lane WHERE l.lease_until > :now;

-- name: queue_under_way_to
SELECT count(*) FROM past_dot AS dot CROSS JOIN lane AS l ON l.id = dot.lane
WHERE l.destination = :destination AND l.lease_until > :now;

-- What was held, or is to leave later by its sender's wish, goes now.
-- name: queue_release_recipient
UPDATE queued_recipient SET held = 0, due_at = min(due_at, :now)
WHERE id = :id AND (held = 1 OR (attempts = 0 AND due_at > :now));

-- Recipients in flight are due already and stay where the claim found them; those whose sender wants them to leave later
-- (RFC 4865) were not tried yet.
-- name: queue_retry_recipient
UPDATE queued_recipient SET due_at = :now WHERE id = :id AND due_at > :now AND attempts > 0;

-- A lane that is tried by hand does not wait with its site; one that was never tried itself has that of its like.
-- name: queue_retry_lane
UPDATE lane SET due_at = min(due_at, :now), failures = 0, site = coalesce(site,
  (SELECT o.site FROM lane AS o WHERE o.destination = lane.destination AND o.site IS NOT NULL LIMIT 1))
WHERE id = :lane
RETURNING destination, site;

-- name: queue_retry_site
UPDATE site SET failures = 0, due_at = 0 WHERE name = :site;

-- name: queue_retry_of_lane
UPDATE queued_recipient SET due_at = :now WHERE id IN
  (SELECT id FROM queued_recipient WHERE lane = :lane AND held = 0 AND due_at > :now AND attempts > 0 LIMIT :limit);

-- name: queue_reroute
UPDATE queued_recipient SET lane = :lane, due_at = min(due_at, :now) WHERE id = :id;

-- name: queue_end_by_hand
SELECT r.id, r.message, r.address, r.original, r.notify, r.orcpt, r.prologue, r.due_at, r.attempts,
  coalesce(r.last_reply, l.last_reply), CASE WHEN r.last_reply IS NULL THEN l.last_remote ELSE r.last_remote END,
  r.return_path, r.journey, r.size, r.sender, r.account, r.queued_at, r.expires_at,
  r.body, r.smtputf8, r.envid, r.ret, r.requiretls, r.priority, r.by_at, r.by_mode
FROM json_each(:ids) AS j
CROSS JOIN queued_recipient AS r ON r.id = j.value
CROSS JOIN lane AS l ON l.id = r.lane
WHERE r.lane = :lane
ORDER BY r.message, r.id;

-- name: queue_hold_destination
UPDATE lane SET held = 1 WHERE destination = :destination AND held = 0;

-- name: queue_release_destination
UPDATE lane SET held = 0 WHERE destination = :destination AND held = 1;

-- name: queue_lanes_of
SELECT id FROM lane WHERE destination = :destination;
