"""Every response code that a client may hear, and when (RFC 9051 §7.1, RFC 5530, and what extensions add).

Promises: no code is said that has no row here, and no row is never said; a test compares this with the source and the
manual, and asks of each that a test has heard it. Refuses: to hold the words; they stand where they are said.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a code is said: `at` which command ("" any), `source` where it is defined."""

    code: str
    at: str
    why: str
    source: str


CODES: Final[tuple[Reason, ...]] = (
    Reason("ALREADYEXISTS", "CREATE, RENAME", "there is such a mailbox", "RFC 5530 §3"),
    Reason("APPENDUID", "APPEND, REPLACE", "which UIDs the new messages have", "RFC 4315 §3"),
    Reason("AUTHENTICATIONFAILED", "LOGIN, AUTHENTICATE", "the name or the password is wrong", "RFC 5530 §3"),
    Reason("AUTHORIZATIONFAILED", "LOGIN, AUTHENTICATE", "the account is disabled", "RFC 5530 §3"),
    Reason("BADCHARSET", "SEARCH, SORT, THREAD", "that charset is not known; those are", "RFC 9051 §6.4.4"),
    Reason("BADEVENT", "NOTIFY", "that is not told of; those are", "RFC 5465 §3.1"),
    Reason("BADURL", "APPEND, REPLACE", "that URL leads to no message, or to none of its parts", "RFC 4469 §4.1"),
    Reason("CANNOT", "", "never to be had: a name, a flag, a mechanism", "RFC 5530 §3"),
    Reason("CAPABILITY", "connection, LOGIN, AUTHENTICATE", "what can be done from here on", "RFC 9051 §7.1"),
    Reason("CLOSED", "SELECT, EXAMINE, DELETE", "the mailbox that was open is no longer", "RFC 7162 §3.2.11"),
    Reason("COMPRESSIONACTIVE", "COMPRESS", "it is already compressed", "RFC 4978 §3"),
    Reason("COPYUID", "COPY, MOVE", "which UIDs became which", "RFC 4315 §3"),
    Reason("CORRUPTION", "FETCH, APPEND, REPLACE, COPY, MOVE", "the store has lost what is asked for", "RFC 5530 §3"),
    Reason("EXPUNGEISSUED", "STORE, COPY, MOVE, REPLACE", "another has taken out what that was about", "RFC 5530 §3"),
    Reason("HASCHILDREN", "DELETE", "there are mailboxes below it", "RFC 9051 §7.1"),
    Reason("HIGHESTMODSEQ", "SELECT, and more", "up to which change all is known", "RFC 7162 §3.1.2.1"),
    Reason("INPROGRESS", "SEARCH, STORE, COPY, and more", "how far a long command is", "RFC 9585 §4"),
    Reason("LIMIT", "", "more of something than is allowed", "RFC 5530 §3"),
    Reason("MAILBOXID", "CREATE, SELECT, EXAMINE", "what a mailbox is known by", "RFC 8474 §4"),
    Reason("MESSAGELIMIT", "FETCH, SEARCH, and more", "too many messages for one; down to this UID", "RFC 9738 §3.1"),
    Reason("METADATA", "GETMETADATA, SETMETADATA", "what is too long, too many, or not kept", "RFC 5464 §5"),
    Reason("MODIFIED", "STORE", "those have changed since, and were left alone", "RFC 7162 §3.1.3"),
    Reason("NONEXISTENT", "", "there is no such mailbox or message", "RFC 5530 §3"),
    Reason("NOPERM", "", "it is another's, or for those who run the server", "RFC 5530 §3"),
    Reason("NOTIFICATIONOVERFLOW", "NOTIFY", "too much has happened to tell it all", "RFC 5465 §5.8"),
    Reason("NOUPDATE", "SEARCH, SORT", "the results are not watched", "RFC 5267 §4.3.1"),
    Reason("OVERQUOTA", "APPEND, REPLACE, COPY, MOVE", "the account is full", "RFC 5530 §3"),
    Reason("PERMANENTFLAGS", "SELECT, and more", "which flags can be set", "RFC 9051 §7.1"),
    Reason("PRIVACYREQUIRED", "LOGIN, AUTHENTICATE", "not without TLS", "RFC 5530 §3"),
    Reason("READ-ONLY", "EXAMINE, and what would change it", "it is open for reading only", "RFC 9051 §7.1"),
    Reason("READ-WRITE", "SELECT", "it is open", "RFC 9051 §7.1"),
    Reason("SERVERBUG", "", "an error of ours; the connection ends", "RFC 5530 §3"),
    Reason("TOOBIG", "APPEND, REPLACE, any", "a message, or a command, that is too large", "RFC 4469 §4.2"),
    Reason("TRYCREATE", "APPEND, REPLACE, COPY, MOVE", "the mailbox can be made first", "RFC 9051 §7.1"),
    Reason("UIDNEXT", "SELECT, EXAMINE", "the UID that the next message gets", "RFC 9051 §7.1"),
    Reason("UIDREQUIRED", "", "message numbers are off; name UIDs", "RFC 9586 §3.1"),
    Reason("UIDVALIDITY", "SELECT, EXAMINE", "for how long UIDs hold", "RFC 9051 §7.1"),
    Reason("UNAVAILABLE", "", "not now: the store, too many logins, we stop", "RFC 5530 §3"),
    Reason("UNDEFINED-FILTER", "SEARCH", "no search is kept under this name", "RFC 5466 §3.1"),
    Reason("UNKNOWN-CTE", "FETCH, NOTIFY, APPEND, REPLACE", "an encoding that is not known, or NUL", "RFC 3516 §4.3"),
    Reason("UNSEEN", "SELECT, EXAMINE", "the first message that nobody has seen", "RFC 3501 §7.1"),
    Reason("USEATTR", "CREATE, SETMETADATA", "no mailbox can have that use, or another has it", "RFC 6154 §3"),
)


def markdown() -> str:
    """The table as the manual shows it."""
    lines = ["| code | with | says | source |", "|---|---|---|---|"]
    lines += [f"| {one.code} | {one.at or 'any'} | {one.why} | {one.source} |" for one in CODES]
    return "\n".join(lines) + "\n"
