"""What is made of columns, within a budget."""

from posthouse.mailbox import kept
from posthouse.mailbox.kept import Kept


def test_what_was_asked_for_last_stays() -> None:
    room = Kept(budget=10_000)
    each = 2000 - kept._EACH
    for number in range(5):
        room.put(number, "a", number, each)
    assert (len(room), room.octets) == (5, 10_000)
    assert room.get(0, "a") == 0
    room.put(5, "a", 5, each)
    assert [room.get(number, "a") for number in range(6)] == [0, None, 2, 3, 4, 5]
    # In place of what was there.
    room.put(5, "a", "new", each - 100)
    assert (room.get(5, "a"), room.octets) == ("new", 9900)


def test_an_account_has_half_of_it() -> None:
    room = Kept(budget=10_000)
    room.put(1, "others", 0, 500)
    for number in range(9):
        room.put(2, number, number, 500)
    assert [room.get(2, number) for number in range(9)] == [None, None, None, None, 4, 5, 6, 7, 8]
    assert room.get(1, "others") == 0
    assert room.octets == 6000


def test_what_is_too_large_is_not_kept() -> None:
    room = Kept(budget=10_000)
    room.put(1, "a", "small", 10)
    room.put(1, "a", "large", 5000)
    assert (room.get(1, "a"), len(room), room.octets) == (None, 0, 0)
