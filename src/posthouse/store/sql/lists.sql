-- Mailing lists.

-- name: list_insert
INSERT INTO list (key, created_at, title, posting, others, joining, reply_to, rewrite_from, subject_tag, footer,
  message_size, digest_every, digest_posts, digest_size, notices,
  visible)
VALUES (:key, :created_at, :title, :posting, :others, :joining, :reply_to, :rewrite_from, :subject_tag, :footer,
  :message_size, :digest_every, :digest_posts, :digest_size, :notices,
  :visible) RETURNING id;

-- name: list_update
UPDATE list SET title = :title, posting = :posting, others = :others, joining = :joining, reply_to = :reply_to,
  rewrite_from = :rewrite_from, subject_tag = :subject_tag, footer = :footer, message_size = :message_size,
  digest_every = :digest_every, digest_posts = :digest_posts, digest_size = :digest_size, notices = :notices,
  visible = :visible WHERE id = :id;

-- name: list_delete
DELETE FROM list WHERE id = :id;

-- name: list_get
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.digest_every, l.digest_posts, l.digest_size, l.notices, l.visible FROM list AS l JOIN address AS a ON a.key = l.key WHERE l.id = :id;

-- name: list_by_key
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.digest_every, l.digest_posts, l.digest_size, l.notices, l.visible FROM list AS l JOIN address AS a ON a.key = l.key WHERE l.key = :key;

-- name: list_list
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.digest_every, l.digest_posts, l.digest_size, l.notices, l.visible FROM list AS l JOIN address AS a ON a.key = l.key
WHERE l.key > :after ORDER BY l.key LIMIT :limit;

-- name: address_of_list
UPDATE address SET list = :list WHERE key = :key;

-- members --------------------------------------------------------------------------------------------------------------

-- name: member_insert
INSERT INTO list_member (list, key, written, name, role, delivery, joined_at, bounces, number)
VALUES (:list, :key, :written, :name, :role, :delivery, :joined_at, 0, :number)
ON CONFLICT (list, key) DO NOTHING RETURNING key;

-- name: member_update
UPDATE list_member SET name = :name, role = :role, delivery = :delivery, bounces = :bounces, bounced_at = :bounced_at,
  disabled_at = :disabled_at WHERE list = :list AND key = :key;

-- name: member_delete
DELETE FROM list_member WHERE list = :list AND key = :key;

-- name: member_get
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member WHERE list = :list AND key = :key;

-- name: member_numbered
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member WHERE number = :number AND list = :list;

-- name: member_list
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member WHERE list = :list AND key > :after ORDER BY key LIMIT :limit;

-- name: member_staff
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member WHERE list = :list AND role IN ('moderator', 'owner') ORDER BY key;

-- The last key of each batch of those who take what is posted in this period in that form.
-- name: member_bounds
SELECT max(key) FROM (
  SELECT key, (row_number() OVER (ORDER BY key) - 1) / :size AS batch
  FROM list_member AS m WHERE list = :list AND delivery <> 'none' AND disabled_at IS NULL AND coalesce(
    (SELECT form FROM list_turn AS t WHERE t.list = m.list AND t.number = m.number AND t.period >= :period
     ORDER BY t.period LIMIT 1), delivery) = :form
) GROUP BY batch ORDER BY 1;

-- name: member_between
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member AS m
WHERE list = :list AND key > :after AND key <= :upto AND delivery <> 'none' AND disabled_at IS NULL AND coalesce(
  (SELECT form FROM list_turn AS t WHERE t.list = m.list AND t.number = m.number AND t.period >= :period
   ORDER BY t.period LIMIT 1), delivery) = :form
ORDER BY key;

-- name: member_bounced
UPDATE list_member SET bounces = :bounces, bounced_at = :at, disabled_at = :disabled_at WHERE list = :list AND key = :key;

-- requests -------------------------------------------------------------------------------------------------------------

-- name: list_request_insert
INSERT INTO list_request (token, list, written, name, what, delivery, made_at)
VALUES (:token, :list, :written, :name, :what, :delivery, :made_at);

-- name: list_request_count
SELECT count(*) FROM list_request WHERE list = :list;

-- name: list_request_take
DELETE FROM list_request WHERE token = :token AND list = :list AND made_at > :after RETURNING written, name, what, delivery;

-- name: list_request_expire
DELETE FROM list_request WHERE made_at <= :before;

-- name: list_request_settled
DELETE FROM list_request WHERE list = :list AND written = :written AND what = :what;

-- name: list_answer_forget
DELETE FROM list_answer WHERE list = :list AND at <= :before;

-- name: list_answer_counts
SELECT (SELECT count(*) FROM list_answer WHERE key = :key AND at > :after),
  (SELECT count(*) FROM list_answer WHERE list = :list);

-- name: list_answer_insert
INSERT INTO list_answer (list, key, at) VALUES (:list, :key, :at);

-- batches --------------------------------------------------------------------------------------------------------------

-- name: list_batch_insert
INSERT INTO list_batch (recipient, list, after, upto, form, period)
VALUES (:recipient, :list, :after, :upto, :form, :period);

-- name: list_batch_forget
DELETE FROM list_batch WHERE list = :list;

-- name: list_batch_get
SELECT list, after, upto, form, period FROM list_batch WHERE recipient = :recipient;

-- name: list_batch_take
DELETE FROM list_batch WHERE recipient = :recipient RETURNING list, after, upto, form, period;

-- held -----------------------------------------------------------------------------------------------------------------

-- name: list_held_insert
INSERT INTO list_held (list, token, blob, prologue, size, journey, sender, smtputf8, requiretls, author, subject, reason,
  held_at)
VALUES (:list, :token, :blob, :prologue, :size, :journey, :sender, :smtputf8, :requiretls, :author, :subject, :reason,
  :held_at) RETURNING id;

-- name: list_held_list
SELECT id, token, blob, prologue, size, journey, sender, smtputf8, requiretls, author, subject, reason, held_at
FROM list_held
WHERE list = :list AND id > :after ORDER BY id LIMIT :limit;

-- name: list_held_get
SELECT id, token, blob, prologue, size, journey, sender, smtputf8, requiretls, author, subject, reason, held_at
FROM list_held
WHERE list = :list AND token = :token;

-- name: list_held_numbered
SELECT id, token, blob, prologue, size, journey, sender, smtputf8, requiretls, author, subject, reason, held_at
FROM list_held
WHERE list = :list AND id = :id;

-- name: list_held_count
SELECT count(*) FROM list_held WHERE list = :list;

-- name: list_held_delete
DELETE FROM list_held WHERE id = :id RETURNING blob;

-- name: list_held_before
SELECT held.id, held.journey, a.written
  FROM list_held AS held JOIN list AS l ON l.id = held.list JOIN address AS a ON a.key = l.key
 WHERE held.held_at < :before ORDER BY held.id LIMIT :limit;

-- name: list_held_blobs
SELECT blob FROM list_held WHERE list = :list;

-- digests --------------------------------------------------------------------------------------------------------------

-- name: list_period
SELECT period FROM list WHERE id = :list;

-- name: list_period_next
UPDATE list SET period = period + 1 WHERE id = :list;

-- Whether anybody takes posts of this period in a digest.
-- name: list_digest_wanted
SELECT EXISTS (SELECT 1 FROM list_member WHERE list = :list AND delivery = 'digest')
  OR EXISTS (SELECT 1 FROM list_turn WHERE list = :list AND period >= :period AND form = 'digest');

-- name: list_digest_get
SELECT posts, size, sealed FROM list_digest WHERE list = :list AND period = :period;

-- name: list_digest_add
INSERT INTO list_digest (list, period, posts, size, since, sealed) VALUES (:list, :period, 1, :size, :now, 0)
ON CONFLICT (list, period) DO UPDATE SET posts = posts + 1, size = size + excluded.size;

-- name: list_digest_seal
UPDATE list_digest SET sealed = 1 WHERE list = :list AND period = :period AND sealed = 0;

-- name: list_digest_due
SELECT d.list, d.period FROM list_digest AS d JOIN list AS l ON l.id = d.list
WHERE d.sealed = 1 OR d.since + l.digest_every * 1000 <= :now ORDER BY d.since LIMIT :limit;

-- name: list_digest_next
SELECT min(d.since + l.digest_every * 1000) FROM list_digest AS d JOIN list AS l ON l.id = d.list;

-- name: list_digest_take
DELETE FROM list_digest WHERE list = :list AND period = :period;

-- name: list_digest_post_insert
INSERT INTO list_digest_post (list, period, blob, journey, author, subject, eight_bit, smtputf8, requiretls)
VALUES (:list, :period, :blob, :journey, :author, :subject, :eight_bit, :smtputf8, :requiretls);

-- name: list_digest_post_list
SELECT blob, journey, author, subject, eight_bit, smtputf8, requiretls FROM list_digest_post
WHERE list = :list AND period = :period ORDER BY id;

-- name: list_digest_post_take
DELETE FROM list_digest_post WHERE list = :list AND period = :period RETURNING blob;

-- name: list_digest_blobs
SELECT blob FROM list_digest_post WHERE list = :list;

-- The first change stands: how it was as the period began.
-- name: list_turn_insert
INSERT INTO list_turn (list, number, period, form) VALUES (:list, :number, :period, :form) ON CONFLICT DO NOTHING;

-- name: list_turn_get
SELECT form FROM list_turn WHERE list = :list AND number = :number AND period >= :period ORDER BY period LIMIT 1;

-- Those of periods of which nothing is under way any more.
-- name: list_turn_forget
DELETE FROM list_turn WHERE list = :list AND period < (SELECT period FROM list WHERE id = :list)
AND NOT EXISTS (SELECT 1 FROM list_batch AS b WHERE b.list = list_turn.list AND b.period <= list_turn.period)
AND NOT EXISTS (SELECT 1 FROM list_digest AS d WHERE d.list = list_turn.list AND d.period <= list_turn.period);
