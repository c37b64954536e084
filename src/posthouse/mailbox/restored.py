"""An account whose mail came back from a backup: clients that saw what came since must notice.

Promises: no uid, id or modseq that was given since the backup is given again, so nothing new is taken for what a client
remembers; every state that a client keeps is older than what is known, so it looks at everything anew, flags too. Mail
that it has and that is still there is not fetched again: mailboxes keep their uidvalidity.
Refuses: to work beside a server, which remembers what this changes.
"""

from typing import Final

from posthouse.mailbox.model import lock_account
from posthouse.store.database import Tx

# More than an account meets between a backup and its return. A modseq has 63 bits, of which programs in JavaScript keep
# 53; uids have 32 (RFC 9051 §2.3.1.1): this holds for four thousand returns.
_MODSEQS: Final = 1 << 32
_IDS: Final = 1 << 20


def leap(tx: Tx, account: int, now: int) -> None:
    """Past all that may have been given since. Raises NoSuchAccount."""
    lock_account(tx, account)
    modseq = tx.value("restored_state", account=account, epoch=now // 1000, modseqs=_MODSEQS, ids=_IDS)
    tx.run("restored_mailboxes", account=account, modseq=modseq, ids=_IDS)
    tx.run("restored_placements", account=account, modseq=modseq)
    # What the floor says to be forgotten.
    tx.run("account_changes_delete", account=account)
