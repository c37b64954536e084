"""One SMTP connection: octets from the stream to the engine, events to the session, replies back.

Promises: replies that may wait leave together in one write; a client that is silent or slow for too long, or speaks
when the server stops, or meets an error of ours, hears 421 before the connection ends (RFC 5321 §3.8). Whoever errs
again and again is answered later each time, which holds nobody else up; nor does who says much at once. However it
ends, the session is told.
Refuses: to know what any command means.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from posthouse import observe
from posthouse.net.stream import Stopping, Stream, StreamTimeout, TlsFailed
from posthouse.smtpd.pace import Pace
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.event import Closed, DataChunk, Event
from posthouse.wire.smtp.server import SmtpServer
from posthouse.wire.smtp.table import State

# The octets that come are a message's.
_MESSAGE: Final = frozenset({State.DATA, State.CHUNK})
# One has begun to come in chunks, and has not ended: commands between them are part of its time.
_IN_CHUNKS: Final = frozenset({State.CHUNK, State.CHUNKS})
_OF_MESSAGE: Final = _MESSAGE | _IN_CHUNKS
# Events in a row that others wait for: one read may hold forty thousand commands.
_TURN: Final = 50
_SILENT: Final = Reply(421, "4.4.2", "You said nothing for too long; goodbye")
_STOPPING: Final = Reply(421, "4.3.2", "This server is stopping; try again soon")
_OUR_FAULT: Final = Reply(421, "4.3.0", "An error of this server's; try again later")


class Session(Protocol):
    """What answers the events of one conversation. `pause`: seconds to hold the answer back, once."""

    pace: Pace
    pause: float

    def handle(self, event: Event) -> Awaitable[None] | None:
        """Answer the event on the engine; what must wait for something is an awaitable."""
        ...

    def closed(self, event: Closed) -> None:
        """The conversation is over; let go of what is unfinished."""
        ...


async def converse(stream: Stream, engine: SmtpServer, session: Session) -> None:
    """Hold the conversation until it ends. Lets ConnectionError and TlsFailed pass: nobody is left to talk to."""
    closed = Closed("gone")
    try:
        closed = await _converse(stream, engine, session)
    except StreamTimeout:
        engine.end(_SILENT)
    except Stopping:
        engine.end(_STOPPING)
    except (ConnectionError, TlsFailed):
        raise
    except Exception as error:
        observe.fault("session.failed", error, peer=str(stream.peer))
        engine.end(_OUR_FAULT)
    finally:
        _send(stream, engine)
        session.closed(closed)


async def _converse(stream: Stream, engine: SmtpServer, session: Session) -> Closed:
    turn, said = 0, False
    while True:
        event = engine.next_event()
        if event is None:
            if not (said or _send(stream, engine)) and engine.state in _MESSAGE:
                # No answer carries the acknowledgement of what has come.
                stream.acknowledge()
            if stream.blocked:
                await stream.drain()
            octets = await stream.read()
            if session.pace.is_late(len(octets), message=engine.state in _OF_MESSAGE):
                raise StreamTimeout
            engine.receive(octets)
            turn, said = 0, False
            continue
        if isinstance(event, Closed):
            return event
        waiting = session.handle(event)
        if waiting is not None:
            await waiting
        if type(event) is not DataChunk:
            if session.pause:
                await stream.pause(session.pause)
                session.pause = 0.0
            session.pace.begin(goes_on=engine.state in _IN_CHUNKS)
        said = engine.must_flush and _send(stream, engine)
        turn += 1
        if turn == _TURN:
            turn = 0
            await asyncio.sleep(0)


def _send(stream: Stream, engine: SmtpServer) -> bool:
    """Say what has gathered; was there anything?"""
    octets = engine.outgoing()
    if octets:
        stream.write(octets)
    return bool(octets)
