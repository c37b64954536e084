"""The searches that an account keeps by name (RFC 5466).

Promises: a filter is the account's annotation at VALUES + its name. Refuses: to understand a search: that is the
door's.
"""

from typing import Final

from posthouse.mailbox import metadata
from posthouse.store.database import Tx

# RFC 5466 §3.2
VALUES: Final = "/private/filters/values/"


def get(tx: Tx, account: int, name: str) -> bytes | None:
    """The search that is kept under a name, as it was written; None where there is none."""
    return metadata.get(tx, account, metadata.OF_ACCOUNT, VALUES + name.lower())
