-- The first schema. Additive from here on: a later number adds, and never changes what an older program reads.
-- Columns named *_at are UTC milliseconds. Keys of an account's tables begin with the account, so that they can be sharded by it.
-- Where PostgreSQL must say a thing otherwise, that is written when the engine comes; the columns are the same.

-- the store's own -----------------------------------------------------------------------------------------------------

-- key 'secret': 32 octets made at creation, for keyed hashes.
CREATE TABLE meta (
  key    TEXT PRIMARY KEY,
  value  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The next number of each series that rows get their ids from (Tx.number). No id is ever given twice.
CREATE TABLE series (
  name  TEXT PRIMARY KEY,
  next  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO series (name, next) VALUES ('blob', 1), ('queued_recipient', 1), ('list_member', 1), ('packed_piece', 1);

-- directory ------------------------------------------------------------------------------------------------------------

CREATE TABLE domain (
  name        TEXT PRIMARY KEY,         -- lower-case A-labels
  catch_all   TEXT,                     -- address that takes mail for unknown local parts, or NULL
  created_at  INTEGER NOT NULL,
  quota_octets  INTEGER,                -- of all accounts that are named in it; NULL: no limit
  used_octets   INTEGER NOT NULL DEFAULT 0,   -- by them; kept where there is a quota
  quota_told    INTEGER NOT NULL DEFAULT 0    -- the threshold (80, 95) last told of
) STRICT, WITHOUT ROWID;

-- What signs mail in a domain's name (DKIM). Of each algorithm one key signs.
CREATE TABLE dkim_key (
  domain      TEXT NOT NULL REFERENCES domain(name) ON DELETE CASCADE,
  selector    TEXT NOT NULL,
  algorithm   TEXT NOT NULL,            -- rsa ed25519
  private     BLOB NOT NULL,            -- PKCS#8, DER
  public      BLOB NOT NULL,            -- as its DNS record shows it
  state       TEXT NOT NULL,            -- waiting signing retired
  created_at  INTEGER NOT NULL,
  since_at    INTEGER NOT NULL,         -- of its state
  PRIMARY KEY (domain, selector)
) STRICT, WITHOUT ROWID;

-- Selectors that were given to keys, gone ones too: each stands for one key for ever.
CREATE TABLE dkim_selector (
  domain      TEXT NOT NULL,
  selector    TEXT NOT NULL,
  PRIMARY KEY (domain, selector)
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  name          TEXT NOT NULL UNIQUE,   -- login name: the first address' key
  full_name     TEXT NOT NULL DEFAULT '',
  quota_octets  INTEGER,                -- NULL: no limit
  quota_emails  INTEGER,
  quota_domain  TEXT,                   -- the domain it is named in, where that has a quota
  quota_told    INTEGER NOT NULL DEFAULT 0,   -- the threshold (80, 95) last told of
  enabled       INTEGER NOT NULL DEFAULT 1,
  created_at    INTEGER NOT NULL,
  copy_to_sent  INTEGER NOT NULL DEFAULT 0,   -- what it submits is filed in Sent, too
  submission_rate        TEXT,          -- recipients it may write to, such as 5000/1h; NULL: as is configured
  submission_recipients  INTEGER,       -- of one message; NULL: as is configured
  removed_at    INTEGER                 -- removed: nameless, its mail is swept in batches, then the row goes
) STRICT;

CREATE INDEX account_quota_domain ON account(quota_domain) WHERE quota_domain IS NOT NULL;

-- When an account was last told by mail that it has nearly reached its submission_rate, or that this stops it.
CREATE TABLE submission_warning (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  stopped  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (account, stopped)
) STRICT, WITHOUT ROWID;

-- Every address that is served: it belongs to an account (and is then an identity it may send as), or is an alias.
CREATE TABLE address (
  key      TEXT PRIMARY KEY,            -- Address.key
  domain   TEXT NOT NULL REFERENCES domain(name),
  written  TEXT NOT NULL,               -- as it was given
  account  INTEGER REFERENCES account(id) ON DELETE CASCADE,  -- NULL: an alias, or a list
  list     INTEGER                      -- it is this mailing list
) STRICT, WITHOUT ROWID;
CREATE INDEX address_account ON address(account) WHERE account IS NOT NULL;
CREATE INDEX address_domain ON address(domain, account);

CREATE TABLE alias_target (
  alias       TEXT NOT NULL REFERENCES address(key) ON DELETE CASCADE,
  target_key  TEXT NOT NULL,            -- Address.key
  target      TEXT NOT NULL,            -- an address, ours or another's, as it was given
  PRIMARY KEY (alias, target_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_target_key ON alias_target(target_key);

-- Mailing lists. What the words of the settings mean: directory/lists.py.
CREATE TABLE list (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  key           TEXT NOT NULL UNIQUE REFERENCES address(key),
  title         TEXT NOT NULL,
  posting       TEXT NOT NULL,
  others        TEXT NOT NULL,
  joining       TEXT NOT NULL,
  reply_to      TEXT NOT NULL,
  rewrite_from  TEXT NOT NULL,
  subject_tag   TEXT NOT NULL,
  footer        TEXT NOT NULL,
  message_size  INTEGER NOT NULL,
  digest_every  INTEGER NOT NULL,        -- seconds
  digest_posts  INTEGER NOT NULL,
  digest_size   INTEGER NOT NULL,
  notices       INTEGER NOT NULL,
  visible       INTEGER NOT NULL,
  period        INTEGER NOT NULL DEFAULT 1,  -- the digest that posts are gathered for now, or would be
  created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE list_member (
  list         INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  key          TEXT NOT NULL,           -- Address.key
  written      TEXT NOT NULL,
  name         TEXT NOT NULL,
  role         TEXT NOT NULL,           -- member moderator owner
  delivery     TEXT NOT NULL,           -- each digest none
  joined_at    INTEGER NOT NULL,
  bounces      INTEGER NOT NULL,        -- days on which mail came back
  bounced_at   INTEGER,                 -- the last of them
  disabled_at  INTEGER,                 -- too many: gets nothing since
  number       INTEGER NOT NULL,        -- of the series list_member: what his tags are made of
  PRIMARY KEY (list, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX list_member_role ON list_member(list, role);
CREATE UNIQUE INDEX list_member_number ON list_member(number);

-- Somebody wants to join, leave or be admitted, and the token was sent to who has to confirm it.
CREATE TABLE list_request (
  token    TEXT PRIMARY KEY,
  list     INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  written  TEXT NOT NULL,
  name     TEXT NOT NULL,
  what     TEXT NOT NULL,               -- join leave admit deliver
  delivery TEXT NOT NULL,               -- each digest none: to be set with it
  made_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX list_request_list ON list_request(list);
CREATE INDEX list_request_age ON list_request(made_at);

-- Letters that lists wrote because somebody's mail asked for them, for a day: his address may be forged.
CREATE TABLE list_answer (
  id    INTEGER PRIMARY KEY,
  list  INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  key   TEXT NOT NULL,                  -- of the address, without its tag
  at    INTEGER NOT NULL
) STRICT;
CREATE INDEX list_answer_key ON list_answer(key, at);
CREATE INDEX list_answer_list ON list_answer(list, at);

-- Posts that wait for a moderator.
CREATE TABLE list_held (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  list     INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  token    TEXT NOT NULL UNIQUE,
  blob     INTEGER NOT NULL,
  prologue BLOB NOT NULL,               -- what stood in front of it: the lists and aliases it came by
  size     INTEGER NOT NULL,
  journey  INTEGER NOT NULL,
  sender   TEXT,
  smtputf8 INTEGER NOT NULL,
  requiretls INTEGER NOT NULL,
  author   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  reason   TEXT NOT NULL,
  held_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX list_held_list ON list_held(list, id);
CREATE INDEX list_held_blob ON list_held(blob);

-- Which members a row of the queue stands for: those behind `after`, up to `upto`.
CREATE TABLE list_batch (
  recipient  INTEGER PRIMARY KEY REFERENCES queued_recipient(id) ON DELETE CASCADE,   -- dropped or given up, too
  list       INTEGER NOT NULL,
  after      TEXT NOT NULL,
  upto       TEXT NOT NULL,
  form       TEXT NOT NULL,             -- each digest: of those who took posts so
  period     INTEGER NOT NULL           -- in this period
) STRICT;

-- Digests that are being gathered, or made (directory/digests.py).
CREATE TABLE list_digest (
  list    INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  period  INTEGER NOT NULL,
  posts   INTEGER NOT NULL,
  size    INTEGER NOT NULL,             -- of them all, in octets
  since   INTEGER NOT NULL,             -- when the first of them came
  sealed  INTEGER NOT NULL,             -- no further ones come: it is to be made
  PRIMARY KEY (list, period)
) STRICT, WITHOUT ROWID;

-- What stands in them: posts as the members got them.
CREATE TABLE list_digest_post (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  list       INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  period     INTEGER NOT NULL,
  blob       INTEGER NOT NULL,
  journey    INTEGER NOT NULL,
  author     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  eight_bit  INTEGER NOT NULL,
  smtputf8   INTEGER NOT NULL,
  requiretls INTEGER NOT NULL
) STRICT;
CREATE INDEX list_digest_post_of ON list_digest_post(list, period);
CREATE INDEX list_digest_post_blob ON list_digest_post(blob);

-- Members who changed between digest and single posts: how they take those of periods up to this one.
CREATE TABLE list_turn (
  list    INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
  number  INTEGER NOT NULL,             -- of the member
  period  INTEGER NOT NULL,
  form    TEXT NOT NULL,                -- each digest
  PRIMARY KEY (list, number, period)
) STRICT, WITHOUT ROWID;

-- Senders of forwarded mail whose reverse-path would be too long to hold them (directory/srs.py).
CREATE TABLE forwarded (
  ticket   TEXT PRIMARY KEY,
  sender   TEXT NOT NULL,
  made_at  INTEGER NOT NULL             -- the last time
) STRICT, WITHOUT ROWID;
CREATE INDEX forwarded_age ON forwarded(made_at);

-- Addresses that an account's mail did not reach, or that complained: why, and how often.
CREATE TABLE suppression (
  account   INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  address   TEXT NOT NULL,              -- Address.key
  written   TEXT NOT NULL,              -- as it was written to last
  cause     TEXT NOT NULL,              -- message/cause.py, or "complaint"
  words     TEXT NOT NULL,              -- what was said last
  times     INTEGER NOT NULL,
  first_at  INTEGER NOT NULL,
  last_at   INTEGER NOT NULL,
  PRIMARY KEY (account, address)
) STRICT, WITHOUT ROWID;

-- Addresses of others (accounts' or aliases) that an account may send as.
CREATE TABLE send_as (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  key      TEXT NOT NULL REFERENCES address(key) ON DELETE CASCADE,
  PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX send_as_key ON send_as(key);

-- One row: grows with every change of the directory, so that an answer kept in memory can be checked in the accepting commit.
CREATE TABLE directory_state (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  version  INTEGER NOT NULL
) STRICT;
INSERT INTO directory_state (one, version) VALUES (1, 1);

-- A login's secret: a SCRAM-SHA-256 verifier (RFC 5803), from which PLAIN is checked too.
CREATE TABLE credential (
  account     INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  id          INTEGER NOT NULL,
  label       TEXT NOT NULL,
  iterations  INTEGER NOT NULL,
  salt        BLOB NOT NULL,
  stored_key  BLOB NOT NULL,
  server_key  BLOB NOT NULL,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- strangers ------------------------------------------------------------------------------------------------------------

-- Networks that nobody is served from; those that ended are kept for a week, so that the next block lasts longer.
CREATE TABLE block (
  network   TEXT PRIMARY KEY,           -- 192.0.2.1/32, 2001:db8::/64
  since_at  INTEGER NOT NULL,
  until_at  INTEGER,                    -- NULL: until it is taken back
  reason    TEXT NOT NULL,
  times     INTEGER NOT NULL            -- how often in a row; 0: by hand
) STRICT, WITHOUT ROWID;

-- From where people have logged in lately, so that others' guesses do not hold them up.
CREATE TABLE familiar_network (
  login    TEXT NOT NULL,               -- key of an address of the account's
  network  TEXT NOT NULL,               -- an IPv4 address, or the /64 of an IPv6 one
  day      INTEGER NOT NULL,            -- of the last time, in days since 1970
  PRIMARY KEY (login, network)
) STRICT, WITHOUT ROWID;
CREATE INDEX familiar_network_day ON familiar_network(day);

-- blobs and messages ---------------------------------------------------------------------------------------------------

-- place 0: octets beside this row; 1: a file under blobs/; others: the number that a Place (store/blobs.py) has. Immutable.
CREATE TABLE blob (
  id      INTEGER PRIMARY KEY,          -- of the series blob
  place   INTEGER NOT NULL,
  size    INTEGER NOT NULL,
  sha256  BLOB NOT NULL,
  octets  BLOB,                         -- place 0
  name    TEXT                          -- in any other place, which never uses a name twice
) STRICT;

CREATE UNIQUE INDEX blob_name ON blob(place, name) WHERE name IS NOT NULL;

-- Octets elsewhere than in a row, whose blob is gone; the sweep removes them a day later.
CREATE TABLE blob_gone (
  place    INTEGER NOT NULL,
  name     TEXT NOT NULL,
  gone_at  INTEGER NOT NULL,
  PRIMARY KEY (place, name)
) STRICT, WITHOUT ROWID;

-- Blobs whose reference went: the sweep looks at them again, and then removes them.
CREATE TABLE blob_suspect (
  blob        INTEGER PRIMARY KEY,
  since_at    INTEGER NOT NULL
) STRICT;

-- What all who received a message share. Immutable but for the number of its emails.
CREATE TABLE message (
  id              INTEGER PRIMARY KEY,  -- the id of its blob
  emails          INTEGER NOT NULL,     -- how many emails have it, kept and expunged: with the last one it goes
  size            INTEGER NOT NULL,     -- octets of the blob
  sent_at         INTEGER,              -- Date field
  has_attachment  INTEGER NOT NULL,
  text_at         INTEGER,              -- where in the blob its text stands as it is; NULL: it is in message_text
  sorting         TEXT NOT NULL,        -- what SORT compares, a line each (mailbox/collation.py)
  links           BLOB NOT NULL,        -- what THREAD goes by: hashes of message-ids
  head            TEXT NOT NULL,        -- search text of subject and addresses, case-folded
  preview         TEXT NOT NULL,
  summary         BLOB NOT NULL,        -- IMAP ENVELOPE as sent in a FETCH, parentheses included
  structure       BLOB NOT NULL,        -- IMAP BODYSTRUCTURE, likewise
  parts           BLOB NOT NULL         -- MIME tree with octet offsets into the blob (message/mime.py packs it)
) STRICT;

-- Search text of the body, extracted and case-folded once, where it does not stand in the blob as it is.
CREATE TABLE message_text (
  message  INTEGER PRIMARY KEY,
  body     TEXT NOT NULL
) STRICT;

-- Messages that POP3 sends otherwise than they lie in the blob: line endings made CRLF, one put at the end, a header put in
-- ASCII. Their sizes there are not `size` (mailbox/maildrop.py). But for `only_dots`: those have lines that begin with a dot,
-- which gets another one that does not count, and are sent as they are otherwise.
CREATE TABLE message_mended (
  message    INTEGER PRIMARY KEY,
  only_dots  INTEGER NOT NULL
) STRICT;

-- accounts' mail -------------------------------------------------------------------------------------------------------

-- The account's one row of counters: whoever writes in an account locks it first.
CREATE TABLE account_state (
  account           INTEGER PRIMARY KEY REFERENCES account(id) ON DELETE CASCADE,
  epoch             INTEGER NOT NULL,   -- changes when a backup is restored
  modseq            INTEGER NOT NULL,
  next_email        INTEGER NOT NULL,
  next_mailbox      INTEGER NOT NULL,
  used_octets       INTEGER NOT NULL,
  used_emails       INTEGER NOT NULL,
  tombstone_floor   INTEGER NOT NULL,   -- changes up to this modseq are not known any more
  mailbox_modseq    INTEGER NOT NULL,   -- highest modseq of each JMAP type
  email_modseq      INTEGER NOT NULL,
  thread_modseq     INTEGER NOT NULL,
  last_uidvalidity  INTEGER NOT NULL DEFAULT 0,   -- of any mailbox there ever was
  search_mark       INTEGER NOT NULL DEFAULT 0,   -- emails up to this id are in email_words
  words_mark        INTEGER             -- and up to this one their words in search_words; NULL: nobody wants them
) STRICT;

CREATE TABLE mailbox (
  account         INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  id              INTEGER NOT NULL,
  parent          INTEGER,              -- NULL: top level
  name            TEXT NOT NULL,        -- one level, NFC
  role            TEXT,                 -- inbox sent drafts junk trash archive
  subscribed      INTEGER NOT NULL,
  sort_order      INTEGER NOT NULL,
  uidvalidity     INTEGER NOT NULL,
  uidnext         INTEGER NOT NULL,
  highest_modseq  INTEGER NOT NULL,     -- of its placements and their expunging (RFC 7162)
  -- IMAP's totals: every placement
  messages        INTEGER NOT NULL DEFAULT 0,
  unseen          INTEGER NOT NULL DEFAULT 0,
  octets          INTEGER NOT NULL DEFAULT 0,
  deleted         INTEGER NOT NULL DEFAULT 0,
  deleted_octets  INTEGER NOT NULL DEFAULT 0,
  -- JMAP's: emails with a placement here that is not \Deleted; unread leaves drafts out
  emails          INTEGER NOT NULL DEFAULT 0,
  unread          INTEGER NOT NULL DEFAULT 0,
  threads         INTEGER NOT NULL DEFAULT 0,
  unread_threads  INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX mailbox_name ON mailbox(account, coalesce(parent, 0), name);
CREATE UNIQUE INDEX mailbox_role ON mailbox(account, role) WHERE role IS NOT NULL;

-- Large mailboxes packed: what their placements say, made from them behind the commit, and never the truth
-- (mailbox/packed.py).
CREATE TABLE packed_mailbox (
  account      INTEGER NOT NULL,
  mailbox      INTEGER NOT NULL,
  uidvalidity  INTEGER NOT NULL,        -- these as they were when it was packed
  uidnext      INTEGER NOT NULL,
  modseq       INTEGER NOT NULL,
  messages     INTEGER NOT NULL,
  pieces       TEXT NOT NULL,           -- JSON, in order: [[id, first uid, placements], …]
  PRIMARY KEY (account, mailbox),
  FOREIGN KEY (account, mailbox) REFERENCES mailbox(account, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- With rowids: where large rows lie in the tree of their keys, each that a search passes is read to its end.
CREATE TABLE packed_piece (
  account   INTEGER NOT NULL,
  mailbox   INTEGER NOT NULL,
  id        INTEGER NOT NULL,           -- of the series packed_piece
  checksum  INTEGER NOT NULL,           -- CRC-32; in front, so that it is found without going through the octets
  octets    BLOB NOT NULL,              -- uids, email ids (4 octets each), flags, modseqs (8 each); little-endian
  PRIMARY KEY (account, mailbox, id)
) STRICT;

CREATE TABLE email (
  account         INTEGER NOT NULL,
  id              INTEGER NOT NULL,
  message         INTEGER NOT NULL,
  thread          INTEGER NOT NULL,     -- the id of its first email
  received_at     INTEGER NOT NULL,
  size            INTEGER NOT NULL,     -- prologue + blob
  keywords        INTEGER NOT NULL,     -- bits: terms/keywords.py, and the account's own
  mailbox         INTEGER NOT NULL,     -- where it was placed first, or moved from there, its home: it may be gone from it
  uid             INTEGER NOT NULL,
  prologue        BLOB NOT NULL,
  modseq          INTEGER NOT NULL DEFAULT 0,   -- of the last change of its keywords since it was filed
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX email_thread ON email(account, thread) WHERE thread <> id;

CREATE TABLE placement (
  account         INTEGER NOT NULL,
  mailbox         INTEGER NOT NULL,
  uid             INTEGER NOT NULL,
  email           INTEGER NOT NULL,
  deleted         INTEGER NOT NULL,
  home            INTEGER NOT NULL,     -- the email's row names this placement; others are found by placement_email
  modseq          INTEGER NOT NULL,     -- of the placement alone: IMAP's is this or the email's, whichever is later
  saved_at        INTEGER NOT NULL,     -- when it was put into the mailbox
  PRIMARY KEY (account, mailbox, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX placement_email ON placement(account, email) WHERE home = 0;

-- What the planner cannot know: that an account has many placements, and an email few; that a list has many members, and few
-- of them have to do for it. It would else walk along all of an account's or a list's.
ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
  ('placement', 'placement', '1000000 10000 2000 1'), ('placement', 'placement_email', '100000 1000 1'),
  ('list_member', 'list_member', '1000000 10000 1'), ('list_member', 'list_member_role', '1000000 10000 5'),
  ('list_member', 'list_member_number', '1000000 1');

-- The names of an account's own keyword bits (16 and up).
CREATE TABLE keyword (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  bit      INTEGER NOT NULL,
  name     TEXT NOT NULL,               -- lower case
  written  TEXT NOT NULL,               -- as it was first written
  PRIMARY KEY (account, bit)
) STRICT, WITHOUT ROWID;

-- What clients keep with a mailbox, or (mailbox 0) with the account: RFC 5464, and named searches (RFC 5466).
CREATE TABLE annotation (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  mailbox  INTEGER NOT NULL,
  entry    TEXT NOT NULL,               -- lower case: /private/filters/values/NAME
  value    BLOB NOT NULL,
  PRIMARY KEY (account, mailbox, entry)
) STRICT, WITHOUT ROWID;

-- Mailboxes that others may use, and what they may do there (RFC 4314).
CREATE TABLE share (
  account     INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  mailbox     INTEGER NOT NULL,
  grantee     INTEGER NOT NULL,         -- an account; 0: anyone
  rights      TEXT NOT NULL DEFAULT '', -- of lrswipkxtea
  denied      TEXT NOT NULL DEFAULT '', -- what it may not do, whoever grants it
  subscribed  INTEGER NOT NULL DEFAULT 0,   -- by the grantee
  PRIMARY KEY (account, mailbox, grantee)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_grantee ON share(grantee);

-- Message-ids seen in an account, of its emails and of what they refer to, each with the subject it was seen under, as one
-- keyed hash; the thread they belong to.
CREATE TABLE thread_link (
  account  INTEGER NOT NULL,
  hash     INTEGER NOT NULL,
  thread   INTEGER NOT NULL,
  PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;

-- The feed of changes: what one write made, changed and took away. Numbers are JSON: one (7), or
-- ranges ([[4,9],[12,12]]); NULL: none. The row of mailbox m (0: none) holds uids of m; what the account as a whole saw
-- stands in the first row of a modseq.
CREATE TABLE change (
  account             INTEGER NOT NULL,
  modseq              INTEGER NOT NULL,
  mailbox             INTEGER NOT NULL,
  at                  INTEGER NOT NULL,
  uids_changed        TEXT,             -- made or changed
  uids_gone           TEXT,
  emails_created      TEXT,
  emails_updated      TEXT,
  emails_destroyed    TEXT,
  threads_created     TEXT,
  threads_updated     TEXT,
  threads_destroyed   TEXT,
  mailboxes_created   TEXT,
  mailboxes_updated   TEXT,
  mailboxes_counted   TEXT,             -- nothing but totals changed
  mailboxes_destroyed TEXT,
  annotations         TEXT,             -- names of entries that were set or removed: JSON
  PRIMARY KEY (account, modseq, mailbox)
) STRICT, WITHOUT ROWID;

-- Emails that left their last mailbox: readable by sessions that have not heard, restorable until retention ends.
CREATE TABLE expunged (
  account      INTEGER NOT NULL,
  email        INTEGER NOT NULL,
  mailbox      INTEGER NOT NULL,        -- where it was last
  gone_at      INTEGER NOT NULL,
  message      INTEGER NOT NULL,
  thread       INTEGER NOT NULL,
  received_at  INTEGER NOT NULL,
  size         INTEGER NOT NULL,
  keywords     INTEGER NOT NULL,
  prologue     BLOB NOT NULL,
  PRIMARY KEY (account, email)
) STRICT, WITHOUT ROWID;
CREATE INDEX expunged_gone ON expunged(gone_at);

-- What mailboxes were called that are gone, for as long as something can be restored into them.
CREATE TABLE gone_mailbox (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  id       INTEGER NOT NULL,
  path     TEXT NOT NULL,
  gone_at  INTEGER NOT NULL,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_mailbox_gone ON gone_mailbox(gone_at);

-- Messages that were brought from elsewhere (posthouse import), so that none comes twice.
CREATE TABLE imported (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  key      BLOB NOT NULL,               -- 16 octets: a hash of where it was and came to
  at       INTEGER NOT NULL,
  PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;

-- Search: rowid is account << 32 | email; text goes in and is not kept.
CREATE VIRTUAL TABLE email_words USING fts5(body, head, content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 0");

-- Which words there are in the emails up to `upto` that come after the row before: of accounts whose words_mark is not
-- NULL. Packed: folded, in order, a line end in front of each and behind the last.
CREATE TABLE search_words (
  account  INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,
  upto     INTEGER NOT NULL,
  words    TEXT NOT NULL,               -- of heads and bodies
  fields   TEXT NOT NULL,               -- of headers
  unread   TEXT NOT NULL,               -- JSON: emails whose headers are not in fields
  PRIMARY KEY (account, upto)
) STRICT;

-- queue ----------------------------------------------------------------------------------------------------------------

-- A lane is the queue of one destination, sender and priority: backoff and due time belong to it.
CREATE TABLE lane (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  destination   TEXT NOT NULL,          -- domain:example.org, or local: for delivery
  sender        TEXT NOT NULL,          -- whose mail: account:7, domain of the sender, or '' for bounces
  priority      INTEGER NOT NULL DEFAULT 0,   -- RFC 6710: -9 to 9
  site          TEXT,                   -- MX site once routed
  due_at        INTEGER NOT NULL,       -- not before; moved by backoff
  failures      INTEGER NOT NULL,       -- attempts in a row that the destination as a whole failed
  held          INTEGER NOT NULL DEFAULT 0,
  lease_token   INTEGER NOT NULL DEFAULT 0,   -- fencing: grows with each lease
  lease_until   INTEGER NOT NULL DEFAULT 0,   -- 0: nobody works on it
  last_reply    TEXT,
  last_remote   TEXT,                   -- who said it; NULL: we did
  UNIQUE (destination, sender, priority)
) STRICT;
CREATE INDEX lane_due ON lane(due_at) WHERE held = 0;
CREATE INDEX lane_sender ON lane(sender, due_at) WHERE held = 0;
CREATE INDEX lane_leased ON lane(lease_until) WHERE lease_until > 0;
CREATE INDEX lane_held ON lane(destination) WHERE held = 1;
CREATE INDEX lane_urgent ON lane(due_at) WHERE held = 0 AND priority > 0;
CREATE INDEX lane_site ON lane(site) WHERE site IS NOT NULL;

-- What destinations roll up to once they are routed; one that was not routed yet stands for itself. A row is here while
-- a process works for the site, or while it is down.
CREATE TABLE site (
  name         TEXT PRIMARY KEY,
  failures     INTEGER NOT NULL DEFAULT 0,   -- in a row, as a whole
  due_at       INTEGER NOT NULL DEFAULT 0,   -- nothing is tried before
  last_reply   TEXT,
  last_remote  TEXT,
  holder       INTEGER NOT NULL DEFAULT 0,   -- the runner whose caps hold for it
  lease_until  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- One forward-path, with its envelope: most messages have one recipient, and what belongs together is written and goes
-- together. No index is kept of what every row has and few are asked for: rows that wait for long are found by a walk.
CREATE TABLE queued_recipient (
  id          INTEGER PRIMARY KEY,      -- its blob << 24 | of the series queued_recipient: by its id it finds its octets,
                                        -- and they who needs them
  lane        INTEGER NOT NULL,
  held        INTEGER NOT NULL DEFAULT 0,
  due_at      INTEGER NOT NULL,         -- its own wish to wait (greylisting, mailbox full)
  expires_at  INTEGER NOT NULL,         -- when it is given up
  waits_since INTEGER,                  -- the sender wants to hear if that is long ago; NULL: not, or was told
  attempts    INTEGER NOT NULL,
  delayed_at  INTEGER,                  -- when a delay was reported
  address     TEXT NOT NULL,
  original    TEXT NOT NULL,            -- the address as it came in, before aliases
  notify      TEXT,                     -- RFC 3461, comma-separated; NULL: nothing said
  orcpt       TEXT,
  return_path TEXT,                     -- the reverse-path for this recipient, where it is not the message's
  last_reply  TEXT,
  last_remote TEXT,
  -- The envelope, the same for all recipients of a message.
  message     INTEGER NOT NULL,         -- the id of its first recipient, who may have ended
  journey     INTEGER NOT NULL,
  size        INTEGER NOT NULL,
  sender      TEXT,                     -- reverse-path; NULL: <>
  account     INTEGER,                  -- whose submission it is; NULL: taken from a stranger, or our own bounce
  queued_at   INTEGER NOT NULL,
  body        TEXT NOT NULL,            -- 7BIT 8BITMIME BINARYMIME
  smtputf8    INTEGER NOT NULL,
  envid       TEXT,
  ret         TEXT,
  requiretls  INTEGER NOT NULL,
  priority    INTEGER NOT NULL,         -- RFC 6710: -9 to 9
  by_at       INTEGER,                  -- RFC 2852: should have arrived by then
  by_mode     TEXT,                     -- R: return it then, N: tell the sender; T behind it: trace
  by_told     INTEGER NOT NULL,         -- mode N: the time has passed, and the sender was told of it
  prologue    BLOB NOT NULL
) STRICT;
-- What a claim walks along: within its lane, oldest first, never past rows that wait or are held.
CREATE INDEX queued_recipient_lane ON queued_recipient(lane, held, due_at, id);
-- Those that a walk may come too late for: it comes each hour.
CREATE INDEX queued_recipient_brief ON queued_recipient(expires_at) WHERE expires_at - queued_at < 7200000;
CREATE INDEX queued_recipient_by ON queued_recipient(by_at) WHERE by_at IS NOT NULL AND by_told = 0;

-- Recipients whose attempt under way has sent its final dot: a lost lease is a possible duplicate. Apart from their rows,
-- because each is written twice a message, and few are here at once.
CREATE TABLE past_dot (
  recipient  INTEGER PRIMARY KEY REFERENCES queued_recipient(id) ON DELETE CASCADE,
  lane       INTEGER NOT NULL
) STRICT;

-- security on the way to others ---------------------------------------------------------------------------------------

-- MTA-STS policies of other domains (RFC 8461), until they expire.
CREATE TABLE sts_policy (
  domain      TEXT PRIMARY KEY,
  record      TEXT NOT NULL,            -- the id it was announced by
  policy      TEXT NOT NULL,
  fetched_at  INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sts_policy_expiry ON sts_policy(expires_at);

-- Domains that sessions were encrypted with: the first and the last one, and the first in clear text since.
CREATE TABLE tls_level (
  domain    TEXT PRIMARY KEY,
  since_at  INTEGER NOT NULL,
  until_at  INTEGER NOT NULL,
  clear_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tls_level_until ON tls_level(until_at);

-- What sessions came to, for reports (RFC 8460): how many of each kind on a day (days since 1970, UTC).
CREATE TABLE tls_result (
  day       INTEGER NOT NULL,
  domain    TEXT NOT NULL,
  hash      BLOB NOT NULL,              -- of what follows but the number
  type      TEXT NOT NULL,              -- tlsa, sts, no-policy-found
  policy    TEXT NOT NULL,              -- its lines
  result    TEXT NOT NULL,              -- '': success, and then the next three are empty; else RFC 8460's word for the failure
  mx        TEXT NOT NULL,
  address   TEXT NOT NULL,
  reason    TEXT NOT NULL,
  sessions  INTEGER NOT NULL,
  PRIMARY KEY (day, domain, hash)
) STRICT, WITHOUT ROWID;

-- journey --------------------------------------------------------------------------------------------------------------

-- id is made by the process that meets the message: milliseconds << 21 | random, so it grows with time.
CREATE TABLE journey (
  id          INTEGER PRIMARY KEY,
  message_id  TEXT,
  sender      TEXT,
  recipients  TEXT NOT NULL,            -- one a line, the first few
  subject     TEXT,
  steps       BLOB NOT NULL             -- the first ones, packed (MessagePack)
) STRICT;

-- What came later, packed, one row a commit.
CREATE TABLE journey_steps (
  id       INTEGER PRIMARY KEY,
  journey  INTEGER NOT NULL,
  steps    BLOB NOT NULL
) STRICT;
CREATE INDEX journey_steps_journey ON journey_steps(journey);

-- By what a journey is found: keyed hashes of Message-ID and addresses. They first stand beside each other, and are
-- brought into order behind the commit, in large batches.
CREATE TABLE journey_new (
  id       INTEGER PRIMARY KEY,
  journey  INTEGER NOT NULL,
  hashes   BLOB NOT NULL                -- 8 octets each
) STRICT;

-- By the hour in which the journey began, so that rows come where the last ones came, and go together.
CREATE TABLE journey_key (
  hour     INTEGER NOT NULL,
  hash     INTEGER NOT NULL,
  journey  INTEGER NOT NULL,
  PRIMARY KEY (hour, hash, journey)
) STRICT, WITHOUT ROWID;
