"""The name of the Inbox, the one that IMAP gives in any case of letters (RFC 9051 §5.1).

Promises: one answer for all who read names of mailboxes. Refuses: to take other letters for these (a dotless i for I,
as Unicode's upper case has it), and to know what else may be a name.
"""

from typing import Final

INBOX: Final = "INBOX"


def at_top(name: str) -> str:
    """A name of the first level as it is held: the Inbox's in capitals, any other as it is."""
    return INBOX if len(name) == len(INBOX) and name.isascii() and name.upper() == INBOX else name
