"""When a lane at work wants more jobs."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest

from posthouse.queue.lanes import START, Lease
from posthouse.queue.queue import Job, QueuedMail, QueuedMessage
from posthouse.queue.work import Run, Worker
from posthouse.store.blobs import BlobRef
from tests.support import run

JOB = Job(1, "domain:x.example", QueuedMessage(1, QueuedMail(1, 1, 1, None, 0, 1)), BlobRef(1, 1, b"", b"x", None), ())


@pytest.mark.parametrize(
    ("pending", "workers", "more", "low"),
    [
        (0, 1, True, True),
        # Nothing is left, and only a claim tells that; the lane goes back with it.
        (0, 1, False, True),
        (1, 1, True, False),
        (1, 2, True, True),
        (1, 2, False, False),
        (2, 2, True, False),
    ],
)
def test_it_claims_before_a_worker_has_to_wait_for_it(pending: int, workers: int, more: bool, low: bool) -> None:
    async def main() -> None:
        lease = Lease(1, 1, "domain:x.example", "", 0, None)
        lane = Run(lease, "x.example", 0, 0, deque([JOB] * pending), START, more)
        lane.workers = {asyncio.ensure_future(nothing()): Worker() for _ in range(workers)}
        assert lane.runs_low is low
        await asyncio.wait(lane.workers)

    def nothing() -> Coroutine[Any, Any, None]:
        return asyncio.sleep(0)

    run(main())
