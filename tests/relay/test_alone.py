"""Peers that announce PIPELINING and cannot bear what stands behind the end of a message: none of it is lost there."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.queue.outcome import Fate, Report
from posthouse.relay.alone import Alone, out_of_order
from posthouse.relay.connections import Timeouts
from posthouse.terms.reply import Reply
from tests.relay.support import DROP, HANG, PATIENT, SOON, Desk, Peer, Rig
from tests.relay.test_ahead import RELAYED, fates, in_a_row, play

HOUR = 3_600_000
LOST = ("deferred", 421, "message")


@dataclass
class Strict(Peer):
    """What it says at the end of a message where something stands `behind` it, of which it hears nothing, and whether
    it `stays` then. `met`: how often that was."""

    behind: str = ""
    stays: bool = False
    met: int = 0

    async def _message(self, reader: asyncio.StreamReader) -> bytes | None:
        message = await super()._message(reader)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                # Whoever waits for our answer says nothing now.
                if message is not None and await reader.read(1 << 16):
                    self.met += 1
                    if self.behind:
                        await self._say(self.writers[-1], self.behind)
                    return message if self.stays else None
        return message


async def all_ten(rig: Rig, first: int = 1, ahead: Timeouts | None = None) -> tuple[Desk, list[Report]]:
    jobs = [rig.job(f"u{n}@there.example", first=n) for n in range(first, first + 10)]
    return await in_a_row(rig, jobs, ahead=ahead)


@pytest.mark.parametrize(
    "behind", ["554 5.5.1 synchronization error", "503 wrong order", "500 what?", "550 5.5.0 protocol", "501 5.5.4 no"]
)
def test_a_message_refused_for_what_stands_behind_it_goes_alone(tmp_path: Path, behind: str) -> None:
    peer = Strict(behind=behind)

    async def scene(_: Peer, rig: Rig) -> None:
        desk, reports = await all_ten(rig)
        assert fates(reports) == [RELAYED] * 10
        assert len(peer.messages) == 10
        # Each end that left had been noted, the one that was refused too.
        assert [one for mark in rig.past_dot for one in mark] == [1, *range(1, 11)]
        # It is known from then on, and nothing else is begun there.
        assert (peer.met, len(desk.asked)) == (1, 1)
        assert [step.kind for step in reports[0].steps].count("relay.alone") == 1

    play(tmp_path, peer, scene)


def test_who_hangs_up_at_what_stands_behind_may_have_one_message_and_gets_the_others(tmp_path: Path) -> None:
    peer = Strict()

    async def scene(_: Peer, rig: Rig) -> None:
        desk, reports = await all_ten(rig)
        assert fates(reports) == [LOST, *[RELAYED] * 9]
        assert (peer.met, len(desk.asked), len(peer.messages)) == (1, 1, 9)
        assert [step.kind for step in reports[0].steps].count("recipient.possible_duplicate") == 1

    play(tmp_path, peer, scene)


def test_who_goes_away_with_421_is_left_alone_and_tried_without(tmp_path: Path) -> None:
    peer = Strict(behind="421 4.5.1 improper pipelining")

    async def scene(_: Peer, rig: Rig) -> None:
        reports = (await all_ten(rig))[1]
        assert fates(reports) == [("deferred", 421, "destination"), *[RELAYED] * 9]
        assert peer.met == 1

    play(tmp_path, peer, scene)


def test_what_is_thrown_away_behind_a_message_is_said_again(tmp_path: Path) -> None:
    peer = Strict(stays=True)

    async def scene(_: Peer, rig: Rig) -> None:
        desk, reports = await all_ten(rig, ahead=replace(PATIENT, mail=SOON))
        assert fates(reports) == [RELAYED] * 10
        # Silence was met once.
        assert (peer.met, len(desk.asked), len(peer.said)) == (1, 1, 2)
        assert [one for mark in rig.past_dot for one in mark] == list(range(1, 11))

    play(tmp_path, peer, scene)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["503 5.5.1 not now", HANG, DROP])
def test_an_envelope_that_is_not_understood_behind_a_message_is_said_again(
    tmp_path: Path, verb: str, answer: str
) -> None:
    usual = Peer.USUAL[verb][0]

    times = replace(PATIENT, mail=SOON, rcpt=SOON, data=SOON) if answer == HANG else PATIENT

    async def scene(peer: Peer, rig: Rig) -> None:
        desk, reports = await all_ten(rig, ahead=times)
        assert fates(reports) == [RELAYED] * 10
        assert (len(desk.asked), len(peer.messages)) == (1, 10)

    play(tmp_path, Peer({verb: (usual, answer, usual)}), scene)


@pytest.mark.parametrize(
    ("verb", "answer"),
    [("RCPT", "550 5.5.0 no such mailbox"), ("MAIL", "550 5.1.8 who?"), ("RCPT", "501 5.1.3 what?")],
)
def test_a_refusal_of_the_mail_is_no_sign(tmp_path: Path, verb: str, answer: str) -> None:
    usual = Peer.USUAL[verb][0]

    async def scene(peer: Peer, rig: Rig) -> None:
        _, reports = await in_a_row(rig, [rig.job(f"u{n}@there.example", first=n) for n in (1, 2)])
        assert [report.outcomes[0].fate for report in reports] == [Fate.RELAYED, Fate.FAILED]
        desk, reports = await all_ten(rig, first=3)
        assert fates(reports) == [RELAYED] * 10
        assert (len(desk.asked), len(peer.said)) == (9, 1)

    play(tmp_path, Peer({verb: (usual, answer, usual)}), scene)


def test_who_has_borne_it_and_hangs_up_has_another_reason(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        desk, reports = await all_ten(rig)
        assert fates(reports) == [RELAYED] * 10
        assert (len(desk.asked), len(peer.said)) == (9, 2)

    play(tmp_path, Peer({"MAIL": (*["250 ok"] * 4, DROP, "250 ok")}), scene)


def test_it_is_tried_again_after_a_while(tmp_path: Path) -> None:
    peer = Strict(behind="554 5.5.1 synchronization error")

    async def scene(_: Peer, rig: Rig) -> None:
        await all_ten(rig)
        rig.clock.advance(5 * 3600)
        assert (await all_ten(rig, first=11))[0].asked == []
        rig.clock.advance(2 * 3600)
        desk, reports = await all_ten(rig, first=21)
        assert len(desk.asked) == 1
        assert fates(reports) == [RELAYED] * 10
        assert (peer.met, len(peer.messages)) == (2, 30)

    play(tmp_path, peer, scene)


def test_what_is_remembered_is_bounded() -> None:
    alone = Alone(SetClock())
    for number in range(1500):
        alone.learn(f"{number}.example")
    assert not alone.holds("0.example")
    assert alone.holds("1499.example")
    assert sum(alone.holds(f"{number}.example") for number in range(1500)) == 1000


@pytest.mark.parametrize(
    ("reply", "is_one"),
    [
        (Reply(503, None, "order"), True),
        (Reply(500, None, "what"), True),
        (Reply(554, "5.5.1", "sync"), True),
        (Reply(503, "5.7.0", "order"), True),
        (Reply(501, "5.1.7", "who"), False),
        (Reply(554, None, "spam"), False),
        (Reply(552, "5.5.3", "too many"), False),
        (Reply(451, "4.5.0", "later"), False),
    ],
)
def test_which_refusals_speak_of_the_order(reply: Reply, is_one: bool) -> None:
    assert out_of_order(reply) is is_one
