"""Reading one email after the other."""

from collections.abc import Mapping, Sequence

import pytest

from posthouse.limits import KB
from posthouse.mailbox.ahead import Ahead
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import NoSuchEmail
from posthouse.store.blobs import BlobRef
from tests.support import run

IDS = [7, 3, 9, 4, 12, 5]
GONE = 9


class Shelf:
    """What lies there, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def read(self, wanted: Sequence[int]) -> Mapping[int, Content]:
        self.asked.append(list(wanted))
        return {email: _content(email) for email in wanted if email != GONE}


def _content(email: int) -> Content:
    return Content(email, b"", BlobRef(email, 3, b"", b"abc", None), b"")


def _take(sizes: Sequence[int], *places: int) -> list[list[int]]:
    """Which reads it takes to ask for these places, each answered by its own email."""
    shelf = Shelf()

    async def take() -> None:
        ahead = Ahead(shelf.read)
        for place in places:
            assert (await ahead.find(IDS, sizes, place)).email == IDS[place]

    run(take())
    return shelf.asked


def test_one_after_the_other_is_read_at_once() -> None:
    assert _take([100] * 6, 0, 1, 3, 4, 5) == [IDS]


def test_who_jumps_about_gets_what_he_asks_for() -> None:
    assert _take([100] * 6, 3, 0, 3, 1) == [[4], [7], [4], [3]]


def test_it_goes_on_where_he_goes_on() -> None:
    assert _take([100] * 6, 3, 4, 5) == [[4], [12, 5]]


def test_twice_the_same_is_read_twice() -> None:
    assert _take([100] * 6, 0, 0) == [IDS, [7]]


def test_so_much_and_no_more() -> None:
    assert _take([1, 250 * KB, 250 * KB, 250 * KB, 1, 1], 0) == [[7, 3, 9]]
    assert _take([1, 600 * KB, 1, 1, 1, 1], 0, 1) == [[7], [3, 9, 4, 12, 5]]


def test_what_waits_is_given_once_and_without_a_read() -> None:
    shelf = Shelf()

    async def take() -> None:
        ahead = Ahead(shelf.read)
        assert ahead.waiting(IDS, 0) is None
        await ahead.find(IDS, [1] * 6, 0)
        assert ahead.waiting(IDS, 0) is None
        found = ahead.waiting(IDS, 1)
        assert found is not None
        assert found.email == 3
        assert ahead.waiting(IDS, 1) is None
        assert ahead.waiting(IDS, 2) is None, "it is gone, which only a read of its own says"

    run(take())
    assert shelf.asked == [IDS]


def test_who_took_what_waited_goes_on_from_there() -> None:
    shelf = Shelf()
    ids, sizes = [*IDS, 20, 21, 22], [1] * 4 + [600 * KB] + [1] * 4

    async def take() -> None:
        ahead = Ahead(shelf.read)
        await ahead.find(ids, sizes, 0)
        assert ahead.waiting(ids, 1) is not None
        assert ahead.waiting(ids, 3) is not None
        assert ahead.waiting(ids, 4) is None
        await ahead.find(ids, sizes, 4)

    run(take())
    assert shelf.asked == [[7, 3, 9, 4], [12, 5, 20, 21, 22]]


def test_what_is_gone() -> None:
    shelf = Shelf()

    async def take() -> None:
        ahead = Ahead(shelf.read)
        await ahead.find(IDS, [1] * 6, 1)
        with pytest.raises(NoSuchEmail, match="9"):
            await ahead.find(IDS, [1] * 6, 2)
        assert (await ahead.find(IDS, [1] * 6, 3)).email == 4

    run(take())
    assert shelf.asked == [[3], [9, 4, 12, 5]]
