"""Counting sessions for reports."""

from pathlib import Path

import pytest

from posthouse import observe
from posthouse.clock import SetClock
from posthouse.trust import tlsrpt
from posthouse.trust.tlsrpt import KEPT_DAYS, Basis, Session, Tally, add, expire
from tests.store.support import opened
from tests.support import run

STS = Basis("sts", ("version: STSv1", "mode: enforce"))
GOOD = Session("there.example", STS)
BAD = Session("there.example", STS, "certificate-expired", "mx.there.example", "192.0.2.1", "it expired")
DAY = 86_400_000
ROWS = "SELECT day, domain, type, policy, result, mx, address, reason, sessions FROM tls_result ORDER BY day, result"


def test_sessions_are_counted_by_day_and_kind(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            tally, today = Tally(clock), clock.now() // DAY
            for session in (GOOD, BAD, GOOD):
                tally.note(session)
            await store.write(add, tally.take())
            tally.note(GOOD)
            clock.advance(86_400)
            tally.note(GOOD)
            await store.write(add, tally.take())
            assert tally.take() == {}
            assert await store.read(lambda tx: tx.query(ROWS, ())) == [
                (today, "there.example", "sts", "version: STSv1\nmode: enforce", "", "", "", "", 3),
                (
                    today, "there.example", "sts", "version: STSv1\nmode: enforce",
                    "certificate-expired", "mx.there.example", "192.0.2.1", "it expired", 1,
                ),
                (today + 1, "there.example", "sts", "version: STSv1\nmode: enforce", "", "", "", "", 1),
            ]  # fmt: skip

    run(main())


def test_what_could_not_be_written_is_counted_with_what_came_later() -> None:
    clock = SetClock()
    tally = Tally(clock)
    tally.note(GOOD)
    taken = tally.take()
    tally.note(GOOD)
    tally.give_back(taken)
    assert list(tally.take().values()) == [2]


def test_policies_of_many_lines_do_not_fill_memory_or_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlsrpt, "_MOST_LINES", 600)
    long = [Session("there.example", Basis("sts", (f"version: {n}", *["mx: a.example"] * 499))) for n in range(4)]

    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            tally = Tally(clock)
            for _ in range(2):
                for session in long:
                    tally.note(session)
                taken = tally.take()
                assert list(taken.values()) == [1, 1]
                tally.give_back(taken)
                tally.note(long[0])
                tally.note(long[3])
                taken = tally.take()
                assert list(taken.values()) == [2, 1]
            await store.write(add, taken)
            kept = await store.read(lambda tx: tx.query("SELECT policy FROM tls_result", ()))
            assert [policy.count("\n") for (policy,) in kept] == [99, 99]

    run(main())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlsrpt, "_MOST_WAITING", 2)
    tally = Tally(SetClock())
    before = observe.counters().get(("tls_results_dropped", ()), 0)
    for domain in ("a.example", "b.example", "c.example", "a.example"):
        tally.note(Session(domain, STS))
    assert sorted(tally.take().values()) == [1, 2]
    assert observe.counters()[("tls_results_dropped", ())] == before + 1


def test_old_days_go(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            today = clock.now() // DAY
            await store.write(add, {(today - KEPT_DAYS - 1, GOOD): 1, (today - KEPT_DAYS, BAD): 1})
            await store.write(expire, clock.now())
            assert await store.read(lambda tx: tx.query("SELECT day FROM tls_result", ())) == [(today - KEPT_DAYS,)]

    run(main())
