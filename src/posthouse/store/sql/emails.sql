-- Messages, emails and placements (mailbox/append.py, emails.py, snapshot.py, retention.py).
-- Sets of numbers come as JSON ranges: [[4,9],[12,12]] (mailbox/ranges.py).

-- name: message_insert
INSERT INTO message (id, emails, size, sent_at, has_attachment, text_at, sorting, links, head, preview, summary, structure, parts)
VALUES (:id, :emails, :size, :sent_at, :has_attachment, :text_at, :sorting, :links, :head, :preview, :summary, :structure, :parts)

-- name: message_share
UPDATE message SET emails = emails + :more WHERE id = :id

-- name: message_text_insert
INSERT INTO message_text (message, body) VALUES (:message, :body)

-- name: message_mended_insert
INSERT INTO message_mended (message, only_dots) VALUES (:message, :only_dots)

-- name: email_insert
INSERT INTO email (account, id, message, thread, received_at, size, keywords, mailbox, uid, prologue)
VALUES (:account, :id, :message, :thread, :received_at, :size, :keywords, :mailbox, :uid, :prologue)

-- name: placement_insert
INSERT INTO placement (account, mailbox, uid, email, deleted, home, modseq, saved_at)
VALUES (:account, :mailbox, :uid, :email, :deleted, :home, :modseq, :saved_at)

-- name: placements_insert
-- `placed`: email << 2 | home << 1 | deleted, in the order of their uids, which run from `first`.
INSERT INTO placement (account, mailbox, uid, email, deleted, home, modseq, saved_at)
SELECT :account, :mailbox, :first + r.key, r.value >> 2, r.value & 1, r.value >> 1 & 1, :modseq, :saved_at
FROM json_each(:placed) AS r

-- reading --------------------------------------------------------------------------------------------------------------

-- name: snapshot_load
SELECT p.uid, p.email, e.keywords | (p.deleted << 62), max(p.modseq, e.modseq)
FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid > :after ORDER BY p.uid LIMIT :limit

-- name: placements_seen
SELECT p.uid, p.email, e.keywords | (p.deleted << 62), max(p.modseq, e.modseq) FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN email AS e ON e.account = :account AND e.id = p.email ORDER BY p.uid

-- name: emails_rows
SELECT e.id, e.message, e.thread, e.received_at, e.size, e.keywords
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: expunged_rows
SELECT e.email, e.message, e.thread, e.received_at, e.size, e.keywords
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: emails_sizes
SELECT e.id, e.size
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: expunged_sizes
SELECT e.email, e.size
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: emails_prologues
SELECT e.id, e.message, e.prologue
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: expunged_prologues
SELECT e.email, e.message, e.prologue
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: emails_octets
-- NULL where they lie in a place, or are lost.
SELECT e.id, e.prologue, b.octets
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
LEFT JOIN blob AS b ON b.id = e.message

-- name: expunged_octets
SELECT e.email, e.prologue, b.octets
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1 LEFT JOIN blob AS b ON b.id = e.message

-- name: emails_beginnings
-- NULL where they lie in a place, or are lost.
SELECT e.id, e.prologue, substr(b.octets, 1, :most)
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
LEFT JOIN blob AS b ON b.id = e.message

-- name: expunged_beginnings
SELECT e.email, e.prologue, substr(b.octets, 1, :most)
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1 LEFT JOIN blob AS b ON b.id = e.message

-- name: messages_summaries
SELECT m.id, m.summary, m.structure FROM json_each(:messages) AS r
CROSS JOIN message AS m ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: messages_contents
SELECT m.id, m.parts FROM json_each(:messages) AS r
CROSS JOIN message AS m ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: messages_previews
SELECT m.id, m.preview, m.sent_at, m.has_attachment FROM json_each(:messages) AS r
CROSS JOIN message AS m ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: placements_saved
SELECT p.uid, p.saved_at FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1

-- changing -------------------------------------------------------------------------------------------------------------

-- Of these placements those are meant whose email's keywords would be changed, or which stand so (chosen.py, Which).

-- name: placements_chosen
SELECT count(*), min(p.uid), max(p.uid), min(p.email), max(p.email), max(p.email - p.uid) - min(p.email - p.uid), sum(p.home),
  sum(e.size), sum(e.keywords & :seen = 0), sum(p.deleted), sum(p.deleted * e.size)
FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN email AS e ON e.account = :account AND e.id = p.email
WHERE (e.keywords & :keep) | :add <> e.keywords OR p.deleted = :standing

-- name: placements_ends
-- The emails of two placements.
SELECT (SELECT email FROM placement WHERE account = :account AND mailbox = :mailbox AND uid = :low),
       (SELECT email FROM placement WHERE account = :account AND mailbox = :mailbox AND uid = :high)

-- name: placements_parallel
-- How many of these placements are the home of the email `delta` above their uid, and marked \Deleted or not; and what
-- placements_chosen says of these emails. Two walks along a key, in place of a look for each.
SELECT homes.count, theirs.count, octets, unseen
FROM (SELECT count(*) AS count FROM placement
      WHERE account = :account AND mailbox = :mailbox AND uid BETWEEN :low AND :high
        AND email - uid = :delta AND home = 1 AND deleted = :deleted) AS homes,
     (SELECT count(*) AS count, sum(size) AS octets, sum(keywords & :seen = 0) AS unseen FROM email
      WHERE account = :account AND id BETWEEN :low + :delta AND :high + :delta
        AND ((keywords & :keep) | :add <> keywords OR :standing >= 0)) AS theirs

-- name: placements_listed
SELECT p.uid, p.email, p.deleted FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN email AS e ON e.account = :account AND e.id = p.email
WHERE (e.keywords & :keep) | :add <> e.keywords OR p.deleted = :standing

-- name: placements_modseqs
SELECT p.uid, max(p.modseq, e.modseq) FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN email AS e ON e.account = :account AND e.id = p.email
ORDER BY p.uid

-- name: placements_unseen
SELECT count(*) FROM json_each(:uids) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN email AS e ON e.account = :account AND e.id = p.email
WHERE e.keywords & :seen = 0

-- name: emails_threads
-- The threads of these emails, and those of the unread ones.
-- Two lists, in which a thread may come more than once: rows would each cost as much again.
SELECT json_group_array(e.thread), json_group_array(e.thread) FILTER (WHERE e.keywords & :read = 0) FROM json_each(:emails) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: emails_total_size
SELECT sum(e.size) FROM json_each(:emails) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- An email's home is found by the email's row (uids are never given again, so what stands there is it), every other
-- placement by the index placement_email: most emails have only the home, and need no entry there. So the placements of an
-- email come from two places.

-- name: emails_placed_again
-- Is one of these emails placed elsewhere than in its home: nowhere NULL, in one of these two mailboxes 1, else 0.
SELECT max(p.mailbox = :here OR p.mailbox = :there) FROM json_each(:emails) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.email BETWEEN r.value ->> 0 AND r.value ->> 1 AND p.home = 0

-- name: emails_visible
SELECT e.id FROM json_each(:emails) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
WHERE EXISTS (SELECT 1 FROM placement AS p
              WHERE p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid AND p.deleted = 0)
   OR EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0 AND p.deleted = 0)

-- name: emails_unplaced
SELECT e.id FROM json_each(:emails) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
WHERE NOT EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid)
  AND NOT EXISTS (SELECT 1 FROM placement AS p WHERE p.account = :account AND p.email = e.id AND p.home = 0)

-- name: emails_placements
-- Every placement of these emails.
SELECT p.mailbox, p.uid, p.email, p.deleted FROM json_each(:emails) AS r
CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1
CROSS JOIN placement AS p ON p.account = :account AND p.mailbox = e.mailbox AND p.uid = e.uid
UNION ALL
SELECT p.mailbox, p.uid, p.email, p.deleted FROM json_each(:emails) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.email BETWEEN r.value ->> 0 AND r.value ->> 1 AND p.home = 0

-- name: emails_copies
-- Those that are not their emails' home, by mailbox: their uids. The index has all of it.
SELECT p.mailbox, json_group_array(p.uid) FROM json_each(:emails) AS r
CROSS JOIN placement AS p ON p.account = :account AND p.email BETWEEN r.value ->> 0 AND r.value ->> 1 AND p.home = 0
GROUP BY p.mailbox

-- Writing goes by one range after the other: an IN of 20,000 numbers costs five times as much.

-- name: emails_set_keywords
UPDATE email SET keywords = (keywords & :keep) | :add, modseq = :modseq WHERE account = :account AND id BETWEEN :low AND :high

-- name: emails_set_keywords_at_home
-- The same of those whose home is in this mailbox, `delta` below their id, and which it makes a difference to.
UPDATE email SET keywords = (keywords & :keep) | :add, modseq = :modseq
WHERE account = :account AND id BETWEEN :low AND :high AND mailbox = :mailbox AND uid = id - :delta
  AND (keywords & :keep) | :add <> keywords

-- name: emails_changed_at_home
-- How many have their home there; and those of them whose keywords were changed last at this modseq.
SELECT count(*), json_group_array(id) FILTER (WHERE modseq = :modseq) FROM email
WHERE account = :account AND id BETWEEN :low AND :high AND mailbox = :mailbox AND uid = id - :delta

-- name: emails_rehome
-- Where uids and ids run in parallel.
UPDATE email SET mailbox = :mailbox, uid = id + :delta WHERE account = :account AND id BETWEEN :low AND :high

-- name: emails_follow
-- The home of each of these placements' emails is there.
UPDATE email SET mailbox = p.mailbox, uid = p.uid FROM placement AS p
WHERE p.account = :account AND p.mailbox = :mailbox AND p.uid BETWEEN :low AND :high AND p.home = 1
  AND email.account = :account AND email.id = p.email

-- name: placements_copy
INSERT INTO placement (account, mailbox, uid, email, deleted, home, modseq, saved_at)
SELECT account, :target, uid + :delta, email, deleted, home * :homes, :modseq, :saved_at FROM placement
WHERE account = :account AND mailbox = :mailbox AND uid BETWEEN :low AND :high

-- name: placements_of_emails
-- Where uids and ids run in parallel: placements_copy, without a look at what stands there, which is written down before any
-- of it is copied.
INSERT INTO placement (account, mailbox, uid, email, deleted, home, modseq, saved_at)
SELECT account, :target, id + :delta, id, 0, :homes, :modseq, :saved_at FROM email
WHERE account = :account AND id BETWEEN :low AND :high

-- name: placements_set_deleted
UPDATE placement SET deleted = :deleted, modseq = :modseq
WHERE account = :account AND mailbox = :mailbox AND uid BETWEEN :low AND :high

-- name: placements_remove
DELETE FROM placement WHERE account = :account AND mailbox = :mailbox AND uid BETWEEN :low AND :high

-- name: emails_delete
DELETE FROM email WHERE account = :account AND id BETWEEN :low AND :high

-- name: placements_uids
SELECT uid FROM placement WHERE account = :account AND mailbox = :mailbox AND uid > :after ORDER BY uid LIMIT :limit

-- name: placements_deleted
SELECT uid FROM placement WHERE account = :account AND mailbox = :mailbox AND deleted = 1 ORDER BY uid

-- name: emails_expunge
INSERT INTO expunged (account, email, mailbox, gone_at, message, thread, received_at, size, keywords, prologue)
SELECT e.account, e.id, :mailbox, :now, e.message, e.thread, e.received_at, e.size, e.keywords, e.prologue
FROM json_each(:emails) AS r CROSS JOIN email AS e ON e.account = :account AND e.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- keywords -------------------------------------------------------------------------------------------------------------

-- name: keyword_names
SELECT bit, name, written FROM keyword WHERE account = :account ORDER BY bit

-- name: keyword_insert
INSERT INTO keyword (account, bit, name, written) VALUES (:account, :bit, :name, :written)

-- retention ------------------------------------------------------------------------------------------------------------

-- name: expunged_list
SELECT email, mailbox, gone_at, message, thread, received_at, size, keywords FROM expunged
WHERE account = :account AND email > :after ORDER BY email LIMIT :limit

-- name: expunged_find
SELECT email, mailbox, message, thread, received_at, size, keywords, prologue
FROM json_each(:emails) AS r CROSS JOIN expunged AS e
ON e.account = :account AND e.email BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: expunged_old
SELECT account, email, message FROM expunged WHERE gone_at < :before ORDER BY gone_at LIMIT :limit

-- name: expunged_delete
DELETE FROM expunged WHERE account = :account AND email = :email

-- name: messages_emails
SELECT m.id, m.emails FROM json_each(:messages) AS r
CROSS JOIN message AS m ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1

-- name: message_delete
DELETE FROM message WHERE id = :message

-- name: message_text_delete
DELETE FROM message_text WHERE message = :message

-- name: message_mended_delete
DELETE FROM message_mended WHERE message = :message

-- name: account_emails
-- Of one account, kept and expunged: id and message.
SELECT id, message FROM email WHERE account = :account
UNION ALL SELECT email, message FROM expunged WHERE account = :account LIMIT :limit

-- name: email_delete
DELETE FROM email WHERE account = :account AND id = :email
