"""The way into the queue and out of it, on a real store."""

from pathlib import Path

import pytest

from posthouse.queue import lanes, queue
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import NewRecipient
from posthouse.queue.schedule import LOCAL
from posthouse.store.database import Topic
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
        assert await world.rows("queued_message") == 1
        await ended(Outcome(second, Fate.FAILED, NO_SUCH))
        assert [await world.rows(table) for table in ("queued_message", "queued_recipient", "blob_suspect")] == [
            0,
            0,
            1,
        ]
        await world.store.write(lanes.release, held)
        assert await world.rows("lane") == 0

    run(main())


@pytest.mark.parametrize("reply", [OK, Reply(250, None, ""), Reply(421, "4.4.2", "two\nlines with 5.1.1 in them")])
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert queue.read_reply(queue.write_reply(reply)) == reply
