"""Addresses and what they lead to: accounts, aliases, lists, subaddresses, catch-all, postmaster.

Promises: `expand` ends, whatever the aliases point to: each address is visited once, no deeper than ALIAS_DEPTH and no
more than ALIAS_FANOUT of them. An account is reached once, a remote address is named once. `merge` makes one
Resolution of a message's recipients; `current` says inside the accepting transaction whether it still holds.
Refuses: to decide what happens to a recipient; policy/ does.

How a local part is read, first match wins: the address as it stands; an address beside a list (`name-owner`); without
its tag (`user+tag`, RFC 5233's detail); a reverse-path of forwarded mail (srs.py); `postmaster`, which always leads to
somebody (RFC 5321 §4.5.1); the domain's catch-all; nobody.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from posthouse.directory.model import AddressInUse, AddressTaken, NoSuchDomain, version
from posthouse.directory.srs import Srs
from posthouse.limits import ALIAS_DEPTH, ALIAS_FANOUT
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse

POSTMASTER: Final = "postmaster"
# Addresses beside a mailing list: behind its name and a hyphen. Behind those that end with "+" a token follows.
PURPOSES: Final = frozenset({
    "owner", "request", "subscribe", "unsubscribe", "bounces", "confirm+", "approve+", "refuse+", "leave+", "bounces+"
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """How addresses of ours are read.

    `separator` parts user and tag ("" for none). `postmaster` takes the postmasters' mail where no such address
    exists. `hosts` are names of this very host: `postmaster` there is deliverable, served or not; "" is the domain of
    the bare `<postmaster>`. `srs` knows the reverse-paths of what was forwarded.
    """

    separator: str = "+"
    postmaster: Address | None = None
    hosts: frozenset[str] = frozenset({""})
    srs: Srs | None = None


class Standing(Enum):
    """What an address is to us, in words for a log."""

    KNOWN = "known"
    RELAY = "of another domain"
    UNKNOWN = "no such address"
    DISABLED = "account is disabled"
    LOOP = "alias leads back to itself"
    TOO_DEEP = "aliases nest too deep"
    TOO_MANY = "alias expands to too many addresses"


@dataclass(frozen=True, slots=True)
class Local:
    """An account that was reached. `tag`: the detail of the address by which it was, case-folded, or "".

    `limited`: it has a quota.
    """

    account: int
    tag: str = ""
    limited: bool = False


@dataclass(frozen=True, slots=True)
class ListReached:
    """A mailing list, by its id; or an address beside it: "owner", "request", "confirm" with its token."""

    id: int
    purpose: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one address leads to. `broken` are members of an alias that lead nowhere, and why.

    `version` is the directory's when it was looked up. KNOWN has at least one of `local`, `remote` and `lists`.
    `entered`: the address stands in the directory as it is. Of others that lead somewhere (with a tag, or where a
    domain catches all) strangers can make up as many as they like.
    """

    standing: Standing
    local: tuple[Local, ...] = ()
    remote: tuple[Address, ...] = ()
    broken: tuple[tuple[str, Standing], ...] = ()
    lists: tuple[ListReached, ...] = ()
    version: int = 0
    entered: bool = False

    @property
    def reaches(self) -> bool:
        """It leads to somebody."""
        return bool(self.local or self.remote or self.lists)


@dataclass(frozen=True, slots=True)
class LocalRecipient:
    """An account that gets one email; `original` is the first of the given addresses that led to it."""

    account: int
    original: Address
    tag: str


@dataclass(frozen=True, slots=True)
class RemoteRecipient:
    """An address that is relayed to; `original` as above."""

    address: Address
    original: Address


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a message's recipients lead to: each account once, each remote address once.

    `failed` are the given addresses that lead to nobody; `broken` are (original, member of its alias, why) beside
    others that were reached. `version`: for `current`. `lists`: each with the first address that led to it.
    """

    local: tuple[LocalRecipient, ...]
    remote: tuple[RemoteRecipient, ...]
    failed: tuple[tuple[Address, Standing], ...]
    broken: tuple[tuple[Address, str, Standing], ...]
    version: int
    lists: tuple[tuple[ListReached, Address], ...] = ()


# --- what an address leads to -----------------------------------------------------------------------------------------


def resolve(tx: Tx, addresses: Sequence[Address], rules: Rules) -> Resolution:
    """What these lead to, together."""
    search = _Search(tx, rules)
    return merge([(address, search.expand(address)) for address in addresses], version(tx))


def expand(tx: Tx, address: Address, rules: Rules) -> Expansion:
    """What this address leads to, with the directory's version in the same snapshot."""
    search = _Search(tx, rules)
    found = search.expand(address)
    return replace(found, version=version(tx), entered=address.key in search.entered)


def merge(expansions: Iterable[tuple[Address, Expansion]], at_version: int | None = None) -> Resolution:
    """One resolution of several addresses: one email an account, the first address that led to it counts."""
    local: dict[int, LocalRecipient] = {}
    remote: dict[Address, RemoteRecipient] = {}
    failed: list[tuple[Address, Standing]] = []
    broken: list[tuple[Address, str, Standing]] = []
    lists: dict[ListReached, Address] = {}
    oldest: int | None = None
    for original, expansion in expansions:
        if oldest is None or expansion.version < oldest:
            oldest = expansion.version
        for reached in expansion.local:
            if reached.account not in local:
                local[reached.account] = LocalRecipient(reached.account, original, reached.tag)
        for address in expansion.remote:
            if address not in remote:
                remote[address] = RemoteRecipient(address, original)
        for reached_list in expansion.lists:
            lists.setdefault(reached_list, original)
        if not expansion.reaches:
            failed.append((original, expansion.standing))
        else:
            broken += [(original, member, why) for member, why in expansion.broken]
    found = at_version if at_version is not None else oldest or 0
    return Resolution(
        tuple(local.values()), tuple(remote.values()), tuple(failed), tuple(broken), found, tuple(lists.items())
    )


def current(tx: Tx, resolution: Resolution, addresses: Sequence[Address], rules: Rules) -> Resolution:
    """In the accepting transaction: the same resolution where the directory has not changed since, else a new one."""
    if version(tx) == resolution.version:
        return resolution
    return resolve(tx, addresses, rules)


@dataclass(frozen=True, slots=True)
class _Account:
    reached: Local
    enabled: bool


@dataclass(frozen=True, slots=True)
class _Targets:
    addresses: tuple[Address, ...]


_Step = _Account | _Targets | ListReached | Standing
"""Where one address leads: an account, a list, further addresses, or an end (RELAY, UNKNOWN)."""


@dataclass(slots=True)
class _Found:
    """What an expansion gathers on its way."""

    local: dict[int, Local] = field(default_factory=dict)
    remote: dict[Address, None] = field(default_factory=dict)
    broken: dict[str, Standing] = field(default_factory=dict)
    lists: dict[ListReached, Address] = field(default_factory=dict)
    looped: bool = False

    def expansion(self, own: Standing | None) -> Expansion:
        """`own` is how the given address itself ended, where it did."""
        reached = bool(self.local or self.remote or self.lists)
        if own is not None:
            standing = own
        elif reached:
            standing = Standing.KNOWN
        else:
            standing = next(iter(self.broken.values()), Standing.LOOP if self.looped else Standing.UNKNOWN)
        return Expansion(
            standing, tuple(self.local.values()), tuple(self.remote), tuple(self.broken.items()), tuple(self.lists)
        )


class _Search:
    """Expansions in one snapshot; what was looked up once is not looked up again."""

    def __init__(self, tx: Tx, rules: Rules) -> None:
        self._tx = tx
        self._rules = rules
        self._domains: dict[str, tuple[str | None] | None] = {}
        self._steps: dict[str, _Step] = {}
        # Of these, those that stand in the directory as they are.
        self.entered: set[str] = set()

    def expand(self, given: Address) -> Expansion:
        """Breadth first, so that the shortest way counts; the visited set ends loops."""
        found = _Found()
        own: Standing | None = None
        visited = {given.key}
        waiting = deque([(given, 0)])
        while waiting:
            address, depth = waiting.popleft()
            step = self.step(address)
            match step:
                case _Account(reached, enabled):
                    if enabled:
                        found.local.setdefault(reached.account, reached)
                    elif depth:
                        found.broken[str(address)] = Standing.DISABLED
                    else:
                        own = Standing.DISABLED
                case Standing.RELAY:
                    found.remote[address] = None
                    own = own if depth else Standing.RELAY
                case Standing():
                    if depth:
                        found.broken[str(address)] = step
                    else:
                        own = step
                case ListReached():
                    found.lists.setdefault(step, address)
                case _Targets(addresses):
                    self._follow(addresses, depth + 1, visited, waiting, found)
        return found.expansion(own)

    def _follow(
        self,
        targets: tuple[Address, ...],
        depth: int,
        visited: set[str],
        waiting: deque[tuple[Address, int]],
        found: _Found,
    ) -> None:
        for target in targets:
            if target.key in visited:
                found.looped = True
            elif depth > ALIAS_DEPTH:
                found.broken[str(target)] = Standing.TOO_DEEP
            elif len(visited) > ALIAS_FANOUT:
                found.broken[str(target)] = Standing.TOO_MANY
                return
            else:
                visited.add(target.key)
                waiting.append((target, depth))

    def step(self, address: Address) -> _Step:
        """Where this one address leads."""
        known = self._steps.get(address.key)
        if known is None:
            known = self._steps[address.key] = self._look(address)
        return known

    def _look(self, address: Address) -> _Step:
        domain = self._domain(address.domain)
        if domain is None and address.domain not in self._rules.hosts:
            return Standing.RELAY
        local = address.local.casefold()
        if domain is not None:
            exact = self._served(f"{local}@{address.domain}", "")
            if exact is not None:
                self.entered.add(address.key)
                return exact
            if (beside := self._beside_list(local, address.domain)) is not None:
                return beside
            user, tag = split_tag(local, self._rules.separator)
            if tag:
                plain = self._served(f"{user}@{address.domain}", tag)
                if plain is not None:
                    return plain
            if (writer := self._forwarded(address)) is not None:
                return _Targets((writer,))
        if local == POSTMASTER:
            return self._postmaster(address, domain)
        if domain is not None and domain[0] is not None:
            return _Targets((parse(domain[0]),))
        return Standing.UNKNOWN

    def _forwarded(self, address: Address) -> Address | None:
        """Whose mail was forwarded under this reverse-path."""
        if self._rules.srs is None:
            return None
        ticket = self._rules.srs.ticket(address)
        if ticket is None:
            return self._rules.srs.reverse(address)
        sender = self._tx.value("forwarded_sender", ticket=ticket)
        return None if sender is None else parse(sender)

    def _domain(self, name: str) -> tuple[str | None] | None:
        """None where the domain is not served; else its catch-all in a tuple of one."""
        if name not in self._domains:
            row = self._tx.one("domain_find", name=name)
            self._domains[name] = None if row is None else (row[1],)
        return self._domains[name]

    def _served(self, key: str, tag: str) -> _Step | None:
        rows = self._tx.all("address_look", key=key, limit=ALIAS_FANOUT + 1)
        if not rows:
            return None
        account, enabled, limited, _, list = rows[0]
        if account is not None:
            return _Account(Local(account, tag, bool(limited)), bool(enabled))
        if list is not None:
            return ListReached(list)
        return _Targets(tuple(parse(target) for *_, target, _ in rows if target is not None))

    def _beside_list(self, local: str, domain: str) -> _Step | None:
        """The address beside a list: NAME-owner, NAME-confirm+TOKEN."""
        name, hyphen, purpose = local.rpartition("-")
        while hyphen:
            word, plus, token = purpose.partition("+")
            if f"{word}{plus}" in PURPOSES:
                found = self._served(f"{name}@{domain}", "")
                return replace(found, purpose=word, token=token) if isinstance(found, ListReached) else None
            name, hyphen, more = name.rpartition("-")
            purpose = f"{more}-{purpose}"
        return None

    def _postmaster(self, address: Address, domain: tuple[str | None] | None) -> _Step:
        """RFC 5321 §4.5.1: a server must take mail for postmaster. The configured one, the catch-all, the domain's
        first account, the server's first account: the first that there is."""
        wanted = self._rules.postmaster
        if wanted is not None and wanted.key != address.key:
            return _Targets((wanted,))
        if domain is not None and domain[0] is not None:
            return _Targets((parse(domain[0]),))
        row = self._tx.one("account_first_of_domain", domain=address.domain) or self._tx.one("account_first")
        return Standing.UNKNOWN if row is None else _Account(Local(row[0], "", bool(row[2])), bool(row[1]))


def split_tag(local: str, separator: str) -> tuple[str, str]:
    """User and tag of a local part, parted at the first separator; an empty tag where there is none (RFC 5233 §4)."""
    if not separator:
        return local, ""
    user, found, tag = local.partition(separator)
    return (user, tag) if found and user and tag else (local, "")


# --- the entries of addresses, whosever they are -------------------------------------------------------------------


def claim(tx: Tx, address: Address, account: int | None) -> None:
    """Enter an address for an account (None: an alias), without ringing. Raises NoSuchDomain, AddressTaken."""
    require_free(tx, address)
    tx.run("address_insert", key=address.key, domain=address.domain, written=str(address), account=account)


def require_free(tx: Tx, address: Address) -> None:
    """Raises NoSuchDomain, AddressTaken."""
    if tx.one("domain_find", name=address.domain) is None:
        raise NoSuchDomain(address.domain)
    if tx.one("address_find", key=address.key) is not None:
        raise AddressTaken(str(address))


def require_unused(tx: Tx, address: Address) -> None:
    """Raises AddressInUse where an alias or a catch-all points to it."""
    by = [alias for (alias,) in tx.all("alias_pointing_to", target_key=address.key, limit=10)]
    catching = [name for name, target in tx.all("domain_catch_alls") if parse(target).key == address.key]
    by += [f"the catch-all of {name}" for name in catching]
    if by:
        raise AddressInUse(str(address), by)
