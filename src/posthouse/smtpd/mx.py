"""The door for strangers: SMTP on port 25, and LMTP for those who deliver to us.

Promises: whoever comes is judged, and nobody logs in. LMTP answers for each recipient (RFC 2033); it believes whoever
reaches it, which is why it belongs on loopback. ETRN is for the domains that mail is relayed for, and says nothing of
what waits for them.
"""

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Literal

from posthouse.directory.kept import Kept
from posthouse.directory.model import Account
from posthouse.net.stream import Stream
from posthouse.policy.check import Door
from posthouse.policy.networks import Networks
from posthouse.reception.intake import HeaderEdit
from posthouse.smtpd.role import Surroundings, Talk
from posthouse.smtpd.server import converse
from posthouse.smtpd.session import MailSession
from posthouse.terms.address import Address
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import Auth, AuthResponse, Etrn, Expn, Mail, Vrfy
from posthouse.wire.smtp.extensions import announce
from posthouse.wire.smtp.table import Kind

# RFC 5321 §7.3: whether an address exists is not told to those who only ask; 252 says neither yes nor no.
UNTOLD: Final = Reply(252, "2.0.0", "Send mail to it, and you will see")
_MEMBERS_UNTOLD: Final = Reply(252, "2.0.0", "Members of lists are not told")
# Seconds in which a domain is tried once, however often somebody asks.
_ONCE_IN: Final = 60.0
_ASKED_FOR: Final = 1000

Flush = Callable[[str], Awaitable[object]]
"""Try now what waits for a domain."""


def announced(
    around: Surroundings, kind: Kind, more: Mapping[str, str | None], *, starttls: bool, secured: bool
) -> Mapping[str, str]:
    """What a door of this kind announces; `more` is what it knows better."""
    recipients, messages = around.conversation.most
    values: dict[str, str | None] = {
        "SIZE": str(around.limits.message_size),
        # RFC 9422 §3: as they are enforced.
        "LIMITS": f"RCPTMAX={recipients} MAILMAX={messages}",
        "STARTTLS": "" if starttls and not secured else None,
        # RFC 8689 §2: never in the clear.
        "REQUIRETLS": "" if secured else None,
        "ETRN": None,
        "XCLIENT": None,
    }
    return announce(kind, {**values, **more})


def farewell(around: Surroundings) -> Reply:
    """What QUIT is answered."""
    return Reply(221, "2.0.0", f"{around.hostname} says goodbye")


async def _nobody(login: str) -> Account | None:
    return None


class Mx:
    """One listener of SMTP or LMTP for strangers."""

    def __init__(
        self,
        around: Surroundings,
        *,
        kind: Literal["mx", "lmtp"],
        starttls: bool,
        xclient_from: Iterable[str] = (),
        named: Callable[[str], Awaitable[Account | None]] = _nobody,
        relay_domains: Iterable[str] = (),
        flush: Flush | None = None,
    ) -> None:
        """`xclient_from`: networks that may say for whom they speak; `named` finds the accounts that they name.

        `relay_domains` are those that ETRN may ask for, and `flush` tries what waits for one of them.
        """
        self.kind: Kind = kind
        self.door: Door = kind
        self.greeting = Reply(220, None, f"{around.hostname} {'LMTP' if kind == 'lmtp' else 'ESMTP'} posthouse")
        self.farewell = farewell(around)
        self._around = around
        self._believed = Networks(xclient_from)
        self.named = named
        self._relay_domains = frozenset(relay_domains)
        self._flush = flush
        self._flushed: Kept[str, float] = Kept(_ASKED_FOR)
        more: dict[str, str | None] = {"ETRN": "" if self._relay_domains and flush is not None else None}
        self._clear, self._secured = (
            announced(around, kind, more, starttls=starttls, secured=secured) for secured in (False, True)
        )

    @property
    def context(self) -> ssl.SSLContext:
        """What STARTTLS begins with."""
        return self._around.certificates.context

    def serve(self, stream: Stream) -> Coroutine[Any, Any, None]:
        """Hold one conversation."""
        stream.timeout = self._around.limits.smtp_timeout
        session = MailSession(stream, self, self._around)
        return converse(stream, session.engine, session)

    def extensions(self, stream: Stream) -> Mapping[str, str]:
        """What EHLO announces."""
        return self._clear if stream.tls is None else self._secured

    def believes(self, peer: str) -> bool:
        """Those that are configured."""
        return self._believed.hold(peer)

    def mail(self, session: Talk, mail: Mail) -> Awaitable[Address | None] | None:
        """Anybody may come; the pipeline judges."""
        return None

    def header_edit(self, session: Talk) -> HeaderEdit | None:
        """A stranger's header stays as it is."""
        return None

    def authenticate(self, session: Talk, event: Auth | AuthResponse) -> Awaitable[Reply]:
        """AUTH is not announced here, so the engine never hands it out."""
        raise AssertionError("AUTH at a door that does not announce it")

    async def look_up(self, session: Talk, event: Vrfy | Expn) -> Reply:
        """Strangers are told nothing."""
        return UNTOLD if isinstance(event, Vrfy) else _MEMBERS_UNTOLD

    async def turn(self, session: Talk, event: Etrn) -> Reply:
        """RFC 1985: send what waits for a domain to where its MX records say, whoever asks. Raises StoreUnavailable."""
        asked = [one for one in self._relay_domains if _is_meant(one, event)]
        if self._flush is None or not asked:
            return Reply(459, "4.7.1", f"Node {event.node} not allowed: no mail is relayed for it here")
        now = self._around.clock.monotonic()
        for domain in asked:
            if now >= (self._flushed.get(domain) or 0.0):
                await self._flush(domain)
                self._flushed.put(domain, now + _ONCE_IN)
        return Reply(250, "2.0.0", f"Queuing for node {event.node} started")


def _is_meant(domain: str, event: Etrn) -> bool:
    """RFC 1985: a node, or with "@" those below it too. Queues have no names here."""
    if event.option == "@":
        return f".{domain}".endswith(f".{event.node}")
    return domain == event.node and not event.option
