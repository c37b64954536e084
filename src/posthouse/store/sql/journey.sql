-- Journeys: what happened to a message, and by what it is found (journey.py).

-- name: journey_insert
INSERT INTO journey (id, message_id, sender, recipients, subject, steps)
VALUES (:id, :message_id, :sender, :recipients, :subject, :steps) ON CONFLICT (id) DO NOTHING

-- name: journey_steps_insert
INSERT INTO journey_steps (journey, steps) VALUES (:journey, :steps)

-- name: journey_get
SELECT id, message_id, sender, recipients, subject, steps FROM journey WHERE id = :id

-- name: journey_steps
SELECT steps FROM journey_steps WHERE journey = :journey ORDER BY id LIMIT :limit

-- by what they are found -----------------------------------------------------------------------------------------------

-- name: journey_new_insert
INSERT INTO journey_new (journey, hashes) VALUES (:journey, :hashes)

-- name: journey_new_list
SELECT id, journey, hashes FROM journey_new ORDER BY id LIMIT :limit

-- name: journey_new_delete
DELETE FROM journey_new WHERE id <= :upto

-- name: journey_keys_insert
-- `keys`: [hour, hash, journey], …, in order.
INSERT INTO journey_key (hour, hash, journey)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:keys) WHERE true ON CONFLICT DO NOTHING

-- name: journey_find_new
SELECT journey, hashes FROM journey_new WHERE instr(hashes, :hash) OR instr(hashes, :other)

-- name: journey_find
-- Hour by hour: there are as many as there are hours that journeys are kept for.
WITH RECURSIVE hours(hour) AS (
  SELECT max(hour) FROM journey_key
  UNION ALL SELECT (SELECT max(k.hour) FROM journey_key AS k WHERE k.hour < hours.hour) FROM hours WHERE hour IS NOT NULL
)
SELECT DISTINCT k.journey FROM hours CROSS JOIN journey_key AS k
ON k.hour = hours.hour AND k.hash IN (:hash, :other) ORDER BY k.journey DESC LIMIT :limit

-- expiry: ids grow with time -------------------------------------------------------------------------------------------

-- name: journey_delete
DELETE FROM journey WHERE id IN (SELECT id FROM journey WHERE id < :before ORDER BY id LIMIT :limit)

-- name: journey_steps_delete
DELETE FROM journey_steps WHERE id IN
  (SELECT id FROM journey_steps WHERE journey < :before ORDER BY journey LIMIT :limit)

-- name: journey_keys_delete
DELETE FROM journey_key WHERE (hour, hash, journey) IN
  (SELECT hour, hash, journey FROM journey_key WHERE hour < :before ORDER BY hour LIMIT :limit)
