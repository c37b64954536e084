"""An account's annotations of its own, and the searches that it keeps among them by name (RFC 5466).

Promises: an annotation is what RFC 5464 calls a server's private entry: named by a path in lower case, with octets for
a value. A filter is the one at VALUES + its name. Both are bounded in number and size.
Refuses: to understand a search: that is the door's.
"""

from typing import Final

from posthouse.mailbox.model import MailboxError, lock_account
from posthouse.store.database import Tx

# RFC 5466 §3.2
VALUES: Final = "/private/filters/values/"

MOST_ENTRIES: Final = 1000
MOST_OCTETS: Final = 64 * 1024


class TooMuchMetadata(MailboxError):
    """An account keeps no more annotations than MOST_ENTRIES, and no longer ones than MOST_OCTETS."""


def get(tx: Tx, account: int, name: str) -> bytes | None:
    """The search that is kept under a name, as it was written; None where there is none."""
    found: bytes | None = tx.value("annotation_get", account=account, entry=VALUES + name.lower())
    return found


def put(tx: Tx, account: int, entry: str, value: bytes | None) -> None:
    """Keep an annotation, or forget it. Locks the account. Raises TooMuchMetadata, NoSuchAccount."""
    lock_account(tx, account)
    if value is None:
        tx.run("annotation_delete", account=account, entry=entry.lower())
        return
    count = tx.value("annotation_count", account=account, entry=entry.lower())
    if count >= MOST_ENTRIES or len(value) > MOST_OCTETS:
        raise TooMuchMetadata(f"account {account} cannot keep this annotation")
    tx.run("annotation_put", account=account, entry=entry.lower(), value=value)
