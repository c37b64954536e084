"""`python -m tests.crash.dying POINT WHEN COUNT …`: the `posthouse` command, ended by SIGKILL at a commit of lists.

`WHEN` is `before`: in the transaction, when what POINT names has been written and nothing is committed; or `behind`: as
soon as the commit has returned, before anybody hears of it. COUNT: the how-manieth time. Batches of members are small.
"""

import os
import signal
import sys
from typing import Any, Final

from posthouse.cli.main import main
from posthouse.delivery import fanout
from posthouse.delivery.courier import DeliveryCourier
from posthouse.delivery.digests import Digests
from posthouse.delivery.lists import ListCourier
from posthouse.reception import answer
from posthouse.store.sqlite import SqliteStore

# By name, the functions that write within the commits at which a post changes hands.
POINTS: Final[dict[str, tuple[Any, str]]] = {
    "accepted": (answer, "accept"),
    "sent": (ListCourier, "_queue"),
    "expanded": (fanout, "expand"),
    "filed": (DeliveryCourier, "_deliver"),
    "digest": (Digests, "_send"),
}


def arm(point: str, when: str, count: int) -> None:
    """Have this process die there."""
    place, name = POINTS[point]
    work, write = getattr(place, name), SqliteStore.write
    left = count

    def watched(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        done = work(*arguments, **named)
        left -= 1
        if left <= 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    async def watched_write(store: SqliteStore, *arguments: Any, **named: Any) -> Any:
        done = await write(store, *arguments, **named)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(place, name, watched)
    setattr(SqliteStore, "write", watched_write)  # noqa: B010  # its type is another, and it is gone soon


# So that a list of a hundred has several.
BATCH: Final = 25

if __name__ == "__main__":
    vars(fanout)["BATCH"] = BATCH
    arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    del sys.argv[1:4]
    main()
