"""What a runner and a courier owe each other: how a job is attempted, and what is said before its final dot.

Promises: whoever attempts jobs needs to know nothing else of the queue. Refuses: to run.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.terms.reply import Reply

# Called before the final dot with the recipients that may be taken by it. Raises LeaseLost, Held: do not send it.
BeforeDot = Callable[[Sequence[int]], Awaitable[None]]
Forgo = Callable[[Job], None]

_OUR_FAULT: Final = Reply(451, "4.3.0", "An error of this server's; it will try again")


class LeaseLost(Exception):
    """The lane has another holder by now: whatever has not been done must not be done."""


class Held(Exception):
    """Somebody held one of the recipients, or all that goes there: none of this job may be sent. Who was not answered
    for stays in the queue as if never attempted."""


class AtWork(Protocol):
    """Whoever gave a courier its job: a BeforeDot, and the job that comes behind this one."""

    async def __call__(self, recipients: Sequence[int]) -> None:
        """As BeforeDot."""
        ...

    def ahead(self, forgo: Forgo) -> Job | None:
        """What this courier is asked to attempt next, where that is known: it may say its envelope, and no more.

        `forgo` is called with the job where it will not be asked to.
        """
        ...


class Courier(Protocol):
    """What attempts the jobs of one kind of destination."""

    async def attempt(self, job: Job, before_dot: AtWork) -> Report:
        """Attempt the job once and report an outcome for each of its recipients.

        May be cancelled at any point before `before_dot` was called; nothing has then happened. Lets LeaseLost pass;
        and Held, where no recipient has an outcome yet: else it reports those that have.
        """
        ...


def our_fault(job: Job) -> Report:
    """All of the job are tried again, for a mistake of ours."""
    return Report(tuple(Outcome(one.id, Fate.DEFERRED, _OUR_FAULT) for one in job.recipients))
