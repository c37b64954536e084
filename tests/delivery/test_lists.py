"""Mailing lists, with a real directory, a real queue and real mailboxes."""

import email
import email.policy
import re
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Any

import pytest

from posthouse import journey, timeline
from posthouse.delivery import posts
from posthouse.delivery.courier import DeliveryCourier
from posthouse.delivery.fanout import BATCH
from posthouse.delivery.letters import Settings
from posthouse.delivery.lists import ListCourier
from posthouse.directory import addresses, lists, members
from posthouse.directory.addresses import Rules
from posthouse.directory.lists import MailingList
from posthouse.directory.verp import Verp
from posthouse.queue.attempt import Courier
from posthouse.queue.queue import NewRecipient
from posthouse.queue.runner import Runner
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.delivery.support import Home
from tests.queue.support import DAY, NO_SUCH, NOT_NOW, Script
from tests.support import run

TEAM = parse("team@home.example")
POST = (
    b"From: Alice <alice@home.example>\r\nTo: team@home.example\r\nMessage-ID: <p1@home.example>\r\n"
    b"Subject: Lunch\r\nList-Id: <other.far.example>\r\nList-Unsubscribe: <mailto:evil@far.example>\r\n\r\nAt noon?\r\n"
)


class Strict:
    """DMARC policies of some domains."""

    def __init__(self, *domains: str) -> None:
        self.domains = domains

    async def strict(self, domain: str) -> bool:
        return domain in self.domains


class Club(Home):
    """A home with a mailing list."""

    strict = Strict()

    def further_couriers(self) -> dict[str, Courier]:
        courier = ListCourier(
            self.store, self.blobs, Rules(), self.strict, Settings("mx.home.example", 5 * DAY, self.store.secret),
            clock=self.clock, random=Random(3),
        )  # fmt: skip
        return {"list": courier, "members": courier}

    def post(self, outside: Script | None = None) -> Runner:
        courier = DeliveryCourier(self.store, self.blobs, Rules(), self.store.secret, self.clock)
        return self.runner(outside or Script(), courier)

    async def found(self, *wanted: str, owner: str = "olga", **settings: Any) -> MailingList:
        """The list, with these members and an owner."""

        def work(tx: Tx) -> MailingList:
            made = lists.add(tx, TEAM, "The team", 1, **settings)
            members.add(tx, made.id, parse(_full(owner)), 1, role="owner")
            for one in wanted:
                members.add(tx, made.id, parse(_full(one)), 1)
            return made

        return await self.store.write(work)

    async def sent_to(self, purpose: str, octets: bytes = POST, sender: str | None = "alice@home.example") -> None:
        """Queue a message for one of the list's addresses."""
        address = f"team{'-' if purpose else ''}{purpose}@home.example"
        ((id,),) = await self.select("SELECT id FROM list WHERE key = 'team@home.example'")
        await self.send(NewRecipient(parse(address), f"list:{id}"), octets=octets, sender=sender)

    async def on_it(self) -> list[str]:
        """Who is on the list."""
        ((id,),) = await self.select("SELECT id FROM list WHERE key = 'team@home.example'")
        return await self.store.read(lambda tx: [str(one.address) for one in members.every(tx, int(str(id)))])

    async def tag(self, purpose: str, member: str) -> str:
        """The tag of a member, for that purpose."""
        ((number,),) = await self.select("SELECT number FROM list_member WHERE key = ?", member)
        return Verp(self.store.secret).tag(purpose, int(str(number)))

    async def letters(self, account: int) -> list[EmailMessage]:
        """What stands in an account's Inbox, parsed."""
        return [parsed(one) for one in await self.inbox(account)]


def _full(name: str) -> str:
    return name if "@" in name else f"{name}@home.example"


def parsed(octets: bytes) -> EmailMessage:
    found = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def token_of(letter: EmailMessage, purpose: str) -> str:
    """What stands behind the plus sign of such an address in a letter's header."""
    found = re.search(rf"team-{purpose}\+([0-9a-z]+)@", f"{letter['From']} {letter['Reply-To']}")
    assert found is not None, letter
    return found[1]


def test_a_post_reaches_each_member_once_with_the_lists_own_fields(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        alice, bob, olga = await club.people("alice", "bob", "olga")
        await club.found("alice", "bob", "dave@far.example")
        outside = Script()
        await club.sent_to("")
        await club.settle(club.post(outside))
        for account in (alice, bob, olga):
            (copy,) = await club.letters(account)
            assert copy["List-Id"] == '"The team" <team.home.example>'
            assert copy["List-Unsubscribe"] == "<mailto:team-unsubscribe@home.example>"
            assert copy["From"] == "Alice <alice@home.example>"
            assert copy["Return-Path"] == "<team-bounces@home.example>"
            assert b"At noon?\r\n" in copy.get_payload(decode=True)
            assert str(copy).count("List-Id:") == 1
        assert [names for _, names in outside.seen] == [["dave@far.example"]]
        assert [await club.rows(table) for table in ("queued_recipient", "list_batch")] == [0, 0]

    run(main())


def test_each_member_elsewhere_has_a_return_path_and_a_way_out_of_his_own(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found("alice", "dave@far.example", "eve@far.example", owner="o@far.example")
        await club.sent_to("")
        await club.settle(club.post(Script(default=NOT_NOW)))
        rows = await club.select("SELECT address, return_path, prologue FROM queued_recipient ORDER BY address")
        for address, return_path, prologue in rows:
            assert str(return_path) == f"team-bounces+{await club.tag('bounces', str(address))}@home.example"
            leave = await club.tag("leave", str(address))
            assert isinstance(prologue, bytes)
            assert f"<mailto:team-leave+{leave}@home.example>".encode() in prologue.replace(b"\r\n ", b" ")
        assert [row[0] for row in rows] == ["dave@far.example", "eve@far.example", "o@far.example"]

    run(main())


def test_thousands_are_queued_a_batch_a_commit(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        await club.found("alice", *(f"u{n}@far.example" for n in range(2 * BATCH + 5)), owner="o@far.example")
        await club.sent_to("")
        outside = Script()
        runner = club.post(outside)
        await runner.turn()
        await runner.idle()
        assert await club.rows("list_batch") == 3
        await club.settle(runner)
        seen = [name for _, names in outside.seen for name in names]
        assert len(seen) == len(set(seen)) == 2 * BATCH + 6

    run(main())


@pytest.mark.parametrize(
    ("settings", "author", "goes_out"),
    [
        ({}, "alice@home.example", True),
        ({}, "mallory@far.example", False),
        ({"posting": "anyone"}, "mallory@far.example", True),
        ({"posting": "moderated"}, "alice@home.example", False),
        ({"posting": "owners"}, "olga@home.example", True),
        ({"message_size": 10}, "alice@home.example", False),
    ],
)
def test_who_may_not_post_waits_for_a_moderator(
    tmp_path: Path, settings: dict[str, Any], author: str, goes_out: bool
) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        _, bob, olga = await club.people("alice", "bob", "olga")
        await club.found("alice", "bob", **settings)
        await club.sent_to("", POST.replace(b"alice@home.example", author.encode()), sender=author)
        await club.settle(club.post())
        assert len(await club.inbox(bob)) == goes_out
        (letter,) = await club.letters(olga)
        assert str(letter["Subject"]).startswith("To be approved: Lunch") is not goes_out

    run(main())


@pytest.mark.parametrize("answer", ["approve", "refuse"])
def test_a_moderator_answers_by_mail(tmp_path: Path, answer: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        bob, olga = await club.people("bob", "olga")
        await club.found("bob")
        await club.sent_to("", POST.replace(b"alice@", b"mallory@"), sender="mallory@home.example")
        await club.settle(club.post())
        (letter,) = await club.letters(olga)
        (attached,) = [part for part in letter.walk() if part.get_content_type() == "message/rfc822"]
        assert "At noon?" in str(attached)
        token = token_of(letter, "approve")
        for _ in range(2):
            await club.sent_to(f"{answer}+{token}", b"From: olga@home.example\r\n\r\nyes\r\n", "olga@home.example")
            await club.settle(club.post())
        assert len(await club.inbox(bob)) == (answer == "approve")
        assert await club.rows("list_held") == 0

    run(main())


@pytest.mark.parametrize(
    "octets",
    [
        POST.replace(b"<other.far.example>", b"The team <TEAM.home.example>"),
        POST.replace(b"Subject", b"Delivered-To: Team@home.example\r\nSubject"),
        POST.replace(b"Subject", b"Auto-Submitted: auto-replied\r\nSubject"),
    ],
)
def test_what_came_by_the_list_or_from_nobody_is_not_sent_out(tmp_path: Path, octets: bytes) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found("bob", "alice", owner="o@far.example")
        outside = Script()
        await club.sent_to("", octets)
        await club.settle(club.post(outside))
        assert (await club.inbox(bob), outside.seen, await club.rows("list_held")) == ([], [], 0)

    run(main())


@pytest.mark.parametrize(
    ("settings", "signed", "rewritten"),
    [
        ({}, None, True),
        ({}, b"from:subject:reply-to", False),
        ({}, b"subject", True),
        ({"subject_tag": "[team]"}, b"from:subject", True),
        ({"subject_tag": "[team]"}, b"from:date", False),
        ({"reply_to": "list"}, b"from:Reply-To", True),
        ({"footer": "bye"}, b"from", True),
        # What was signed with what another list wrote, or with that a list had written nothing.
        ({}, b"from:list-unsubscribe", True),
        ({}, b"from : List-Help", True),
        ({"rewrite_from": "never"}, None, False),
        ({"rewrite_from": "always"}, b"from", True),
    ],
)
def test_from_is_rewritten_where_members_servers_would_refuse(
    tmp_path: Path, settings: dict[str, Any], signed: bytes | None, rewritten: bool
) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        club.strict = Strict("home.example")
        (bob,) = await club.people("bob")
        await club.found("alice", "bob", owner="o@far.example", **settings)
        signature = b"DKIM-Signature: v=1; a=rsa-sha256; d=home.example; s=x;\r\n h=%b; b=abc\r\n" % (signed or b"")
        await club.sent_to("", (signature if signed else b"") + POST)
        await club.settle(club.post())
        (copy,) = await club.letters(bob)
        if rewritten:
            assert copy["From"] == "Alice via The team <team@home.example>"
            assert (copy["Reply-To"] == "Alice <alice@home.example>") is (settings.get("reply_to") != "list")
        else:
            assert (copy["From"], copy["Reply-To"]) == ("Alice <alice@home.example>", None)
        assert str(copy["Subject"]).startswith("[team]") is ("subject_tag" in settings)

    run(main())


@pytest.mark.parametrize("notices", [True, False])
def test_owners_hear_who_comes_and_goes_where_they_want_to(tmp_path: Path, notices: bool) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        bob, olga = await club.people("bob", "olga")
        await club.found(notices=notices)
        ask = b"From: Bob <bob@home.example>\r\nSubject: hi\r\n\r\n\r\n"
        for purpose in ("subscribe", "unsubscribe"):
            await club.sent_to(purpose, ask, "bob@home.example")
            await club.settle(club.post())
            letter = (await club.letters(bob))[-1]
            await club.sent_to(f"confirm+{token_of(letter, 'confirm')}", ask, "bob@home.example")
            await club.settle(club.post())
        told = [str(one["Subject"]) for one in await club.letters(olga)]
        news = ["bob@home.example has joined (The team)", "bob@home.example has left (The team)"]
        assert told == (news if notices else [])

    run(main())


@pytest.mark.parametrize("purpose", ["confirm", "approve", "refuse"])
def test_who_answers_too_late_is_told(tmp_path: Path, purpose: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found(owner="o@far.example")
        answer = b"From: Bob <bob@home.example>\r\nSubject: yes\r\n%b\r\n\r\n"
        await club.sent_to(f"{purpose}+gone", answer % b"Auto-Submitted: auto-replied\r\n", "bob@home.example")
        await club.settle(club.post())
        assert await club.letters(bob) == []
        await club.sent_to(f"{purpose}+gone", answer % b"", "bob@home.example")
        await club.settle(club.post())
        (letter,) = await club.letters(bob)
        assert "nothing waits for that answer" in letter.get_content()

    run(main())


def test_joining_wants_a_confirmation(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found(owner="o@far.example")
        ask = b"From: Bob <bob@home.example>\r\nSubject: hi\r\n\r\n\r\n"
        await club.sent_to("subscribe", ask, "bob@home.example")
        await club.settle(club.post())
        assert await club.on_it() == ["o@far.example"]
        (letter,) = await club.letters(bob)
        token = token_of(letter, "confirm")
        await club.sent_to("confirm+wrong", ask, "bob@home.example")
        await club.settle(club.post())
        assert await club.on_it() == ["o@far.example"]
        await club.sent_to(f"confirm+{token}", ask, "bob@home.example")
        await club.settle(club.post())
        assert await club.on_it() == ["bob@home.example", "o@far.example"]
        assert "Welcome" in str((await club.letters(bob))[-1]["Subject"])

    run(main())


def test_an_owner_admits_where_the_list_asks_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        bob, olga = await club.people("bob", "olga")
        await club.found(joining="approved")
        await club.sent_to("request", b"From: bob@home.example\r\nSubject: Subscribe\r\n\r\n\r\n", "bob@home.example")
        await club.settle(club.post())
        (asked,) = await club.letters(bob)
        await club.sent_to(f"confirm+{token_of(asked, 'confirm')}", b"From: bob@home.example\r\n\r\n")
        await club.settle(club.post())
        assert await club.on_it() == ["olga@home.example"]
        (admit,) = await club.letters(olga)
        await club.sent_to(f"confirm+{token_of(admit, 'confirm')}", b"From: olga@home.example\r\n\r\n")
        await club.settle(club.post())
        assert await club.on_it() == ["bob@home.example", "olga@home.example"]

    run(main())


def test_leaving_by_request_and_by_the_members_own_address(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found("bob", "dave@far.example", owner="o@far.example")
        await club.sent_to("unsubscribe", b"From: bob@home.example\r\n\r\n", "bob@home.example")
        await club.settle(club.post())
        assert len(await club.on_it()) == 3
        (asked,) = await club.letters(bob)
        await club.sent_to(f"confirm+{token_of(asked, 'confirm')}", b"From: bob@home.example\r\n\r\n")
        await club.sent_to(f"leave+{await club.tag('leave', 'dave@far.example')}", b"Subject: x\r\n\r\n", None)
        # Whoever sees the reverse-path of a copy knows no way out.
        await club.sent_to(f"leave+{await club.tag('bounces', 'o@far.example')}", b"Subject: x\r\n\r\n", None)
        await club.sent_to("leave+aaaaaaaaaa1", b"Subject: x\r\n\r\n", None)
        await club.settle(club.post())
        assert await club.on_it() == ["o@far.example"]

    run(main())


@pytest.mark.parametrize(("words", "subject"), [(b"help", ""), (b"what is this", "How"), (b"", "")])
def test_help_and_nonsense_have_one_answer(tmp_path: Path, words: bytes, subject: str) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        await club.found(owner="o@far.example")
        await club.sent_to("request", b"From: bob@home.example\r\nSubject: " + words + b"\r\n\r\n", "bob@home.example")
        await club.sent_to("request", b"From: bob@home.example\r\nSubject: help\r\n\r\n", None)
        await club.settle(club.post())
        (letter,) = await club.letters(bob)
        assert str(letter["Subject"]).startswith("How this list is used")
        assert letter["Auto-Submitted"] == "auto-generated"

    run(main())


@pytest.mark.parametrize(("reply", "disabled"), [(NO_SUCH, True), (None, False)])
def test_mail_that_comes_back_for_days_disables_a_member_but_never_by_policy(
    tmp_path: Path, reply: object, disabled: bool
) -> None:
    async def main() -> None:
        from posthouse.terms.reply import Reply

        club = Club(tmp_path)
        _, olga = await club.people("alice", "olga")
        await club.found("alice", "dave@far.example")
        answer = reply if isinstance(reply, Reply) else Reply(550, "5.7.1", "We do not like your list")
        for _ in range(members.BOUNCE_DAYS + 1):
            await club.sent_to("")
            await club.settle(club.post(Script({"far.example": (answer,)})))
            await club.live(club.post(Script({"far.example": (answer,)})), DAY + 1, step=DAY)
        ((disabled_at,),) = await club.select(
            "SELECT disabled_at IS NOT NULL FROM list_member WHERE key = 'dave@far.example'"
        )
        assert bool(disabled_at) is disabled
        told = [one for one in await club.letters(olga) if "not reached" in str(one["Subject"])]
        assert len(told) == disabled

    run(main())


def test_owners_are_reached_and_their_bounces_lead_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (olga,) = await club.people("olga")
        await club.found()
        await club.sent_to("owner")
        await club.settle(club.post())
        (letter,) = await club.letters(olga)
        assert letter["Subject"] == "Lunch"
        marks = [str(value) for name, value in letter.items() if name == "Delivered-To"]
        assert marks == ["olga@home.example", "team-owner@home.example"]

    run(main())


def test_the_addresses_of_a_list_lead_to_it(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        made = await club.found()
        await club.alias("all", "team@home.example", "alice@home.example")

        def reached(tx: Tx, text: str) -> Sequence[tuple[str, str]]:
            return [(one.purpose, one.token) for one in addresses.expand(tx, parse(text), Rules()).lists]

        for local, expected in {
            "team": ("", ""), "TEAM": ("", ""), "team-owner": ("owner", ""), "team-confirm+ab": ("confirm", "ab"),
            "team-bounces+h=a-b=c.d": ("bounces", "h=a-b=c.d"), "all": ("", ""),
        }.items():  # fmt: skip
            assert await club.store.read(reached, f"{local}@home.example") == [expected], local
        for local in ("team-nothing", "alice-owner", "team-owner+x"):
            assert await club.store.read(reached, f"{local}@home.example") == [], local
        assert made.beside("owner") == parse("team-owner@home.example")

    run(main())


def test_held_posts_can_be_found_by_number(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        made = await club.found(owner="o@far.example")
        await club.sent_to("", POST, "alice@home.example")
        await club.settle(club.post())
        (held,) = await club.store.read(posts.list_held, made.id)
        assert (held.author, held.subject) == ("alice@home.example", "Lunch")
        assert await club.store.read(posts.numbered, made.id, held.id) == held
        assert await club.store.read(posts.find_held, made.id, held.token) == held

    run(main())


def test_what_nobody_approves_is_dropped_in_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        await club.people("alice")
        made = await club.found(owner="o@far.example")
        await club.sent_to("", POST, "alice@home.example")
        await club.settle(club.post())
        (held,) = await club.store.read(posts.list_held, made.id)
        assert await club.store.write(posts.expire, held.held_at, club.clock.now()) == 0
        assert await club.store.write(posts.expire, held.held_at + 1, club.clock.now()) == 1
        suspects = await club.store.read(lambda tx: tx.query("SELECT blob FROM blob_suspect", ()))
        assert (await club.rows("list_held"), (held.blob,) in suspects) == (0, True)
        found = await club.store.read(journey.get, held.journey)
        assert found is not None
        told = timeline.describe(found.steps[-1])
        assert told == "waited too long for a moderator of team@home.example, and was dropped"

    run(main())


def test_what_is_approved_by_hand_goes_out(tmp_path: Path) -> None:
    async def main() -> None:
        club = Club(tmp_path)
        (bob,) = await club.people("bob")
        made = await club.found("bob", owner="o@far.example")
        await club.sent_to("", POST)
        await club.settle(club.post())
        assert await club.inbox(bob) == []
        (held,) = await club.store.read(posts.list_held, made.id)
        await club.store.write(posts.approve, made, held, club.clock.now())
        await club.settle(club.post())
        (copy,) = await club.letters(bob)
        assert copy["Subject"] == "Lunch"
        assert [await club.rows(table) for table in ("list_held", "queued_recipient")] == [0, 0]

    run(main())
