"""Telling people by mail that they have nearly used what they may send, or that this stops them.

Promises: one letter of each kind in a period of the account's rate, and in a day where that is longer, whichever
process saw it and however often they are started; it lies in the account's Inbox soon after. Nobody waits for it.
Refuses: to count (policy/limits.py does), and to try again where the store cannot take it: the next period will.
"""

import asyncio
from random import Random
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.delivery.letters import Letters, Settings
from posthouse.directory import accounts
from posthouse.directory.model import Account
from posthouse.message.addresses import Mailbox
from posthouse.policy.limits import Notice
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.terms.address import parse
from posthouse.written import format_duration

# A rate of some a minute shall not fill anybody's Inbox.
_DAY: Final = 86_400.0


class Warnings:
    """Writes the letters of one process."""

    def __init__(self, store: Store, settings: Settings, *, clock: Clock, random: Random) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._random = random
        self._writing: set[asyncio.Task[None]] = set()

    def warn(self, account: Account, notice: Notice) -> None:
        """Have it written, behind what the account is doing."""
        task = asyncio.create_task(self._write(account, notice))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settled(self, seconds: float) -> None:
        """Until what was begun is written, and no longer than so many seconds."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=seconds)

    async def _write(self, account: Account, notice: Notice) -> None:
        letters = self._settings.letters(self._clock.now(), self._random)
        try:
            written = await self._store.write(_tell, letters, account, notice)
        except StoreUnavailable as error:
            observe.tell("submission.not_told", level=observe.WARNING, account=account.name, error=str(error))
            return
        if written:
            kind = "submission.stopped" if notice.wait else "submission.nearly"
            observe.tell(kind, account=account.name, used=notice.used, rate=str(notice.rate))


def _tell(tx: Tx, letters: Letters, account: Account, notice: Notice) -> bool:
    """Queue the letter, unless there was one."""
    period = int(max(notice.rate.seconds, _DAY) * 1000)
    if not accounts.warned(tx, account.id, letters.now, letters.now - period, stopped=notice.wait > 0):
        return False
    to = parse(account.name)
    sender = Mailbox("Mail server", "postmaster", to.domain)
    subject, text = words(account.name, notice)
    letters.write(tx, sender, to, subject, text)
    return True


def words(name: str, notice: Notice) -> tuple[str, str]:
    """Subject and text for the person whose account it is."""
    allowed = f"{notice.rate.count} recipients in {format_duration(notice.rate.seconds)}"
    if notice.wait:
        subject = "Your limit for sending mail is reached"
        what = (
            f"Your account {name} may write to {allowed}. That is reached: what you send now is refused, and\n"
            f"your mail program says so. In {max(1, round(notice.wait / 60))} minutes it may be sent again, bit by bit."
        )
    else:
        subject = "Your limit for sending mail is nearly reached"
        what = (
            f"Your account {name} may write to {allowed}, and has written to {notice.used} of them.\n"
            "When all are used, what you send is refused for a while. What was taken is on its way and not concerned."
        )
    advice = (
        "If it was not you who wrote so much, somebody else may know your password: change it, and tell whoever runs\n"
        "this server. He can also allow your account more."
    )
    return subject, f"{what}\n\n{advice}\n"
