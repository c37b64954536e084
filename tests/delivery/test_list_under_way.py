"""Mailing lists while mail is under way: members and lists that come and go, processes that end, what is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.delivery import posts
from posthouse.delivery.fanout import BATCH
from posthouse.delivery.lists import edit_of
from posthouse.delivery.posts import Held
from posthouse.directory import lists, members
from posthouse.directory.lists import MailingList, ReplyTo
from posthouse.message.header import Header
from posthouse.message.listed import for_members
from posthouse.queue import control, lanes
from posthouse.queue.control import Selection
from posthouse.queue.queue import NewRecipient
from posthouse.terms.address import parse
from posthouse.terms.envelope import Wishes
from tests.delivery.test_list_abuse import ALICE, held_post
from tests.delivery.test_lists import POST, TEAM, Club
from tests.queue.support import NOT_NOW, Script
from tests.support import run


def test_a_list_that_goes_takes_what_was_held_and_was_not_sent_yet_along(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await held_post(club, owner="o@far.example")
        await club.store.write(members.add, 1, parse(ALICE), 1)
        await club.sent_to("")
        runner = club.post(outside := Script())
        await runner.turn()
        await runner.idle()
        assert await club.rows("list_batch") == 1
        ((blob,),) = await club.select("SELECT blob FROM list_held")
        await club.store.write(lambda tx: tx.run("blob_suspect_delete", blob=int(str(blob))))
        await club.store.write(lists.remove, TEAM, club.clock.now())
        await club.settle(runner)
        assert ["dave@far.example"] not in [names for _, names in outside.seen]
        assert [await club.rows(table) for table in ("list_held", "list_batch", "queued_recipient")] == [0, 0, 0]
        assert (blob,) in await club.select("SELECT blob FROM blob_suspect")

    run(main())


def test_a_batch_that_is_dropped_by_hand_leaves_nothing_behind(tmp_path: Path) -> None:
    """What is left would be swept by nobody, and keep the rows of who changed how he takes posts."""

    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found("alice", "dave@far.example", owner="o@far.example")
        await club.sent_to("")
        runner = club.post(Script())
        await runner.turn()
        await runner.idle()
        assert await club.rows("list_batch") == 1
        every = Selection(destination="members:1")
        assert await control.each(club.store, control.drop, every, club.clock.now()) == 1
        assert [await club.rows(table) for table in ("queued_recipient", "list_batch")] == [0, 0]

    run(main())


def test_who_joins_or_leaves_between_batches_gets_it_or_not(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        made = await club.found("alice", "dave@far.example", owner="o@far.example")
        await club.sent_to("")
        runner = club.post(outside := Script())
        await runner.turn()
        await runner.idle()
        await club.store.write(members.add, made.id, parse("zoe@zoo.example"), 1)
        await club.store.write(members.remove, made.id, parse("dave@far.example"))
        await club.settle(runner)
        assert sorted(name for _, names in outside.seen for name in names) == ["o@far.example", "zoe@zoo.example"]

    run(main())


def test_long_and_strange_addresses_are_reached(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        strange = ['"a b@c"@far.example', "straße@far.example", f"{'l' * 64}@department.company.far.example"]
        await club.found("alice", *strange, owner="o@far.example")
        await club.sent_to("")
        outside = Script()
        await club.settle(club.post(outside))
        assert sorted(name for _, names in outside.seen for name in names) == sorted([*strange, "o@far.example"])
        for one in strange:
            tag = await club.tag("leave", parse(one).key)
            await club.sent_to(f"leave+{tag.upper()}", b"Subject: x\r\n\r\n", None)
        await club.settle(club.post(outside))
        assert await club.on_it() == [ALICE, "o@far.example"]

    run(main())


def test_whoever_goes_on_after_any_commit_reaches_each_member_once(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        names = [f"p{number}" for number in range(8)]
        accounts = await club.people("alice", *names)
        away = [f"u{number:03}@far{number % 3}.example" for number in range(2 * BATCH)]
        await club.found("alice", *names, *away, owner="o@far.example")
        await club.sent_to("")
        outside = Script()
        turns = 0
        while await club.rows("queued_recipient"):
            # Each process dies after one round of what it had begun.
            runner = club.post(outside)
            await runner.turn()
            await runner.idle()
            await club.store.write(lanes.abandon_leases)
            turns += 1
        assert turns >= 3
        seen = [name for _, names in outside.seen for name in names]
        assert sorted(seen) == sorted([*away, "o@far.example"])
        assert [len(await club.inbox(account)) for account in accounts] == [1] * 9

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_who_asks_hears_that_the_list_has_it_and_nothing_of_members(tmp_path: Path, waits: bool) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        alice, _ = await club.people("alice", "olga")
        await club.found("alice", "dave@far.example", posting="owners" if waits else "members")
        ((id,),) = await club.select("SELECT id FROM list")
        wanted = Wishes(envid="mine", ret="FULL")
        row = NewRecipient(TEAM, f"list:{id}", notify=frozenset({"SUCCESS", "FAILURE"}), orcpt=f"rfc822;{TEAM}")
        await club.send(row, octets=POST, wishes=wanted)
        await club.settle(club.post(Script(default=NOT_NOW)))
        (told,) = [one for one in await club.inbox(alice) if b"delivery-status" in one]
        assert b"Original-Envelope-Id: mine\r\n" in told
        assert b"Action: delivered\r\n" in told
        assert b"dave" not in told
        left = await club.select("SELECT notify, orcpt, envid, ret FROM queued_recipient")
        assert left == ([] if waits else [("FAILURE", None, None, None)])

    run(main())


def test_a_header_that_is_not_known_to_its_end_names_no_author(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found("alice", "bob", owner="o@far.example")
        for octets in (b"X: y\r\n" * 2100 + POST, POST.replace(b"Subject", b"From: eve@far.example\r\nSubject")):
            await club.sent_to("", octets)
        await club.settle(club.post())
        assert await club.inbox(bob) == []
        assert await club.select("SELECT DISTINCT reason FROM list_held") == [("it does not say who wrote it",)]

    run(main())


NAMES = st.sampled_from(
    [b"From", b"Reply-To", b"Subject", b"DKIM-Signature", b"List-Id", b"Delivered-To", b"Message-ID"]
)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=60)), max_size=5), st.sampled_from(["list", "author"]))
def test_whatever_a_header_says_a_post_can_be_read_and_made_ready(
    fields: list[tuple[bytes, bytes]], reply_to: ReplyTo
) -> None:
    octets = b"".join([b"%b: %b\r\n" % field for field in fields]) + b"\r\nHi\r\n"
    team = MailingList(1, TEAM, "The team", reply_to=reply_to, subject_tag="[t]", footer="Bye")
    held = Held(1, "t", 1, b"", len(octets), 1, parse(ALICE), False, False, "", "", "", 1)
    post = posts.read_again(held, octets)
    edit = posts.finish(edit_of(team), team, post, rewritten=True)
    posts.keeps_a_seal(post, edit)
    assert (posts.reason_to_hold(team, post, None, held=False) is None) is False
    assert Header.parse(for_members(octets, edit)).end > 0
    if post.author is not None:
        assert post.author_address is not None
        assert str(TEAM).encode() in (Header.parse(for_members(octets, edit)).first(b"from") or b"")
