"""CPU time that processes have used, also those that have ended and were waited for."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and of their children that have ended.

    A running child is counted by its own pid: list the whole tree. Running threads are counted to the nanosecond: the
    ticks of proc(5) would cut off up to 20 ms of each process, and a server of many small ones would look cheaper.
    """
    return sum(_of_threads(pid) + _of_ended_children(pid) for pid in pids)


def _of_threads(pid: int) -> float:
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
    return total / 1e9


def _of_ended_children(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # ended since it was listed: its parent has its time
    cutime, cstime = stat.rpartition(")")[2].split()[13:15]
    return (int(cutime) + int(cstime)) / _TICKS
