"""The values and errors of the directory, and the one line every change of it ends with.

Promises: an error's `str()` is one line in plain words, for the person who asked for the change.
Refuses: to know a door; each door has its own table from these errors to its words.
"""

from dataclasses import dataclass
from typing import Final

from posthouse.store.database import Row, Topic, Tx
from posthouse.written import Rate, parse_rate


class DirectoryError(Exception):
    """What was asked of the directory cannot be done."""


class NoSuchDomain(DirectoryError):
    """The domain is not served here."""

    def __init__(self, name: str) -> None:
        super().__init__(f"domain {name} is not served here")


class DomainExists(DirectoryError):
    """The domain is served already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"domain {name} is served already")


class DomainInUse(DirectoryError):
    """The domain cannot go: addresses stand in it."""

    def __init__(self, name: str, addresses: int) -> None:
        super().__init__(f"domain {name} still has {addresses} addresses; remove or move them first")


class NoSuchAccount(DirectoryError):
    """Nobody is known by that address or id."""

    def __init__(self, who: str | int) -> None:
        super().__init__(f"there is no account {who}")


class AccountExists(DirectoryError):
    """An account has that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"account {name} exists already")


class NoSuchAddress(DirectoryError):
    """The address is not one of those meant."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no address {address}")


class AddressTaken(DirectoryError):
    """The address is served already: by an account, or as an alias."""

    def __init__(self, address: str) -> None:
        super().__init__(f"address {address} is taken")


class AddressInUse(DirectoryError):
    """The address cannot go: something points to it."""

    def __init__(self, address: str, by: list[str]) -> None:
        self.by = by
        super().__init__(f"address {address} is still used by {', '.join(by)}; change that first")


class NoSuchGrant(DirectoryError):
    """The account may not send as that address, so it cannot be taken back."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} was not granted")


class NoSuchAlias(DirectoryError):
    """There is no alias of that address."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no alias {address}")


class BadAlias(DirectoryError):
    """An alias with no targets, too many, or itself as its only one."""


class NoSuchList(DirectoryError):
    """There is no mailing list of that address."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no list {address}")


class BadList(DirectoryError):
    """A setting of a list that cannot be."""


class NoSuchMember(DirectoryError):
    """The address is not on the list."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is not on the list")


class MembersHidden(DirectoryError):
    """Who is on the list is not told to whoever asks, or they are too many to be told."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the members of {address} are not told")


class AlreadyMember(DirectoryError):
    """The address is on the list already."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is on the list already")


class NoSuchCredential(DirectoryError):
    """The account has no password of that label."""

    def __init__(self, label: str) -> None:
        super().__init__(f"there is no password labelled {label!r}")


class CredentialExists(DirectoryError):
    """The account has a password of that label."""

    def __init__(self, label: str) -> None:
        super().__init__(f"there is a password labelled {label!r} already")


class TooManyCredentials(DirectoryError):
    """An account may have only so many passwords: each makes a login dearer."""


class BadPassword(DirectoryError):
    """The text cannot be a password."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that is served. `catch_all` takes mail for its unknown local parts; None: such mail is refused."""

    name: str
    catch_all: str | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Account:
    """Where mail is kept. `name` is the key of one of its addresses; quotas in octets and emails, None: no limit.

    `copy_to_sent`: what it submits is filed in Sent, too. `submission_rate`: recipients it may write to,
    `submission_recipients`: in one message; None: what is configured for all.
    """

    id: int
    name: str
    full_name: str
    quota_octets: int | None
    quota_emails: int | None
    enabled: bool
    created_at: int
    copy_to_sent: bool = False
    submission_rate: Rate | None = None
    submission_recipients: int | None = None


def account_from(row: Row) -> Account:
    """The account of a row as `account_find`, `account_by_address` and `account_list` give it."""
    id, name, full_name, quota_octets, quota_emails, enabled, created_at, copy_to_sent, rate, recipients = row
    return Account(
        id,
        name,
        full_name,
        quota_octets,
        quota_emails,
        bool(enabled),
        created_at,
        bool(copy_to_sent),
        None if rate is None else parse_rate(rate),
        recipients,
    )


@dataclass(frozen=True, slots=True)
class Alias:
    """An address that stands for others, ours or another's."""

    address: str
    targets: tuple[str, ...]


# The version of a directory that nobody has changed yet: of a new store.
NEW: Final = 1


def version(tx: Tx) -> int:
    """The number that grows with each change of the directory."""
    found: int = tx.value("directory_version")
    return found


def changed(tx: Tx) -> None:
    """Every function that changes the directory ends with this: what is kept in memory elsewhere is looked up again."""
    tx.run("directory_changed")
    tx.ring(Topic.DIRECTORY)
