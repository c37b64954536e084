"""Delivery at home from the queue, with a real directory and real mailboxes."""

import email
import email.policy
from pathlib import Path

from posthouse import observe
from posthouse.directory import accounts, aliases
from posthouse.observe import Step
from posthouse.queue.queue import NewRecipient
from posthouse.queue.schedule import LOCAL
from posthouse.terms.address import parse
from tests.delivery.support import Home, local
from tests.queue.support import DAY, MESSAGE, NOT_NOW, Script
from tests.support import run


def test_a_recipient_is_filed_with_the_fields_of_final_delivery(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (bob,) = await home.people("bob")
        await home.send(local("bob+lists@home.example"), sender="alice@there.example")
        await home.settle(home.post())
        assert await home.inbox(bob) == [
            b"Return-Path: <alice@there.example>\r\nDelivered-To: bob+lists@home.example\r\n" + MESSAGE
        ]
        assert [await home.rows(table) for table in ("queued_recipient", "lane")] == [0, 0]

    run(main())


def test_junk_is_filed_in_junk(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (bob,) = await home.people("bob")
        await home.send(local("bob@home.example", LOCAL + "junk"))
        await home.settle(home.post())
        assert (len(await home.inbox(bob)), len(await home.inbox(bob, "junk"))) == (0, 1)

    run(main())


def test_an_unknown_user_fails_and_the_sender_hears_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice")
        await home.send(local("nobody@home.example"), sender="alice@home.example", account=alice)
        await home.settle(home.post())
        (bounce,) = await home.inbox(alice)
        parsed = email.message_from_bytes(bounce, policy=email.policy.default)
        assert parsed["Return-Path"] == "<>"
        (status,) = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
        _, recipient = status.iter_parts()
        assert (recipient["Action"], recipient["Status"]) == ("failed", "5.1.1")
        assert recipient["Final-Recipient"] == "rfc822; nobody@home.example"

    run(main())


def test_a_full_mailbox_is_waited_for_and_given_up_as_full(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        await home.people("bob", quota_emails=0)
        (alice,) = await home.people("alice")
        await home.send(local("bob@home.example"), sender="alice@home.example")
        runner = home.post()
        await home.live(runner, 4.9 * DAY)
        assert [actions_of(report) for report in await home.inbox(alice)] == [[("rfc822; bob@home.example", "delayed")]]
        await home.live(runner, 0.3 * DAY)
        _, bounce = await home.inbox(alice)
        assert actions_of(bounce) == [("rfc822; bob@home.example", "failed")]
        assert b"Status: 5.2.2\r\n" in bounce
        assert await home.rows("queued_recipient") == 0

    run(main())


def test_a_mailbox_that_has_room_again_gets_its_mail(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (bob,) = await home.people("bob", quota_emails=0)
        await home.send(local("bob@home.example"))
        runner = home.post()
        await home.live(runner, 100)
        await home.store.write(accounts.set_quota, bob, None, None)
        await home.live(runner, 1000)
        assert len(await home.inbox(bob)) == 1

    run(main())


def test_an_alias_reaches_everyone_once_at_home_and_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        home, outside = Home(tmp_path), Script()
        bob, carol = await home.people("bob", "carol")
        await home.alias("team", "bob@home.example", "carol@home.example", "dave@there.example")
        await home.alias("all", "team@home.example", "bob@home.example")
        await home.send(local("all@home.example"), local("bob@home.example"))
        await home.settle(home.post(outside))
        assert [len(await home.inbox(one)) for one in (bob, carol)] == [1, 1]
        assert outside.seen == [(1, ["dave@there.example"])]
        assert await home.select("SELECT count(*) FROM message") == [(1,)]

    run(main())


def test_a_large_alias_is_filed_in_batches_each_member_once(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        people = await home.people(*[f"u{n}" for n in range(130)])
        await home.alias("crowd", *[f"u{n}@home.example" for n in range(130)])
        await home.send(local("crowd@home.example"))
        await home.settle(home.post())
        assert [len(await home.inbox(one)) for one in people] == [1] * 130
        assert await home.select("SELECT count(*) FROM message") == [(1,)]
        assert await home.rows("queued_recipient") == 0

    run(main())


def test_a_full_member_of_an_alias_waits_alone(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (bob,) = await home.people("bob")
        (full,) = await home.people("full", quota_emails=0)
        await home.alias("team", "bob@home.example", "full@home.example")
        await home.send(local("team@home.example"))
        runner = home.post()
        await home.settle(runner)
        assert len(await home.inbox(bob)) == 1
        assert await home.select("SELECT address, original FROM queued_recipient") == [
            ("full@home.example", "team@home.example")
        ]
        await home.store.write(accounts.set_quota, full, None, None)
        await home.live(runner, 100)
        assert [len(await home.inbox(one)) for one in (bob, full)] == [1, 1]

    run(main())


def test_a_domain_that_moved_away_is_relayed_to(tmp_path: Path) -> None:
    async def main() -> None:
        home, outside = Home(tmp_path), Script()
        await home.send(local("bob@gone.example"))
        await home.settle(home.post(outside))
        assert outside.seen == [(1, ["bob@gone.example"])]
        assert await home.rows("queued_recipient") == 0

    run(main())


def test_an_alias_that_leads_in_a_circle_fails(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice")
        await home.alias("one", "alice@home.example")
        await home.alias("two", "one@home.example")
        await home.store.write(aliases.set_targets, parse("one@home.example"), [parse("two@home.example")])
        await home.send(local("one@home.example"), sender="alice@home.example")
        await home.settle(home.post())
        (bounce,) = await home.inbox(alice)
        assert b"Status: 5.4.6\r\n" in bounce

    run(main())


SUCCESS = frozenset({"SUCCESS", "FAILURE"})


def actions_of(report: bytes) -> list[tuple[str, str]]:
    """Each recipient that the report is about, and what is said of it."""
    parsed = email.message_from_bytes(report, policy=email.policy.default)
    (status,) = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
    return [(str(block["Final-Recipient"]), str(block["Action"])) for block in list(status.iter_parts())[1:]]


def test_who_asks_hears_of_success_in_the_commit_that_files(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, bob, _ = await home.people("alice", "bob", "carol")
        await home.alias("team", "bob@home.example", "carol@home.example")
        await home.send(
            *(NewRecipient(parse(f"{name}@home.example"), LOCAL, notify=SUCCESS) for name in ("bob", "team", "nobody")),
            sender="alice@home.example",
        )
        await home.settle(home.post())
        told = sorted(one for report in await home.inbox(alice) for one in actions_of(report))
        assert told == [
            ("rfc822; bob@home.example", "delivered"),
            ("rfc822; nobody@home.example", "failed"),
            ("rfc822; team@home.example", "expanded"),
        ]
        assert len(await home.inbox(bob)) == 1

    run(main())


def test_an_alias_of_one_leaves_it_to_that_to_tell(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice")
        await home.alias("away", "dave@there.example")
        await home.send(
            NewRecipient(parse("away@home.example"), LOCAL, notify=SUCCESS, orcpt="rfc822;away@home.example"),
            sender="alice@home.example",
        )
        await home.settle(home.post(Script(default=NOT_NOW)))
        assert await home.inbox(alice) == []
        assert await home.select("SELECT address, notify, orcpt FROM queued_recipient") == [
            ("dave@there.example", "FAILURE,SUCCESS", "rfc822;away@home.example")
        ]

    run(main())


def test_of_two_who_lead_to_one_account_the_one_who_asks_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, bob = await home.people("alice", "bob")
        asks = NewRecipient(parse("bob+b@home.example"), LOCAL, notify=SUCCESS)
        await home.send(local("bob@home.example"), asks, sender="alice@home.example")
        await home.settle(home.post())
        (report,) = await home.inbox(alice)
        assert actions_of(report) == [("rfc822; bob+b@home.example", "delivered")]
        assert len(await home.inbox(bob)) == 1

    run(main())


def test_junk_that_a_mailbox_here_has_is_not_sent_on(tmp_path: Path) -> None:
    """As at acceptance (reception/acceptance.py), which leaves it to the courier where NOTIFY asks for success."""

    async def main() -> None:
        home, outside = Home(tmp_path), Script()
        (bob,) = await home.people("bob")
        await home.alias("both", "bob@home.example", "x@there.example")
        await home.alias("away", "y@there.example")
        await home.send(local("both@home.example", LOCAL + "junk"), local("away@home.example", LOCAL + "junk"))
        told: list[Step] = []
        forget = observe.subscribe(told.append)
        try:
            await home.settle(home.post(outside))
        finally:
            forget()
        assert (len(await home.inbox(bob)), len(await home.inbox(bob, "junk"))) == (0, 1)
        # There is no Junk to file it in where nobody here has it: to drop it would lose mail.
        assert outside.seen == [(1, ["y@there.example"])]
        assert [step.facts["recipient"] for step in told if step.kind == "mail.not_forwarded"] == ["x@there.example"]
        assert await home.rows("queued_recipient") == 0

    run(main())
