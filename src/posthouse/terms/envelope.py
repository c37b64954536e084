"""The envelope: what travels outside the message (RFC 5321 §2.3.1), and the wishes that travel with it."""

from dataclasses import dataclass, fields
from typing import Final, Literal

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
class DeliverBy:
    """When the message should have arrived (RFC 2852): `at`, in UTC milliseconds.

    `returned`: past that time it goes back to its sender; else the sender is told and it travels on. `trace`: each
    relay on the way is to report.
    """

    at: int
    returned: bool
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a message needs and its sender wants on the way, for all of its recipients.

    `envid` and `ret` ("FULL" or "HDRS") are RFC 3461's. `requiretls`: no hop without verified TLS (RFC 8689).
    `priority` is -9 to 9 (RFC 6710). `hold_until`: not before this time, in UTC milliseconds (RFC 4865).
    """

    body: Body = "7BIT"
    smtputf8: bool = False
    envid: str | None = None
    ret: str | None = None
    requiretls: bool = False
    priority: int = 0
    deliver_by: DeliverBy | None = None
    hold_until: int | None = None

    def __repr__(self) -> str:
        """Only what is wished."""
        wished = [(one.name, getattr(self, one.name)) for one in fields(self) if getattr(self, one.name) != one.default]
        return f"Wishes({', '.join(f'{name}={value!r}' for name, value in wished)})"


NO_WISHES: Final = Wishes()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, forward-paths, and what the message needs on its way.

    `sender` None is the null reverse-path `<>`. `size` is what the client announced (RFC 1870), in octets.
    """

    sender: Address | None
    recipients: tuple[Recipient, ...] = ()
    size: int | None = None
    wishes: Wishes = NO_WISHES

    def with_recipient(self, recipient: Recipient) -> "Envelope":
        """The same envelope with one more forward-path."""
        return Envelope(self.sender, (*self.recipients, recipient), self.size, self.wishes)
