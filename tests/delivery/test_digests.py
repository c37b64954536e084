"""Digests of mailing lists, with a real directory, a real queue and real mailboxes."""

import asyncio
import email.policy
from email.message import EmailMessage
from itertools import product
from pathlib import Path
from random import Random

import pytest

from posthouse import journey
from posthouse.delivery.digests import Digests
from posthouse.delivery.letters import Settings
from posthouse.directory import lists, members
from posthouse.directory.members import Delivery
from posthouse.limits import KB
from posthouse.message import mime
from posthouse.queue import lanes
from posthouse.store import sweep
from posthouse.store.database import Store, StoreUnavailable
from posthouse.terms.address import parse
from tests.delivery.test_lists import TEAM, Club, parsed, token_of
from tests.queue.support import DAY, Script
from tests.support import run

LINES = (b"x" * 510 + b"\r\n") * 2


def post(number: int, *, body: bytes = b"Hi", subject: str = "") -> bytes:
    return (
        b"From: Alice <alice@home.example>\r\nTo: team@home.example\r\nMessage-ID: <p%d@home.example>\r\n"
        b"Subject: %b\r\n\r\n%b\r\n" % (number, (subject or f"post {number}").encode(), body)
    )


class Gathering(Club):
    """A club whose digests are made when it is told to."""

    def maker(self, store: Store | None = None) -> Digests:
        settings = Settings("mx.home.example", 5 * DAY, self.store.secret)
        return Digests(store or self.store, self.blobs, settings, clock=self.clock, random=Random(5))

    async def takes(self, who: str, delivery: Delivery) -> None:
        """A member changes what he gets."""
        await self.store.write(lambda tx: members.change(tx, 1, parse(f"{who}@home.example"), delivery=delivery))

    async def posted(self, *numbers: int, body: bytes = b"Hi") -> None:
        for number in numbers:
            await self.sent_to("", post(number, body=body))
            await self.settle(self.post())

    async def day_over(self) -> int:
        """A day passes; how many digests were made."""
        self.clock.advance(DAY)
        made = await self.maker().make_due()
        await self.settle(self.post())
        return made

    async def got(self, account: int) -> list[list[int]]:
        """The numbers of the posts that an account has: a list a message, of one for a single post."""
        return [numbers(one) for one in await self.inbox(account)]


def numbers(octets: bytes) -> list[int]:
    """The numbers of the posts in a message."""
    letter = parsed(octets)
    found = [letter] if letter.get_content_type() != "multipart/mixed" else messages(letter)
    return [int(str(one["Message-ID"]).partition("@")[0][2:]) for one in found]


def messages(digest: EmailMessage) -> list[EmailMessage]:
    """The messages in a digest."""
    _, inner = digest.iter_parts()
    assert inner.get_content_type() == "multipart/digest"
    found: list[EmailMessage] = []
    for part in inner.iter_parts():
        assert part.get_content_type() == "message/rfc822"
        message = part.get_content()
        assert isinstance(message, EmailMessage)
        found.append(message)
    return found


def test_a_digest_holds_the_days_posts_behind_a_table_of_contents(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        alice, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", "dave@far.example", owner="o@far.example")
        await club.takes("bob", "digest")
        await club.store.write(lambda tx: members.change(tx, 1, parse("dave@far.example"), delivery="digest"))
        await club.posted(1, 2, 3)
        assert await club.got(alice) == [[1], [2], [3]]
        assert await club.got(bob) == []
        outside = Script()
        club.clock.advance(DAY)
        assert await club.maker().make_due() == 1
        ((path,),) = await club.select("SELECT DISTINCT destination FROM lane WHERE destination LIKE 'members:%'")
        assert path == "members:1"
        await club.settle(club.post(outside))
        assert [names for _, names in outside.seen] == [["dave@far.example"]]
        assert await club.got(bob) == [[1, 2, 3]]
        (octets,) = await club.inbox(bob)
        digest = parsed(octets)
        assert str(digest["Subject"]) == "The team: digest of 02 Jan 2026, 3 messages"
        assert str(digest["From"]) == "The team <team-request@home.example>"
        assert str(digest["Reply-To"]) == "The team <team@home.example>"
        assert str(digest["List-Id"]) == '"The team" <team.home.example>'
        assert str(digest["Auto-Submitted"]) == "auto-generated"
        contents, _ = digest.iter_parts()
        assert (
            "   1. post 1 (Alice)\r\n   2. post 2 (Alice)\r\n   3. post 3 (Alice)\r\n"
            in contents.as_bytes(policy=email.policy.SMTP).decode()
        )
        assert b"\r\n\r\nFrom: Alice <alice@home.example>\r\nTo: team@home.example\r\n" in octets
        tables = ("list_digest", "list_digest_post", "queued_recipient")
        assert [await club.rows(table) for table in tables] == [0, 0, 0]
        assert await club.day_over() == 0

    run(main())


def test_a_digest_is_read_as_one_by_our_own_eyes(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        alice, _ = await club.people("alice", "bob")
        await club.found("alice", owner="o@far.example")
        await club.takes("alice", "digest")
        await club.posted(1, body="Grüße".encode())
        await club.posted(2, body=b"bare\nline feeds")
        await club.posted(3)
        await club.day_over()
        (octets,) = await club.inbox(alice)
        root = mime.scan(octets)
        _, inner = root.children
        assert (inner.type, inner.subtype) == ("multipart", "digest")
        first, second, third = inner.children
        assert first.message is not None
        assert third.message is not None
        # RFC 2046 §5.2.1: what cannot travel inside another as it is, is a file.
        assert (second.type, second.subtype) == ("application", "octet-stream")
        assert mime.decode_body(octets, second) == post(2, body=b"bare\nline feeds")
        assert "Grüße" in bytes(octets[first.body_start : first.end]).decode()
        assert b"Content-Transfer-Encoding: 8bit\r\n" in octets[: root.body_start]

    run(main())


def test_a_full_digest_does_not_wait_and_none_is_larger_than_it_may_be(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        alice, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example", digest_posts=3, digest_size=20 * KB)
        await club.takes("bob", "digest")
        await club.posted(1, 2, 3, 4)
        assert await club.maker().make_due() == 1
        await club.posted(5, body=LINES * 17)
        await club.posted(6, body=LINES * 15)
        assert await club.maker().make_due() == 1
        await club.posted(7, body=LINES * 30)
        assert await club.maker().make_due() == 2
        await club.settle(club.post())
        assert await club.got(bob) == [[1, 2, 3], [4, 5], [6], [7]]
        assert await club.got(alice) == [[1], [2], [3], [4], [5], [6], [7]]

    run(main())


# What members may ask for between two posts.
ASKED: tuple[tuple[Delivery, ...], ...] = ((), ("digest",), ("each",), ("digest", "each"), ("none", "digest"))


@pytest.mark.parametrize("at", range(4))
def test_who_changes_gets_each_post_once(tmp_path: Path, at: int) -> None:
    """`at`: behind which of the posts a day ends. Each way to change around three posts is a member's."""

    async def main() -> None:
        club = Gathering(tmp_path)
        ways = {f"w{number}": way for number, way in enumerate(product(ASKED, repeat=3))}
        accounts = await club.people("alice", *ways)
        await club.found("alice", *ways, owner="o@far.example")
        for number in range(1, 4):
            for who, way in ways.items():
                for delivery in way[number - 1]:
                    await club.takes(who, delivery)
            await club.posted(number)
            if number == at:
                await club.day_over()
        await club.day_over()
        for (who, way), account in zip(ways.items(), accounts[1:], strict=True):
            assert sorted(number for one in await club.got(account) for number in one) == [1, 2, 3], (who, way)
        assert await club.day_over() == 0

    run(main())


def test_who_changes_between_a_post_and_its_batch_gets_it_once(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob, cleo, _ = await club.people("alice", "bob", "cleo", "zoe")
        await club.found("alice", "bob", "cleo", "zoe", owner="o@far.example")
        await club.takes("cleo", "digest")
        await club.sent_to("", post(1))
        runner = club.post()
        await runner.turn()
        await runner.idle()
        assert await club.rows("list_batch") == 1
        # The post is expanded when its digest has been sent already, and both have changed twice.
        club.clock.advance(DAY)
        assert await club.maker().make_due() == 1
        there_and_back: tuple[Delivery, ...] = ("digest", "each", "digest")
        ways = {"bob": there_and_back, "cleo": ("each", *there_and_back[:2])}
        for who, changes in ways.items():
            for delivery in changes:
                await club.takes(who, delivery)
        await club.settle(club.post())
        await club.day_over()
        assert await club.got(bob) == [[1]]
        assert [one.get_content_type() for one in await club.letters(bob)] == ["text/plain"]
        assert await club.got(cleo) == [[1]]
        assert [one.get_content_type() for one in await club.letters(cleo)] == ["multipart/mixed"]
        await club.takes("zoe", "digest")
        # What is over is forgotten.
        assert await club.rows("list_turn") == 0

    run(main())


def test_a_digest_that_was_interrupted_is_made_once(tmp_path: Path) -> None:
    class Dying:
        """A store whose process dies before or behind one of its writes."""

        def __init__(self, store: Store, writes: int, *, behind: bool) -> None:
            self._store, self._left, self._behind = store, writes, behind

        async def write(self, work, *arguments):  # type: ignore[no-untyped-def]  # as the store's, of any function
            self._left -= 1
            if not self._left and not self._behind:
                raise StoreUnavailable("killed")
            done = await self._store.write(work, *arguments)
            if not self._left:
                raise StoreUnavailable("killed")
            return done

        def __getattr__(self, name: str) -> object:
            return getattr(self._store, name)

    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")
        await club.takes("bob", "digest")
        expected = []
        for writes in (1, 2):
            for behind in (False, True):
                number = 10 * writes + behind
                await club.posted(number)
                expected.append(number)
                club.clock.advance(DAY)
                dying: Store = Dying(club.store, writes, behind=behind)  # type: ignore[assignment]  # acts as one
                with pytest.raises(StoreUnavailable, match="killed"):
                    await club.maker(dying).make_due()
                await club.store.write(lanes.abandon_leases)
                await club.posted(number + 5)
                await club.day_over()
                expected.append(number + 5)
        assert sorted(number for one in await club.got(bob) for number in one) == sorted(expected)

    run(main())


def test_two_processes_make_one_digest(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")
        await club.takes("bob", "digest")
        await club.posted(1, 2)
        club.clock.advance(DAY)
        await asyncio.gather(club.maker().make_due(), club.maker().make_due())
        await club.settle(club.post())
        assert await club.got(bob) == [[1, 2]]

    run(main())


def test_a_list_that_goes_takes_its_digest_along(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("bob", owner="alice")
        await club.takes("bob", "digest")
        await club.posted(1)
        ((blob,),) = await club.select("SELECT blob FROM list_digest_post")
        await club.store.write(lambda tx: tx.run("blob_suspect_delete", blob=int(str(blob))))
        await club.store.write(lists.remove, TEAM, club.clock.now())
        assert await club.day_over() == 0
        assert await club.got(bob) == []
        assert [await club.rows(table) for table in ("list_digest", "list_digest_post", "list_turn")] == [0, 0, 0]
        assert (blob,) in await club.select("SELECT blob FROM blob_suspect")

    run(main())


def test_a_digest_that_nobody_takes_any_more_is_not_made(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")
        await club.takes("bob", "digest")
        await club.posted(1)
        await club.store.write(members.remove, 1, parse("bob@home.example"))
        assert await club.day_over() == 1
        assert await club.got(bob) == []
        tables = ("list_digest", "list_digest_post", "queued_recipient")
        assert [await club.rows(table) for table in tables] == [0, 0, 0]
        (found,) = await club.store.read(lambda tx: journey.find(tx, "p1@home.example", club.store.secret))
        assert [one.kind for one in found.steps if one.kind.startswith("list.")] == [
            "list.sent", "list.gathered", "list.undigested"
        ]  # fmt: skip

    run(main())


def test_what_is_gathered_outlives_the_queue_and_the_sweep(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("bob", owner="o@far.example")
        await club.takes("bob", "digest")
        await club.store.write(members.add, 1, parse("alice@home.example"), 1, delivery="none")
        await club.posted(1)
        # It has been relayed to the only one who takes it singly.
        ((blob,),) = await club.select("SELECT blob FROM list_digest_post")
        assert (blob,) in await club.select("SELECT blob FROM blob_suspect")
        await sweep.sweep(club.store, club.blobs, club.clock)
        assert await club.day_over() == 1
        await sweep.sweep(club.store, club.blobs, club.clock)
        assert await club.got(bob) == [[1]]
        # Of the post nothing is left but what stands in the digest.
        assert await club.select("SELECT count(*) FROM blob WHERE size < 300") == [(0,)]

    run(main())


def test_a_post_that_is_lost_is_told_of_and_the_others_go_out(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")
        await club.takes("bob", "digest")
        await club.posted(1, 2)
        ((blob,),) = await club.select("SELECT min(blob) FROM list_digest_post")
        await club.store.write(lambda tx: tx.run("blob_delete", id=int(str(blob))))
        await club.day_over()
        (letter,) = await club.letters(bob)
        lost, kept = messages(letter)
        assert "This message was lost" in lost.get_content()
        assert str(kept["Message-ID"]) == "<p2@home.example>"

    run(main())


def test_a_member_asks_for_digests_by_mail_and_confirms_it(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")

        async def asked(words: bytes) -> str:
            """What `bob` is told when he has confirmed this."""
            ask = b"From: Bob <bob@home.example>\r\nSubject: %b\r\n\r\n\r\n" % words
            await club.sent_to("request", ask, "bob@home.example")
            await club.settle(club.post())
            letter = (await club.letters(bob))[-1]
            await club.sent_to(f"confirm+{token_of(letter, 'confirm')}", ask, "bob@home.example")
            await club.settle(club.post())
            return str((await club.letters(bob))[-1].get_content()).strip()

        assert await asked(b"digest") == "From now on, bob@home.example gets digests of team@home.example."
        assert await club.select("SELECT delivery FROM list_member WHERE key LIKE 'bob%'") == [("digest",)]
        await club.posted(1)
        assert (await asked(b"Set digest off")).startswith("When the digest has been sent")
        assert await club.select("SELECT delivery FROM list_member WHERE key LIKE 'bob%'") == [("each",)]
        club.clock.advance(DAY)
        assert await asked(b"set team nomail") == "From now on, bob@home.example gets nothing of team@home.example."
        await club.store.write(members.remove, 1, parse("bob@home.example"))
        club.clock.advance(DAY)
        assert "is on the list now" in await asked(b"subscribe digest")
        assert await club.select("SELECT delivery FROM list_member WHERE key LIKE 'bob%'") == [("digest",)]

    run(main())


def test_nobody_changes_what_others_get(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example")
        for name in (b"bob", b"zoe"):
            forged = b"From: %b@home.example\r\nSubject: nomail\r\n\r\n" % name
            await club.sent_to("request", forged, "eve@far.example")
        await club.settle(club.post())
        assert await club.select("SELECT delivery FROM list_member WHERE delivery <> 'each'") == []
        (letter,) = await club.letters(bob)
        assert "gets nothing of the list" in letter.get_content()

    run(main())


def test_the_worker_sleeps_until_something_is_due(tmp_path: Path) -> None:
    async def main() -> None:
        club = Gathering(tmp_path)
        _, bob = await club.people("alice", "bob")
        await club.found("alice", "bob", owner="o@far.example", digest_posts=2)
        await club.takes("bob", "digest")
        worker = asyncio.create_task(club.maker().run())
        try:
            await club.posted(1, 2)
            while not await club.inbox(bob):
                await asyncio.sleep(0.001)
                await club.settle(club.post())
            assert await club.got(bob) == [[1, 2]]
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    run(main())
