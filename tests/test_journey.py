"""Journeys: written with what they tell of, found again, told in plain words."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import journey, observe, timeline
from posthouse.clock import SetClock
from posthouse.journey import Recorder, Refused
from posthouse.observe import Fact, Step
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from tests.support import run

SECRET = b"s" * 32
NOW = 1_767_225_600_000


def received(id: int, at: int = NOW) -> Step:
    facts: dict[str, Fact] = {
        "peer": "192.0.2.1",
        "helo": "mail.example.org",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "door": "mx",
        "size": 2048,
        "recipients": ("bob@someschool.example",),
        "login": None,
    }
    return Step("mail.received", at, id, facts)


def write(tx: Tx, id: int, message_id: str = "1@example.org", recipient: str = "bob@someschool.example") -> None:
    journey.open(
        tx,
        id,
        message_id=message_id,
        sender="Alice@example.org",
        recipients=[recipient],
        subject="Hello",
        secret=SECRET,
    )
    journey.record(tx, id, [received(id)])


def store_at(path: Path) -> SqliteStore:
    return SqliteStore.open(path / "posthouse.db", clock=SetClock(NOW))


def test_ids_grow_with_time_and_are_told_apart() -> None:
    assert journey.new_id(NOW, 2**21 - 1) < journey.new_id(NOW + 1, 0)
    assert journey.new_id(NOW, 1) != journey.new_id(NOW, 2)
    assert journey.new_id(NOW, 2**40) == journey.new_id(NOW, 0)


@given(st.integers(0, 2**63 - 1))
def test_a_code_reads_back(id: int) -> None:
    assert journey.parse_code(journey.code(id)) == id
    assert journey.parse_code(journey.code(id).upper()) == id


@given(st.text(max_size=20))
def test_other_text_is_no_code(text: str) -> None:
    id = journey.parse_code(text)
    assert id is None or (len(text.lower()) == 13 and 0 <= id < 2**63)


def test_it_is_found_by_message_id_code_and_address(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        one, two = journey.new_id(NOW, 1), journey.new_id(NOW + 5, 2)
        await store.write(write, one)
        await store.write(write, two, "2@example.org")
        # At once, with some keys in order and some not, and with all of them in order.
        for ordered in (None, 1, 1):
            assert ordered is None or await store.write(journey.order_new, 1) == ordered
            for text in ("<1@example.org>", "1@example.org", journey.code(one), journey.code(one).upper()):
                assert [found.id for found in await store.read(journey.find, text, SECRET)] == [one]
            # The newest first; addresses without regard to case.
            for text in ("alice@example.org", "BOB@someschool.example"):
                assert [found.id for found in await store.read(journey.find, text, SECRET)] == [two, one]
            assert [found.id for found in await store.read(journey.find, "alice@example.org", SECRET, 1)] == [two]
            assert await store.read(journey.find, "alice@example.org", b"x" * 32) == []
            assert await store.read(journey.find, journey.code(7), SECRET) == []
        assert await store.write(journey.order_new) == 0
        await store.close()

    run(main())


def test_steps_come_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        id = journey.new_id(NOW, 1)
        await store.write(write, id)
        for n in range(3):
            step = Step("recipient.deferred", NOW, id, {"n": n, "text": f"{n}"}, observe.WARNING)
            await store.write(journey.record, id, [step])
        await store.write(journey.record, id, [])
        found = await store.read(journey.get, id)
        assert found is not None
        assert (found.message_id, found.sender, found.subject) == ("1@example.org", "Alice@example.org", "Hello")
        assert [step.facts.get("n") for step in found.steps] == [None, 0, 1, 2]
        assert found.steps[1].level == observe.WARNING
        assert found.steps[0].facts["recipients"] == ("bob@someschool.example",)
        assert "login" not in found.steps[0].facts
        await store.close()

    run(main())


def test_steps_without_an_opening_are_found_by_code(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        await store.write(journey.record, 99 << 21, [received(99 << 21)])
        (found,) = await store.read(journey.find, journey.code(99 << 21), SECRET)
        assert found.message_id is None
        assert len(found.steps) == 1
        await store.close()

    run(main())


def test_what_a_stranger_wrote_never_breaks_the_commit(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        id = journey.new_id(NOW, 1)
        bad = "\udcff\ud800 \x00 \x1b[31m"
        step = Step("mail.received", NOW, id, {"helo": bad, "big": 2**80, "many": (bad,), "peer": "192.0.2.1"})

        def broken(tx: Tx) -> None:
            journey.open(tx, id, message_id=bad, sender=bad, recipients=[bad] * 500, subject=bad * 500, secret=SECRET)
            journey.record(tx, id, [step])

        await store.write(broken)
        (found,) = await store.read(journey.find, bad, SECRET)
        told = timeline.as_text(found)
        assert "\x1b" not in told
        assert "received from" in told
        assert len(found.recipients) == 20
        await store.close()

    run(main())


def test_the_worker_brings_keys_into_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journey, "ORDER_PAUSE_SECONDS", 0.001)

    async def main() -> None:
        store = store_at(tmp_path)
        worker = asyncio.create_task(journey.keep_ordered(store))
        hour = 3_600_000
        for n in range(3):
            await store.write(write, journey.new_id(NOW + n * hour, n), f"{n}@example.org")
            async with asyncio.timeout(30):
                while len(await store.read(rows, "SELECT DISTINCT hour FROM journey_key")) != n + 1:
                    await asyncio.sleep(0.001)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        assert await store.read(rows, "SELECT * FROM journey_new") == []
        assert len(await store.read(journey.find, "alice@example.org", SECRET)) == 3
        # Keys go with the hour they belong to.
        while await store.write(journey.expire, NOW + 2 * hour, 2):
            pass
        assert await store.read(rows, "SELECT DISTINCT hour FROM journey_key") == [((NOW + 2 * hour) // hour,)]
        assert len(await store.read(journey.find, "alice@example.org", SECRET)) == 1
        await store.close()

    run(main())


def rows(tx: Tx, sql: str) -> list[tuple[object, ...]]:
    return tx.query(sql, ())


def test_old_journeys_expire_with_all_that_is_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        for n in range(5):
            await store.write(write, journey.new_id(NOW + n, n), f"{n}@example.org")
        assert await store.write(journey.expire, NOW + 3, 2) == 2
        assert await store.write(journey.expire, NOW + 3, 2) == 1
        assert await store.write(journey.expire, NOW + 3, 2) == 0
        assert len(await store.read(journey.find, "alice@example.org", SECRET)) == 2
        assert await store.read(journey.get, journey.new_id(NOW, 0)) is None
        await store.close()

    run(main())


def test_refused_mail_is_recorded_behind_the_reply(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        recorder = Recorder(store, SECRET, SetClock(NOW))
        writing = asyncio.create_task(recorder.run())
        step = Step("mail.refused", NOW, 5 << 21, {"peer": "192.0.2.1", "reply": "550 5.1.1 No such user here"})
        recorder.add(Refused(5 << 21, (step,), sender="spam@example.com", recipients=("bob@someschool.example",)))
        recorder.close()
        await writing
        (found,) = await store.read(journey.find, "spam@example.com", SECRET)
        assert "refused to 192.0.2.1: 550 5.1.1 No such user here" in timeline.as_text(found)
        await store.close()

    run(main())


def test_past_its_allowance_the_recorder_drops_and_counts(tmp_path: Path) -> None:
    async def main() -> None:
        store = store_at(tmp_path)
        recorder = Recorder(store, SECRET, SetClock(NOW))
        before = observe.counters().get(("journeys_dropped", ()), 0)
        for n in range(2100):
            recorder.add(Refused(n, ()))
        assert observe.counters()[("journeys_dropped", ())] - before == 100
        await store.close()

    run(main())


def test_a_timeline_is_plain_sentences() -> None:
    id = journey.new_id(NOW, 1)
    steps = (
        received(id),
        Step("mail.queued", NOW + 1, id, {"recipients": ("bob@someschool.example",), "count": 1}),
        Step("relay.route", NOW + 20, id, {"domain": "someschool.example", "hosts": ("10 mx1.someschool.example",)}),
        Step("relay.connected", NOW + 25, id, {"host": "mx1.someschool.example", "address": "192.0.2.7:25", "tls": ""}),
        Step(
            "relay.said",
            NOW + 30,
            id,
            {"host": "mx1", "address": "192.0.2.7:25", "lines": ("C: DATA", "S: 354 go\x07")},
        ),
        Step(
            "recipient.deferred",
            NOW + 40,
            id,
            {"recipient": "b@c.example", "reply": "451 4.7.1 later", "retry_at": NOW},
        ),
        Step("something.new", NOW + 90_000_000, id, {"colour": "red", "none": None}),
    )
    one = journey.Journey(id, "1@example.org", "alice@example.org", ("bob@someschool.example",), "Hello", steps)
    assert timeline.as_text(one) == (
        f"Journey {journey.code(id)}\n"
        "  Message-ID  <1@example.org>\n"
        "  From        alice@example.org\n"
        "  To          bob@someschool.example\n"
        "  Subject     Hello\n"
        "\n"
        "2026-01-01\n"
        "  00:00:00.000  received from mail.example.org [192.0.2.1] with TLSv1.3 TLS_AES_256_GCM_SHA384 by mx: "
        "2048 octets for bob@someschool.example\n"
        "  00:00:00.001  queued for bob@someschool.example\n"
        "  00:00:00.020  looked up MX of someschool.example: 10 mx1.someschool.example\n"
        "  00:00:00.025  reached mx1.someschool.example (192.0.2.7:25) in clear text\n"
        "  00:00:00.030  the conversation with mx1 (192.0.2.7:25):\n"
        "                  C: DATA\n"
        "                  S: 354 go\\x07\n"
        "  00:00:00.040  not yet delivered to b@c.example: 451 4.7.1 later; next try at 2026-01-01 00:00:00 UTC\n"
        "\n"
        "2026-01-02\n"
        "  01:00:00.000  something.new: colour red\n"
    )
    told = timeline.as_json(one)
    assert isinstance(told["steps"], list)
    assert told["steps"][1]["text"] == "queued for bob@someschool.example"


facts = st.dictionaries(
    st.text(max_size=10),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(alphabet=st.characters(exclude_categories=()), max_size=30),
        st.lists(st.text(max_size=10), max_size=4).map(tuple),
    ),
    max_size=6,
)
kinds = st.one_of(st.sampled_from(sorted(timeline._SENTENCES)), st.text(max_size=10))


@given(
    st.lists(
        st.builds(Step, kinds, st.integers(0, 2**46), st.just(1), facts, st.sampled_from([10, 20, 30, 40])), max_size=4
    )
)
def test_packing_takes_whatever_there_is_and_telling_it_never_fails(steps: list[Step]) -> None:
    unpacked = journey.unpack(journey.pack(steps), 1)
    assert [(step.kind, step.at, step.level) for step in unpacked] == [(s.kind, s.at, s.level) for s in steps]
    for step in unpacked:
        assert "\x1b" not in timeline.describe(step)
    timeline.as_text(journey.Journey(1, None, None, (), None, tuple(unpacked)))


plain_facts = st.dictionaries(
    st.text(max_size=10), st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=30)), max_size=6
)


@given(st.lists(st.builds(Step, st.text(max_size=10), st.integers(0, 2**46), st.just(1), plain_facts), max_size=4))
def test_plain_facts_come_back_as_they_were(steps: list[Step]) -> None:
    assert journey.unpack(journey.pack(steps), 1) == steps


@given(st.binary(max_size=60))
def test_a_damaged_row_is_told_of(octets: bytes) -> None:
    for step in journey.unpack(octets, 5):
        assert timeline.describe(step)


def test_the_manual_lists_every_kind_that_has_a_sentence() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "journey.md").read_text()
    assert re.findall(r"^\| `([a-z_.]+)` \|", manual, re.MULTILINE) == list(timeline._SENTENCES)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"basis": "MTA-STS", "mode": "verify", "fallback": "opportunistic"},
            "MTA-STS of mx.there.example asks for TLS with a verified certificate, or else TLS where it can be had",
        ),
        (
            {"basis": "DANE", "mode": "require", "problem": "none of its TLSA records can be used"},
            "DANE of mx.there.example asks for TLS; none of its TLSA records can be used",
        ),
        (
            {"mode": "verify", "wish": "tls", "refusal": "550 5.7.10 No"},
            "mx.there.example is to be reached with TLS with a verified certificate; "
            "the sender wants verified TLS on all of its way; passed over: 550 5.7.10 No",
        ),
    ],
)
def test_what_somebody_asks_of_tls_is_told_in_words(facts: dict[str, str], sentence: str) -> None:
    assert timeline.describe(Step("relay.security", 0, 1, {"host": "mx.there.example", **facts})) == sentence
