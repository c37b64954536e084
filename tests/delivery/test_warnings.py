"""What an account is told of what it may send."""

import email
import email.policy
from pathlib import Path
from random import Random
from unittest import mock

from posthouse.delivery.letters import Settings
from posthouse.delivery.warnings import Warnings, words
from posthouse.directory import accounts
from posthouse.directory.model import Account
from posthouse.policy.limits import Notice
from posthouse.store.database import StoreUnavailable
from posthouse.written import Rate
from tests.delivery.support import Home
from tests.support import run

DAY = 86_400
HOURLY = Rate(1000, 3600)


async def at_home(path: Path) -> tuple[Home, Account]:
    home = Home(path)
    (alice,) = await home.people("alice")
    return home, await home.store.read(accounts.find, alice)


def warnings(home: Home) -> Warnings:
    settings = Settings("mx.home.example", 3600, home.store.secret)
    return Warnings(home.store, settings, clock=home.clock, random=Random(1))


async def told(home: Home, account: Account) -> list[str]:
    """Subjects in the Inbox, after what is queued was delivered."""
    await home.settle(home.post())
    return [subject_of(octets) for octets in await home.inbox(account.id)]


def subject_of(octets: bytes) -> str:
    return str(email.message_from_bytes(octets, policy=email.policy.default)["Subject"])


NEARLY = "Your limit for sending mail is nearly reached"
REACHED = "Your limit for sending mail is reached"


def test_one_letter_of_each_kind_a_day_whichever_process_saw_it(tmp_path: Path) -> None:
    async def main() -> None:
        home, alice = await at_home(tmp_path)
        one, other = warnings(home), warnings(home)
        for writer in (one, one, other):
            writer.warn(alice, Notice(HOURLY, 800))
            await writer.settled(30)
        assert await told(home, alice) == [NEARLY]
        other.warn(alice, Notice(HOURLY, 1000, wait=120.0))
        await other.settled(30)
        assert await told(home, alice) == [NEARLY, REACHED]
        home.clock.advance(DAY - 1)
        one.warn(alice, Notice(HOURLY, 800))
        await one.settled(30)
        assert len(await told(home, alice)) == 2
        home.clock.advance(2)
        one.warn(alice, Notice(HOURLY, 800))
        await one.settled(30)
        assert await told(home, alice) == [NEARLY, REACHED, NEARLY]

    run(main())


def test_a_longer_period_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        home, alice = await at_home(tmp_path)
        writer, weekly = warnings(home), Rate(100, 7 * DAY)
        for days in (0, 6, 2):
            home.clock.advance(days * DAY)
            writer.warn(alice, Notice(weekly, 80))
            await writer.settled(30)
        assert len(await told(home, alice)) == 2

    run(main())


def test_who_is_gone_is_not_written_to_and_a_store_that_is_away_is_told_of(tmp_path: Path) -> None:
    async def main() -> None:
        home, alice = await at_home(tmp_path)
        writer = warnings(home)
        await home.store.write(accounts.remove, alice.id, home.clock.now())
        writer.warn(alice, Notice(HOURLY, 800))
        await writer.settled(30)
        assert await home.rows("queued_recipient") == 0

        with mock.patch.object(home.store, "write", side_effect=StoreUnavailable("it is away")) as write:
            writer.warn(alice, Notice(HOURLY, 800))
            await writer.settled(30)
        assert write.call_count == 1

    run(main())


def test_what_it_says() -> None:
    _, nearly = words("alice@home.example", Notice(HOURLY, 800))
    assert "may write to 1000 recipients in 1h, and has written to 800 of them." in nearly
    _, stopped = words("alice@home.example", Notice(Rate(20, DAY), 20, wait=4320.0))
    assert "may write to 20 recipients in 1d. That is reached" in stopped
    assert "In 72 minutes it may be sent again" in stopped
    assert all(line.isascii() and len(line) < 130 for line in (nearly + stopped).splitlines())
