import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, credentials, identities
from posthouse.directory.credentials import Authenticator, Challenge, LoginFailure, LoginRefused
from posthouse.directory.model import (
    Account,
    BadPassword,
    CredentialExists,
    NoSuchAccount,
    NoSuchCredential,
    TooManyCredentials,
)
from posthouse.directory.throttle import GuessThrottle
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.terms.address import parse
from posthouse.wire.sasl import exchange, scram, verifier
from posthouse.wire.sasl.verifier import ScramVerifier
from posthouse.written import Rate
from tests.directory.support import NOW, add_account, add_domain, in_transaction, with_store

PEER = "192.0.2.1"
FEW = 4096
WRONG = LoginRefused(LoginFailure.WRONG)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations of each derivation that was made."""
    made: list[int] = []
    derive, burn = verifier.make_verifier, hashlib.pbkdf2_hmac

    def counted(password: str, salt: bytes, iterations: int) -> ScramVerifier:
        made.append(iterations)
        return derive(password, salt, iterations)

    def burnt(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        made.append(iterations)
        return burn(name, password, salt, iterations)

    monkeypatch.setattr(credentials, "make_verifier", counted)
    monkeypatch.setattr(credentials, "pbkdf2_hmac", burnt)
    return made


def authenticator(store: Store, clock: SetClock, free: int = 5) -> Authenticator:
    throttle = GuessThrottle(clock, Rate(free, 600))
    return Authenticator(store, clock, throttle, secret=b"s" * 32, iterations=FEW)


async def alice(store: Store, password: str = "secret") -> Account:
    await store.write(add_domain, "example.org")
    return await store.write(add_account, "alice@example.org", credentials.verifier_of(password, iterations=FEW))


def test_credentials_of_an_account(tmp_path: Path) -> None:
    verifier = credentials.verifier_of("secret", iterations=FEW)

    def test(tx: Tx) -> None:
        account = add_account(tx, "alice@example.org", verifier).id
        with pytest.raises(CredentialExists):
            credentials.add(tx, account, credentials.MAIN, verifier, NOW)
        credentials.add(tx, account, "phone", verifier, NOW)
        assert [one.label for one in credentials.list_credentials(tx, account)] == ["password", "phone"]
        credentials.set_main(tx, account, verifier, NOW)
        assert {one.label for one in credentials.list_credentials(tx, account)} == {"password", "phone"}
        credentials.remove(tx, account, "phone")
        with pytest.raises(NoSuchCredential):
            credentials.remove(tx, account, "phone")
        with pytest.raises(NoSuchAccount):
            credentials.set_main(tx, 99, verifier, NOW)
        for n in range(credentials.MOST_CREDENTIALS - 1):
            credentials.add(tx, account, f"device {n}", verifier, NOW)
        with pytest.raises(TooManyCredentials):
            credentials.add(tx, account, "one more", verifier, NOW)

    in_transaction(tmp_path, test)


@pytest.mark.parametrize("password", ["", "x" * 1025, "a\x07b", "\u0627a"])
def test_what_cannot_be_a_password(password: str) -> None:
    with pytest.raises(BadPassword):
        credentials.verifier_of(password, iterations=FEW)


def test_plain_by_any_address(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        await store.write(identities.add, account.id, parse("a.liddell@example.org"))
        door = authenticator(store, clock)
        assert await door.plain("alice@example.org", "secret", PEER) == account
        assert await door.plain(" ALICE@EXAMPLE.ORG", "secret", PEER) == account
        assert await door.plain("a.liddell@example.org", "secret", PEER) == account
        assert await door.plain("alice@example.org", "Secret", PEER) == WRONG
        assert await door.plain("alice", "secret", PEER) == WRONG
        assert await door.plain("alice@example.org", "x" * 2000, PEER) == WRONG
        door.close()

    with_store(tmp_path, main)


def test_app_passwords_cost_one_derivation_and_changes_count_at_once(tmp_path: Path, rounds: list[int]) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock)
        follower = asyncio.create_task(door.follow())
        await credentials.add_password(store, clock, account.id, "phone", "on the phone")
        await credentials.add_password(store, clock, account.id, "laptop", "on the laptop")
        await asyncio.sleep(0)
        rounds.clear()
        assert await door.plain("alice@example.org", "on the laptop", PEER) == account
        assert rounds == [FEW]
        # Right a minute ago: nothing is derived.
        assert await door.plain("alice@example.org", "on the laptop", PEER) == account
        assert rounds == [FEW]
        await store.write(credentials.remove, account.id, "laptop")
        await asyncio.sleep(0)
        assert await door.plain("alice@example.org", "on the laptop", PEER) == WRONG
        await credentials.change_password(store, clock, account.id, "new")
        await asyncio.sleep(0)
        assert await door.plain("alice@example.org", "secret", PEER) == WRONG
        assert await door.plain("alice@example.org", "new", PEER) == account
        follower.cancel()
        door.close()

    with_store(tmp_path, main)


def test_unknown_logins_cost_and_look_the_same(tmp_path: Path, rounds: list[int]) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        await alice(store)
        await store.write(add_account, "nopassword@example.org")
        door, other = authenticator(store, clock), authenticator(store, clock)
        costs: list[list[int]] = []
        for login in ("alice@example.org", "nobody@example.org", "nopassword@example.org", "no address"):
            rounds.clear()
            assert await door.plain(login, "guess", f"198.51.100.{len(costs)}") == WRONG
            costs.append(list(rounds))
        assert costs == [[FEW]] * 4
        challenges = [await one.scram("nobody@example.org", PEER) for one in (door, other, door)]
        assert all(isinstance(challenge, Challenge) for challenge in challenges)
        assert len({challenge.verifiers for challenge in challenges if isinstance(challenge, Challenge)}) == 1
        known = await door.scram("alice@example.org", PEER)
        assert isinstance(known, Challenge)
        assert isinstance(challenges[0], Challenge)
        assert len(known.verifiers[0].salt) == len(challenges[0].verifiers[0].salt)
        assert known.verifiers[0].iterations == challenges[0].verifiers[0].iterations
        door.close()
        other.close()

    with_store(tmp_path, main)


def test_a_cheap_verifier_from_elsewhere_is_made_up_for(rounds: list[int]) -> None:
    cheap = credentials.verifier_of("secret", iterations=FEW)
    rounds.clear()
    assert credentials.check("secret", [cheap], 3 * FEW)
    assert not credentials.check("wrong", [cheap], 3 * FEW)
    assert not credentials.check("a\x07b", [cheap], 3 * FEW)
    assert rounds == [FEW, 2 * FEW, FEW, 2 * FEW, FEW, FEW, 2 * FEW]


def test_a_disabled_account_is_named_only_after_the_right_password(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        await store.write(accounts.set_enabled, account.id, False)
        door = authenticator(store, clock)
        assert await door.plain("alice@example.org", "guess", PEER) == WRONG
        assert await door.plain("alice@example.org", "secret", PEER) == LoginRefused(LoginFailure.DISABLED)
        challenge = await door.scram("alice@example.org", PEER)
        assert isinstance(challenge, Challenge)
        assert door.settle(challenge, right=False) == WRONG
        assert door.settle(challenge, right=True) == LoginRefused(LoginFailure.DISABLED)
        door.close()

    with_store(tmp_path, main)


def test_guesses_are_throttled_and_the_same_one_is_counted_once(tmp_path: Path, rounds: list[int]) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock, free=3)
        rounds.clear()
        for _ in range(10):
            assert await door.plain("alice@example.org", "old password", PEER) == WRONG
        assert len(rounds) == 1
        await door.plain("alice@example.org", "guess 1", PEER)
        await door.plain("alice@example.org", "guess 2", PEER)
        refused = await door.plain("alice@example.org", "secret", PEER)
        assert isinstance(refused, LoginRefused)
        assert refused.why is LoginFailure.THROTTLED
        assert refused.wait > 0
        # Another network is not held up, and the one in question only for a while.
        assert await door.plain("alice@example.org", "secret", "192.0.2.99") == account
        clock.advance(refused.wait + 1)
        assert await door.plain("bob@example.org", "guess", PEER) == WRONG
        door.close()

    with_store(tmp_path, main)


def test_who_guesses_elsewhere_is_throttled_though_the_right_password_is_remembered(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock, free=3)
        assert await door.plain("alice@example.org", "secret", PEER) == account
        for n in range(3):
            assert await door.plain("alice@example.org", f"guess {n}", "198.51.100.7") == WRONG
        for guess in ("one more", "secret"):
            refused = await door.plain("alice@example.org", guess, "198.51.100.7")
            assert isinstance(refused, LoginRefused)
            assert refused.why is LoginFailure.THROTTLED
        assert await door.plain("alice@example.org", "secret", PEER) == account
        door.close()

    with_store(tmp_path, main)


def test_a_remembered_login_makes_its_network_familiar(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock, free=1)
        for peer in (PEER, "192.0.2.99"):
            assert await door.plain("alice@example.org", "secret", peer) == account
        for n in range(10):
            await door.plain("alice@example.org", f"guess {n}", f"198.51.100.{n}")
        door.forget()
        assert await door.plain("alice@example.org", "secret", "192.0.2.99") == account
        door.close()

    with_store(tmp_path, main)


def test_scram_exchange(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock)
        for password, right in (("secret", True), ("wrong", False)):
            client, server = (
                scram.ScramClient("alice@example.org", password, "c" * 24),
                scram.ScramServer("s" * 24),
            )
            step: Any = server.start(client.initial())
            assert isinstance(step, exchange.NeedVerifier)
            challenge = await door.scram(step.username, PEER)
            assert isinstance(challenge, Challenge)
            step = server.verifier(challenge.verifiers[0])
            step = server.respond(client.respond(step.octets))
            assert isinstance(step, exchange.Challenge) is right
            assert door.settle(challenge, right) == (account if right else WRONG)
        door.close()

    with_store(tmp_path, main)


def test_too_many_logins_at_once_are_put_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "MOST_WAITING", 0)

    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock)
        busy = await door.plain("alice@example.org", "secret", PEER)
        assert isinstance(busy, LoginRefused)
        assert busy.why is LoginFailure.BUSY
        monkeypatch.setattr(credentials, "MOST_WAITING", 1)
        assert await door.plain("alice@example.org", "secret", PEER) == account
        door.close()

    with_store(tmp_path, main)


def test_connections_opened_at_once_share_a_derivation(tmp_path: Path, rounds: list[int]) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        account = await alice(store)
        door = authenticator(store, clock, free=2)
        rounds.clear()
        first = asyncio.ensure_future(door.plain("alice@example.org", "secret", PEER))
        others = [asyncio.ensure_future(door.plain("alice@example.org", "secret", PEER)) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [account] * 4
        assert rounds == [FEW]
        wrong = await asyncio.gather(*(door.plain("alice@example.org", "guess", PEER) for _ in range(9)))
        assert wrong == [WRONG] * 9
        door.close()

    with_store(tmp_path, main)


def test_a_store_that_is_away_counts_as_no_guess(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        door = authenticator(store, clock, free=1)
        await store.close()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await door.plain("alice@example.org", "secret", PEER)
            with pytest.raises(StoreUnavailable):
                await door.scram("alice@example.org", PEER)
        door.close()

    with_store(tmp_path, main)
