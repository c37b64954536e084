-- Domains, accounts, addresses, aliases, credentials.

-- name: directory_version
SELECT version FROM directory_state WHERE one = 1

-- name: directory_changed
UPDATE directory_state SET version = version + 1 WHERE one = 1

-- domains --------------------------------------------------------------------------------------------------------------

-- name: domain_find
SELECT name, catch_all, created_at FROM domain WHERE name = :name

-- name: domain_list
SELECT name, catch_all, created_at FROM domain WHERE name > :after ORDER BY name LIMIT :limit

-- name: domain_insert
INSERT INTO domain (name, catch_all, created_at) VALUES (:name, :catch_all, :created_at)

-- name: domain_delete
DELETE FROM domain WHERE name = :name

-- name: domain_address_count
SELECT count(*) FROM address WHERE domain = :name

-- name: domain_set_catch_all
UPDATE domain SET catch_all = :catch_all WHERE name = :name

-- name: domain_catch_alls
SELECT name, catch_all FROM domain WHERE catch_all IS NOT NULL ORDER BY name

-- Renaming: the addresses again under the new name, then what hangs on them, then the old ones away.
-- name: domain_rename_addresses
INSERT INTO address (key, domain, written, account, list)
SELECT substr(key, 1, length(key) - length(:old)) || :new, :new,
       substr(written, 1, length(written) - length(:old)) || :new, account, list
FROM address WHERE domain = :old

-- name: domain_rename_lists
UPDATE list SET key = substr(key, 1, length(key) - length(:old)) || :new
WHERE key IN (SELECT key FROM address WHERE domain = :old)

-- name: domain_rename_members
UPDATE list_member
SET key = substr(key, 1, length(key) - length(:old)) || :new,
    written = substr(written, 1, length(written) - length(:old)) || :new
WHERE substr(key, -length(:old) - 1) = '@' || :old
  AND NOT EXISTS (SELECT 1 FROM list_member AS other WHERE other.list = list_member.list
                  AND other.key = substr(list_member.key, 1, length(list_member.key) - length(:old)) || :new)

-- name: domain_rename_doubled_members
DELETE FROM list_member WHERE substr(key, -length(:old) - 1) = '@' || :old

-- name: domain_rename_aliases
UPDATE alias_target SET alias = substr(alias, 1, length(alias) - length(:old)) || :new
WHERE alias IN (SELECT key FROM address WHERE domain = :old)

-- name: domain_rename_accounts
UPDATE account SET name = substr(name, 1, length(name) - length(:old)) || :new
WHERE name IN (SELECT key FROM address WHERE domain = :old)

-- name: domain_rename_send_as
UPDATE send_as SET key = substr(key, 1, length(key) - length(:old)) || :new
WHERE key IN (SELECT key FROM address WHERE domain = :old)

-- name: domain_rename_delete_addresses
DELETE FROM address WHERE domain = :old

-- name: domain_rename_targets
UPDATE alias_target
SET target_key = substr(target_key, 1, length(target_key) - length(:old)) || :new,
    target = substr(target, 1, length(target) - length(:old)) || :new
WHERE substr(target_key, -length(:old) - 1) = '@' || :old
  AND NOT EXISTS (SELECT 1 FROM alias_target AS other WHERE other.alias = alias_target.alias
                  AND other.target_key = substr(alias_target.target_key, 1, length(alias_target.target_key) - length(:old)) || :new)

-- name: domain_rename_doubled_targets
DELETE FROM alias_target WHERE substr(target_key, -length(:old) - 1) = '@' || :old

-- keys of domains ------------------------------------------------------------------------------------------------------

-- name: dkim_key_list
SELECT domain, selector, algorithm, public, state, created_at, since_at
FROM dkim_key WHERE domain = :domain ORDER BY created_at, length(selector), selector LIMIT :limit

-- The longest records first: a verifier that knows only RSA finds its signature on top.
-- name: dkim_key_signing
SELECT selector, private FROM dkim_key WHERE domain = :domain AND state = 'signing'
ORDER BY length(public) DESC, selector LIMIT :limit

-- name: dkim_key_any
SELECT EXISTS (SELECT 1 FROM dkim_key WHERE state = 'signing');

-- name: dkim_key_insert
INSERT INTO dkim_key (domain, selector, algorithm, private, public, state, created_at, since_at)
VALUES (:domain, :selector, :algorithm, :private, :public, :state, :now, :now)

-- name: dkim_selector_put
INSERT INTO dkim_selector (domain, selector) VALUES (:domain, :selector) ON CONFLICT (domain, selector) DO NOTHING

-- name: dkim_selectors
SELECT selector FROM dkim_selector
WHERE domain = :domain AND selector >= :month AND substr(selector, 1, length(:month)) = :month
ORDER BY length(selector) DESC, selector DESC LIMIT :limit

-- name: dkim_key_retire
UPDATE dkim_key SET state = 'retired', since_at = :now
WHERE domain = :domain AND algorithm = :algorithm AND state = 'signing'

-- name: dkim_key_use
UPDATE dkim_key SET state = 'signing', since_at = :now WHERE domain = :domain AND selector = :selector

-- name: dkim_key_delete
DELETE FROM dkim_key WHERE domain = :domain AND selector = :selector

-- name: domain_rename_keys
UPDATE dkim_key SET domain = :new WHERE domain = :old

-- name: domain_rename_selectors
INSERT INTO dkim_selector (domain, selector) SELECT :new, selector FROM dkim_selector WHERE domain = :old
ON CONFLICT (domain, selector) DO NOTHING

-- accounts -------------------------------------------------------------------------------------------------------------

-- name: account_insert
INSERT INTO account (name, full_name, quota_octets, quota_emails, enabled, created_at)
VALUES (:name, :full_name, :quota_octets, :quota_emails, 1, :created_at) RETURNING id

-- name: account_state_insert
INSERT INTO account_state (account, epoch, modseq, next_email, next_mailbox, used_octets, used_emails,
                           tombstone_floor, mailbox_modseq, email_modseq, thread_modseq)
VALUES (:account, :epoch, 0, 1, 1, 0, 0, 0, 0, 0, 0)

-- name: account_find
SELECT id, name, full_name, quota_octets, quota_emails, enabled, created_at, copy_to_sent,
  submission_rate, submission_recipients
FROM account WHERE id = :account AND removed_at IS NULL

-- name: account_by_address
SELECT c.id, c.name, c.full_name, c.quota_octets, c.quota_emails, c.enabled, c.created_at, c.copy_to_sent,
  c.submission_rate, c.submission_recipients
FROM address AS a JOIN account AS c ON c.id = a.account WHERE a.key = :key

-- name: account_list
SELECT id, name, full_name, quota_octets, quota_emails, enabled, created_at, copy_to_sent,
  submission_rate, submission_recipients
FROM account WHERE removed_at IS NULL AND name > :after ORDER BY name LIMIT :limit

-- name: account_count
SELECT count(*) FROM account WHERE removed_at IS NULL

-- name: account_usage
SELECT s.used_octets, s.used_emails, c.quota_octets, c.quota_emails, d.used_octets, d.quota_octets
FROM account_state AS s JOIN account AS c ON c.id = s.account LEFT JOIN domain AS d ON d.name = c.quota_domain
WHERE s.account = :account

-- name: account_set_name
UPDATE account SET name = :name WHERE id = :account

-- name: account_set_full_name
UPDATE account SET full_name = :full_name WHERE id = :account

-- name: account_set_quota
UPDATE account SET quota_octets = :quota_octets, quota_emails = :quota_emails WHERE id = :account

-- name: account_set_enabled
UPDATE account SET enabled = :enabled WHERE id = :account

-- name: account_set_copy_to_sent
UPDATE account SET copy_to_sent = :copy WHERE id = :account

-- name: account_set_submission
UPDATE account SET submission_rate = :rate, submission_recipients = :recipients WHERE id = :account

-- No row: it was told after :since, or is gone.
-- name: account_warned
INSERT INTO submission_warning (account, stopped, at)
SELECT id, :stopped, :now FROM account WHERE id = :account AND removed_at IS NULL
ON CONFLICT (account, stopped) DO UPDATE SET at = :now WHERE submission_warning.at <= :since
RETURNING at

-- name: account_remove
UPDATE account SET name = :name, full_name = '', enabled = 0, removed_at = :now WHERE id = :account

-- name: account_removed
SELECT id FROM account WHERE removed_at IS NOT NULL ORDER BY id LIMIT :limit

-- name: account_delete
DELETE FROM account WHERE id = :account AND removed_at IS NOT NULL

-- Who takes a postmaster's mail where nothing better is known (RFC 5321 section 4.5.1).
-- name: account_first_of_domain
SELECT c.id, c.enabled, coalesce(c.quota_octets, c.quota_emails, c.quota_domain) IS NOT NULL
FROM address AS a JOIN account AS c ON c.id = a.account
WHERE a.domain = :domain AND a.account IS NOT NULL AND c.enabled = 1 ORDER BY a.account LIMIT 1

-- name: account_first
SELECT id, enabled, coalesce(quota_octets, quota_emails, quota_domain) IS NOT NULL
FROM account WHERE enabled = 1 AND removed_at IS NULL ORDER BY id LIMIT 1

-- addresses ------------------------------------------------------------------------------------------------------------

-- One row of an account, or a row a target of an alias.
-- name: address_look
SELECT a.account, c.enabled, coalesce(c.quota_octets, c.quota_emails, c.quota_domain) IS NOT NULL, t.target, a.list
FROM address AS a
LEFT JOIN account AS c ON c.id = a.account
LEFT JOIN alias_target AS t ON t.alias = a.key
WHERE a.key = :key ORDER BY t.target_key LIMIT :limit

-- name: address_find
SELECT key, written, account, list FROM address WHERE key = :key

-- name: address_insert
INSERT INTO address (key, domain, written, account) VALUES (:key, :domain, :written, :account)

-- name: address_delete
DELETE FROM address WHERE key = :key

-- name: address_delete_of_account
DELETE FROM address WHERE account = :account

-- name: address_of_account
SELECT key, written FROM address WHERE account = :account ORDER BY key LIMIT :limit

-- name: address_between
SELECT key FROM address
WHERE key > :low AND key < :high AND domain = :domain AND (account IS NULL OR account <> :account) LIMIT :limit

-- Addresses of others that an account may send as.
-- name: send_as_of_account
SELECT a.key, a.written FROM send_as AS s JOIN address AS a ON a.key = s.key
WHERE s.account = :account ORDER BY a.key LIMIT :limit

-- name: send_as_insert
INSERT INTO send_as (account, key) VALUES (:account, :key) ON CONFLICT DO NOTHING

-- name: send_as_delete
DELETE FROM send_as WHERE account = :account AND key = :key

-- name: alias_list
SELECT key, written FROM address WHERE account IS NULL AND list IS NULL AND key > :after ORDER BY key LIMIT :limit

-- name: alias_targets
SELECT target FROM alias_target WHERE alias = :alias ORDER BY target_key LIMIT :limit

-- name: alias_target_insert
INSERT INTO alias_target (alias, target_key, target) VALUES (:alias, :target_key, :target)

-- name: alias_target_delete_all
DELETE FROM alias_target WHERE alias = :alias

-- name: alias_pointing_to
SELECT alias FROM alias_target WHERE target_key = :target_key ORDER BY alias LIMIT :limit

-- credentials ----------------------------------------------------------------------------------------------------------

-- name: credential_list
SELECT id, label, iterations, salt, stored_key, server_key, created_at
FROM credential WHERE account = :account ORDER BY id LIMIT :limit

-- name: credential_next
SELECT coalesce(max(id), 0) + 1 FROM credential WHERE account = :account

-- name: credential_insert
INSERT INTO credential (account, id, label, iterations, salt, stored_key, server_key, created_at)
VALUES (:account, :id, :label, :iterations, :salt, :stored_key, :server_key, :created_at)

-- name: credential_delete
DELETE FROM credential WHERE account = :account AND label = :label

-- name: credential_delete_all
DELETE FROM credential WHERE account = :account

-- name: accounts_enabled
-- Those of these accounts that may log in. `accounts`: JSON ranges (mailbox/ranges.py).
SELECT a.id FROM json_each(:accounts) AS r
CROSS JOIN account AS a ON a.id BETWEEN r.value ->> 0 AND r.value ->> 1 WHERE a.enabled = 1

-- senders of forwarded mail (directory/srs.py) ---------------------------------------------------------------------------

-- name: forwarded_sender
SELECT sender FROM forwarded WHERE ticket = :ticket;

-- name: forwarded_put
INSERT INTO forwarded (ticket, sender, made_at) VALUES (:ticket, :sender, :now)
ON CONFLICT (ticket) DO UPDATE SET made_at = excluded.made_at;

-- name: forwarded_expire
DELETE FROM forwarded WHERE made_at < :before;

-- suppression ----------------------------------------------------------------------------------------------------------

-- An account that was removed while its mail waited keeps no list.
-- name: suppression_note
INSERT INTO suppression (account, address, written, cause, words, times, first_at, last_at)
SELECT id, :address, :written, :cause, :words, 1, :now, :now FROM account WHERE id = :account
ON CONFLICT (account, address) DO UPDATE SET written = excluded.written, cause = excluded.cause, words = excluded.words,
  times = times + 1, last_at = excluded.last_at
RETURNING times;

-- name: suppression_count
SELECT count(*) FROM suppression WHERE account = :account;

-- name: suppression_list
SELECT written, cause, words, times, first_at, last_at, address FROM suppression
WHERE account = :account AND address > :after ORDER BY address LIMIT :limit;

-- name: suppression_clear
DELETE FROM suppression WHERE account = :account AND address = :address;

-- name: suppression_clear_all
DELETE FROM suppression WHERE account = :account;

-- name: suppression_trim
DELETE FROM suppression WHERE account = :account AND address IN
  (SELECT address FROM suppression WHERE account = :account ORDER BY last_at DESC LIMIT -1 OFFSET :most);

-- familiar networks (directory/familiar.py) ----------------------------------------------------------------------------

-- name: familiar_recent
SELECT login, network, day FROM familiar_network WHERE day >= :oldest ORDER BY day DESC LIMIT :limit

-- name: familiar_put
INSERT INTO familiar_network (login, network, day) VALUES (:login, :network, :day)
ON CONFLICT (login, network) DO UPDATE SET day = excluded.day

-- name: familiar_expire
DELETE FROM familiar_network WHERE day < :oldest
