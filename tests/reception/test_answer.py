"""The answer behind the dot: who is responsible, and what is left where it is not us."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest

from posthouse.limits import KB, MB
from posthouse.policy.check import Facts, Verdict, defer, junk, refuse
from posthouse.queue import feedback
from posthouse.reception.intake import Intake, owner_of
from posthouse.store.database import StoreUnavailable
from posthouse.terms.reply import Refusal
from tests.reception.support import MESSAGE, Desk, desk
from tests.support import run

REFUSED = refuse("spam", 550, "5.7.1", "We do not take this", "too much of it")
DEFERRED = defer("greylist", 451, "4.7.1", "Come back later")
JUNK = junk("spam", "looks like it")
LARGE = MESSAGE + b"x" * 70 + b"\r\n" * 4000 + b"x" * (300 * KB) + b"\r\n"


async def is_empty(there: Desk) -> bool:
    """Nothing of a message stands anywhere."""
    rows = [await there.count(table) for table in ("blob", "message", "email", "queued_recipient", "journey")]
    files = [path for path in there.blobs.directory.rglob("*") if path.is_file()]
    return rows == [0, 0, 0, 0, 0] and files == []


def test_250_names_the_journey(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            intake = await there.begin("bob")
            intake.write(MESSAGE)
            (reply,) = await there.finish(intake)
            assert reply.code == 250
            (row,) = await there.query("SELECT id, message_id, sender, recipients, subject FROM journey")
            assert row[1:] == ("1@far.example", "eve@far.example", "bob@home.example", "Hello")
            assert row[0] == intake.trail.id
            assert there.written.journeys == []
            (octets,) = await there.mail("bob")
            assert octets.startswith(b"Return-Path: <eve@far.example>\r\nDelivered-To: bob@home.example\r\nReceived: ")
            assert octets.endswith(MESSAGE)

    run(main())


@pytest.mark.parametrize(("verdict", "code"), [(REFUSED, 550), (DEFERRED, 451)])
def test_what_all_refuse_is_refused_and_leaves_a_journey(tmp_path: Path, verdict: Verdict, code: int) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            there.judge.verdicts = dict.fromkeys(("ann", "bob"), verdict)
            assert await there.take("ann", "bob") == [code]
            assert await is_empty(there)
            (refused,) = there.written.journeys
            assert (refused.message_id, refused.subject, refused.sender) == (
                "1@far.example",
                "Hello",
                "eve@far.example",
            )
            assert refused.recipients == ("ann@home.example", "bob@home.example")
            (step,) = refused.steps
            assert step.facts["reply"] == str(verdict.reply)
            assert step.facts["reasons"]

    run(main())


def test_who_alone_refuses_finds_it_in_junk(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob", "carol")
            there.judge.verdicts = {"ann": REFUSED, "carol": JUNK}
            assert await there.take("ann", "bob", "carol") == [250]
            assert [len(await there.mail(name)) for name in ("ann", "bob", "carol")] == [0, 1, 0]
            assert [len(await there.mail(name, "junk")) for name in ("ann", "bob", "carol")] == [1, 0, 1]
            # They share one message.
            assert (await there.count("message"), await there.count("blob")) == (1, 1)

    run(main())


def test_who_alone_defers_gets_it_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob")
            there.judge.verdicts = {"ann": DEFERRED}
            assert await there.take("ann", "bob") == [250]
            assert [len(await there.mail(name)) for name in ("ann", "bob")] == [0, 1]
            assert await there.queued() == [("ann@home.example", "local:")]
            ((due, queued),) = await there.query("SELECT due_at, queued_at FROM queued_recipient")
            assert due - queued == 300_000
            assert await there.count("blob") == 1

    run(main())


def test_lmtp_tells_each_his_verdict(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("ann", "bob", "carol")
            there.judge.verdicts = {"ann": REFUSED, "carol": DEFERRED}
            assert await there.take("ann", "bob", "carol", each=True) == [550, 250, 451]
            assert [len(await there.mail(name, "junk")) for name in ("ann", "bob", "carol")] == [0, 0, 0]
            assert await there.queued() == []
            # The journey of the message tells of those who were refused, and is found by them.
            assert await there.count("journey") == 1
            assert there.written.journeys == []

    run(main())


def test_judging_has_a_time_limit(tmp_path: Path) -> None:
    async def never(facts: Facts) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with desk(tmp_path, timeout=0.02) as there:
            await there.people("bob")
            there.judge.before = never  # type: ignore[method-assign]  # what this test is about
            assert await there.take("bob") == [451]
            assert await there.take("bob", "bob", each=True) == [451, 451]
            assert await is_empty(there)
            assert len(there.written.journeys) == 2

    run(main())


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_nothing_is_committed_for_a_peer_that_has_gone(tmp_path: Path, message: bytes) -> None:
    async def main() -> None:
        async with desk(tmp_path, inline=64 * KB) as there:
            await there.people("bob")
            assert await there.take("bob", message=message, there=False) == [451]
            assert await is_empty(there)
            (refused,) = there.written.journeys
            assert str(refused.steps[0].facts["reply"]) == "451 4.4.2 You hung up before the answer"

    run(main())


def test_large_messages_go_to_a_file_that_is_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, inline=64 * KB) as there:
            await there.people("ann", "bob")
            assert await there.take("ann", "bob", message=LARGE) == [250]
            files = [path for path in there.blobs.directory.rglob("*") if path.is_file()]
            assert len(files) == 1
            for name in ("ann", "bob"):
                (octets,) = await there.mail(name)
                assert octets.endswith(LARGE)

    run(main())


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("each", [False, True], ids=["smtp", "lmtp"])
def test_a_store_that_cannot_commit_defers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: bytes, each: bool
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the disk is full")

    async def main() -> None:
        async with desk(tmp_path, inline=64 * KB) as there:
            await there.people("bob")
            intake = await there.begin("bob")
            intake.write(message)
            with monkeypatch.context() as patch:
                patch.setattr(there.store, "write", away)
                (reply,) = await there.finish(intake, each=each)
            assert str(reply) == "451 4.3.0 The mail store cannot be reached; try again later"
            assert await is_empty(there)
            assert len(there.written.journeys) == 1

    run(main())


def test_there_is_room_or_there_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, memory=10 * KB, disk=1 * MB) as there:
            await there.people("bob")
            for size in (0, 5 * KB, 10 * KB, 1 * MB):
                there.reception.check_size(size)
            with pytest.raises(Refusal, match="452"):
                there.reception.check_size(1 * MB + 1)
            intakes: list[Intake] = []
            for octets in (10 * KB, 1 * MB):
                intakes.append(await there.begin("bob", peer="127.0.0.1"))
                intakes[-1].spool.write(bytes(octets))
            with pytest.raises(Refusal, match="452"):
                there.reception.check_size(0)
            with pytest.raises(Refusal, match="452"):
                await there.begin("bob")
            for intake in intakes:
                intake.discard()
            there.reception.check_size(1 * MB)

    run(main())


def test_one_network_leaves_room_for_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, memory=40 * KB, disk=400 * KB) as there:
            await there.people("bob")
            greedy = await there.begin("bob", peer="2001:db8::1")
            greedy.write(b"Subject: x\r\n\r\n" + bytes(120 * KB))
            assert str(greedy.refusal).startswith("452 4.3.1")
            greedy = await there.begin("bob", peer="2001:db8::1")
            greedy.write(b"Subject: x\r\n\r\n" + bytes(90 * KB))
            assert greedy.refusal is None
            there.reception.check_size(50 * KB, owner_of(Facts("mx", "2001:db8:0:1::1")))
            with pytest.raises(Refusal, match="452"):
                there.reception.check_size(50 * KB, owner_of(Facts("mx", "2001:db8::2")))
            other = await there.begin("bob", peer="192.0.2.8")
            other.write(b"Subject: x\r\n\r\n" + bytes(90 * KB))
            ours = await there.begin("bob", peer="::1")
            ours.write(b"Subject: x\r\n\r\n" + bytes(190 * KB))
            assert [one.refusal for one in (other, ours)] == [None, None]
            for one in (greedy, other, ours):
                one.discard()

    run(main())


def test_the_size_that_checks_see_is_the_messages_own(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    async def look(facts: Facts) -> None:
        assert facts.header is not None
        seen.append((facts.size, facts.received))

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            there.judge.before = look  # type: ignore[method-assign]  # what this test is about
            await there.take("bob", message=b"Received: from a by b; now\r\n" * 3 + MESSAGE)
            assert seen == [(len(MESSAGE) + 3 * 28, 3)]

    run(main())


def test_a_large_report_leaves_nothing_where_the_store_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is about is looked for before its octets are staged as a file."""

    def unavailable(*_: object) -> NoReturn:
        raise StoreUnavailable("not just now")

    report = (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.far.example\r\n\r\n"
        b"Final-Recipient: rfc822; ann@far.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b\r\n\r\n%b--b--\r\n"
    ) % ((b"x" * 70 + b"\r\n") * 6000)

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            monkeypatch.setattr(feedback, "look", unavailable)
            intake = await there.begin("bob", sender=None)
            intake.write(report)
            assert [reply.code for reply in await there.finish(intake)] == [451]
            intake.discard()
            assert await is_empty(there)

    run(main())
