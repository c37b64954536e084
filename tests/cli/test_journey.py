import asyncio
import json

import pytest

from posthouse import journey
from posthouse.clock import SystemClock
from posthouse.observe import Fact, Step
from posthouse.store.database import Tx
from tests.cli.support import Command
from tests.store.support import opened

FIRST = journey.new_id(1_767_225_600_000, 1)
SECOND = journey.new_id(1_767_225_700_000, 2)


@pytest.fixture
def told(command: Command) -> Command:
    """Two messages of Alice's have a journey."""

    async def main() -> None:
        async with opened(command.configuration.parent / "data", SystemClock()) as store:

            def write(tx: Tx) -> None:
                for id, message_id in ((FIRST, "one@example.org"), (SECOND, "two@example.org")):
                    journey.open(
                        tx,
                        id,
                        message_id=message_id,
                        sender="alice@example.org",
                        recipients=["bob@far.example"],
                        subject="Lunch",
                        secret=store.secret,
                    )
                    facts: dict[str, Fact] = {"recipients": ("bob@far.example",), "count": 1}
                    journey.record(tx, id, [Step("mail.queued", id >> journey.RANDOM_BITS, id, facts)])

            await store.write(write)

    asyncio.run(main())
    return command


@pytest.mark.parametrize("what", ["one@example.org", "<one@example.org>", journey.code(FIRST)])
def test_by_message_id_and_by_code(told: Command, what: str) -> None:
    shown = told("journey", what)
    assert shown.startswith(f"Journey {journey.code(FIRST)}\n  Message-ID  <one@example.org>\n")
    assert "  00:00:00.000  queued for bob@far.example\n" in shown


def test_by_address_the_newest_first(told: Command) -> None:
    shown = told("journey", "BOB@far.example")
    assert shown.index("two@example.org") < shown.index("one@example.org")
    assert [one["message_id"] for one in told.json("journey", "alice@example.org")] == [
        "two@example.org",
        "one@example.org",
    ]


def test_limit(told: Command) -> None:
    shown = told("journey", "alice@example.org", "--limit", "1")
    assert "two@example.org" in shown
    assert "one@example.org" not in shown
    assert shown.endswith("\nThere may be older ones: --limit 5\n")
    assert len(told.json("journey", "alice@example.org", "--limit", "1")) == 1


def test_json_holds_the_steps(told: Command) -> None:
    (found,) = told.json("journey", "one@example.org")
    assert found["id"] == journey.code(FIRST)
    assert found["steps"][0]["kind"] == "mail.queued"
    assert found["steps"][0]["facts"] == {"recipients": ["bob@far.example"], "count": 1}


def test_nothing_found_is_one_clear_line(told: Command) -> None:
    error = told.error("journey", "nobody@example.org")
    assert error == "nothing is known of nobody@example.org; journeys are kept for 30d"
    result = told.result("journey", "nobody@example.org", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
