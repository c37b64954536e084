"""The write-ahead log: when it is carried over into the database, and what keeps it from growing without end.

Promises: after a group's callers have been woken, a log beyond LOG_OCTETS is carried over, so that the next commits
overwrite it in place (a log that grows costs 30 % more CPU a commit: the machine must find and clear its pages). Where
readers keep it from being used again, and it has grown beyond MOST_OCTETS, new reads are held back until it is empty.
"""

import logging
from typing import Final

import apsw

from posthouse import limits
from posthouse.store.sqlite_readers import Gate
from posthouse.store.sqlite_tx import BUSY_MS

log = logging.getLogger(__name__)

# SQLite's own 4 MB carries hot pages over too often. Of each function's time, carrying over took 60 µs at 4 MB, 29 at
# 16 MB, 19 at 24 MB and 20 at 40 MB.
LOG_OCTETS: Final = 24 * limits.MB
MOST_OCTETS: Final = 64 * limits.MB
# Where a long read was in the way, the next attempt comes after so much more.
PATIENCE_OCTETS: Final = 16 * limits.MB
# Where readers keep it from being begun anew, it is carried over again after so much more.
CARRY_AGAIN_OCTETS: Final = limits.MB
# How long new reads are held back, and the writer with them, for those under way and for readers of other processes.
HELD_MS: Final = 500


class Log:
    """Looks after the log of one connection, the writer's. Used in the writer's thread only."""

    def __init__(self, connection: apsw.Connection, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate
        self._page_size = int(connection.pragma("page_size"))
        self._octets = 0
        self._carry_at = LOG_OCTETS
        self._empty_at = MOST_OCTETS
        # A log that a long read made larger gives the octets back when it is begun anew.
        connection.pragma("journal_size_limit", MOST_OCTETS)
        connection.set_wal_hook(self._committed)

    def look(self) -> None:
        """After a commit, when its callers have been woken."""
        octets = self._octets
        if octets < LOG_OCTETS:
            # It was begun anew.
            self._carry_at, self._empty_at = LOG_OCTETS, MOST_OCTETS
        elif octets >= self._empty_at:
            self._empty_at = octets + PATIENCE_OCTETS
            self._empty()
        elif octets >= self._carry_at:
            self._carry_at = octets + CARRY_AGAIN_OCTETS
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _committed(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._octets = pages * self._page_size
        return apsw.SQLITE_OK

    def _empty(self) -> None:
        with self._gate.held(HELD_MS / 1000) as nobody_reads:
            if nobody_reads:
                self._connection.set_busy_timeout(HELD_MS)
                self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._connection.set_busy_timeout(BUSY_MS)

    def _checkpoint(self, mode: int) -> None:
        try:
            self._connection.wal_checkpoint(mode=mode)
        except apsw.Error as error:
            # Nothing is lost: what was committed stands in the log. Busy or a full disk may pass; we come back.
            log.warning("the write-ahead log could not be carried over: %s", error)
