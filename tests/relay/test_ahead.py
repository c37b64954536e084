"""The envelope of the next message leaves behind the message before it: what becomes of both, whatever peers do."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.queue.attempt import LeaseLost
from posthouse.queue.outcome import Fate, Report
from posthouse.queue.queue import Job
from posthouse.relay.connections import Timeouts
from posthouse.store.blobs import BlobRef, Blobs
from posthouse.terms.address import Address
from posthouse.terms.envelope import Wishes
from tests.relay.support import DROP, EHLO, HANG, MESSAGE, PATIENT, SOON, Desk, Peer, Rig, told
from tests.support import run

RELAYED = ("relayed", 250, "recipient")
Scene = Callable[[Peer, Rig], Coroutine[Any, Any, None]]


def play(tmp_path: Path, peer: Peer, scene: Scene, **rig: Any) -> None:
    async def main() -> None:
        async with peer:
            stage = Rig(Blobs(tmp_path / "blobs"), peer, **rig)
            try:
                await scene(peer, stage)
            finally:
                await stage.courier.close()

    run(main())


def three(rig: Rig, **last: Any) -> list[Job]:
    """Jobs 1, 2 and 3, a recipient each."""
    named: list[dict[str, Any]] = [{}, {}, last]
    return [rig.job(f"u{n}@there.example", first=n, **more) for n, more in enumerate(named, 1)]


async def in_a_row(
    rig: Rig, jobs: Sequence[Job], *, first: Timeouts | None = None, ahead: Timeouts | None = None
) -> tuple[Desk, list[Report]]:
    """Attempt them as a worker does: each knows the one behind it. `first` is the patience with the first of them,
    `ahead` that with what is begun ahead, where they are others than the rig's."""
    desk = Desk(rig, list(jobs[1:]), patience=ahead)
    rig.wait(first or rig.timeouts)
    reports: list[Report] = []
    for job in jobs:
        reports.append(await rig.courier.attempt(job, desk))
        rig.wait(rig.timeouts)
    return desk, reports


def fates(reports: Sequence[Report]) -> list[tuple[str, int, str]]:
    return [outcome for report in reports for outcome in told(report).values()]


def test_the_peer_has_the_next_envelope_before_it_answers_the_message(tmp_path: Path) -> None:
    """A peer that answers nothing behind the first message until it has heard DATA of the second."""
    heard: list[str] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def hear(count: int) -> None:
            heard.extend([(await reader.readline()).decode().split()[0] for _ in range(count)])

        async def message() -> None:
            await reader.readuntil(b"\r\n.\r\n")
            heard.append(".")

        async with asyncio.timeout(30):
            writer.write(b"220 there\r\n")
            await hear(1)
            writer.write(EHLO.encode() + b"\r\n")
            await hear(3)
            writer.write(b"250 ok\r\n250 ok\r\n354 go on\r\n")
            await message()
            await hear(3)
            writer.write(b"250 taken\r\n250 ok\r\n250 ok\r\n354 go on\r\n")
            await message()
            writer.write(b"250 taken\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(converse, "127.0.0.1", 0)
        try:
            rig = Rig(Blobs(tmp_path), Peer(port=server.sockets[0].getsockname()[1]))
            _, reports = await in_a_row(rig, three(rig)[:2])
            assert fates(reports) == [RELAYED, RELAYED]
            # Each was noted before its own end, and none before.
            assert rig.past_dot == [[1], [2]]
            await rig.courier.close()
        finally:
            server.close()
            await server.wait_closed()

    run(main())
    assert heard == ["EHLO", *["MAIL", "RCPT", "DATA", "."] * 2]


def test_each_journey_holds_its_own_conversation_and_its_way(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        _, reports = await in_a_row(rig, three(rig))
        assert fates(reports) == [RELAYED] * 3
        assert len(peer.said) == 1
        for number, report in enumerate(reports, 1):
            assert {step.journey for step in report.steps} == {number}
            assert report.site == "there.example"
            lines = report.steps[-1].facts["lines"]
            assert isinstance(lines, tuple)
            assert list(lines[-8:]) == [
                "C: MAIL FROM:<alice@home.example>",
                f"C: RCPT TO:<u{number}@there.example>",
                "C: DATA",
                "S: 250 2.1.0 fine",
                "S: 250 2.1.5 fine",
                "S: 354 go on",
                f"C: (the message: {len(MESSAGE) + 1} octets)",
                "S: 250 2.0.0 taken as 42",
            ]
            assert len(lines) == 8 or number == 1
        assert [step.kind for step in reports[1].steps] == ["relay.route", "relay.kept", "relay.said"]

    play(tmp_path, Peer(), scene)


@pytest.mark.parametrize(
    ("answer", "fate"),
    [("554 5.6.0 spam", ("failed", 554, "message")), ("452 4.3.1 full", ("deferred", 452, "message"))],
)
def test_a_message_that_is_refused_leaves_the_next_one_as_it_is(
    tmp_path: Path, answer: str, fate: tuple[str, int, str]
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        _, reports = await in_a_row(rig, three(rig))
        assert fates(reports) == [fate, RELAYED, RELAYED]
        assert len(peer.said) == 1
        assert "RSET" not in peer.said[0]

    play(tmp_path, Peer({".": (answer, "250 taken")}), scene)


@pytest.mark.parametrize(
    ("end", "fate"),
    [
        ("421 4.3.2 bye", ("deferred", 421, "destination")),
        (DROP, ("deferred", 421, "message")),
        (HANG, ("deferred", 421, "message")),
        ("nonsense", ("deferred", 421, "message")),
    ],
)
def test_who_is_lost_behind_a_message_has_not_got_the_next_one(
    tmp_path: Path, end: str, fate: tuple[str, int, str]
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        times = replace(PATIENT, dot=SOON) if end == HANG else PATIENT
        _, reports = await in_a_row(rig, three(rig), first=times)
        assert fates(reports) == [fate, RELAYED, RELAYED]
        # What was said on the lost connection is said again on another; no message went twice.
        assert len(peer.said) == 2
        assert len(peer.messages) == 3
        assert rig.past_dot == [[1], [2], [3]]

    play(tmp_path, Peer({".": (end, "250 taken")}), scene)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("end", [DROP, "421 4.3.2 bye"])
def test_who_is_lost_before_it_answers_the_next_envelope_is_replaced(tmp_path: Path, verb: str, end: str) -> None:
    usual = Peer.USUAL[verb][0]

    async def scene(peer: Peer, rig: Rig) -> None:
        _, reports = await in_a_row(rig, three(rig))
        assert fates(reports)[0] == RELAYED
        if verb == "MAIL":
            assert fates(reports) == [RELAYED] * 3
        assert sum(fate == RELAYED for fate in fates(reports)) == len(peer.messages)

    play(tmp_path, Peer({verb: (usual, end, usual)}), scene)


def test_a_refused_envelope_is_the_next_ones_alone(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        _, reports = await in_a_row(rig, three(rig))
        assert fates(reports) == [RELAYED, ("failed", 550, "recipient"), RELAYED]
        # DATA was taken all the same, and had an empty message.
        assert [len(message) for message in peer.messages] == [len(MESSAGE) + 1, 0, len(MESSAGE) + 1]
        assert len(peer.said) == 1

    play(tmp_path, Peer({"RCPT": ("250 ok", "550 5.1.1 nobody", "250 ok")}), scene)


def test_what_will_not_be_attempted_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = three(rig)
        desk = Desk(rig, [jobs[1]])
        assert fates([await rig.courier.attempt(jobs[0], desk)]) == [RELAYED]
        assert desk.forgo is not None
        desk.forgo(jobs[1])
        desk.forgo(jobs[1])
        assert fates([await rig.courier.attempt(jobs[1], Desk(rig))]) == [RELAYED]
        assert len(peer.said) == 2
        assert len(peer.messages) == 2

    play(tmp_path, Peer(), scene)


def test_without_the_lease_nothing_is_sent_and_nothing_begun(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = three(rig)
        rig.lease_lost = True
        with pytest.raises(LeaseLost):
            await rig.courier.attempt(jobs[0], Desk(rig, jobs[1:]))
        await peer.left()
        assert not peer.messages
        rig.lease_lost = False
        assert fates([await rig.courier.attempt(jobs[1], Desk(rig))]) == [RELAYED]
        assert sum(line.startswith("MAIL") for said in peer.said for line in said) == 2

    play(tmp_path, Peer(), scene)


@pytest.mark.parametrize(
    ("ehlo", "more"),
    [
        ("250-there\r\n250 8BITMIME", {}),
        ("250-there\r\n250-PIPELINING\r\n250 CHUNKING", {}),
        ("250-there\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=1", {}),
        (EHLO, {"messages": 1}),
    ],
)
def test_where_nothing_may_follow_nothing_is_asked_for(tmp_path: Path, ehlo: str, more: dict[str, Any]) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        desk, reports = await in_a_row(rig, three(rig))
        assert fates(reports) == [RELAYED] * 3
        assert desk.asked == []

    play(tmp_path, Peer({"EHLO": (ehlo,)}), scene, **more)


@pytest.mark.parametrize("more", [{"smtputf8": True}, {"wishes": Wishes(requiretls=True)}, {"octets": b"a\nb\r\n"}])
def test_one_that_wants_more_has_its_own_attempt(tmp_path: Path, more: dict[str, Any]) -> None:
    """The last of three cannot be sent to this peer; the others do not suffer."""

    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = three(rig, **more, **({"sender": "ä@home.example"} if "smtputf8" in more else {}))
        _, reports = await in_a_row(rig, jobs)
        assert fates(reports)[:2] == [RELAYED, RELAYED]
        assert fates(reports)[2][0] == "failed"
        assert len(peer.messages) == 2

    play(tmp_path, Peer({"EHLO": ("250-there\r\n250 PIPELINING",)}), scene)


def test_one_whose_octets_are_lost_says_so_itself(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = three(rig)
        lost = replace(jobs[1], blob=BlobRef(2, 5, b"", None, None))
        desk = Desk(rig, [lost])
        assert fates([await rig.courier.attempt(jobs[0], desk)]) == [RELAYED]
        assert desk.asked == [lost]
        assert fates([await rig.courier.attempt(jobs[2], desk)]) == [RELAYED]
        assert len(peer.said) == 1

    play(tmp_path, Peer(), scene)


def test_one_that_cannot_be_said_does_not_harm_the_one_before_it(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = three(rig)
        nobody = replace(jobs[1].recipients[0], address=Address("a\r\nRSET", "there.example"))
        jobs[1] = replace(jobs[1], recipients=(nobody,))
        desk = Desk(rig, [jobs[1]])
        assert fates([await rig.courier.attempt(jobs[0], desk)]) == [RELAYED]
        assert (desk.asked, rig.past_dot) == ([jobs[1]], [[1]])
        with pytest.raises(ValueError, match="cannot stand in a line"):
            await rig.courier.attempt(jobs[1], desk)
        assert fates([await rig.courier.attempt(jobs[2], desk)]) == [RELAYED]
        assert "RSET" not in str(peer.said)

    play(tmp_path, Peer(), scene)


def test_letters_that_only_join_others_are_said(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        jobs = [rig.job(f"نامه\u200cها{n}@there.example", first=n, smtputf8=True) for n in (1, 2, 3)]
        assert fates((await in_a_row(rig, jobs))[1]) == [RELAYED] * 3
        assert "RCPT TO:<نامه\u200cها3@there.example>" in peer.said[0]

    play(tmp_path, Peer(), scene)


@pytest.mark.parametrize("early", ["250 2.0.0 taken", "421 4.3.2 closing"])
def test_what_was_said_before_the_end_is_no_answer_to_it(tmp_path: Path, early: str) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        (report,) = (await in_a_row(rig, three(rig)[:1]))[1]
        assert [outcome.fate for outcome in report.outcomes] == [Fate.DEFERRED]
        assert early in str([step.facts.get("lines") for step in report.steps])
        # Its end has not left: nobody can have it.
        await peer.left()
        assert peer.messages == []
        assert not any(step.kind == "recipient.possible_duplicate" for step in report.steps)

    play(tmp_path, Peer({"DATA": (f"354 go on\r\n{early}",)}), scene)


TWICE = "250 ok\r\n250 ok"
SAYINGS = st.sampled_from(
    ["250 ok", "354 go", "421 bye", "450 later", "452 4.5.3 many", "503 order", "550 5.1.1 no", "554 5.5.1 sync", "999",
     "", DROP, TWICE]
)  # fmt: skip
LIES = st.fixed_dictionaries(
    {}, optional={verb: st.lists(SAYINGS, min_size=1, max_size=5) for verb in ("MAIL", "RCPT", "DATA", ".", "RSET")}
)


def took_it_behind_the_end(report: Report) -> bool:
    """In the last conversation 2xx stands behind the message."""
    lines = [step.facts["lines"] for step in report.steps if step.kind == "relay.said"][-1]
    assert isinstance(lines, tuple)
    end = max(at for at, line in enumerate(lines) if str(line).startswith("C: (the message"))
    return str(lines[end + 1]).startswith("S: 2")


@settings(max_examples=60, deadline=None)
@given(LIES)
def test_a_lying_peer_is_not_believed_and_gets_nothing_twice_that_it_took(lies: dict[str, list[str]]) -> None:
    """Who answers each command once has what it took. Who says more than it was asked for may be ahead of us: what it
    said before our end has reached it, and what has reached us behind that end, cannot be told from an answer. For such
    a peer a message is given when it said 2xx after the end had left, and never by what it said before.
    """
    talkative = any(TWICE in sayings for sayings in lies.values())

    async def main() -> None:
        with TemporaryDirectory() as directory:
            async with Peer(lies) as peer:
                times = replace(PATIENT, mail=SOON, rcpt=SOON, data=SOON, dot=SOON, quit=SOON)
                rig = Rig(Blobs(Path(directory)), peer, timeouts=times)
                jobs = [rig.job(f"u{n}@there.example", first=n, octets=b"number %d\r\n" % n) for n in range(1, 5)]
                _, reports = await in_a_row(rig, jobs)
                for number, report in enumerate(reports, 1):
                    assert set(told(report)) == {number}
                    if report.outcomes[0].fate is Fate.RELAYED:
                        assert took_it_behind_the_end(report)
                        assert talkative or peer.messages.count(b"number %d\r\n" % number) >= 1
                    # Its end left once at most in an attempt, whoever was lost when.
                    assert peer.messages.count(b"number %d\r\n" % number) <= rig.past_dot.count([number])
                await rig.courier.close()

    run(main())
