"""The transaction: who gets a copy where, also where things have changed since RCPT."""

from dataclasses import replace
from pathlib import Path

import pytest

from posthouse import journey
from posthouse.directory import accounts, aliases, lists, suppression
from posthouse.limits import LOCAL_RECIPIENTS
from posthouse.observe import Step
from posthouse.policy.check import Facts, Verdict, defer, junk, refuse
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import Wishes
from tests.reception.support import MESSAGE, NOW, Desk, desk, home
from tests.support import run


async def inboxes(there: Desk, *names: str) -> list[int]:
    """How many emails each has in the Inbox."""
    return [len(await there.mail(name)) for name in names]


def test_one_email_an_account_however_it_is_reached(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            await there.alias("team", "ann", "bob")
            assert await there.take("team", "bob", "bob+tag") == [250]
            assert await inboxes(there, "ann", "bob") == [1, 1]
            (octets,) = await there.mail("bob")
            # The first address that led to it counts.
            assert b"Delivered-To: team@home.example\r\n" in octets

    run(main())


def test_an_alias_leads_home_and_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            await there.alias("both", "bob", "ann@far.example", "joe@other.example")
            intake = await there.begin("both", sender=None)
            intake.write(MESSAGE)
            assert [reply.code for reply in await there.finish(intake)] == [250]
            assert await inboxes(there, "bob") == [1]
            assert await there.queued() == [
                ("ann@far.example", "domain:far.example"),
                ("joe@other.example", "domain:other.example"),
            ]
            ((sender, original),) = await there.query("SELECT DISTINCT sender, original FROM queued_recipient")
            # Sent on with the null reverse-path, so that no report of a report is ever written.
            assert (sender, original) == (None, "both@home.example")
            assert (await there.count("blob"), await there.count("message")) == (1, 1)

    run(main())


def test_some_are_full_and_overshoot_by_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann")
            await there.people("full", "packed", emails=1)
            assert await there.take("full", "packed") == [250]
            assert await there.take("full", "packed") == [452]
            assert await there.take("ann", "full", "packed") == [250]
            assert await inboxes(there, "ann", "full", "packed") == [1, 2, 2]
            # One message for the three of them, and one for the two before.
            assert (await there.count("message"), await there.count("blob")) == (2, 2)

    run(main())


def test_a_full_mailbox_overshoots_beside_one_that_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            await there.people("full", emails=0)
            there.judge.verdicts = {"bob": defer("greylist", 451, "4.7.1", "Later")}
            assert await there.take("full", "bob") == [250]
            assert await inboxes(there, "full", "bob") == [1, 0]

    run(main())


def test_lmtp_tells_who_is_full(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann")
            await there.people("full", emails=0)
            await there.alias("mixed", "ann", "full")
            assert await there.take("full", each=True) == [452]
            assert await there.take("full", "ann", "full", each=True) == [452, 250, 452]
            assert await inboxes(there, "ann", "full") == [1, 0]
            # Where the alias was taken, its member got the message: he is told so whichever way he was named.
            assert await there.take("full", "mixed", each=True) == [250, 250]
            assert await inboxes(there, "ann", "full") == [2, 1]
            steps = await there.query("SELECT count(*) FROM journey")
            assert steps == [(2,)]

    run(main())


def test_an_account_that_went_since_rcpt(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            ann, _ = await there.people("ann", "bob")

            async def remove(facts: Facts) -> None:
                # Nobody tells our directory's memory: the transaction must find out.
                await there.store.write(accounts.remove, ann, NOW)

            intake = await there.begin("ann", "bob")
            intake.write(MESSAGE)
            there.judge.before = remove  # type: ignore[method-assign]  # what this test is about
            assert [reply.code for reply in await there.finish(intake)] == [250]
            assert await inboxes(there, "bob") == [1]
            # SMTP could not say no for her alone: the queue will tell the sender.
            assert await there.queued() == [("ann@home.example", "local:")]

    run(main())


def test_nobody_is_left_since_rcpt(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            (ann,) = await there.people("ann")
            intake = await there.begin("ann")
            intake.write(MESSAGE)
            await there.store.write(accounts.remove, ann, NOW)
            (reply,) = await there.finish(intake)
            assert (reply.code, reply.enhanced) == (451, "4.3.0")
            assert await there.count("blob") == 0
            assert len(there.written.journeys) == 1

    run(main())


def test_lmtp_answers_for_an_account_that_went(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            ann, _ = await there.people("ann", "bob")
            intake = await there.begin("ann", "bob")
            intake.write(MESSAGE)
            await there.store.write(accounts.remove, ann, NOW)
            assert [reply.code for reply in await there.finish(intake, each=True)] == [451, 250]
            assert await there.queued() == []
            assert await inboxes(there, "bob") == [1]

    run(main())


def test_an_address_that_leads_elsewhere_since_rcpt(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            await there.alias("team", "ann")
            intake = await there.begin("team")
            intake.write(MESSAGE)
            await there.store.write(aliases.set_targets, home("team"), [home("bob")])
            assert [reply.code for reply in await there.finish(intake)] == [250]
            assert await inboxes(there, "ann", "bob") == [0, 1]

    run(main())


def test_members_that_lead_nowhere_are_told_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            ann, _ = await there.people("ann", "bob")
            await there.alias("team", "ann", "bob")

            def disable(tx: Tx) -> None:
                accounts.set_enabled(tx, ann, False)

            await there.changed(disable)
            assert await there.take("team") == [250]
            assert await inboxes(there, "ann", "bob") == [0, 1]
            assert await there.queued() == []

    run(main())


def test_a_crowd_waits_for_the_courier(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            names = [f"user{n}" for n in range(LOCAL_RECIPIENTS + 1)]
            await there.people(*names)
            assert await there.take(*names[:-1]) == [250]
            assert sum(await inboxes(there, *names)) == LOCAL_RECIPIENTS
            assert await there.queued() == []
            there.judge.verdicts = {"user0": junk("spam", "looks like it")}
            for each in (False, True):
                assert await there.take(*names, each=each) == [250] * (len(names) if each else 1)
            assert sum(await inboxes(there, *names)) == LOCAL_RECIPIENTS
            queued = await there.queued()
            assert len(queued) == 2 * len(names)
            assert [address for address, destination in queued if destination == "local:junk"] == [
                "user0@home.example"
            ] * 2

    run(main())


def test_junk_of_an_account_without_a_junk_mailbox_is_filed_in_its_inbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            await there.store.write(lambda tx: tx.query("DELETE FROM mailbox WHERE role = 'junk'", ()))
            there.judge.verdicts = {"bob": junk("spam", "looks like it")}
            assert await there.take("bob") == [250]
            assert await inboxes(there, "bob") == [1]

    run(main())


def test_an_account_that_went_beside_a_recipient_who_waits(tmp_path: Path) -> None:
    """250 is one answer for both: the address that leads nowhere by now gets a row too, and its sender a bounce."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            ann, _ = await there.people("ann", "bob")
            there.judge.verdicts = {"bob": defer("judge", 451, "4.7.1", "later")}

            async def remove(facts: Facts) -> None:
                await there.changed(lambda tx: accounts.remove(tx, ann, NOW))

            there.judge.before = remove  # type: ignore[method-assign]  # what this test is about
            assert await there.take("ann", "bob") == [250]
            rows = await there.store.read(lambda tx: tx.query("SELECT address FROM queued_recipient ORDER BY 1", ()))
            assert rows == [("ann@home.example",), ("bob@home.example",)]

    run(main())


@pytest.mark.parametrize(
    ("verdict", "sent_on"),
    [(junk("spam", "looks like it"), ["only@far.example"]), (refuse("spam", 550, "5.7.1", "spam"), [])],
)
def test_junk_is_sent_on_only_where_no_mailbox_here_has_it(
    tmp_path: Path, verdict: Verdict, sent_on: list[str]
) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            await there.alias("both", "bob", "other@far.example")
            await there.alias("away", "only@far.example")
            there.judge.verdicts = {"both": verdict, "away": verdict}
            assert await there.take("ann", "both", "away") == [250]
            rows = await there.store.read(lambda tx: tx.query("SELECT address FROM queued_recipient ORDER BY 1", ()))
            assert [row[0] for row in rows] == sent_on
            assert await inboxes(there, "ann") == [1]

    run(main())


def test_who_wants_to_hear_of_success_is_delivered_to_by_the_courier(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            assert await there.take("ann", "bob", notify=frozenset({"SUCCESS"})) == [250]
            rows = await there.store.read(
                lambda tx: tx.query(
                    "SELECT r.address, r.notify, l.destination, r.due_at FROM queued_recipient r"
                    " JOIN lane l ON l.id = r.lane ORDER BY 1", (),
                )
            )  # fmt: skip
            assert rows == [
                ("ann@home.example", "SUCCESS", "local:", NOW),
                ("bob@home.example", "SUCCESS", "local:", NOW),
            ]
            assert await inboxes(there, "ann", "bob") == [0, 0]

    run(main())


@pytest.mark.parametrize(
    ("envid", "message_id", "believed"),
    [
        ("", "1@far.example", True),
        ("the envelope", "", True),
        ("", "2@far.example", False),
        ("ann@far.example", "carol@home.example", False),
    ],
)
def test_a_report_is_heard_by_who_submitted_the_message(
    tmp_path: Path, envid: str, message_id: str, believed: bool
) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            carol, bob = await there.people("carol", "bob")
            await there.alias("both", "bob", "carol")
            intake = await there.begin("ann@far.example", sender="carol@home.example")
            intake.envelope = replace(intake.envelope, wishes=Wishes(envid="the envelope"))
            intake.facts.account = await there.store.read(accounts.find, carol)
            intake.write(MESSAGE)
            assert [reply.code for reply in await there.finish(intake)] == [250]
            id = intake.trail.id
            relayed = Step("recipient.relayed", NOW, id, {"recipient": "ann@far.example"})
            await there.store.write(journey.record, id, [relayed])
            report = await there.begin("both", sender=None)
            report.write(
                b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n"
                b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.far.example\r\n"
                b"Original-Envelope-Id: %b\r\n\r\nFinal-Recipient: rfc822; ann@far.example\r\nAction: failed\r\n"
                b"Status: 5.1.1\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
                b"Message-ID: <%b>\r\n\r\n--b--\r\n" % (envid.encode(), message_id.encode())
            )
            assert [reply.code for reply in await there.finish(report)] == [250]
            heard = [await there.store.read(suppression.listed, account) for account in (carol, bob)]
            assert [[one.address for one in some] for some in heard] == [["ann@far.example"] if believed else [], []]
            found = await there.store.read(journey.get, id)
            assert found is not None
            assert (found.steps[-1].kind == "report.received") is believed

    run(main())


@pytest.mark.parametrize("recipients", [("bob",), ("bob", "carol"), ("carol",), ("away",), ("crowd",)])
def test_a_sender_keeps_a_copy(tmp_path: Path, recipients: tuple[str, ...]) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            carol, *_ = await there.people("carol", "bob")
            many = [f"user{n}" for n in range(LOCAL_RECIPIENTS + 1)]
            await there.people(*many)
            await there.alias("crowd", *many)
            await there.changed(
                lambda tx: aliases.add_alias(tx, parse("away@home.example"), [parse("ann@far.example")])
            )
            await there.changed(lambda tx: accounts.set_copy_to_sent(tx, carol, True))
            intake = await there.begin(*recipients, sender="carol@home.example")
            intake.facts.account = await there.store.read(accounts.find, carol)
            intake.write(MESSAGE)
            assert [reply.code for reply in await there.finish(intake)] == [250]
            (copy,) = await there.mail("carol", "sent")
            assert b"Subject: Hello" in copy
            assert not copy.startswith(b"Return-Path")
            assert await inboxes(there, "carol", "bob") == ["carol" in recipients, "bob" in recipients]

    run(main())


def test_a_copy_is_kept_beyond_the_quota_and_nowhere_where_nobody_is_reached(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            (carol,) = await there.people("carol", octets=10)
            await there.people("bob")
            await there.people("full", octets=10)
            await there.changed(lambda tx: accounts.set_copy_to_sent(tx, carol, True))
            account = await there.store.read(accounts.find, carol)
            for recipient, code, kept in (("full", 452, 0), ("bob", 250, 1)):
                intake = await there.begin(recipient, sender="carol@home.example")
                intake.facts.account = account
                intake.write(MESSAGE)
                assert [reply.code for reply in await there.finish(intake)] == [code]
                assert len(await there.mail("carol", "sent")) == kept

    run(main())


def test_lmtp_tells_of_one_among_a_crowd_who_leads_nowhere(tmp_path: Path) -> None:
    """It was told 250, and nobody got the message."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            many = [f"user{n}" for n in range(LOCAL_RECIPIENTS + 1)]
            await there.people(*many)
            await there.alias("gone", "user0")
            intake = await there.begin(*many, "gone")
            await there.changed(lambda tx: aliases.remove_alias(tx, home("gone")))
            intake.write(MESSAGE)
            codes = [reply.code for reply in await there.finish(intake, each=True)]
            assert codes == [250] * len(many) + [451]
            assert await there.count("queued_recipient") == len(many)

    run(main())


async def notified(there: Desk) -> list[tuple[str, str, str]]:
    """What waits: address, destination, of what the sender wants to hear."""
    rows = await there.query(
        "SELECT r.address, l.destination, coalesce(r.notify, '') FROM queued_recipient r"
        " JOIN lane l ON l.id = r.lane ORDER BY r.id"
    )
    return [(address, destination, notify) for address, destination, notify in rows]


def test_nobody_hears_of_junk_that_arrived(tmp_path: Path) -> None:
    """The sender is forged, perhaps, and what is told repeats the header."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            there.judge.verdicts = {"bob": junk("spam", "points")}
            assert await there.take("ann", "bob", notify=frozenset({"SUCCESS"})) == [250]
            assert await there.take("bob", notify=frozenset({"SUCCESS", "FAILURE"})) == [250]
            assert await notified(there) == [
                ("ann@home.example", "local:", "SUCCESS"),
                ("bob@home.example", "local:junk", "NEVER"),
                ("bob@home.example", "local:junk", "FAILURE"),
            ]

    run(main())


def test_junk_whose_address_has_gone_stays_junk(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            await there.alias("gone", "bob")
            there.judge.verdicts = {"gone": junk("spam", "points")}
            intake = await there.begin("ann", "gone")
            await there.changed(lambda tx: aliases.remove_alias(tx, home("gone")))
            intake.write(MESSAGE)
            assert [reply.code for reply in await there.finish(intake)] == [250]
            assert await there.queued() == [("gone@home.example", "local:junk")]

    run(main())


def test_an_address_said_again_waits_once(tmp_path: Path) -> None:
    """A thousand times the same one with NOTIFY=SUCCESS came as twenty emails, and went as twenty reports."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            success = frozenset({"SUCCESS"})
            assert await there.take("bob", "BOB", "bob+x", "bob", notify=success) == [250]
            assert [address for address, _ in await there.queued()] == ["bob@home.example", "bob+x@home.example"]
            await there.take("ann", *[f"bob+{n}" for n in range(2 * LOCAL_RECIPIENTS)], notify=success)
            assert [address for address, _ in await there.queued()][2:] == ["ann@home.example", "bob+0@home.example"]
            there.judge.verdicts = {"bob": defer("greylist", 451, "4.7.1", "Later")}
            await there.take("ann", "bob", "bob")
            assert [address for address, _ in await there.queued()][4:] == ["bob@home.example"]

    run(main())


def test_who_gets_it_by_an_address_that_wants_it_has_it_once(tmp_path: Path) -> None:
    """Junk and the rest wait in lanes of their own: he had it in the Inbox and in Junk."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            await there.alias("both", "ann", "bob")
            there.judge.verdicts = {"bob+x": junk("spam", "points"), "both": junk("spam", "points")}
            assert await there.take("bob+x", "bob", "both", notify=frozenset({"SUCCESS"})) == [250]
            assert await there.queued() == [("bob@home.example", "local:"), ("ann@home.example", "local:junk")]

    run(main())


@pytest.mark.parametrize("order", [("both", "bob"), ("bob", "both")])
def test_the_order_of_recipients_puts_nothing_into_junk(tmp_path: Path, order: tuple[str, ...]) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            away = parse("ann@far.example")
            both = [home("ann"), home("bob"), away]
            await there.changed(lambda tx: aliases.add_alias(tx, home("both"), both))
            there.judge.verdicts = {"both": junk("spam", "points")}
            assert await there.take(*order) == [250]
            assert await inboxes(there, "ann", "bob") == [0, 1]
            assert [len(await there.mail(name, "junk")) for name in ("ann", "bob")] == [1, 0]
            # Ann has it here.
            assert await there.queued() == []
            await there.changed(lambda tx: aliases.add_alias(tx, home("out"), [away]))
            assert await there.take(*order, "out") == [250]
            assert await there.queued() == [("ann@far.example", "domain:far.example")]

    run(main())


def test_what_is_reached_by_an_address_that_wants_it_is_sent_on_for_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann")
            away = parse("ann@far.example")
            await there.changed(lambda tx: aliases.add_alias(tx, home("spammed"), [home("ann"), away]))
            await there.changed(lambda tx: aliases.add_alias(tx, home("out"), [away]))
            there.judge.verdicts = {"spammed": junk("spam", "points")}
            assert await there.take("spammed", "out") == [250]
            assert await there.queued() == [("ann@far.example", "domain:far.example")]

    run(main())


def test_of_an_alias_of_junk_those_wait_who_get_it_not_otherwise(tmp_path: Path) -> None:
    """The alias waited whole: who was named beside it had one email in the Inbox and one in Junk."""

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob", "carol")
            await there.changed(lambda tx: lists.add(tx, home("team"), "", NOW))
            await there.alias("some", "ann", "bob", "team")
            await there.alias("all", "ann", "bob", "carol")
            await there.alias("one", "bob")
            there.judge.verdicts = dict.fromkeys(("some", "all", "one"), junk("spam", "points"))
            success = frozenset({"SUCCESS"})
            assert await there.take("some", "bob", "one", notify=success) == [250]
            assert await notified(there) == [
                ("bob@home.example", "local:", "SUCCESS"),
                ("ann@home.example", "local:junk", "NEVER"),
                ("team@home.example", "local:junk", "NEVER"),
            ]
            # One who is gone since is left out.
            intake = await there.begin("all", "carol", notify=success)
            ann = await there.store.read(accounts.by_address, "ann@home.example")
            await there.store.write(lambda tx: aliases.remove_alias(tx, home("all")))
            await there.store.write(lambda tx: aliases.remove_alias(tx, home("some")))
            await there.store.write(accounts.remove, ann.id, NOW)
            intake.write(MESSAGE)
            assert [reply.code for reply in await there.finish(intake)] == [250]
            assert (await there.queued())[3:] == [
                ("carol@home.example", "local:"),
                ("bob@home.example", "local:junk"),
            ]

    run(main())
