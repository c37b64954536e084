"""IDLE (RFC 9051 §6.3.13): news are told as they come, until the client says DONE.

Promises: what changes in the open mailbox, by whichever process, is told as soon as the bell rings; several changes at
once are one look. A client that says nothing for long hears a word now and then, so that no router forgets the way.
"""

import asyncio
from typing import Final

from posthouse import observe
from posthouse.imapd.session import Session
from posthouse.mailbox.model import MailboxError
from posthouse.net.stream import StreamTimeout
from posthouse.store.database import StoreUnavailable
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command, Event, IdleDone

# Dovecot says something every 2 minutes; home routers forget a silent connection after 5 and more (RFC 5382 REQ-5 asks
# for 2 hours), and each word wakes a telephone.
STILL_HERE: Final = 240.0


async def idle(session: Session, command: Command, asked: request.Idle) -> None:
    """IDLE."""
    session.engine.idle()
    if session.watch is not None:
        # RFC 5465 §4: what it tells is told here meanwhile.
        await session.watch.stop()
    # The ear has been open since the login: what rang meanwhile is told here, what rings from now on by the task.
    await session.tell_listener()
    await session.flush()
    session.stream.rest()
    session.ongoing = _Idling(session, command)


class _Idling:
    """A client that listens, and the task that tells it."""

    def __init__(self, session: Session, command: Command) -> None:
        self.command = command
        self._session = session
        # Held while something is told: what has been announced must not be cut off in the middle.
        self._telling = asyncio.Lock()
        self._task = asyncio.create_task(self._watch())

    async def take(self, event: Event) -> None:
        """DONE."""
        assert isinstance(event, IdleDone), "DONE follows IDLE"
        await self._session.drop()
        await self._session.ok(self.command, "No longer idle")

    async def drop(self) -> None:
        """Tell no more."""
        async with self._telling:
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        session = self._session
        try:
            while session.parting is None:
                rung = await session.wait_for_news(STILL_HERE)
                async with self._telling:
                    if not rung:
                        session.engine.send(response.ok("Still here"))
                    await session.tell_listener()
                    await session.flush()
                    session.stream.rest()
        except (ConnectionError, StreamTimeout):
            session.stream.abort()
        except (MailboxError, StoreUnavailable) as error:
            # The client comes again, and hears then what it has not heard now.
            observe.tell("imap.idle_ended", level=observe.WARNING, error=str(error))
            session.part("News cannot be told just now")
        except Exception as error:
            observe.fault("session.failed", error, peer=str(session.stream.peer))
            session.stream.abort()
