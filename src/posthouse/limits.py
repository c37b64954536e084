"""Limits on what a stranger controls, each with its reason. Rooms take the value they need as an argument where a
configuration may change it; the others read it here."""

from typing import Final

KB: Final = 1024
MB: Final = 1024 * KB

# RFC 5321 §4.5.3.1.4 asks for 512 octets a command line; extensions add to it (SIZE 26, AUTH 12288 by RFC 4954 §4).
COMMAND_LINE: Final = 2048
AUTH_LINE: Final = 12288
# RFC 5321 §4.5.3.1.6 asks for 1000 octets a text line; much mail that people want to read breaks it, so we take
# longer ones.
TEXT_LINE: Final = 256 * KB
# RFC 5321 §4.5.3.1.8 asks for at least 100 recipients; Postfix takes 1000.
RECIPIENTS: Final = 1000
# Beyond so many of one message, so much memory is paid for each: long addresses with long ORCPT take 2 KB.
RECIPIENTS_FREE: Final = 50
RECIPIENT_MEMORY: Final = 2 * KB
# Gmail takes 25 MB of attachment, which base64 makes 35; Postfix defaults to 10, Stalwart to 100.
MESSAGE_SIZE: Final = 50 * MB
# RFC 5321 §6.3: "at least 100".
RECEIVED_FIELDS: Final = 100

HEADER_SIZE: Final = 256 * KB
HEADER_FIELDS: Final = 2000
# Addresses read from one field: mail to a whole company written into To has thousands.
HEADER_ADDRESSES: Final = 4000
# Ids kept of References: a thread is found by the nearest ones and the first.
REFERENCES: Final = 100
MIME_DEPTH: Final = 50
MIME_PARTS: Final = 2000
# How often a message's octets may be gone through while its parts are looked for (nesting goes through them again,
# and each line that looks like a delimiter and is none counts as so many octets); past it, what is left is one part.
MIME_WORK: Final = 16
MIME_WORK_FLOOR: Final = 64 * MB
MIME_LOOKALIKE: Final = 1000
# Text taken from one message for search, in characters; that of longer ones is cut.
SEARCH_TEXT: Final = 256 * KB

# Text of a message up to this size is not stored a second time for search, where it stands in the message as it is. Its
# octets lie in the database then, whatever the limit of blobs is.
TEXT_IN_PLACE: Final = 64 * KB

# A message up to this size is gathered in memory; a larger one goes to a file as it comes.
SPOOL_MEMORY: Final = 256 * KB
# What all unfinished mail of a process may hold in memory and on disk; past it: 452 4.3.1 at MAIL.
UNFINISHED_MEMORY: Final = 64 * MB
UNFINISHED_DISK: Final = 4096 * MB

ALIAS_DEPTH: Final = 10
ALIAS_FANOUT: Final = 1000
# Filing 5,000 recipients in one transaction held the only writer 0.3 s: beyond this many, the queue expands them.
LOCAL_RECIPIENTS: Final = 50

# A line of an IMAP command, literals apart. RFC 7162 §4 asks for 8192; clients write long UID sets, Dovecot takes 64
# KB.
IMAP_LINE: Final = 64 * KB
# A whole IMAP command with its literals, the messages of APPEND apart (they are streamed); before login, much less.
IMAP_COMMAND: Final = 256 * KB
IMAP_COMMAND_BEFORE_LOGIN: Final = 16 * KB
IMAP_LITERALS: Final = 100
# Pairs of message number and uid in one SELECT (QRESYNC …): RFC 7162 §3.2.5.2 speaks of a small sample.
RESYNC_MATCHES: Final = 10_000
# Items of one FETCH: for each the message is gone through. Who fetches a message by its parts names two a part.
FETCH_ITEMS: Final = 500
# Groups and names of mailboxes in one NOTIFY: each is held against each mailbox that changes.
NOTIFY_NAMES: Final = 500
# Items to be fetched of each new message: they are kept as long as the client is told.
NOTIFY_ITEMS: Final = 50
# Mailboxes told of at once, and rows of the feed gone through for it, before a client that was told nothing for long is
# told no more (NOTIFICATIONOVERFLOW).
NOTIFY_MAILBOXES: Final = 1000
NOTIFY_CHANGES: Final = 20_000
# Other accounts that one NOTIFY follows, and mailboxes that they share with the client: some 300 octets each, for as
# long as it stands.
NOTIFY_ACCOUNTS: Final = 100
NOTIFY_SHARED: Final = 1000
# Messages of one APPEND (RFC 3502): filed in one transaction, which holds the writer some 0.2 ms for each.
IMAP_APPENDS: Final = 500
# Parts of all messages of one APPEND (RFC 4469): for each a message is read.
IMAP_PARTS: Final = 1000
# Commands in a row that are none, to a door where mail is read, before the connection ends. Dovecot allows 20.
READING_MISTAKES: Final = 20
SEARCH_DEPTH: Final = 50
# Each sorts the mailbox once.
IMAP_SORT_KEYS: Final = 20
# Each is looked up in the tree of mailboxes.
IMAP_SEARCHED_NAMES: Final = 1000
# Results of one session that are watched for changes (RFC 5267): each is looked at again when mail changes.
IMAP_CONTEXTS: Final = 10
# And messages in them: each may have to be told again whenever mail changes, in another order.
IMAP_CONTEXT_MESSAGES: Final = 100_000
# Annotations (RFC 5464 §4.1 asks for 10 of 1024 octets). Entries of one mailbox, or of the account itself; octets of a
# value; of all that an account keeps, names and values, which are beside its quota; of a name; entries in one command.
METADATA_ENTRIES: Final = 1000
METADATA_VALUE: Final = 64 * KB
METADATA_OCTETS: Final = 4 * MB
METADATA_NAME: Final = 500
METADATA_ASKED: Final = 100
# Accounts that one mailbox is shared with.
SHARES: Final = 200
# SQLite's expressions nest 1000 deep, and a chain of AND is one level a key.
SEARCH_KEYS: Final = 500
# Characters of a string that is looked for in mail: each text is compared with it at each place.
SEARCH_STRING: Final = 1024
# Each is tried on each mailbox. Clients send one or two.
LIST_PATTERNS: Final = 100
