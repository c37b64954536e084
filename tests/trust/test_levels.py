"""What is remembered of a domain's sessions, and when a fall is one."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.trust.levels import (
    DAY,
    FORGOTTEN,
    HABIT,
    PATIENCE,
    Levels,
    Memory,
    expire,
    met_clear,
    met_encrypted,
    write,
)
from tests.store.support import opened
from tests.support import run


def test_a_domain_that_never_encrypted_does_not_fall() -> None:
    assert met_clear(None, 5) == (None, False)


def test_one_encrypted_session_is_no_habit() -> None:
    memory = met_encrypted(None, 1000)
    assert met_clear(met_encrypted(memory, 1000 + HABIT - 1), 1000 + HABIT) == (None, False)


def test_a_habit_that_is_broken_is_a_downgrade_for_a_day() -> None:
    memory = Memory(0, HABIT)
    after, downgrade = met_clear(memory, HABIT + 5)
    assert (after, downgrade) == (Memory(0, HABIT, HABIT + 5), True)
    assert met_clear(after, HABIT + 5 + PATIENCE - 1) == (after, True)
    assert met_clear(after, HABIT + 5 + PATIENCE) == (None, False)


def test_what_encrypts_again_is_as_before() -> None:
    assert met_encrypted(Memory(0, HABIT, HABIT + 5), HABIT + 9) == Memory(0, HABIT + 9)


@given(st.lists(st.tuples(st.integers(1, 2 * DAY), st.booleans())))
def test_a_downgrade_always_ends(sessions: list[tuple[int, bool]]) -> None:
    memory, now, clear_since = None, 0, None
    for later, encrypted in sessions:
        now += later
        if encrypted:
            memory, clear_since = met_encrypted(memory, now), None
            continue
        clear_since = now if clear_since is None else clear_since
        memory, downgrade = met_clear(memory, now)
        assert not downgrade or now - clear_since < PATIENCE


def test_it_is_remembered_by_the_store(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            first = Levels(store, clock)
            assert not await first.met("there.example", encrypted=True)
            clock.advance(DAY / 1000)
            assert not await first.met("there.example", encrypted=True)
            assert not await first.met("clear.example", encrypted=False)
            await store.write(write, first.take())
            second = Levels(store, clock)
            assert await second.met("there.example", encrypted=False)
            assert await second.met("there.example", encrypted=False)
            await store.write(write, second.take())
            clock.advance(PATIENCE / 1000)
            third = Levels(store, clock)
            assert not await third.met("there.example", encrypted=False)
            await store.write(write, third.take())
            assert await store.read(lambda tx: tx.query("SELECT domain FROM tls_level", ())) == []

    run(main())


def test_a_domain_that_encrypts_is_written_twice_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            levels, writes = Levels(store, clock), 0
            for _ in range(48):
                await levels.met("there.example", encrypted=True)
                writes += len(levels.take())
                clock.advance(3600)
            assert writes == 4

    run(main())


def test_what_could_not_be_written_waits_unless_it_is_outdated(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            levels = Levels(store, clock)
            await levels.met("a.example", encrypted=True)
            await levels.met("b.example", encrypted=True)
            taken = levels.take()
            clock.advance(DAY / 1000)
            await levels.met("b.example", encrypted=True)
            levels.give_back(taken)
            now = clock.now()
            assert levels.take() == {"a.example": Memory(now - DAY, now - DAY), "b.example": Memory(now - DAY, now)}

    run(main())


def test_a_domain_long_unheard_of_is_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path, clock) as store:
            old, new = Memory(0, clock.now() - FORGOTTEN - 1), Memory(0, clock.now())
            await store.write(write, {"old.example": old, "new.example": new})
            await store.write(expire, clock.now())
            assert await store.read(lambda tx: tx.query("SELECT domain FROM tls_level", ())) == [("new.example",)]

    run(main())
