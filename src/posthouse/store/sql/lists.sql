-- Mailing lists.

-- name: list_insert
INSERT INTO list (key, created_at, title, posting, others, joining, reply_to, rewrite_from, subject_tag, footer,
  message_size, visible)
VALUES (:key, :created_at, :title, :posting, :others, :joining, :reply_to, :rewrite_from, :subject_tag, :footer,
  :message_size, :visible) RETURNING id;

-- name: list_update
UPDATE list SET title = :title, posting = :posting, others = :others, joining = :joining, reply_to = :reply_to,
  rewrite_from = :rewrite_from, subject_tag = :subject_tag, footer = :footer, message_size = :message_size,
  visible = :visible WHERE id = :id;

-- name: list_delete
DELETE FROM list WHERE id = :id;

-- name: list_get
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.visible FROM list AS l JOIN address AS a ON a.key = l.key WHERE l.id = :id;

-- name: list_by_key
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.visible FROM list AS l JOIN address AS a ON a.key = l.key WHERE l.key = :key;

-- name: list_list
SELECT l.id, a.written, l.title, l.posting, l.others, l.joining, l.reply_to, l.rewrite_from, l.subject_tag, l.footer,
  l.message_size, l.visible FROM list AS l JOIN address AS a ON a.key = l.key
WHERE l.key > :after ORDER BY l.key LIMIT :limit;

-- name: address_of_list
UPDATE address SET list = :list WHERE key = :key;

-- members --------------------------------------------------------------------------------------------------------------

-- name: member_insert
INSERT INTO list_member (list, key, written, name, role, delivery, joined_at, bounces, number)
VALUES (:list, :key, :written, :name, :role, 'each', :joined_at, 0, :number)
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

-- The last key of each batch of those who are reached.
-- name: member_bounds
SELECT max(key) FROM (
  SELECT key, (row_number() OVER (ORDER BY key) - 1) / :size AS batch
  FROM list_member WHERE list = :list AND delivery = 'each' AND disabled_at IS NULL
) GROUP BY batch ORDER BY 1;

-- name: member_between
SELECT written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at, number
FROM list_member
WHERE list = :list AND key > :after AND key <= :upto AND delivery = 'each' AND disabled_at IS NULL ORDER BY key;

-- name: member_bounced
UPDATE list_member SET bounces = :bounces, bounced_at = :at, disabled_at = :disabled_at WHERE list = :list AND key = :key;

-- requests -------------------------------------------------------------------------------------------------------------

-- name: list_request_insert
INSERT INTO list_request (token, list, written, name, what, made_at) VALUES (:token, :list, :written, :name, :what, :made_at);

-- name: list_request_count
SELECT count(*) FROM list_request WHERE list = :list;

-- name: list_request_take
DELETE FROM list_request WHERE token = :token AND list = :list AND made_at > :after RETURNING written, name, what;

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
INSERT INTO list_batch (recipient, list, after, upto) VALUES (:recipient, :list, :after, :upto);

-- name: list_batch_forget
DELETE FROM list_batch WHERE list = :list;

-- name: list_batch_get
SELECT list, after, upto FROM list_batch WHERE recipient = :recipient;

-- name: list_batch_take
DELETE FROM list_batch WHERE recipient = :recipient RETURNING list, after, upto;

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
WHERE list = :list AND (id = :id OR token = :token);

-- name: list_held_count
SELECT count(*) FROM list_held WHERE list = :list;

-- name: list_held_delete
DELETE FROM list_held WHERE id = :id RETURNING blob;

-- name: list_held_blobs
SELECT blob FROM list_held WHERE list = :list;
