"""The order of a mailbox' emails by what is kept of them (RFC 5256 §3, RFC 5957).

Promises: a stable order: emails that compare alike stand as they were given, REVERSE or not. One pass a key, over
columns. Refuses: to find the emails (`query.py`), and to know IMAP's names of keys.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from posthouse.mailbox import collation, columns
from posthouse.mailbox.columns import Kind
from posthouse.mailbox.parted import parted
from posthouse.mailbox.scan import Sight

# Emails that are sorted without a pause: some milliseconds.
RUN: Final = 30_000


class By(Enum):
    """What is compared: an email's own texts and numbers, or a score that the caller brings."""

    ARRIVAL = 1
    SENT = 2
    SIZE = 3
    SUBJECT = 4
    FROM = 5
    TO = 6
    CC = 7
    SHOWN_FROM = 8
    SHOWN_TO = 9
    SCORE = 10


@dataclass(frozen=True, slots=True)
class Key:
    """One key, the first of them decides first; `reverse`: the largest first."""

    by: By
    reverse: bool = False


# The column of each; where a Date cannot be read, RECEIVED is compared in its place.
KINDS: Final[Mapping[By, Kind]] = {
    By.ARRIVAL: columns.RECEIVED,
    By.SENT: columns.SENT,
    By.SIZE: columns.SIZE,
    By.SUBJECT: columns.SORTING[collation.SUBJECT],
    By.FROM: columns.SORTING[collation.FROM],
    By.TO: columns.SORTING[collation.TO],
    By.CC: columns.SORTING[collation.CC],
    By.SHOWN_FROM: columns.SORTING[collation.DISPLAY_FROM],
    By.SHOWN_TO: columns.SORTING[collation.DISPLAY_TO],
}


async def sort(
    sight: Sight, uids: Sequence[int], keys: Sequence[Key], scores: Mapping[int, int] | None = None
) -> list[int]:
    """These uids, which ascend, in order of the keys. What is gone meanwhile is left out. The highest of the `scores`
    comes first. Raises StoreUnavailable."""
    return [uids[place] for place in await places(sight, uids, keys, scores)]


async def places(
    sight: Sight, uids: Sequence[int], keys: Sequence[Key], scores: Mapping[int, int] | None = None
) -> list[int]:
    """The same: where among these uids each of them stands, from 0 on."""
    order = list(range(len(uids)))
    gone: set[int] = set()
    for key in reversed(keys):
        if key.by is By.SCORE:
            values: list[Any] = [-(scores or {}).get(uid, 0) for uid in uids]
        else:
            values = await _values(sight, key.by, uids)
            missing = await _missing(values)
            for place in missing:
                values[place] = _least(key.by)
            gone.update(missing)
        # The sort keeps the order of equals, reversed too; so the last key goes first.
        order = await _sorted(order, values.__getitem__, key.reverse)
    return [place for place in order if place not in gone] if gone else order


async def _missing(values: Sequence[Any]) -> list[int]:
    """Where there is nothing."""
    found: list[int] = []
    for start in range(0, len(values), RUN):
        some = values[start : start + RUN]
        if None in some:
            found += [place for place, value in enumerate(some, start) if value is None]
        await asyncio.sleep(0)
    return found


async def _sorted(order: list[int], key: Callable[[int], Any], reverse: bool) -> list[int]:
    """A stable sort that others can have their turns in."""
    if len(order) <= RUN:
        return sorted(order, key=key, reverse=reverse)
    found: list[int] = []
    for part in parted(order, key, reverse=reverse):
        found += part
        await asyncio.sleep(0)
    return found


def _least(by: By) -> int | bytes:
    return 0 if by in (By.ARRIVAL, By.SENT, By.SIZE) else b""


async def _values(sight: Sight, by: By, uids: Sequence[int]) -> list[Any]:
    if by is By.SENT:
        return await sent_dates(sight, uids)
    return await columns.values(await sight.column(KINDS[by]), uids)


async def sent_dates(sight: Sight, uids: Sequence[int]) -> list[int | None]:
    """When these were sent, in UTC milliseconds: where no Date can be read, the internal date (RFC 5256 §2.2)."""
    dates = await columns.values(await sight.column(columns.SENT), uids)
    without: list[int] = []
    for start in range(0, len(dates), RUN):
        some = dates[start : start + RUN]
        if columns.UNDATED in some:
            without += [place for place, date in enumerate(some, start) if date == columns.UNDATED]
        await asyncio.sleep(0)
    received = await sight.column(columns.RECEIVED) if without else None
    for start in range(0, len(without), RUN):
        some = without[start : start + RUN]
        assert received is not None
        for place, at in zip(some, received.of([uids[place] for place in some]), strict=True):
            dates[place] = at
        await asyncio.sleep(0)
    return dates
