"""The envelope: what travels outside the message (RFC 5321 §2.3.1), and the wishes that travel with it."""

from dataclasses import dataclass, field, replace
from typing import Literal

from posthouse.terms.address import Address

Body = Literal["7BIT", "8BITMIME", "BINARYMIME"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with its own fate.

    `notify` and `orcpt` are RFC 3461's: None where the sender said nothing; `notify` holds "NEVER" or any of
    "SUCCESS", "FAILURE", "DELAY"; `orcpt` is "addr-type;address", xtext decoded.
    """

    address: Address
    notify: frozenset[str] | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, forward-paths, and what the message needs on its way.

    `sender` None is the null reverse-path `<>`. `size` is what the client announced (RFC 1870), in octets.
    `envid` and `ret` ("FULL" or "HDRS") are RFC 3461's.
    """

    sender: Address | None
    recipients: tuple[Recipient, ...] = field(default=())
    body: Body = "7BIT"
    smtputf8: bool = False
    size: int | None = None
    envid: str | None = None
    ret: str | None = None

    def with_recipient(self, recipient: Recipient) -> "Envelope":
        """The same envelope with one more forward-path."""
        return replace(self, recipients=(*self.recipients, recipient))
