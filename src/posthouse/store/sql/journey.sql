-- Journeys: what happened to a message, and by what it is found (journey.py).

-- name: journey_insert
INSERT INTO journey (id, message_id, sender, recipients, subject, hashes)
VALUES (:id, :message_id, :sender, :recipients, :subject, :hashes) ON CONFLICT (id) DO NOTHING

-- name: journey_key_insert
INSERT INTO journey_key (hash, journey) VALUES (:hash, :journey) ON CONFLICT DO NOTHING

-- name: journey_steps_insert
INSERT INTO journey_steps (journey, steps) VALUES (:journey, :steps)

-- name: journey_get
SELECT id, message_id, sender, recipients, subject FROM journey WHERE id = :id

-- name: journey_steps
SELECT steps FROM journey_steps WHERE journey = :journey ORDER BY id LIMIT :limit

-- name: journey_find
SELECT DISTINCT journey FROM journey_key WHERE hash IN (:as_message_id, :as_address) ORDER BY journey DESC LIMIT :limit

-- Expiry: ids grow with time.
-- name: journey_before
SELECT id, hashes FROM journey WHERE id < :before ORDER BY id LIMIT :limit

-- name: journey_key_delete
DELETE FROM journey_key WHERE hash = :hash AND journey = :journey

-- name: journey_delete
DELETE FROM journey WHERE id = :id

-- name: journey_steps_delete
DELETE FROM journey_steps WHERE id IN
  (SELECT id FROM journey_steps WHERE journey < :before ORDER BY journey LIMIT :limit)
