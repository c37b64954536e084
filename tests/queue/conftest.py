"""For all tests of this room: the stores of their worlds are closed behind them."""

from tests.queue.support import closed_stores

__all__ = ["closed_stores"]
