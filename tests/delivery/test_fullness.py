"""Letters to those whose room gets tight."""

import asyncio
import email
import email.policy
from collections.abc import Collection
from email.message import EmailMessage
from pathlib import Path
from random import Random
from unittest import mock

from posthouse.delivery import fullness
from posthouse.delivery.fullness import Attendant, words, words_for_domain
from posthouse.delivery.letters import Settings
from posthouse.directory import accounts, quotas
from posthouse.directory.quotas import Fullness
from posthouse.mailbox import mailboxes, placing
from posthouse.store.database import Tx
from tests.delivery.support import NOW, Home
from tests.mailbox.support import every_uid, file, message
from tests.support import run, until


def attendant(home: Home) -> Attendant:
    settings = Settings("mx.home.example", 3600, home.store.secret)
    return Attendant(home.store, settings, clock=home.clock, random=Random(1))


async def letters(home: Home, account: int) -> list[EmailMessage]:
    """Those in the Inbox, after what is queued was delivered."""
    await home.settle(home.post())
    found = [email.message_from_bytes(one, policy=email.policy.default) for one in await home.inbox(account)]
    return [one for one in found if one["Auto-Submitted"] == "auto-generated"]


def _fill(tx: Tx, account: int, count: int) -> None:
    for _ in range(count):
        file(tx, account, message())


def _empty(tx: Tx, account: int) -> None:
    inbox = mailboxes.by_role(tx, account, "inbox")
    placing.expunge(tx, account, inbox, every_uid(tx, account, inbox), NOW)


def test_one_letter_a_crossing(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice", quota_emails=20)
        (bob,) = await home.people("bob")
        one, other = attendant(home), attendant(home)
        await home.store.write(_fill, alice, 15)
        await one.look()
        assert await letters(home, alice) == []
        await home.store.write(_fill, alice, 1)
        await one.look([alice, bob])
        await other.look()
        await one.look([alice])
        (told,) = await letters(home, alice)
        assert told["Subject"] == "Your mailbox is 80 % full"
        assert "16 emails of 20" in told.get_content()
        # Its letter counts, too: 17 of 20, 85 %.
        await home.store.write(_fill, alice, 2)
        await one.look([alice])
        assert [one["Subject"] for one in await letters(home, alice)][1:] == ["Your mailbox is 95 % full"]
        await home.store.write(_empty, alice)
        await one.look([alice])
        await home.store.write(_fill, alice, 16)
        await one.look([alice])
        assert [one["Subject"] for one in await letters(home, alice)] == ["Your mailbox is 80 % full"]
        assert await letters(home, bob) == []

    run(main())


def test_a_domains_postmaster_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, bob = await home.people("alice", "bob")
        await home.store.write(lambda tx: [file(tx, bob, message(body="x" * 10_000)) for _ in range(9)])
        await home.store.write(quotas.set_quota, "home.example", 10 * len(message(body="x" * 10_000)))
        one = attendant(home)
        await one.look([bob])
        await one.look()
        # The first account stands in for the postmaster (RFC 5321 §4.5.1).
        (told,) = await letters(home, alice)
        assert told["Subject"] == "home.example is 90 % full"
        assert told["To"] == "postmaster@home.example"

    run(main())


def test_it_follows_what_is_filed(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice", quota_emails=10)
        one, looks = attendant(home), []
        look = one.look

        async def noted(accounts: Collection[int] | None = None) -> None:
            await look(accounts)
            looks.append(accounts)

        with mock.patch.object(fullness, "PAUSE_SECONDS", 0.0), mock.patch.object(one, "look", noted):
            task = asyncio.create_task(one.run())
            try:
                await until(lambda: looks)
                await home.store.write(_fill, alice, 8)
                await until(lambda: len(looks) > 1)
            finally:
                task.cancel()
                await asyncio.wait({task})
        assert looks == [None, {alice}]
        assert len(await letters(home, alice)) == 1

    run(main())


def test_who_is_gone_is_not_told(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice", quota_emails=10)
        await home.store.write(_fill, alice, 9)
        await home.store.write(accounts.remove, alice, NOW)
        await attendant(home).look()
        assert not await home.store.read(lambda tx: tx.query("SELECT 1 FROM queued_recipient", ()))

    run(main())


def test_words() -> None:
    subject, text = words(Fullness(1, "a@example.org", 850 << 20, 1 << 30, 7, None, 0))
    assert subject == "Your mailbox is 83 % full"
    assert "Your account a@example.org holds 850.0 MB of 1.0 GB: 83 % of what it may." in text
    both = words(Fullness(1, "a@example.org", 1 << 20, 1 << 30, 97, 100, 0))[1]
    assert "1.0 MB of 1.0 GB and 97 emails of 100: 97 %" in both
    domain = words_for_domain(Fullness(0, "example.org", 9 << 30, 10 << 30, 0, None, 0))
    assert domain[0] == "example.org is 90 % full"
    for letter in (text, both, domain[1]):
        assert max(map(len, letter.splitlines())) < 120
