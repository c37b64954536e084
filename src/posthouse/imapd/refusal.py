"""No, in IMAP's words: what a command raises, and what is said of the model's errors (RFC 5530, RFC 9051 §7.1)."""

from typing import Final

from posthouse.limits import METADATA_VALUE
from posthouse.mailbox import model
from posthouse.mailbox.model import MailboxError
from posthouse.wire.imap import metadata
from posthouse.wire.imap.response import Code

WORDS: Final[dict[type[MailboxError], tuple[str, bytes]]] = {
    model.NoSuchMailbox: ("There is no such mailbox", Code.NONEXISTENT),
    model.NoSuchAccount: ("This account is being removed", Code.UNAVAILABLE),
    model.NoSuchEmail: ("This message is gone", Code.EXPUNGEISSUED),
    model.MailboxExists: ("There is such a mailbox already", Code.ALREADYEXISTS),
    model.BadName: ("A mailbox cannot be named so", Code.CANNOT),
    model.ReservedMailbox: ("This cannot be done with the Inbox", Code.CANNOT),
    model.HasChildren: ("There are mailboxes below it", Code.HASCHILDREN),
    model.TooManyMailboxes: ("There are too many mailboxes", Code.LIMIT),
    model.TooManyKeywords: ("There are too many keywords", Code.LIMIT),
    model.BadKeyword: ("This cannot be a flag", Code.CANNOT),
    model.OverQuota: ("The mailbox is full", Code.OVERQUOTA),
    model.AnnotationTooLong: ("The value is too long", metadata.too_long(METADATA_VALUE)),
    model.TooManyAnnotations: ("There are too many annotations", metadata.TOO_MANY),
    model.NoPermission: ("You may not do this here", Code.NOPERM),
    model.TooManyShares: ("It is shared with too many", Code.LIMIT),
    model.CannotCalculateChanges: ("What changed is not known any more", Code.UNAVAILABLE),
}
UNAVAILABLE: Final = ("The mail store cannot be reached; try again later", Code.UNAVAILABLE)


class Refused(Exception):
    """NO: the command is not carried out. The answer is in it."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Senseless(Exception):
    """BAD: the command means nothing here."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.code = code


def uid_required() -> Senseless:
    """RFC 9586 §3.1."""
    return Senseless("Say it by UID: message numbers are off", Code.UIDREQUIRED)
