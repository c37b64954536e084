from pathlib import Path

import pytest

from posthouse import observe
from posthouse.clock import SetClock
from posthouse.directory import domains, signing
from posthouse.directory.addresses import Rules
from posthouse.directory.cache import Directory
from posthouse.directory.model import NoSuchDomain, version
from posthouse.directory.signing import (
    MOST_KEYS,
    NOBODY,
    BadSelector,
    DomainKey,
    KeyExists,
    KeyInUse,
    NoSuchKey,
    State,
    TooManyKeys,
)
from posthouse.observe import Step
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.trust.keys import Algorithm, PrivateKey
from tests.directory.support import NOW, add_domain, in_transaction, with_store

ORG = "example.org"
RSA, ED25519 = PrivateKey.generate(Algorithm.RSA), PrivateKey.generate(Algorithm.ED25519)
MONTH = 31 * 86_400_000


def states(keys: list[DomainKey]) -> list[tuple[str, str, State]]:
    """Selector, algorithm and state of each."""
    return [(one.selector, one.algorithm.value, one.state) for one in keys]


def test_the_first_key_of_a_kind_signs_and_the_next_waits(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        before = version(tx)
        added = [signing.add(tx, "Example.org", one, NOW) for one in (RSA, ED25519, RSA)]
        assert version(tx) == before + 3
        assert signing.keys(tx, ORG) == added
        assert states(added) == [
            ("202601a", "rsa", State.SIGNING),
            ("202601b", "ed25519", State.SIGNING),
            ("202601c", "rsa", State.WAITING),
        ]
        assert added[0].name == "202601a._domainkey.example.org"
        assert added[0].public == RSA.public

    in_transaction(tmp_path, test)


def test_rotation_retires_what_has_signed(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        for one in (RSA, ED25519, RSA, ED25519):
            signing.add(tx, ORG, one, NOW)
        before = version(tx)
        kept = signing.rotate(tx, ORG, ["202601c", "202601a", "no such"], NOW + 5)
        assert version(tx) > before
        assert states(kept) == [
            ("202601a", "rsa", State.RETIRED),
            ("202601b", "ed25519", State.SIGNING),
            ("202601c", "rsa", State.SIGNING),
            ("202601d", "ed25519", State.WAITING),
        ]
        assert [one.since_at - NOW for one in kept] == [5, 0, 5, 0]
        name, rows = signing.signing(tx, ORG)
        assert (name, [selector for selector, _ in rows]) == (ORG, ["202601c", "202601b"])

    in_transaction(tmp_path, test)


def test_selectors_go_on_by_month_and_letter(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        for _ in range(3):
            signing.add(tx, ORG, ED25519, NOW)
        # A letter that was given away does not come again while a later one is there.
        signing.remove(tx, ORG, "202601b")
        assert signing.add(tx, ORG, ED25519, NOW).selector == "202601d"
        assert signing.add(tx, ORG, ED25519, NOW + MONTH).selector == "202602a"
        assert signing.add(tx, ORG, ED25519, NOW, "202601z").selector == "202601z"
        assert [signing.add(tx, ORG, ED25519, NOW).selector for _ in range(2)] == ["202601za", "202601zb"]

    in_transaction(tmp_path, test)


@pytest.mark.parametrize("selector", ["", "-a", "a_b", "a..b", "a b", "ä", "x" * 64, ".a"])
def test_what_cannot_be_a_selector(tmp_path: Path, selector: str) -> None:
    def test(tx: Tx) -> None:
        with pytest.raises(BadSelector):
            signing.add(tx, ORG, ED25519, NOW, selector)

    in_transaction(tmp_path, test)


def test_selectors_of_ones_own(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        assert signing.add(tx, ORG, ED25519, NOW, "Mail.2026").selector == "mail.2026"
        with pytest.raises(KeyExists, match=r"example.org has a key mail.2026 already"):
            signing.add(tx, ORG, RSA, NOW, "mail.2026")
        domains.add(tx, long := "x." * 118 + "example", NOW)
        with pytest.raises(BadSelector):
            signing.add(tx, long, ED25519, NOW, "mail")

    in_transaction(tmp_path, test)


def test_a_key_that_signs_is_not_removed_unasked(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        signing.add(tx, ORG, ED25519, NOW)
        with pytest.raises(KeyInUse):
            signing.remove(tx, ORG, "202601a")
        with pytest.raises(NoSuchKey):
            signing.remove(tx, ORG, "other")
        before = version(tx)
        assert signing.remove(tx, ORG, "202601A", force=True).selector == "202601a"
        assert version(tx) == before + 1
        assert signing.keys(tx, ORG) == []
        assert signing.signing(tx, ORG) == ("", [])

    in_transaction(tmp_path, test)


def test_there_is_an_end_to_keys(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        for _ in range(MOST_KEYS):
            signing.add(tx, ORG, ED25519, NOW)
        with pytest.raises(TooManyKeys):
            signing.add(tx, ORG, ED25519, NOW)

    in_transaction(tmp_path, test)


def test_keys_belong_to_a_domain(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        for function in (signing.keys, lambda tx, name: signing.add(tx, name, ED25519, NOW)):
            with pytest.raises(NoSuchDomain):
                function(tx, "far.example")
        signing.add(tx, ORG, ED25519, NOW)
        domains.rename(tx, ORG, "example.net")
        assert [(one.domain, one.state) for one in signing.keys(tx, "example.net")] == [("example.net", State.SIGNING)]
        domains.remove(tx, "example.net")
        add_domain(tx, "example.net")
        assert signing.keys(tx, "example.net") == []

    in_transaction(tmp_path, test)


def test_a_host_is_signed_for_by_its_domain(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        add_domain(tx, "own.example.org")
        signing.add(tx, ORG, ED25519, NOW)
        assert signing.signing(tx, "mail.example.org")[0] == ORG
        assert signing.signing(tx, "own.example.org")[0] == ORG
        signing.add(tx, "own.example.org", ED25519, NOW)
        assert signing.signing(tx, "own.example.org")[0] == "own.example.org"
        assert signing.signing(tx, "notexample.org") == ("", [])
        assert signing.signing(tx, "x." * 100 + ORG) == ("", [])

    in_transaction(tmp_path, test)


def test_the_directory_remembers_until_something_changes(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        directory = Directory(store, clock, Rules())
        await store.write(add_domain, ORG)
        assert await directory.signatory(ORG) is NOBODY
        await store.write(signing.add, ORG, RSA, NOW)
        await store.write(signing.add, ORG, ED25519, NOW)
        assert await directory.signatory(ORG) is NOBODY
        directory.forget()
        found = await directory.signatory("mail.example.org")
        assert found.domain == ORG
        assert [(one.selector, one.key.algorithm) for one in found.keys] == [
            ("202601a", Algorithm.RSA),
            ("202601b", Algorithm.ED25519),
        ]
        assert await directory.signatory("mail.example.org") is found
        # A ring may be lost; then it takes a minute.
        clock.advance(61)
        assert await directory.signatory("mail.example.org") is not found

    with_store(tmp_path, main)


def test_a_key_that_cannot_be_read_is_told_of_and_left_out() -> None:
    told: list[Step] = []
    end = observe.subscribe(told.append)
    try:
        assert signing.signatory(ORG, [("bad", b"no key")]) is NOBODY
        rest = signing.signatory(ORG, [("bad", b""), ("good", ED25519.octets())])
    finally:
        end()
    assert [one.selector for one in rest.keys] == ["good"]
    assert [(step.kind, step.facts["selector"]) for step in told] == [("dkim.bad_key", "bad")] * 2
