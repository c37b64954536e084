"""Bounces as data: what comes back of mail that an account sent."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse import journey
from posthouse.directory import suppression
from posthouse.message.feedback import Feedback
from posthouse.message.header import Header
from posthouse.message.report import RecipientReport, Report
from posthouse.observe import Step
from posthouse.queue import feedback
from posthouse.queue.queue import NewRecipient
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.delivery.support import Home
from tests.queue.support import NO_SUCH, Script
from tests.support import run

SENT = 77


async def alice_sends(home: Home, *recipients: str) -> tuple[int, int]:
    """Alice and Bob have accounts; Alice has submitted a message to these recipients."""
    alice, bob = await home.people("alice", "bob")

    def submitted(tx: Tx) -> None:
        received = Step("mail.received", 1, SENT, {"login": "alice@home.example"})
        relayed = [Step("recipient.relayed", 2, SENT, {"recipient": one}) for one in recipients]
        journey.open(
            tx, SENT, message_id="one@home.example", sender="alice@home.example", recipients=recipients, subject="Hi",
            secret=home.store.secret, steps=[received, *relayed], account=alice, envid="the envelope",
        )  # fmt: skip

    await home.store.write(submitted)
    return alice, bob


async def hears(home: Home, account: int, found: Report | Feedback) -> tuple[Step, ...]:
    heard = await home.store.read(feedback.look, [account], found, home.store.secret)
    return await home.store.write(feedback.take_in, heard, account, 9)


async def listed(home: Home, account: int) -> list[tuple[str, str, bool]]:
    found = await home.store.read(suppression.listed, account)
    return [(one.address, one.cause, one.stops) for one in found]


def about(
    *recipients: RecipientReport, message_id: str | None = "one@home.example", envid: str | None = None
) -> Report:
    return Report("mx.there.example", recipients, envid, message_id=message_id)


def failed(address: str, status: str = "5.1.1", words: str = "550 no such user") -> RecipientReport:
    return RecipientReport(address, "failed", status, diagnostic=words)


def test_what_fails_in_the_queue_is_on_the_list(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice")
        await home.send("gone@there.example", sender="alice@home.example", account=alice)
        await home.send("gone@there.example", sender="eve@else.example")
        await home.settle(home.post(Script(default=NO_SUCH)))
        (one,) = await home.store.read(suppression.listed, alice)
        assert (one.address, one.cause, one.times, one.stops) == ("gone@there.example", "no such user", 1, True)

    run(main())


def test_a_report_about_alices_message_is_told_to_its_journey(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example", "full@there.example")
        steps = await hears(
            home, alice, about(failed("dave@there.example"), failed("full@there.example", "5.2.2", "552 full"))
        )
        assert [(step.facts["recipient"], step.facts["cause"]) for step in steps] == [
            ("dave@there.example", "no such user"),
            ("full@there.example", "full"),
        ]
        assert await listed(home, alice) == [
            ("dave@there.example", "no such user", True),
            ("full@there.example", "full", False),
        ]
        (found,) = await home.store.read(journey.find, "one@home.example", home.store.secret)
        assert [step.kind for step in found.steps] == [
            "mail.received", *["recipient.relayed"] * 2, *["report.received"] * 2
        ]  # fmt: skip

    run(main())


def test_a_recipient_who_is_named_twice_is_heard_of_once(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        report = RecipientReport("dave@there.example", "failed", "5.1.1", original="rfc822;Dave@there.example")
        steps = await hears(home, alice, about(report))
        assert len(steps) == 1

    run(main())


def test_the_original_recipient_counts_where_the_final_one_is_unknown_to_us(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        report = RecipientReport("d.smith@internal.example", "failed", "5.1.1", original="rfc822;dave@there.example")
        await hears(home, alice, about(report))
        assert await listed(home, alice) == [("dave@there.example", "no such user", True)]

    run(main())


def test_what_alice_did_not_send_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, bob = await alice_sends(home, "dave@there.example")
        forged: Sequence[tuple[int, Report | Feedback]] = [
            (bob, about(failed("dave@there.example"))),
            (alice, about(failed("carol@there.example"))),
            (alice, about(failed("dave@there.example"), message_id="two@home.example")),
            (alice, about(failed("dave@there.example"), message_id=None)),
            (alice, Feedback("abuse", ("carol@there.example",), "one@home.example")),
            # What others know of it, and where it is told: an address, the code in our Received field.
            *(
                (alice, one)
                for known in ("dave@there.example", "alice@home.example", journey.code(SENT))
                for one in (
                    about(failed("dave@there.example"), message_id=None, envid=known),
                    about(failed("dave@there.example"), message_id=known),
                    Feedback("abuse", (), known),
                )
            ),
            (bob, about(failed("dave@there.example"), message_id=None, envid="the envelope")),
        ]
        for account, report in forged:
            assert await hears(home, account, report) == ()
        assert await listed(home, alice) == await listed(home, bob) == []

    run(main())


def test_its_envid_finds_the_message_too(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        await hears(home, alice, about(failed("dave@there.example"), message_id=None, envid="the envelope"))
        assert await listed(home, alice) == [("dave@there.example", "no such user", True)]

    run(main())


@pytest.mark.parametrize("in_order", [False, True])
def test_mail_of_others_with_the_message_id_hides_no_report(tmp_path: Path, in_order: bool) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, bob = await alice_sends(home, "dave@there.example")

        def others(tx: Tx) -> None:
            for number in range(10):
                id = number + 1 << 40
                relayed = Step("recipient.relayed", 3, id, {"recipient": "dave@there.example"})
                journey.open(
                    tx, id, message_id="one@home.example", sender="alice@home.example", recipients=["eve@home.example"],
                    subject="x", secret=home.store.secret, steps=[Step("mail.received", 3, id, {"login": ""}), relayed],
                    account=bob if number % 2 else None, envid="the envelope",
                )  # fmt: skip

        await home.store.write(others)
        if in_order:
            assert await home.store.write(journey.order_new) == 11
        (step,) = await hears(home, alice, about(failed("dave@there.example")))
        assert step.journey == SENT
        assert await listed(home, alice) == [("dave@there.example", "no such user", True)]

    run(main())


def test_a_message_that_was_submitted_twice_is_told_where_the_recipient_stands(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")

        def again(tx: Tx) -> None:
            journey.open(
                tx, SENT + 1, message_id="<one@home.example>", sender="alice@home.example", recipients=[], subject="Hi",
                secret=home.store.secret, account=alice,
            )  # fmt: skip

        await home.store.write(again)
        (step,) = await hears(home, alice, about(failed("dave@there.example")))
        assert step.journey == SENT

    run(main())


def test_a_delay_is_told_and_lists_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        (step,) = await hears(home, alice, about(RecipientReport("dave@there.example", "delayed", "4.4.1")))
        assert (step.facts["action"], step.facts["cause"]) == ("delayed", None)
        assert await listed(home, alice) == []

    run(main())


def test_a_complaint_stops_mail_and_its_opposite_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        await hears(home, alice, Feedback("not-spam", (), "one@home.example"))
        assert await listed(home, alice) == []
        await hears(home, alice, Feedback("abuse", (), "one@home.example"))
        assert await listed(home, alice) == [("dave@there.example", "complaint", True)]
        assert await home.store.write(suppression.clear, alice, parse("dave@there.example")) == 1
        assert await listed(home, alice) == []

    run(main())


def test_the_list_has_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (alice,) = await home.people("alice")

        def fill(tx: Tx) -> None:
            tx.query(
                "INSERT INTO suppression SELECT ?, 'u' || value || '@x.example', '', 'full', '', 1, value, value"
                " FROM json_each(?)", (alice, json.dumps(list(range(suppression.MOST + 500)))),
            )  # fmt: skip
            suppression.note(tx, alice, parse("last@x.example"), "full", "552", 1 << 40)

        await home.store.write(fill)
        ((count,),) = await home.select("SELECT count(*) FROM suppression")
        assert count == suppression.MOST
        (first, *_) = await home.store.read(suppression.listed, alice)
        assert first.address == "last@x.example"

    run(main())


def test_what_is_a_report() -> None:
    body = b"\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n--b--\r\n"
    complaint = b"Content-Type: multipart/report; report-type=feedback-report; boundary=b" + body
    assert feedback.read(Header.parse(complaint), complaint, null_sender=False) == Feedback("abuse")
    plain = b"Content-Type: text/plain\r\n\r\nmultipart/report\r\n"
    assert feedback.read(Header.parse(plain), plain, null_sender=True) is None
    mixed = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        b"Reporting-MTA: dns; mx.there.example\r\n\r\nFinal-Recipient: rfc822; dave@there.example\r\n"
        b"Action: failed\r\nStatus: 5.0.0\r\n\r\n--b--\r\n"
    )
    assert isinstance(feedback.read(Header.parse(mixed), mixed, null_sender=True), Report)
    for octets in (mixed, mixed.replace(b"multipart/mixed", b"multipart/report; report-type=delivery-status")):
        assert feedback.read(Header.parse(octets), octets, null_sender=False) is None
    assert feedback.read(Header.parse(complaint), complaint, null_sender=True) == Feedback("abuse")


def test_others_are_not_believed_about_whom_no_other_server_has(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")

        def further(tx: Tx) -> None:
            for number, (kind, who) in enumerate((
                ("recipient.delivered", "bob@home.example"),
                ("recipient.deferred", "slow@else.example"),
                ("recipient.failed", "gone@else.example"),
            )):  # fmt: skip
                journey.record(tx, SENT, [Step(kind, 3 + number, SENT, {"recipient": who})])

        await home.store.write(further)
        others = ("bob@home.example", "slow@else.example", "gone@else.example")
        assert await hears(home, alice, about(*map(failed, others))) == ()
        assert await hears(home, alice, Feedback("abuse", others, "one@home.example")) == ()
        assert await listed(home, alice) == []

    run(main())


def test_a_report_that_waited_in_the_queue_counts_too(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        alice, _ = await alice_sends(home, "dave@there.example")
        complaint = (
            b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: fraud\r\n"
            b"Original-Rcpt-To: <dave@there.example>\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
            b"Message-ID: <one@home.example>\r\n\r\n--b--\r\n"
        )
        await home.send(NewRecipient(parse("alice@home.example"), "local:"), octets=complaint, sender=None)
        await home.settle(home.post())
        assert await listed(home, alice) == [("dave@there.example", "complaint", True)]

    run(main())
