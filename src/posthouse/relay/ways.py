"""Which way mail goes: to the hosts that DNS names, to hosts of the operator's choice, or nowhere for now.

A way is a `[[route]]` of the configuration. It is chosen at each attempt, so that mail that waits follows a changed
configuration. Destinations of the queue that lead here are two words:

    domain:example.org    the first way that fits recipient, sender and account; else by MX
    route:NAME            the way of this name, whatever it says of whom it is for

Promises: the first way that fits is taken; none fits: by MX. Refuses: to look up hosts, and to connect.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.config.values import Route
from posthouse.queue.queue import QueuedMail
from posthouse.relay.connections import Hop, Login, TlsPolicy
from posthouse.written import Target

ROUTE: Final = "route:"

# The name of an account (an address, in lower case), None where there is none any more.
NameAccount = Callable[[int], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Way:
    """How some mail leaves: `to` is "mx" or "hold" alone, or hosts in the order in which to try them.

    `recipients` and `senders` are domains, "*.domain" for all below it, "<>" for the null sender; `accounts` are
    addresses in lower case. Where they are given, all must fit.
    """

    name: str
    to: tuple[Target, ...]
    policy: TlsPolicy
    login: Login | None = None
    source: tuple[str, ...] = ()
    recipients: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()

    @property
    def by_mx(self) -> bool:
        """DNS names the hosts."""
        return self.to[0].kind == "mx"

    @property
    def held(self) -> bool:
        """Nothing leaves."""
        return self.to[0].kind == "hold"

    def hop(self, target: Target) -> Hop:
        """How to speak to one of its hosts."""
        return Hop(
            target.host or str(target.path),
            target.port,
            self.policy,
            target.kind == "lmtp",
            target.implicit,
            self.login,
            self.source,
        )


def configured(routes: Sequence[Route], usual: TlsPolicy) -> list[Way]:
    """The ways that the configuration names. Raises OSError where a password's file cannot be read."""
    return [_way(route, usual) for route in routes]


def _way(route: Route, usual: TlsPolicy) -> Way:
    login = None
    if route.username is not None:
        login = Login(route.username, password_of(route))
    if route.tls is not None:
        policy = TlsPolicy(route.tls)
    elif login is not None or any(target.implicit for target in route.to):
        # Whoever is given a password must be who he says.
        policy = TlsPolicy("verify")
    elif any(target.kind == "lmtp" for target in route.to):
        policy = TlsPolicy("off")
    else:
        policy = usual
    return Way(
        route.name,
        route.to,
        policy,
        login,
        route.source,
        frozenset(route.recipient),
        frozenset(route.sender),
        frozenset(route.account),
    )


def password_of(route: Route) -> str:
    """The password that a route logs in with. Raises OSError where its file cannot be read, or holds none."""
    if route.password_file is None:
        return route.password or ""
    try:
        text = route.password_file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OSError(f"{route.password_file}: an octet that is not UTF-8 at {error.start}") from error
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise OSError(f"{route.password_file}: its first line holds no password")
    return password


class Ways:
    """The ways there are, in the order in which they are looked at. `usual` is taken where none fits."""

    def __init__(self, usual: Way, ways: Sequence[Way] = (), name_account: NameAccount | None = None) -> None:
        self.usual = usual
        self._ways = tuple(ways)
        self._by_name = {way.name: way for way in ways}
        self._name_account = name_account

    def named(self, name: str) -> Way | None:
        """The way of this name."""
        return self._by_name.get(name)

    async def find(self, domain: str, mail: QueuedMail) -> Way:
        """The way for this mail to recipients of this domain."""
        if not self._ways:
            return self.usual
        sender = mail.sender.domain if mail.sender else "<>"
        for way in self._ways:
            if way.recipients and not fits(domain, way.recipients):
                continue
            if way.senders and not fits(sender, way.senders):
                continue
            if way.accounts and await self._account(mail) not in way.accounts:
                continue
            return way
        return self.usual

    async def _account(self, mail: QueuedMail) -> str | None:
        if mail.account is None or self._name_account is None:
            return None
        return await self._name_account(mail.account)


def fits(domain: str, patterns: frozenset[str]) -> bool:
    """True where the domain is among the patterns, or below one that begins with "*."."""
    if domain in patterns:
        return True
    parent = domain.partition(".")[2]
    while parent:
        if f"*.{parent}" in patterns:
            return True
        parent = parent.partition(".")[2]
    return False
