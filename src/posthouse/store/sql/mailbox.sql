-- Accounts' counters, mailboxes, threads and the feed of changes (mailbox/model.py, mailboxes.py, threads.py, changes.py).

-- name: account_lock (sqlite)
-- The writer holds the file's only write lock before its first statement: reading the row is enough.
SELECT s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
WHERE s.account = :account

-- name: account_lock (postgres)
SELECT s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
WHERE s.account = :account FOR UPDATE OF s

-- name: account_lock_to_file (sqlite)
-- The same, and where new mail goes: the mailbox of a role, the Inbox where there is none.
SELECT m.id, m.uidnext,
       s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
JOIN mailbox AS m ON m.account = s.account
 AND m.id = coalesce((SELECT id FROM mailbox WHERE account = :account AND role = :role),
                     (SELECT id FROM mailbox WHERE account = :account AND role = 'inbox'))
WHERE s.account = :account

-- name: account_lock_to_file (postgres)
SELECT m.id, m.uidnext,
       s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
JOIN mailbox AS m ON m.account = s.account
 AND m.id = coalesce((SELECT id FROM mailbox WHERE account = :account AND role = :role),
                     (SELECT id FROM mailbox WHERE account = :account AND role = 'inbox'))
WHERE s.account = :account FOR UPDATE OF s

-- name: account_lock_to_append (sqlite)
-- The same of a mailbox at the top: what it is called, its next uid, and how far another has come.
SELECT m.name, m.role, m.uidnext, (SELECT highest_modseq FROM mailbox WHERE account = :account AND id = :watched),
       s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
JOIN mailbox AS m ON m.account = s.account AND m.id = :mailbox AND m.parent IS NULL
WHERE s.account = :account

-- name: account_lock_to_append (postgres)
SELECT m.name, m.role, m.uidnext, (SELECT highest_modseq FROM mailbox WHERE account = :account AND id = :watched),
       s.account, s.epoch, s.modseq, s.next_email, s.next_mailbox, s.used_octets, s.used_emails,
       s.tombstone_floor, s.mailbox_modseq, s.email_modseq, s.thread_modseq, s.last_uidvalidity,
       a.quota_octets, a.quota_emails, a.quota_domain, d.quota_octets, d.used_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
JOIN mailbox AS m ON m.account = s.account AND m.id = :mailbox AND m.parent IS NULL
WHERE s.account = :account FOR UPDATE OF s

-- name: quota_limits
SELECT s.used_octets, s.used_emails, a.quota_octets, a.quota_emails, d.name, d.used_octets, d.quota_octets
FROM account_state AS s JOIN account AS a ON a.id = s.account LEFT JOIN domain AS d ON d.name = a.quota_domain
WHERE s.account = :account

-- name: account_save
UPDATE account_state SET modseq = :modseq, next_email = :next_email, next_mailbox = :next_mailbox,
  used_octets = :used_octets, used_emails = :used_emails,
  mailbox_modseq = :mailbox_modseq, email_modseq = :email_modseq, thread_modseq = :thread_modseq,
  last_uidvalidity = :last_uidvalidity
WHERE account = :account

-- name: account_states
SELECT epoch, modseq, tombstone_floor, mailbox_modseq, email_modseq, thread_modseq
FROM account_state WHERE account = :account

-- mailboxes ------------------------------------------------------------------------------------------------------------

-- name: mailbox_list
SELECT id, parent, name, role, subscribed, sort_order, uidvalidity, uidnext, highest_modseq,
       messages, unseen, octets, deleted, deleted_octets, emails, unread, threads, unread_threads
FROM mailbox WHERE account = :account

-- name: mailbox_get
SELECT id, parent, name, role, subscribed, sort_order, uidvalidity, uidnext, highest_modseq,
       messages, unseen, octets, deleted, deleted_octets, emails, unread, threads, unread_threads
FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_child
SELECT id FROM mailbox WHERE account = :account AND coalesce(parent, 0) = :parent AND name = :name

-- name: mailbox_place
SELECT parent, name, role FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_by_role
SELECT id FROM mailbox WHERE account = :account AND role = :role

-- name: mailbox_has_children
SELECT 1 FROM mailbox WHERE account = :account AND coalesce(parent, 0) = :mailbox LIMIT 1

-- name: mailbox_count
SELECT count(*) FROM mailbox WHERE account = :account

-- name: mailbox_insert
INSERT INTO mailbox (account, id, parent, name, role, subscribed, sort_order, uidvalidity, uidnext, highest_modseq)
VALUES (:account, :id, :parent, :name, :role, :subscribed, :sort_order, :uidvalidity, 1, :modseq)

-- name: mailbox_move
UPDATE mailbox SET parent = :parent, name = :name WHERE account = :account AND id = :mailbox

-- name: mailbox_set_role
UPDATE mailbox SET role = :role WHERE account = :account AND id = :mailbox

-- name: mailbox_subscribe
UPDATE mailbox SET subscribed = :subscribed WHERE account = :account AND id = :mailbox

-- name: mailbox_sort
UPDATE mailbox SET sort_order = :sort_order WHERE account = :account AND id = :mailbox

-- name: mailbox_delete
DELETE FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_gone
-- Where nothing was ever placed nothing can be restored.
INSERT INTO gone_mailbox (account, id, path, gone_at)
SELECT account, id, :path, :gone_at FROM mailbox WHERE account = :account AND id = :mailbox AND uidnext > 1

-- name: mailboxes_gone
SELECT id, path FROM gone_mailbox WHERE account = :account

-- name: mailboxes_gone_forget
DELETE FROM gone_mailbox WHERE gone_at < :before

-- name: mailbox_settle
UPDATE mailbox SET uidnext = uidnext + :placed, highest_modseq = max(highest_modseq, :modseq),
  messages = messages + :messages, unseen = unseen + :unseen, octets = octets + :octets, deleted = deleted + :deleted,
  deleted_octets = deleted_octets + :deleted_octets,
  emails = emails + :emails, unread = unread + :unread,
  threads = threads + :threads, unread_threads = unread_threads + :unread_threads
WHERE account = :account AND id = :mailbox

-- name: mailbox_uidnext
SELECT uidnext FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_modseq
SELECT highest_modseq FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_marked
-- How many of its placements are marked \Deleted.
SELECT deleted FROM mailbox WHERE account = :account AND id = :mailbox

-- name: mailbox_view
SELECT m.uidvalidity, m.uidnext, m.highest_modseq, m.messages, s.tombstone_floor
FROM mailbox AS m JOIN account_state AS s ON s.account = m.account WHERE m.account = :account AND m.id = :mailbox

-- mailboxes kept packed (packed.py, packer.py) -------------------------------------------------------------------------

-- name: packed_mailbox
SELECT uidvalidity, uidnext, modseq, pieces FROM packed_mailbox WHERE account = :account AND mailbox = :mailbox

-- name: packed_piece
SELECT octets, checksum FROM packed_piece WHERE account = :account AND mailbox = :mailbox AND id = :id

-- name: packed_behind
-- Mailboxes of these accounts that are large and not packed, or of which much has changed since they were, or changes since
-- are forgotten; and those that are packed and not large any more. No change is without a modseq or a uid of its own; how
-- many uids one has is not looked at.
SELECT m.account, m.id FROM json_each(:accounts) AS r
CROSS JOIN account_state AS s ON s.account BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN mailbox AS m ON m.account = s.account
LEFT JOIN packed_mailbox AS k ON k.account = m.account AND k.mailbox = m.id
WHERE (m.messages < :least / 2 AND k.modseq IS NOT NULL) OR (m.messages >= :least AND (
  k.modseq IS NULL OR k.uidvalidity <> m.uidvalidity OR (k.modseq < m.highest_modseq AND (
    k.modseq < s.tombstone_floor
    OR max(m.highest_modseq - k.modseq, m.uidnext - k.uidnext, abs(m.messages - k.messages))
      >= max(:enough, m.messages / :share)))))

-- name: packed_put
INSERT INTO packed_piece (account, mailbox, id, octets, checksum) VALUES (:account, :mailbox, :id, :octets, :checksum)

-- name: packed_there
SELECT count(*) FROM json_each(:ids) AS r
CROSS JOIN packed_piece AS p ON p.account = :account AND p.mailbox = :mailbox AND p.id = r.value

-- name: packed_name
INSERT INTO packed_mailbox (account, mailbox, uidvalidity, uidnext, modseq, messages, pieces)
SELECT m.account, m.id, m.uidvalidity, :uidnext, :modseq, :messages, :pieces FROM mailbox AS m
WHERE m.account = :account AND m.id = :mailbox AND m.uidvalidity = :uidvalidity
  AND :old = coalesce((SELECT modseq FROM packed_mailbox WHERE account = :account AND mailbox = :mailbox), 0)
ON CONFLICT (account, mailbox) DO UPDATE SET uidvalidity = excluded.uidvalidity, uidnext = excluded.uidnext,
  modseq = excluded.modseq, messages = excluded.messages, pieces = excluded.pieces

-- name: packed_forget
DELETE FROM packed_mailbox WHERE account = :account AND mailbox = :mailbox

-- name: packed_drop_unnamed
DELETE FROM packed_piece WHERE account = :account AND mailbox = :mailbox AND id IN (
  SELECT id FROM packed_piece WHERE account = :account AND mailbox = :mailbox
  AND id NOT IN (SELECT value FROM json_each(:ids)) LIMIT :limit)

-- name: packed_sweep
DELETE FROM packed_piece WHERE (account, mailbox, id) IN (
  SELECT piece.account, piece.mailbox, piece.id FROM packed_piece AS piece
  WHERE NOT EXISTS (SELECT 1 FROM packed_mailbox AS k WHERE k.account = piece.account AND k.mailbox = piece.mailbox)
  LIMIT :limit)

-- threads --------------------------------------------------------------------------------------------------------------

-- A thread is called after its first email, which is found by its own id; the index of threads has only the others. So the
-- emails of a thread come from two places, and so do the placements of an email (emails.sql).

-- name: threads_in_mailbox
-- Of these threads: emails to be seen in a mailbox, and those of them that are unread (`read`: bits that make one read). Emails
-- from `low` to `high` are not looked at.
SELECT thread, count(*), sum(unread) FROM (
  SELECT e.thread, e.keywords & :read = 0 AS unread FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread = e.id
    AND e.id NOT BETWEEN :low AND :high
  WHERE EXISTS (SELECT 1 FROM placement AS p WHERE e.mailbox = :mailbox AND p.account = :account
                AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
     OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0
                AND p.mailbox = :mailbox AND p.deleted = 0)
  UNION ALL
  SELECT e.thread, e.keywords & :read = 0 FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.thread BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread <> e.id
    AND e.id NOT BETWEEN :low AND :high
  WHERE EXISTS (SELECT 1 FROM placement AS p WHERE e.mailbox = :mailbox AND p.account = :account
                AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
     OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0
                AND p.mailbox = :mailbox AND p.deleted = 0)
) GROUP BY thread

-- name: threads_weighed
-- The same of all of them together: emails, unread ones, threads, threads with unread ones. `only`: of emails without these
-- bits.
SELECT coalesce(sum(emails), 0), coalesce(sum(unread), 0), count(*), coalesce(sum(unread > 0), 0) FROM (
SELECT count(*) AS emails, sum(unread) AS unread FROM (
  SELECT e.thread, e.keywords & :read = 0 AS unread FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread = e.id
    AND e.keywords & :only = 0
  WHERE EXISTS (SELECT 1 FROM placement AS p WHERE e.mailbox = :mailbox AND p.account = :account
                AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
     OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0
                AND p.mailbox = :mailbox AND p.deleted = 0)
  UNION ALL
  SELECT e.thread, e.keywords & :read = 0 FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.thread BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread <> e.id
    AND e.keywords & :only = 0
  WHERE EXISTS (SELECT 1 FROM placement AS p WHERE e.mailbox = :mailbox AND p.account = :account
                AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
     OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0
                AND p.mailbox = :mailbox AND p.deleted = 0)
) GROUP BY thread
)

-- name: threads_visible
-- Those of these threads that have an email to be seen.
SELECT e.thread FROM json_each(:threads) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread = e.id
WHERE EXISTS (SELECT 1 FROM placement AS p
              WHERE p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
   OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0 AND p.deleted = 0)
UNION
SELECT e.thread FROM json_each(:threads) AS r
CROSS JOIN email AS e ON e.account = :account AND e.thread BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread <> e.id
WHERE EXISTS (SELECT 1 FROM placement AS p
              WHERE p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
   OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0 AND p.deleted = 0)

-- name: threads_stand
-- Of these threads: whether one of its emails is to be seen, how many in a mailbox, and how many of those are unread (`read`:
-- bits that make one read); and how many there are in all.
SELECT thread, max(seen), sum(here), sum(here AND unread), count(*) FROM (
  SELECT e.thread, e.keywords & :read = 0 AS unread,
    p.uid IS NOT NULL OR EXISTS (
      SELECT 1 FROM placement AS o WHERE o.account = :account AND o.email = e.id AND o.home = 0 AND o.deleted = 0) AS seen,
    p.mailbox = :mailbox OR EXISTS (
      SELECT 1 FROM placement AS o WHERE o.account = :account AND o.email = e.id AND o.home = 0 AND o.mailbox = :mailbox
      AND o.deleted = 0) AS here
  FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread = e.id
  LEFT JOIN placement AS p ON p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0
  UNION ALL
  SELECT e.thread, e.keywords & :read = 0,
    p.uid IS NOT NULL OR EXISTS (
      SELECT 1 FROM placement AS o WHERE o.account = :account AND o.email = e.id AND o.home = 0 AND o.deleted = 0),
    p.mailbox = :mailbox OR EXISTS (
      SELECT 1 FROM placement AS o WHERE o.account = :account AND o.email = e.id AND o.home = 0 AND o.mailbox = :mailbox
      AND o.deleted = 0)
  FROM json_each(:threads) AS r
  CROSS JOIN email AS e ON e.account = :account AND e.thread BETWEEN r.value ->> 0 AND r.value ->> 1 AND e.thread <> e.id
  LEFT JOIN placement AS p ON p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0
) GROUP BY thread

-- name: thread_of_link
SELECT thread FROM thread_link WHERE account = :account AND hash = :hash

-- name: thread_links
-- The threads that these hashes belong to.
SELECT l.hash, l.thread FROM json_each(:hashes) AS h
CROSS JOIN thread_link AS l ON l.account = :account AND l.hash = h.value

-- name: thread_links_move
UPDATE thread_link SET thread = :thread
WHERE account = :account AND hash IN (SELECT value FROM json_each(:hashes))

-- name: thread_link_one
INSERT INTO thread_link (account, hash, thread) VALUES (:account, :hash, :thread) ON CONFLICT DO NOTHING

-- name: thread_link
INSERT INTO thread_link (account, hash, thread)
SELECT :account, value, :thread FROM json_each(:hashes) WHERE true ON CONFLICT DO NOTHING

-- the feed of changes --------------------------------------------------------------------------------------------------

-- name: change_insert
INSERT INTO change (account, modseq, mailbox, at, uids_changed, uids_gone, emails_created, emails_updated, emails_destroyed,
  threads_created, threads_updated, threads_destroyed,
  mailboxes_created, mailboxes_updated, mailboxes_counted, mailboxes_destroyed, annotations)
VALUES (:account, :modseq, :mailbox, :at, :uids_changed, :uids_gone, :emails_created, :emails_updated, :emails_destroyed,
  :threads_created, :threads_updated, :threads_destroyed,
  :mailboxes_created, :mailboxes_updated, :mailboxes_counted, :mailboxes_destroyed, :annotations)

-- name: changes_since
SELECT modseq, mailbox, uids_changed, uids_gone, emails_created, emails_updated, emails_destroyed,
  threads_created, threads_updated, threads_destroyed,
  mailboxes_created, mailboxes_updated, mailboxes_counted, mailboxes_destroyed
FROM change WHERE account = :account AND (modseq, mailbox) > (:modseq, :mailbox) ORDER BY modseq, mailbox LIMIT :limit

-- name: changes_heard
-- Where something changed, without what.
SELECT modseq, mailbox, uids_changed IS NOT NULL, uids_gone IS NOT NULL,
  annotations IS NOT NULL, mailboxes_created, mailboxes_updated, mailboxes_destroyed
FROM change WHERE account = :account AND modseq > :modseq AND modseq <= :until ORDER BY modseq, mailbox LIMIT :limit

-- name: changes_annotated
SELECT modseq, mailbox, annotations FROM change
WHERE account = :account AND modseq > :modseq AND modseq <= :until AND annotations IS NOT NULL
ORDER BY modseq, mailbox LIMIT :limit

-- name: changes_of_mailbox
SELECT uids_changed, uids_gone FROM change
WHERE account = :account AND modseq > :modseq AND modseq <= :until AND mailbox = :mailbox

-- name: changes_expire
DELETE FROM change WHERE account = :account AND modseq <= :floor

-- name: changes_oldest
SELECT modseq, at FROM change WHERE account = :account ORDER BY modseq LIMIT :limit

-- name: changes_floor
UPDATE account_state SET tombstone_floor = max(tombstone_floor, :floor) WHERE account = :account

-- name: accounts_after
SELECT account FROM account_state WHERE account > :account ORDER BY account LIMIT :limit

-- name: account_links_delete
DELETE FROM thread_link WHERE account = :account

-- name: account_changes_delete
DELETE FROM change WHERE account = :account
