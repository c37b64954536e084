"""What `database.Store` promises, sentence by sentence, of every engine."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from posthouse.store.database import Listener, Store, StoreUnavailable, Topic, Tx
from tests.store.support import count, get, open_store, put
from tests.support import run

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """A function that opens the engine's store in this test's directory."""
    return {"sqlite": lambda: open_store(tmp_path)}[request.param]


class Mistake(Exception):
    pass


def take(tx: Tx, count: int = 1) -> list[int]:
    return [tx.number("blob") for _ in range(count)]


def put_and_fail(tx: Tx, octets: bytes) -> NoReturn:
    put(tx, octets)
    tx.ring(Topic.ACCOUNT, 9)
    raise Mistake(octets)


def test_what_was_written_is_there_after_opening_again(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        row = await store.write(put, b"mail")
        await store.close()
        store = open_one()
        assert await store.read(get, row) == b"mail"
        await store.close()

    run(main())


def test_a_function_runs_in_a_thread_of_the_stores(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        here = threading.get_ident()
        assert await store.write(lambda tx: threading.get_ident()) != here
        assert await store.read(lambda tx: threading.get_ident()) != here
        await store.close()

    run(main())


def test_arguments_and_answers_pass_as_they_are(open_one: Open) -> None:
    def echo(tx: Tx, one: object, *, two: object) -> tuple[object, object]:
        return one, two

    async def main() -> None:
        store = open_one()
        one, two = object(), object()
        assert await store.read(echo, one, two=two) == (one, two)
        assert await store.write(echo, one, two=two) == (one, two)
        await store.close()

    run(main())


def test_who_raises_leaves_nothing_and_takes_nothing_of_the_others(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        answers = await asyncio.gather(
            *[store.write(put_and_fail if number % 3 == 0 else put, b"%d" % number) for number in range(30)],
            return_exceptions=True,
        )
        kept = [answer for answer in answers if isinstance(answer, int)]
        assert [isinstance(answer, Mistake) for answer in answers] == [number % 3 == 0 for number in range(30)]
        assert await store.read(count) == len(kept) == 20
        assert [await store.read(get, row) for row in kept] == [b"%d" % n for n in range(30) if n % 3]
        await store.close()

    run(main())


def test_a_number_is_never_given_twice(open_one: Open) -> None:
    def take_and_fail(tx: Tx) -> NoReturn:
        raise Mistake(take(tx, 150))

    async def main() -> None:
        store = open_one()
        given: list[int] = []
        for many in (1, 150, 1):
            answers = await asyncio.gather(
                store.write(take, many), store.write(take_and_fail), store.write(take), return_exceptions=True
            )
            given += [number for answer in answers if isinstance(answer, list) for number in answer]
        other = open_one()
        for one in (store, other, store, other):
            given += await one.write(take, 70)
        await store.close()
        await other.close()
        store = open_one()
        given += await store.write(take)
        await store.close()
        assert given[0] == 1
        assert len(set(given)) == len(given)

    run(main())


def test_what_is_put_stands_in_its_order_when_the_function_has_ended(open_one: Open) -> None:
    def write(tx: Tx) -> list[Any]:
        tx.put("domain_insert", name="a", catch_all=None, created_at=1)
        tx.put("domain_insert", name="b", catch_all=None, created_at=1)
        tx.put("domain_delete", name="a")
        seen = tx.one("domain_find", name="b")
        tx.put("domain_delete", name="b")
        tx.put("domain_insert", name="c", catch_all=None, created_at=1)
        return [seen]

    def left(tx: Tx) -> list[bool]:
        return [tx.one("domain_find", name=name) is not None for name in "abc"]

    async def main() -> None:
        store = open_one()
        (seen,) = await store.write(write)
        assert seen is not None
        assert await store.read(left) == [False, False, True]
        await store.close()

    run(main())


@pytest.mark.parametrize("error", [StopIteration(), KeyboardInterrupt(), SystemExit(3), Mistake()])
def test_whatever_a_function_raises_reaches_its_caller_and_the_store_goes_on(
    open_one: Open, error: BaseException
) -> None:
    def fail(tx: Tx) -> None:
        raise error

    async def main() -> None:
        store = open_one()
        caught: list[BaseException] = []
        for ask in (store.read, store.write):
            try:
                await ask(fail)
            except BaseException as raised:
                caught.append(raised)
        assert [type(raised) for raised in caught] == 2 * [
            RuntimeError if isinstance(error, StopIteration) else type(error)
        ]
        assert await store.write(put, b"next") == 1
        await store.close()

    run(main())


def test_a_cancelled_caller_abandons_the_answer_and_not_the_commit(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        started, go = threading.Event(), threading.Event()

        def slow(tx: Tx) -> None:
            started.set()
            go.wait()
            put(tx, b"slow")

        under_way = asyncio.ensure_future(store.write(slow))
        await asyncio.to_thread(started.wait)
        waiting = asyncio.ensure_future(store.write(put, b"waiting"))
        await asyncio.sleep(0)
        under_way.cancel()
        waiting.cancel()
        await asyncio.wait([under_way, waiting])
        assert under_way.cancelled()
        assert waiting.cancelled()
        go.set()
        await store.write(put, b"after")
        assert await store.read(count) == 3
        await store.close()

    run(main())


def test_a_read_sees_every_write_that_had_returned(open_one: Open) -> None:
    async def one(store: Store) -> None:
        for number in range(30):
            row = await store.write(put, b"%d" % number)
            assert await store.read(get, row) == b"%d" % number

    async def main() -> None:
        store = open_one()
        await asyncio.gather(*[one(store) for _ in range(10)])
        await store.close()

    run(main())


def test_a_read_is_one_snapshot_that_ends_with_it(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        await store.write(put, b"1")
        looked, go = threading.Event(), threading.Event()

        def twice(tx: Tx) -> tuple[int, int]:
            first = count(tx)
            looked.set()
            go.wait()
            return first, count(tx)

        reading = asyncio.ensure_future(store.read(twice))
        await asyncio.to_thread(looked.wait)
        await store.write(put, b"2")
        go.set()
        assert await reading == (1, 1)
        assert await asyncio.gather(*[store.read(count) for _ in range(8)]) == [2] * 8
        await store.close()

    run(main())


def test_a_read_must_not_write(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        with pytest.raises(StoreUnavailable):
            await store.read(put, b"no")
        assert await store.read(count) == 0
        await store.close()

    run(main())


def test_statements_answer_as_they_say(open_one: Open) -> None:
    def all_of_it(tx: Tx) -> None:
        first, second = put(tx, b"a"), put(tx, b"b")
        assert tx.one("blob_find", id=first) == (first, 1, b"", b"a", None, 0)
        assert tx.one("blob_find", id=99) is None
        assert tx.value("blob_find", id=second) == second
        assert tx.value("blob_find", id=99) is None
        assert tx.all("blob_find", id=99) == []
        assert [row[0] for row in tx.all("blob_find", id=first)] == [first]
        assert tx.run("blob_delete", id=first) == 1
        assert tx.run("blob_delete", id=first) == 0
        # The rows may be made from the transaction itself.
        tx.many("blob_suspect_insert", ({"blob": count(tx), "since_at": at} for at in range(3)))
        assert tx.query("SELECT blob, since_at FROM blob_suspect WHERE blob = ?", [1]) == [(1, 0)]

    async def main() -> None:
        store = open_one()
        await store.write(all_of_it)
        await store.close()

    run(main())


def test_many_more_than_one_group_are_all_answered(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        rows = await asyncio.gather(*[store.write(put, b"x") for _ in range(1000)])
        assert len(set(rows)) == 1000
        await store.close()

    run(main())


async def quiet(store: Store, listener: Listener) -> bool:
    """Nothing has been heard by the time another write is through: what was rung before would have been."""
    waiting = asyncio.ensure_future(listener.wait())
    await store.write(put, b"another")
    await asyncio.sleep(0)
    if waiting.done():
        return False
    waiting.cancel()
    await asyncio.wait([waiting])
    return True


def test_the_bell_is_rung_after_the_commit_and_never_without_one(open_one: Open) -> None:
    def ring(tx: Tx, *ids: int) -> int:
        for id in ids:
            tx.ring(Topic.ACCOUNT, id)
        return put(tx, b"news")

    async def main() -> None:
        store = open_one()
        all_accounts, seven, queue = (
            store.listen(Topic.ACCOUNT),
            store.listen(Topic.ACCOUNT, 7),
            store.listen(Topic.QUEUE),
        )
        with pytest.raises(Mistake):
            await store.write(put_and_fail, b"x")
        assert await quiet(store, all_accounts)
        row = await store.write(ring, 7, 8)
        assert await all_accounts.wait() == {7, 8}
        assert await seven.wait() == {7}
        assert await store.read(get, row) == b"news"
        # Several rings while nobody waited are heard as one.
        for _ in range(3):
            await store.write(ring, 7)
        await store.write(ring, 9)
        assert await all_accounts.wait() == {7, 9}
        assert await seven.wait() == {7}
        assert await quiet(store, seven)
        # Id 0 tells everyone on the topic to look at all.
        await store.write(ring, 0)
        assert await seven.wait() == {0}
        assert await quiet(store, queue)
        seven.close()
        await store.write(ring, 7)
        assert await quiet(store, seven)
        await store.close()

    run(main())


def test_one_listener_hears_several_bells(open_one: Open) -> None:
    def ring(tx: Tx, *bells: tuple[Topic, int]) -> None:
        for topic, id in bells:
            tx.ring(topic, id)

    async def main() -> None:
        store = open_one()
        ear = store.listen(Topic.ACCOUNT, 7)
        waiting = asyncio.ensure_future(ear.wait())
        await asyncio.sleep(0)
        ear.also([(Topic.ACCOUNT, 8), (Topic.ACCOUNT, 7), (Topic.SHARES, 0)])
        await store.write(lambda tx: tx.ring(Topic.ACCOUNT, 8))
        assert await waiting == {8}
        await store.write(ring, (Topic.SHARES, 9), (Topic.ACCOUNT, 7), (Topic.ACCOUNT, 6))
        assert await ear.wait() == {7, 9}
        # Those of before no more; its own always.
        ear.also([(Topic.ACCOUNT, 6)])
        await store.write(ring, (Topic.SHARES, 9), (Topic.ACCOUNT, 8), (Topic.ACCOUNT, 6))
        assert await ear.wait() == {6}
        ear.also(())
        await store.write(lambda tx: tx.ring(Topic.ACCOUNT, 7))
        assert await ear.wait() == {7}
        ear.also([(Topic.ACCOUNT, 8)])
        ear.close()
        await store.write(lambda tx: tx.ring(Topic.ACCOUNT, 8))
        assert await quiet(store, ear)
        await store.close()

    run(main())


def test_a_listener_is_iterated(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        ear = store.listen(Topic.QUEUE)
        await store.write(lambda tx: tx.ring(Topic.QUEUE))
        async for heard in ear:
            assert heard == {0}
            break
        await store.close()

    run(main())


def test_closing_finishes_what_was_handed_over_and_may_be_done_twice(open_one: Open) -> None:
    async def main() -> None:
        store = open_one()
        writes = [asyncio.ensure_future(store.write(put, b"x")) for _ in range(600)]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert len({write.result() for write in writes}) == 600
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.write(put, b"late")
        with pytest.raises(StoreUnavailable):
            await store.read(count)

    run(main())


def test_one_loop_after_another_is_served(open_one: Open) -> None:
    store = open_one()
    assert run(store.write(put, b"1")) == 1
    assert run(store.read(get, 1)) == b"1"
    run(store.close())
