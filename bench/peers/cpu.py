"""CPU time that processes have used, also those that have ended and were waited for."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and of their children that have ended.

    A running child is counted by its own pid: list the whole tree.
    """
    return sum(_ticks(pid) for pid in pids) / _TICKS


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended since it was listed: its parent has its time
    fields = stat.rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15])  # utime stime cutime cstime, proc(5)
