-- Statements of directory/quotas.py, and of what keeps a domain's total.

-- name: quota_domain_used
UPDATE domain SET used_octets = used_octets + :octets WHERE name = :domain

-- name: quota_join
-- An account is named in a domain from now on.
UPDATE account SET quota_domain = (SELECT name FROM domain WHERE name = :domain AND quota_octets IS NOT NULL)
WHERE id = :account

-- name: quota_join_count
UPDATE domain SET used_octets = used_octets + (SELECT used_octets FROM account_state WHERE account = :account)
WHERE name = (SELECT quota_domain FROM account WHERE id = :account)

-- name: quota_leave_count
UPDATE domain SET used_octets = used_octets - (SELECT used_octets FROM account_state WHERE account = :account)
WHERE name = (SELECT quota_domain FROM account WHERE id = :account)

-- name: quota_leave
UPDATE account SET quota_domain = NULL WHERE id = :account

-- name: quota_domain_forget
UPDATE account SET quota_domain = NULL WHERE quota_domain = :domain

-- name: quota_domain_set
UPDATE domain SET quota_octets = :octets, used_octets = 0, quota_told = CASE WHEN :octets IS NULL THEN 0 ELSE quota_told END
WHERE name = :domain

-- name: quota_domain_members
UPDATE account SET quota_domain = :domain
WHERE id IN (SELECT account FROM address WHERE domain = :domain AND account IS NOT NULL)
  AND substr(name, -length(:domain) - 1) = '@' || :domain

-- name: quota_domain_count
UPDATE domain SET used_octets = (
  SELECT coalesce(sum(s.used_octets), 0) FROM account AS a JOIN account_state AS s ON s.account = a.id
  WHERE a.quota_domain = :domain)
WHERE name = :domain

-- name: quota_domain_rename
UPDATE account SET quota_domain = :new WHERE quota_domain = :old

-- name: quota_domain_copy
UPDATE domain SET (quota_octets, used_octets, quota_told) =
  (SELECT quota_octets, used_octets, quota_told FROM domain WHERE name = :old)
WHERE name = :new

-- name: quota_domain_usage
-- Without a quota nothing is kept, and is added up here.
SELECT CASE WHEN d.quota_octets IS NOT NULL THEN d.used_octets ELSE (
    SELECT coalesce(sum(s.used_octets), 0) FROM account AS a JOIN account_state AS s ON s.account = a.id
    WHERE a.id IN (SELECT account FROM address WHERE domain = :domain AND account IS NOT NULL)
      AND substr(a.name, -length(:domain) - 1) = '@' || :domain) END,
  d.quota_octets
FROM domain AS d WHERE d.name = :domain

-- name: quota_domains
SELECT 0, name, used_octets, quota_octets, 0, NULL, quota_told FROM domain WHERE quota_octets IS NOT NULL

-- name: quota_accounts
SELECT a.id, a.name, s.used_octets, a.quota_octets, s.used_emails, a.quota_emails, a.quota_told
FROM json_each(:accounts) AS r CROSS JOIN account AS a ON a.id BETWEEN r.value ->> 0 AND r.value ->> 1
JOIN account_state AS s ON s.account = a.id
WHERE (a.quota_octets IS NOT NULL OR a.quota_emails IS NOT NULL) AND a.removed_at IS NULL ORDER BY a.id

-- name: quota_accounts_after
SELECT a.id, a.name, s.used_octets, a.quota_octets, s.used_emails, a.quota_emails, a.quota_told
FROM account AS a JOIN account_state AS s ON s.account = a.id
WHERE (a.quota_octets IS NOT NULL OR a.quota_emails IS NOT NULL) AND a.removed_at IS NULL AND a.id > :after
ORDER BY a.id LIMIT :limit

-- name: quota_account_note
UPDATE account SET quota_told = :level WHERE id = :account

-- name: quota_domain_note
UPDATE domain SET quota_told = :level WHERE name = :domain
