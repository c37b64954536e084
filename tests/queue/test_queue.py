"""The way into the queue and out of it, on a real store."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.queue import control, lanes, queue
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.store import blobs, sweep
from posthouse.store.database import Topic, Tx
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.queue.support import DELAYS, NO_SUCH, NOT_NOW, OK, World, claim, lease_only_lane, settle
from tests.support import run


def test_a_message_and_its_wishes_come_out_as_they_went_in(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        wanted = NewRecipient(
            address=parse('"odd name"@there.example'),
            original="list@home.example",
            notify=frozenset({"FAILURE", "DELAY"}),
            orcpt="rfc822;list@home.example",
            prologue=b"X-A: b\r\n",
        )
        (id,) = await world.send(wanted, account=7, smtputf8=True)
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        assert (held.destination, held.sender) == ("domain:there.example", "account:7")
        assert (job.domain, job.prologue, job.mail.wishes.smtputf8, job.mail.account) == (
            "there.example", b"X-A: b\r\n", True, 7,
        )  # fmt: skip
        (recipient,) = job.recipients
        assert (recipient.id, recipient.address, recipient.original) == (id, wanted.address, "list@home.example")
        assert (recipient.notify, recipient.orcpt, recipient.attempts) == (wanted.notify, wanted.orcpt, 0)

    run(main())


def test_lanes_are_by_destination_and_sender(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", "b@y.example", "c@x.example", account=1)
        await world.send("a@x.example", sender="bob@elsewhere.example")
        await world.send("a@x.example", sender=None)
        await world.send(NewRecipient(parse("me@home.example"), LOCAL), account=1)
        found = await world.select("SELECT destination, sender FROM lane ORDER BY 1, 2")
        assert found == [
            ("domain:x.example", ""),
            ("domain:x.example", "account:1"),
            ("domain:x.example", "elsewhere.example"),
            ("domain:y.example", "account:1"),
            ("local:", "account:1"),
        ]

    run(main())


def test_accepting_rings_the_bell(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        ear = world.store.listen(Topic.QUEUE)
        await world.send("a@x.example")
        assert await ear.wait() == {0}

    run(main())


def test_the_message_goes_with_its_last_recipient_and_its_octets_become_suspect(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        first, second = await world.send("a@x.example", "b@x.example")
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs

        async def ended(*outcomes: Outcome) -> None:
            await world.store.write(settle, held, job, Report(outcomes), world.clock.now(), DELAYS, 0.5)

        await ended(Outcome(first, Fate.RELAYED, OK), Outcome(second, Fate.DEFERRED, NOT_NOW))
        assert [await world.rows(table) for table in ("queued_recipient", "blob_suspect")] == [1, 0]
        await ended(Outcome(second, Fate.FAILED, NO_SUCH))
        assert [await world.rows(table) for table in ("queued_recipient", "blob_suspect")] == [0, 1]
        await world.store.write(lanes.release, held)
        assert await world.rows("lane") == 0

    run(main())


def test_octets_stay_while_another_message_of_theirs_waits(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        (first,) = await world.send("a@x.example")
        now = world.clock.now()
        mail = QueuedMail(1, first >> 24, 10, None, now, now + 1000)

        def forward(tx: Tx) -> list[int]:
            return queue.accept(tx, mail, [NewRecipient(parse("b@y.example"))])

        (second,) = await world.store.write(forward)
        told = await world.store.read(queue.find_messages, [first, second])
        assert (told[first].id, told[second].id, told[second].mail) == (first, second, mail)
        await world.store.write(queue.end, [first], now)
        assert await world.rows("blob_suspect") == 0
        # Somebody else's reference went: the sweep leaves what waits.
        await world.store.write(blobs.suspect, [first >> 24], now)
        assert await world.store.write(sweep.clear_suspects, now) == (1, 0)
        await world.store.write(queue.end, [second], now)
        assert await world.store.write(sweep.clear_suspects, now) == (1, 1)

    run(main())


def test_many_of_one_message_end_at_once_and_leave_one_suspect(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        ids = await world.send("a@x.example", "b@y.example", "c@z.example")
        ids += await world.send("d@x.example")
        await world.store.write(queue.end, ids, world.clock.now())
        assert await world.select("SELECT blob FROM blob_suspect ORDER BY 1") == [(ids[0] >> 24,), (ids[3] >> 24,)]

    run(main())


def test_ids_of_one_message_stand_together_when_the_series_comes_round(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        end = (1 << 24) - 1
        await world.store.write(
            lambda tx: tx.query("UPDATE series SET next = ? WHERE name = 'queued_recipient'", (end,))
        )
        first = await world.send("a@x.example", "b@x.example")
        second = await world.send("a@x.example")
        assert [id >> 24 for id in first + second] == [1, 1, 2]
        assert [id & end for id in first + second] == [end, 0, 1]
        (listed, *_) = await world.store.read(control.list_recipients, Selection(id=second[0]), world.clock.now())
        assert listed.id == second[0]

    run(main())


@given(st.integers(0, (1 << 24) - 1), st.integers(1, 1 << 36))
def test_an_id_is_read_as_it_was_written(number: int, blob: int) -> None:
    assert queue.read_id(queue.write_id(blob << 24 | number)) == blob << 24 | number


@given(st.text())
def test_what_is_no_id_is_none(text: str) -> None:
    id = queue.read_id(text)
    assert id is None or 0 <= id < 1 << 63


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.16777216", "-1.1", "1.1.1", "٣.1", "1.1\n"])
def test_these_are_no_ids(text: str) -> None:
    assert queue.read_id(text) is None


@pytest.mark.parametrize("reply", [OK, Reply(250, None, ""), Reply(421, "4.4.2", "two\nlines with 5.1.1 in them")])
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert queue.read_reply(queue.write_reply(reply)) == reply
