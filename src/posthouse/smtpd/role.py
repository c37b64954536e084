"""What tells one door of SMTP from the other, and what both work with.

Promises: a door differs from another in its `Role` and in nothing else; what a role sees of a conversation is a `Talk`.
"""

import ssl
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol

from posthouse.clock import Clock
from posthouse.config.values import Limits
from posthouse.directory.cache import Directory
from posthouse.directory.model import Account
from posthouse.net.stream import Stream
from posthouse.net.tls import Certificates
from posthouse.policy.abuse import Abuse
from posthouse.policy.check import Door, Facts
from posthouse.policy.limits import Conversation
from posthouse.policy.pipeline import Pipeline
from posthouse.reception.answer import Reception
from posthouse.reception.intake import HeaderEdit
from posthouse.reception.refusals import Refusals
from posthouse.smtpd.pace import Pace
from posthouse.terms.address import Address
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import Auth, AuthResponse, Etrn, Expn, Mail, Vrfy
from posthouse.wire.smtp.table import Kind


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every SMTP session works with."""

    hostname: str
    clock: Clock
    limits: Limits
    certificates: Certificates
    directory: Directory
    pipeline: Pipeline
    abuse: Abuse
    conversation: Conversation
    reception: Reception
    refusals: Refusals


class Talk(Protocol):
    """One client's conversation, as a role sees it."""

    stream: Stream
    facts: Facts
    envelope: Envelope | None
    pace: Pace


class Role(Protocol):
    """What the two doors do differently."""

    kind: Kind
    door: Door
    greeting: Reply
    farewell: Reply

    @property
    def context(self) -> ssl.SSLContext:
        """What STARTTLS begins with."""
        ...

    def extensions(self, stream: Stream) -> Mapping[str, str]:
        """What EHLO announces on this connection, as it stands now."""
        ...

    def believes(self, peer: str) -> bool:
        """May this peer say by XCLIENT for whom it speaks?"""
        ...

    def named(self, login: str) -> Awaitable[Account | None]:
        """The account that somebody we believe names by its login. Raises StoreUnavailable."""
        ...

    def mail(self, session: Talk, mail: Mail) -> Awaitable[Address | None] | None:
        """May this session send as that? The sender, as it holds here. Raises Refusal, StoreUnavailable."""
        ...

    def header_edit(self, session: Talk) -> HeaderEdit | None:
        """What makes the header of the session's next message right. Raises Refusal."""
        ...

    def authenticate(self, session: Talk, event: Auth | AuthResponse) -> Awaitable[Reply]:
        """The answer to a step of AUTH."""
        ...

    def look_up(self, session: Talk, event: Vrfy | Expn) -> Awaitable[Reply]:
        """The answer to VRFY or EXPN. Raises StoreUnavailable."""
        ...

    def turn(self, session: Talk, event: Etrn) -> Awaitable[Reply]:
        """The answer to ETRN. Raises StoreUnavailable."""
        ...
