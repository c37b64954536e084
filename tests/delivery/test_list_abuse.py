"""What strangers, forgers, programs and circles do with the addresses of a list, and what it does not do for them."""

from pathlib import Path

import pytest

from posthouse.delivery import posts
from posthouse.directory import lists, members
from posthouse.directory.lists import MOST_HELD, MailingList
from posthouse.directory.members import BOUNCE_DAYS, MOST_ANSWERS
from posthouse.directory.verp import Verp
from posthouse.message.addresses import Mailbox
from posthouse.message.build import message_id
from posthouse.message.report import RecipientReport, delivery_report
from posthouse.queue.queue import NewRecipient
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import Wishes
from tests.delivery.test_lists import POST, TEAM, Club, token_of
from tests.queue.support import DAY, NOT_NOW, Script
from tests.support import run

ALICE = "alice@home.example"
RECEIVED = b"Received: from x by y with ESMTP id z; Thu, 01 Jan 2026 09:00:00 +0000\r\n"


def post_of(author: str, fields: bytes = b"") -> bytes:
    return b"From: %b\r\n%bSubject: help\r\n\r\nhelp\r\n" % (author.encode(), fields)


async def another(club: Club, name: str, *wanted: str) -> MailingList:
    """One more list at home.example, that everybody may post to."""

    def work(tx: Tx) -> MailingList:
        made = lists.add(tx, parse(f"{name}@home.example"), name, 1, posting="anyone")
        for one in wanted:
            members.add(tx, made.id, parse(one), 1)
        return made

    return await club.store.write(work)


# --- circles ----------------------------------------------------------------------------------------------------------


def test_a_list_on_itself_goes_round_once(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        alice, bob = await club.people("alice", "bob")
        await club.found("alice", "team@home.example", "everybody@home.example", owner="o@far.example")
        await club.alias("everybody", "team@home.example", "bob@home.example")
        outside = Script()
        await club.sent_to("")
        await club.settle(club.post(outside))
        assert (len(await club.inbox(alice)), len(await club.inbox(bob)), len(outside.seen)) == (1, 1, 1)
        assert await club.rows("queued_recipient") == 0

    run(main())


def test_two_lists_on_each_other_reach_each_member_once(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        alice, bob = await club.people("alice", "bob")
        await club.found("alice", "other@home.example", owner="o@far.example", posting="anyone")
        await another(club, "other", "team@home.example", "bob@home.example")
        outside = Script()
        await club.sent_to("")
        await club.settle(club.post(outside))
        (copy,) = await club.letters(bob)
        assert (len(await club.inbox(alice)), len(outside.seen)) == (1, 1)
        # He is on the other list, so he has that one's fields, and still the mark of the first.
        assert (copy["List-Id"], str(copy).count("List-Post:")) == ('"other" <other.home.example>', 1)
        marks = [str(value) for name, value in copy.items() if name == "Delivered-To"]
        assert marks == ["bob@home.example", "other@home.example", "team@home.example"]

    run(main())


def test_an_approved_post_keeps_the_marks_of_the_lists_that_it_came_by(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        alice, olga = await club.people("alice", "olga")
        await club.found("other@home.example", posting="owners")
        await another(club, "other", "team@home.example", ALICE)
        ((_, other),) = await club.select("SELECT 1, id FROM list WHERE title = 'other'")
        await club.send(NewRecipient(parse("other@home.example"), f"list:{other}"), octets=POST)
        await club.settle(club.post())
        (letter,) = await club.letters(olga)
        await club.sent_to(f"approve+{token_of(letter, 'approve')}", post_of("olga@home.example"))
        await club.settle(club.post())
        assert (len(await club.inbox(alice)), len(await club.inbox(olga))) == (1, 2)
        assert await club.rows("queued_recipient") == 0

    run(main())


def test_owners_that_are_owners_again_are_asked_once(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        made = await club.found(owner="team-owner@home.example")
        await club.store.write(members.add, made.id, parse("bob@home.example"), 1, role="owner")
        await club.sent_to("owner")
        await club.settle(club.post())
        assert (len(await club.inbox(bob)), await club.rows("queued_recipient")) == (1, 0)

    run(main())


# --- who asks for letters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("purpose", "name"), [("subscribe", "victim"), ("request", "victim+{}"), ("unsubscribe", "v")])
def test_a_forged_author_gets_a_few_letters_a_day(tmp_path: Path, purpose: str, name: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found(owner="o@far.example")
        outside = Script()
        runner = club.post(outside)
        for number in range(MOST_ANSWERS + 5):
            await club.sent_to(purpose, post_of(f"{name.format(number)}@far.example"), "spammer@there.example")
        await club.settle(runner)
        assert len(outside.seen) == MOST_ANSWERS
        await club.sent_to(purpose, post_of("somebody.else@far.example"), "spammer@there.example")
        await club.live(runner, DAY + 1, step=DAY)
        await club.sent_to(purpose, post_of(f"{name}@far.example"), "spammer@there.example")
        await club.settle(runner)
        assert len(outside.seen) == MOST_ANSWERS + 2
        assert await club.rows("list_answer") == 1

    run(main())


def test_a_list_writes_no_more_than_so_many_letters_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MOST_ANSWERS_OF_LIST", 3)

    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found(owner="o@far.example")
        outside = Script()
        for number in range(5):
            await club.sent_to("subscribe", post_of(f"victim{number}@far.example"), "spammer@there.example")
        await club.settle(club.post(outside))
        assert len(outside.seen) == 3

    run(main())


@pytest.mark.parametrize(
    "fields",
    [
        b"Precedence: bulk\r\n",
        b"List-Id: <other.far.example>\r\n",
        b"List-Unsubscribe: <mailto:x@far.example>\r\n",
        b"Auto-Submitted: auto-replied (vacation)\r\n",
        b"X-Autoreply: yes\r\n",
    ],
)
def test_what_programs_send_is_not_answered_and_confirms_nothing(tmp_path: Path, fields: bytes) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found(owner="o@far.example")
        for purpose in ("request", "subscribe", "unsubscribe"):
            await club.sent_to(purpose, post_of("bob@home.example", fields), "bob@home.example")
        await club.settle(club.post())
        assert await club.inbox(bob) == []
        await club.sent_to("subscribe", post_of("bob@home.example"), "bob@home.example")
        await club.settle(club.post())
        (asked,) = await club.letters(bob)
        confirm = f"confirm+{token_of(asked, 'confirm')}"
        await club.sent_to(confirm, post_of("bob@home.example", fields), "bob@home.example")
        await club.sent_to(confirm, post_of("bob@home.example"), None)
        await club.settle(club.post())
        assert await club.on_it() == ["o@far.example"]
        await club.sent_to(confirm, post_of("bob@home.example", b"Auto-Submitted: no\r\n"), "bob@home.example")
        await club.settle(club.post())
        assert await club.on_it() == ["bob@home.example", "o@far.example"]

    run(main())


def test_who_was_admitted_and_left_is_not_put_back_by_another_owner(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        _, olga, otto = await club.people("bob", "olga", "otto")
        made = await club.found(joining="approved")
        await club.store.write(members.add, made.id, parse("otto@home.example"), 1, role="owner")
        await club.sent_to("subscribe", post_of("bob@home.example"))
        await club.settle(club.post())
        ((token,),) = await club.select("SELECT token FROM list_request")
        await club.sent_to(f"confirm+{token}", post_of("bob@home.example"))
        await club.settle(club.post())
        for owner in (olga, otto):
            (admit,) = await club.letters(owner)
            await club.sent_to(f"confirm+{token_of(admit, 'confirm')}", post_of("olga@home.example"))
            await club.settle(club.post())
            if "bob@home.example" in await club.on_it():
                await club.store.write(members.remove, made.id, parse("bob@home.example"))
        assert await club.on_it() == ["olga@home.example", "otto@home.example"]

    run(main())


def test_nobody_joins_a_list_that_was_closed_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found(owner="o@far.example")
        await club.sent_to("subscribe", post_of("bob@home.example"))
        await club.settle(club.post())
        (asked,) = await club.letters(bob)
        await club.store.write(lambda tx: lists.change(tx, TEAM, joining="closed"))
        await club.sent_to(f"confirm+{token_of(asked, 'confirm')}", post_of("bob@home.example"))
        await club.settle(club.post())
        assert await club.on_it() == ["o@far.example"]
        assert "closed" in str((await club.letters(bob))[1]["Subject"])

    run(main())


# --- moderators -------------------------------------------------------------------------------------------------------


async def held_post(club: Club, **settings: str) -> str:
    """A post that waits; the token of it."""
    await club.found("bob", "dave@far.example", **settings)
    await club.sent_to("", POST.replace(b"alice@", b"mallory@"), "mallory@home.example")
    await club.settle(club.post())
    ((token,),) = await club.select("SELECT token FROM list_held")
    return str(token)


@pytest.mark.parametrize("answer", ["approve", "refuse"])
def test_a_held_post_is_decided_by_its_token_and_not_by_its_number(tmp_path: Path, answer: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await held_post(club, owner="o@far.example")
        ((number,),) = await club.select("SELECT id FROM list_held")
        await club.sent_to(f"{answer}+{number}", post_of("eve@far.example"), "eve@far.example")
        await club.settle(club.post())
        assert (await club.rows("list_held"), await club.inbox(bob)) == (1, [])

    run(main())


@pytest.mark.parametrize("fields", [b"Auto-Submitted: auto-replied\r\n", b"Precedence: bulk\r\n"])
@pytest.mark.parametrize("answer", ["approve", "refuse"])
def test_an_automatic_answer_of_a_moderator_decides_nothing(tmp_path: Path, fields: bytes, answer: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        token = await held_post(club, owner="o@far.example")
        await club.sent_to(f"{answer}+{token}", post_of("o@far.example", fields), "o@far.example")
        await club.sent_to(f"{answer}+{token}", post_of("o@far.example"), None)
        await club.settle(club.post())
        assert (await club.inbox(bob), await club.rows("list_held")) == ([], 1)

    run(main())


def test_the_command_lets_out_what_was_sent_to_many(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        made = await club.found("bob", owner="o@far.example")
        await club.sent_to("", POST.replace(b"alice@", b"news@").replace(b"Subject", b"Precedence: bulk\r\nSubject"))
        await club.settle(club.post())
        (held,) = await club.store.read(posts.list_held, made.id)
        await club.store.write(posts.approve, made, held, club.clock.now())
        await club.settle(club.post())
        assert len(await club.inbox(bob)) == 1

    run(main())


@pytest.mark.parametrize("second", ["approve", "refuse"])
def test_two_moderators_who_answer_at_once_send_it_out_once(tmp_path: Path, second: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        token = await held_post(club, owner="o@far.example")
        for moderator, answer in (("ann@one.example", "approve"), ("ben@two.example", second)):
            await club.sent_to(f"{answer}+{token}", post_of(moderator), moderator)
        runner = club.post(Script())
        await runner.turn()
        await runner.idle()
        await club.settle(runner)
        assert len(await club.inbox(bob)) <= 1
        assert [await club.rows(table) for table in ("list_held", "queued_recipient")] == [0, 0]

    run(main())


def test_what_a_message_needs_on_its_way_holds_behind_an_approval(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("bob")
        await club.found("dave@far.example", owner="o@far.example")
        ((id,),) = await club.select("SELECT id FROM list")
        wanted = Wishes(smtputf8=True, requiretls=True, envid="x", ret="FULL")
        octets = POST.replace(b"alice@", b"mallory@")
        await club.send(NewRecipient(TEAM, f"list:{id}"), octets=octets, wishes=wanted)
        await club.settle(club.post())
        ((token,),) = await club.select("SELECT token FROM list_held")
        await club.sent_to(f"approve+{token}", post_of("o@far.example"), "o@far.example")
        await club.settle(club.post(Script(default=NOT_NOW)))
        found = await club.select(
            "SELECT DISTINCT smtputf8, requiretls, envid, ret FROM queued_recipient WHERE sender LIKE 'team-b%'"
        )
        assert found == [(1, 1, None, None)]

    run(main())


def test_moderators_of_a_flood_are_told_of_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "_MOST_LETTERS", 3)
    monkeypatch.setattr(lists, "MOST_HELD", 8)

    async def main() -> None:
        club = Club(tmp_path)
        (olga,) = await club.people("olga")
        await club.found()
        for _ in range(10):
            await club.sent_to("", POST.replace(b"alice@", b"mallory@"), "mallory@far.example")
        await club.settle(club.post())
        assert await club.rows("list_held") == 8 < MOST_HELD
        assert len(await club.inbox(olga)) == 5
        # What the door took all the same, since others got it by the same reply, waits in the queue.
        ((reply,), _) = await club.select("SELECT last_reply FROM queued_recipient")
        assert str(reply).startswith("450 4.2.4")
        await club.store.write(lambda tx: [tx.run("list_held_delete", id=id) for id in (1, 2)])
        await club.live(club.post(), 7200)
        assert (await club.rows("list_held"), await club.rows("queued_recipient")) == (8, 0)

    run(main())


# --- forged reports ---------------------------------------------------------------------------------------------------


def failure_of(member: str) -> bytes:
    """A report that mail to the member failed for good."""
    return delivery_report(
        reporting_mta="mx.far.example",
        sender=Mailbox("", "MAILER-DAEMON", "far.example"),
        to=Mailbox("", "team-bounces", "home.example"),
        at=1,
        message_id=message_id("far.example", "x"),
        recipients=[RecipientReport(member, "failed", "5.1.1", diagnostic="550 no such user " + "x" * 9000)],
        original=b"Subject: x\r\n\r\n",
    )


@pytest.mark.parametrize(
    ("tag", "strange", "believed"),
    [
        ("", False, True),  # our own report of a member at home
        ("", True, False),
        ("own", True, True),
        ("leave", True, False),
        ("another's", True, False),
        ("aaaaaaaaaa1", False, False),
    ],
)
def test_of_strangers_reports_only_those_count_that_have_the_members_tag(
    tmp_path: Path, tag: str, strange: bool, believed: bool
) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (olga,) = await club.people("olga")
        await club.found("dave@far.example", "eve@far.example")
        written = {
            "own": await club.tag("bounces", "dave@far.example"),
            "leave": await club.tag("leave", "dave@far.example"),
            "another's": await club.tag("bounces", "eve@far.example"),
        }.get(tag, tag)
        for _ in range(BOUNCE_DAYS):
            report = (RECEIVED if strange else b"") + failure_of("dave@far.example")
            await club.sent_to(f"bounces{'+' if written else ''}{written}", report, None)
            await club.settle(club.post())
            club.clock.advance(DAY + 1)
        disabled = await club.select("SELECT key FROM list_member WHERE disabled_at IS NOT NULL")
        assert ("dave@far.example" in [key for (key,) in disabled]) is believed
        assert all(len(letter) < 4000 for letter in await club.inbox(olga))

    run(main())


def test_a_tag_serves_on_its_own_list_only(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found("dave@far.example", owner="o@far.example")
        other = await another(club, "other", "dave@far.example")
        numbers = await club.select("SELECT number FROM list_member WHERE list = ?", other.id)
        tag = Verp(club.store.secret).tag("leave", int(str(numbers[0][0])))
        await club.sent_to(f"leave+{tag}", b"Subject: x\r\n\r\n")
        await club.settle(club.post())
        assert await club.on_it() == ["dave@far.example", "o@far.example"]

    run(main())


def test_junk_that_an_alias_leads_to_a_list_waits_for_a_moderator(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (alice,) = await club.people("alice")
        await club.found("alice", owner="o@far.example", posting="anyone")
        await club.alias("both", "team@home.example", ALICE)
        await club.send(NewRecipient(parse("both@home.example"), "local:junk"), octets=post_of("eve@far.example"))
        await club.settle(club.post(Script()))
        assert (len(await club.inbox(alice)), len(await club.inbox(alice, "junk"))) == (0, 1)
        ((reason,),) = await club.select("SELECT reason FROM list_held")
        assert reason == "it looked like junk"

    run(main())
