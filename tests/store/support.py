"""Stores for tests of this room and of all above it."""

from pathlib import Path

from posthouse.clock import Clock, SystemClock
from posthouse.store.sqlite import SqliteStore


def open_store(directory: Path, clock: Clock | None = None) -> SqliteStore:
    """A store in `directory` (a test's tmp_path); opened again where it exists. Close it, or let the process end."""
    return SqliteStore.open(directory / "posthouse.db", clock=clock or SystemClock())
