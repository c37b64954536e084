"""The IMAP door (RFC 9051, RFC 3501): one connection's conversation, and THE TABLE of who answers what.

Promises: commands are answered in their order. A client that stops reading stops its own session and no other; one
that sends many commands at once takes turns with the others. Whoever does not log in within a while is let go, and so
is at once whoever's account is closed.
Refuses: to know what a command does: each is a function in the files beside.

A new command is a function `(session, command, request)` in the file it belongs to, and a row in _COMMANDS.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from posthouse import __version__
from posthouse.imapd import (
    acl,
    append,
    context,
    fetch,
    idle,
    login,
    mailboxes,
    messages,
    metadata,
    multisearch,
    notify,
    opening,
    quota,
    search,
    thread,
)
from posthouse.imapd.around import Entrance, Surroundings
from posthouse.imapd.places import PREFIX
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import ALONE, Session
from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.mailbox.model import MailboxError, NoPermission
from posthouse.net.stream import Stopping, Stream, StreamTimeout
from posthouse.net.tls import TlsFailed
from posthouse.store.database import StoreUnavailable
from posthouse.wire.imap import acl as rights
from posthouse.wire.imap import metadata as notes
from posthouse.wire.imap import quota as limits
from posthouse.wire.imap import request, response
from posthouse.wire.imap.command import State
from posthouse.wire.imap.event import Broken, Command, Ended, Event
from posthouse.wire.imap.response import Code

_STOPPING: Final = ("This server is stopping; try again soon", Code.UNAVAILABLE)
_CAN_ENABLE: Final = (b"IMAP4REV2", b"UTF8=ACCEPT", b"CONDSTORE", b"QRESYNC", b"UIDONLY", b"METADATA")
# Events of one client in a row before the others have a turn: a few milliseconds.
_TURN: Final = 50


class ImapDoor:
    """One listener of IMAP."""

    def __init__(
        self,
        around: Surroundings,
        *,
        starttls: bool,
        clear_text_login: bool,
        unauthenticate: bool = True,
        certificates: bool = False,
    ) -> None:
        self._around = around
        self._entrance = Entrance(starttls, clear_text_login, unauthenticate, certificates)

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        if stream.unwelcome is None:
            await _hold(Session(stream, self._around, self._entrance))
        else:
            stream.write(response.bye(stream.unwelcome.text, Code.UNAVAILABLE))


async def _hold(session: Session) -> None:
    """Answer until the client leaves, or has to."""
    engine = session.engine
    login.guard(session)
    engine.greet(f"{session.around.hostname} posthouse", login.capabilities(session))
    try:
        await _converse(session)
    except StreamTimeout:
        # RFC 9051 §5.4
        engine.bye("You took too long")
    except Stopping:
        engine.bye(*(session.parting or _STOPPING))
    except (ConnectionError, TlsFailed):
        raise
    except Exception:
        engine.bye("Something is wrong here; the people who run this server can read what", Code.SERVERBUG)
        raise
    finally:
        await session.leave()
        session.stream.write(engine.outgoing())


async def _converse(session: Session) -> None:
    engine, stream = session.engine, session.stream
    loop = asyncio.get_running_loop()
    patience: float | None = None
    turn = 0
    while True:
        if session.account is not None:
            # Whoever says UNAUTHENTICATE has as long again.
            patience = None
        elif patience is None:
            patience = loop.time() + session.around.login_timeout
        elif loop.time() >= patience:
            # Who does not log in buys no time with a word now and then, nor with so many that no read has to wait.
            raise StreamTimeout
        event = engine.next_event()
        if isinstance(event, Ended):
            return
        if event is not None:
            turn += 1
            if session.turn is ALONE:
                await _answer(session, event, turn)
            else:
                async with session.turn:
                    await _answer(session, event, turn)
            continue
        if session.turn is ALONE:
            await session.flush()
        else:
            async with session.turn:
                await session.flush()
        if session.watch is not None:
            session.watch.listen()
        if patience is not None:
            stream.timeout = max(patience - loop.time(), 0.001)
        if engine.midway:
            # Python's imaplib and others send what follows a literal by itself.
            stream.acknowledge()
        octets = await stream.read()
        if not octets:
            return
        engine.receive(octets)


async def _answer(session: Session, event: Event, turn: int) -> None:
    """Carry out the so many-th event, and send what is said where another may stand behind it: else `_converse` does,
    before it waits. Raises Stopping."""
    # Who told news while this waited for its turn may have lost the mailbox that it is about.
    if session.parting is None:
        await _handle(session, event)
    if session.parting is not None:
        raise Stopping
    if turn % _TURN == 0:
        await session.pause()
    elif session.engine.waiting:
        await session.flush()


async def _handle(session: Session, event: Event) -> None:
    """Carry out a command, or what follows one; an error becomes its answer."""
    ongoing = session.ongoing
    if isinstance(event, Command):
        command = event
    else:
        assert ongoing is not None, "events follow a command that asked for them"
        command = ongoing.command
    try:
        if isinstance(event, Command):
            await _check(session, event)
            await _COMMANDS[type(event.request)](session, event, event.request)
        elif isinstance(event, Broken):
            await session.drop()
        elif ongoing is not None:
            await ongoing.take(event)
    except Refused as refused:
        await session.drop()
        session.no(command, refused.text, refused.code)
    except Senseless as senseless:
        await session.drop()
        session.engine.bad(command, str(senseless), senseless.code)
    except (MailboxError, StoreUnavailable) as error:
        await session.drop()
        session.fail(command, error)


async def _check(session: Session, command: Command) -> None:
    """Is it to be carried out still? Raises Senseless, NoPermission, StoreUnavailable."""
    state, asked = session.engine.state, command.request
    if state not in command.row.states:
        # The mailbox was lost while the command waited for its turn (RFC 9051 §3, figure 1).
        raise Senseless(f"Not while {state.value}")
    of_open = State.AUTHENTICATED not in command.row.states or isinstance(asked, request.MultiSearch)
    if session.away and of_open and not isinstance(asked, request.Close | request.Check):
        # RFC 4314 §4: with the rights that it has now, also where the bell has rung since it heard of them.
        await session.refresh()
        if session.open.gone:
            raise NoPermission("the mailbox that is open is not to be read any more")


# --- at any time ------------------------------------------------------------------------------------------------------


async def _noop(session: Session, command: Command, asked: request.Noop | request.Check) -> None:
    await session.ok(command, "Still here")


async def _logout(session: Session, command: Command, asked: request.Logout) -> None:
    session.engine.ok(command, "Goodbye")


async def _id(session: Session, command: Command, asked: request.Id) -> None:
    session.engine.send(response.identity({"name": "posthouse", "version": __version__}))
    await session.ok(command, "Pleased to meet you")


async def _enable(session: Session, command: Command, asked: request.Enable) -> None:
    on = [name for name in asked.capabilities if name.upper() in _CAN_ENABLE]
    session.engine.enable(on)
    session.rev2 = session.rev2 or b"IMAP4REV2" in on
    session.qresync = session.qresync or b"QRESYNC" in on
    session.uidonly = session.uidonly or b"UIDONLY" in on
    if b"QRESYNC" in on or b"CONDSTORE" in on:
        session.heed_modseqs()
    if b"METADATA" in on:
        await metadata.listen(session)
    await session.ok(command, "Enabled")


async def _namespace(session: Session, command: Command, asked: request.Namespace) -> None:
    # RFC 9051 §6.3.10
    found = response.namespace([("", SEPARATOR)], [(PREFIX, SEPARATOR)], utf8=session.engine.utf8)
    session.engine.send(found)
    await session.ok(command, "That is the namespace")


# --- who answers what -------------------------------------------------------------------------------------------------

_COMMANDS: Final[dict[type, Callable[[Session, Command, Any], Awaitable[None]]]] = {
    request.Capability: login.capability,
    request.Noop: _noop,
    request.Check: _noop,
    request.Logout: _logout,
    request.Id: _id,
    request.StartTls: login.starttls,
    request.Login: login.login,
    request.Authenticate: login.authenticate,
    request.Enable: _enable,
    request.Unauthenticate: login.unauthenticate,
    request.Namespace: _namespace,
    request.List: mailboxes.list_,
    request.Lsub: mailboxes.lsub,
    request.Status: mailboxes.status,
    request.Create: mailboxes.create,
    request.Delete: mailboxes.delete,
    request.Rename: mailboxes.rename,
    request.Subscribe: mailboxes.subscribe,
    request.Append: append.append,
    request.Replace: append.replace,
    request.Compress: login.compress,
    request.Idle: idle.idle,
    request.Notify: notify.notify,
    limits.GetQuota: quota.get_quota,
    limits.GetQuotaRoot: quota.get_quota_root,
    limits.SetQuota: quota.set_quota,
    rights.SetAcl: acl.set_acl,
    rights.DeleteAcl: acl.delete_acl,
    rights.GetAcl: acl.get_acl,
    rights.ListRights: acl.list_rights,
    rights.MyRights: acl.my_rights,
    notes.GetMetadata: metadata.get_metadata,
    notes.SetMetadata: metadata.set_metadata,
    request.Select: opening.select,
    request.Close: opening.close,
    request.Search: search.search,
    request.Sort: search.sort,
    request.Thread: thread.thread,
    request.MultiSearch: multisearch.esearch,
    request.CancelUpdate: context.cancel,
    request.Fetch: fetch.fetch,
    request.Store: messages.store,
    request.Copy: messages.copy,
    request.Move: messages.move,
    request.Expunge: messages.expunge,
}
