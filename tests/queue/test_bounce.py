"""What the sender is told when a recipient fails, read with the standard library."""

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from posthouse import journey
from posthouse.message.date import format_date
from posthouse.queue.bounce import delayed, give_up, reportable, status
from posthouse.queue.outcome import Dooms, Fate, Outcome
from posthouse.queue.queue import Job, NewRecipient, QueuedMail, QueuedMessage, QueuedRecipient
from posthouse.queue.schedule import LOCAL
from posthouse.store import blobs
from posthouse.store.blobs import BlobRef
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import DeliverBy, Wishes
from posthouse.terms.reply import Reply
from tests.queue.support import MESSAGE, NO_SUCH, NOT_NOW, OK, Script, World
from tests.support import run

GREYLISTED = Reply(450, "4.7.1", "Greylisted,\ncome again")


def a_job(*recipients: QueuedRecipient, sender: str | None = "alice@home.example") -> Job:
    mail = QueuedMail(1, 1, 10, parse(sender) if sender else None, queued_at=0, expires_at=1000)
    return Job(1, "domain:x.example", QueuedMessage(1, mail), BlobRef(1, 10, b"", b"", None), recipients)


def waiting(id: int, notify: frozenset[str] | None = None) -> QueuedRecipient:
    return QueuedRecipient(id, parse(f"u{id}@x.example"), f"u{id}@x.example", notify)


async def bounce_of(world: World, courier: Script) -> tuple[EmailMessage, list[tuple[object, ...]]]:
    """The one bounce in the queue after the couriers ran, and the rows that it stands in."""
    courier.answers = {**courier.answers, "home.example": (NOT_NOW,)}
    await world.settle(world.runner(courier, Script(default=NOT_NOW)))
    rows = await world.select(
        "SELECT r.sender, r.id >> 24, r.address, l.destination, r.notify FROM queued_recipient r"
        " JOIN lane l ON l.id = r.lane WHERE r.sender IS NULL"
    )
    (row,) = rows
    ref = await world.store.read(blobs.find, int(str(row[1])))
    assert ref is not None
    parsed = email.message_from_bytes(bytes(await world.blobs.load(ref)), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed, rows


async def serve_home(world: World) -> None:
    await world.store.write(lambda tx: tx.run("domain_insert", name="home.example", catch_all=None, created_at=0))


def test_a_bounce_reads_as_a_delivery_status(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await serve_home(world)
        courier = Script({"a@x.example": (NO_SUCH,), "b@x.example": (OK,), "c@x.example": (Reply(554, None, "No"),)})
        wishes = NewRecipient(parse("a@x.example"), original="list@home.example", orcpt="rfc822;list@home.example")
        await world.send(wishes, "b@x.example", "c@x.example")
        parsed, rows = await bounce_of(world, courier)

        assert rows[0][2:] == ("alice@home.example", LOCAL, "NEVER")
        assert parsed.get_content_type() == "multipart/report"
        assert parsed["To"] == "alice@home.example"
        assert "MAILER-DAEMON@mx.home.example" in parsed["From"]
        words, report, returned = parsed.iter_parts()
        assert "No such user" in words.get_content()
        message, first, second = report.iter_parts()
        assert message["Reporting-MTA"] == "dns; mx.home.example"
        assert (first["Final-Recipient"], first["Original-Recipient"]) == (
            "rfc822; a@x.example",
            "rfc822; list@home.example",
        )
        assert (first["Action"], first["Status"]) == ("failed", "5.1.1")
        assert first["Remote-MTA"] == "dns; mx.there.example"
        assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"
        # RFC 3463: a reply without an enhanced code is a 5.0.0.
        assert (second["Final-Recipient"], second["Status"]) == ("rfc822; c@x.example", "5.0.0")
        assert returned.get_content_type() == "text/rfc822-headers"
        assert "Subject: Hello" in str(returned.get_content())
        assert "Hello.\r\n" not in str(returned.get_content())

    run(main())


def test_ret_full_returns_the_message(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        staged = await world.blobs.stage(MESSAGE)
        now = world.clock.now()
        wishes = Wishes(envid="id+7", ret="FULL", deliver_by=DeliverBy(now + 60_000, returned=False))

        def accept(tx: Tx) -> None:
            from posthouse.queue import queue

            mail = QueuedMail(
                journey=1, blob=blobs.insert(tx, staged), size=len(MESSAGE), sender=parse("alice@home.example"),
                queued_at=now, expires_at=now + 10**9, wishes=wishes,
            )  # fmt: skip
            queue.accept(tx, mail, [NewRecipient(parse("a@x.example"))])

        await world.store.write(accept)
        parsed, rows = await bounce_of(world, Script(default=NO_SUCH))
        _, report, returned = parsed.iter_parts()
        about = next(iter(report.iter_parts()))
        assert about["Original-Envelope-Id"] == "id+7"
        assert about["Deliver-By-Date"] == format_date(now + 60_000)
        assert returned.get_content_type() == "message/rfc822"
        # Its sender's domain is not served here: by MX.
        assert rows[0][3] == "domain:home.example"

    run(main())


def test_one_report_tells_of_all_that_failed_in_one_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", "b@x.example")
        parsed, _ = await bounce_of(world, Script(default=NO_SUCH))
        assert len(list(list(parsed.iter_parts())[1].iter_parts())) == 3

    run(main())


def test_bounce_and_message_point_to_each_other_in_their_journeys(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", journey=journey.new_id(1, 2))
        parsed, _ = await bounce_of(world, Script(default=NO_SUCH))
        (found,) = await world.store.read(journey.find, str(parsed["Message-ID"]), world.store.secret)
        assert found.steps[0].kind == "bounce.written"
        (about,) = await world.store.read(journey.find, str(found.steps[0].facts["about"]), world.store.secret)
        assert [step.kind for step in about.steps] == ["recipient.failed", "bounce.sent"]
        assert about.steps[1].facts["bounce"] == found.code

    run(main())


def test_a_bounce_that_fails_is_not_bounced(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", journey=5)
        # The sender's own domain refuses the bounce.
        await world.settle(world.runner(Script(default=NO_SUCH)))
        assert await world.rows("queued_recipient") == 0
        assert await world.rows("journey") == 1

    run(main())


def test_who_is_told() -> None:
    wanted = [waiting(1), *(waiting(n, frozenset({word})) for n, word in enumerate(("FAILURE", "NEVER", "DELAY"), 2))]
    failed = [Outcome(one.id, Fate.FAILED, NO_SUCH) for one in wanted]
    assert [one.recipient.id for one in reportable(a_job(*wanted), failed)] == [1, 2]
    assert reportable(a_job(*wanted, sender=None), failed) == ()


def test_success_is_told_to_who_asked_for_it() -> None:
    asks, silent = frozenset({"SUCCESS"}), frozenset({"FAILURE"})
    outcomes = [
        Outcome(1, Fate.DELIVERED, OK),
        Outcome(2, Fate.DELIVERED, OK, expanded=True),
        Outcome(3, Fate.RELAYED, OK, remote="mx.x.example"),
        Outcome(4, Fate.RELAYED, OK, dsn_carried=True),
        Outcome(5, Fate.DEFERRED, NOT_NOW),
    ]
    told = reportable(a_job(*(waiting(n, asks) for n in range(1, 6))), outcomes)
    assert [(one.recipient.id, one.action, one.remote) for one in told] == [
        (1, "delivered", None),
        (2, "expanded", None),
        (3, "relayed", "mx.x.example"),
    ]
    for notify in (None, silent):
        assert reportable(a_job(*(waiting(n, notify) for n in range(1, 6))), outcomes) == ()


@pytest.mark.parametrize(
    ("by", "by_carried", "told"),
    [
        # RFC 2852 §4.1.4.2: in mode N the sender hears where the next server will not tell him of lateness.
        (DeliverBy(500, returned=False), False, [1, 3, 4]),
        (DeliverBy(500, returned=False), True, [3]),
        # §4.1.4: each relay reports where that is wanted.
        (DeliverBy(500, returned=False, trace=True), True, [1, 3, 4]),
        (DeliverBy(500, returned=True, trace=True), True, [1, 3, 4]),
        (DeliverBy(500, returned=True), True, [3]),
        (None, False, [3]),
    ],
)
def test_mail_with_a_time_that_is_passed_on(by: DeliverBy | None, by_carried: bool, told: list[int]) -> None:
    words = (None, "NEVER", "SUCCESS", "FAILURE")
    recipients = [waiting(n, frozenset({word}) if word else None) for n, word in enumerate(words, 1)]
    job = a_job(*recipients)
    wished = replace(job, message=replace(job.message, mail=replace(job.mail, wishes=Wishes(deliver_by=by))))
    outcomes = [Outcome(one.id, Fate.RELAYED, OK, remote="mx.x.example", by_carried=by_carried) for one in recipients]
    found = reportable(wished, outcomes)
    assert [(one.recipient.id, one.action, one.status) for one in found] == [(id, "relayed", "2.0.0") for id in told]


@pytest.mark.parametrize(("by", "status"), [(1000, "5.4.7"), (2000, "4.4.7")])
def test_what_came_too_late_for_its_sender_says_so(by: int, status: str) -> None:
    job = a_job(waiting(1))
    wishes = Wishes(deliver_by=DeliverBy(by, returned=True))
    late = replace(job, message=replace(job.message, mail=replace(job.mail, wishes=wishes)))
    (told,) = reportable(late, give_up(late, [Outcome(1, Fate.DEFERRED, GREYLISTED, remote="mx.x.example")], 1000))
    assert (told.action, told.status, told.reply) == ("failed", status, GREYLISTED)


def test_a_delay_is_told_unless_notify_leaves_it_out() -> None:
    said = replace(waiting(1), last_reply=GREYLISTED, last_remote="mx.x.example")
    others = [waiting(n, frozenset({word})) for n, word in enumerate(("DELAY", "FAILURE", "NEVER"), 2)]
    told = delayed(a_job(said, *others))
    assert [(one.recipient.id, one.action, one.status, one.remote, one.retry_until) for one in told] == [
        (1, "delayed", "4.7.1", "mx.x.example", 1000),
        (2, "delayed", "4.4.7", None, 1000),
    ]
    assert delayed(a_job(said, sender=None)) == ()


def test_deferrals_become_failures_when_time_is_up() -> None:
    job = a_job(waiting(1), waiting(2))
    outcomes = (Outcome(1, Fate.RELAYED, OK), Outcome(2, Fate.DEFERRED, NOT_NOW, Dooms.DESTINATION))
    assert give_up(job, outcomes, 999) == outcomes
    relayed, failed = give_up(job, outcomes, 1000)
    assert relayed == outcomes[0]
    assert (failed.fate, failed.given_up, failed.destination_down) == (Fate.FAILED, True, True)


def test_the_status_of_a_failure() -> None:
    assert status(Outcome(1, Fate.FAILED, NO_SUCH, remote="mx.x.example")) == "5.1.1"
    assert status(Outcome(1, Fate.FAILED, GREYLISTED, remote="mx.x.example", given_up=True)) == "4.4.7"
    full = Reply(452, "4.2.2", "Mailbox is full")
    assert status(Outcome(1, Fate.FAILED, full, given_up=True)) == "5.2.2"
    assert status(Outcome(1, Fate.FAILED, full, remote="mx.x.example", given_up=True)) == "4.4.7"
