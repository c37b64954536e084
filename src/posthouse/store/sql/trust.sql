-- Security on the way to other servers: MTA-STS policies, what is remembered of domains, and what reports are made of.

-- name: sts_policy
SELECT record, policy, fetched_at, expires_at FROM sts_policy WHERE domain = :domain;

-- name: sts_policy_put
INSERT INTO sts_policy (domain, record, policy, fetched_at, expires_at)
VALUES (:domain, :record, :policy, :fetched_at, :expires_at)
ON CONFLICT (domain) DO UPDATE
SET record = excluded.record, policy = excluded.policy, fetched_at = excluded.fetched_at, expires_at = excluded.expires_at;

-- name: sts_policy_expire
DELETE FROM sts_policy WHERE expires_at <= :now;

-- name: tls_level
SELECT since_at, until_at, clear_at FROM tls_level WHERE domain = :domain;

-- name: tls_level_put
INSERT INTO tls_level (domain, since_at, until_at, clear_at) VALUES (:domain, :since_at, :until_at, :clear_at)
ON CONFLICT (domain) DO UPDATE
SET since_at = excluded.since_at, until_at = excluded.until_at, clear_at = excluded.clear_at;

-- name: tls_level_forget
DELETE FROM tls_level WHERE domain = :domain;

-- name: tls_level_expire
DELETE FROM tls_level WHERE until_at < :before;

-- name: tls_result_add
INSERT INTO tls_result (day, domain, hash, type, policy, result, mx, address, reason, sessions)
VALUES (:day, :domain, :hash, :type, :policy, :result, :mx, :address, :reason, :sessions)
ON CONFLICT (day, domain, hash) DO UPDATE SET sessions = sessions + excluded.sessions;

-- name: tls_result_expire
DELETE FROM tls_result WHERE day < :before;
