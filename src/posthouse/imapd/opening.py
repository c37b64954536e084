"""Opening and leaving a mailbox: SELECT, EXAMINE, CLOSE, UNSELECT (RFC 9051 §6.3.2, §6.3.3, §6.4.1, §6.4.2).

Promises: what is told on opening is one state of the mailbox; what changes later comes as news. A client that has been
here before is told what it has missed (RFC 7162 §3.2.5). CLOSE tells nothing of what it expunges.
"""

from contextlib import suppress

from posthouse.imapd import messages, resync
from posthouse.imapd.around import Selected
from posthouse.imapd.mailboxes import object_id, tell_name
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Senseless, uid_required
from posthouse.imapd.session import Session
from posthouse.mailbox import emails, ranges
from posthouse.mailbox.known import Known
from posthouse.mailbox.model import Mailbox, MailboxError, NoPermission, NoSuchMailbox
from posthouse.mailbox.view import View
from posthouse.store.database import StoreUnavailable
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code


async def select(session: Session, command: Command, asked: request.Select) -> None:
    """SELECT and EXAMINE."""
    engine = session.engine
    if asked.resync is not None:
        _check(session, asked.resync)
    if session.selected is not None:
        # RFC 9051 §6.3.2: it is closed whatever comes of the other; the engine's table says the same.
        session.shut()
        engine.send(response.ok("The mailbox that was open is closed", Code.CLOSED))
    if asked.condstore:
        session.heed_modseqs()
    snapshots = session.around.snapshots
    known = snapshots.accounts.of(session.owner)
    there: Place | None = known.get(asked.mailbox)
    place = there or await session.readable(asked.mailbox)
    mailbox = place.mailbox
    # Another's bell is heard before the look: what comes behind that is news.
    session.turn_to(place.account)
    if not place.own and session.watch is not None:
        # Its task begins anew behind the answer, with that ear too.
        await session.watch.stop()
    try:
        # What is known of the account is true still where nothing was waited for.
        view = await snapshots.open(place.account, mailbox.id, known if there is not None else None)
        if not place.own:
            place = await _still_readable(session, asked.mailbox, place)
        rights = place.rights
        # RFC 4314 §5.2: where nothing can be changed it is open for reading only.
        read_only = asked.read_only or not set(rights) & set("iewst")
        if not session.names:
            await session.learn_names()
        engine.send(_described(session, known, place, view, read_only))
        tell_name(session, asked.mailbox, mailbox.path)
        session.selected = Selected(
            mailbox.id, view, read_only, answered=view.snapshot.modseq, rights=rights, path=mailbox.path
        )
        if asked.resync is not None and asked.resync.uidvalidity == view.snapshot.uidvalidity:
            await _tell_missed(session, view, asked.resync)
    except (MailboxError, StoreUnavailable):
        # The answer is NO, and no mailbox is open.
        session.shut()
        raise
    engine.ok(command, "It is open", Code.READ_ONLY if read_only else Code.READ_WRITE)


async def _still_readable(session: Session, path: str, place: Place) -> Place:
    """Another's mailbox behind the look at it: what came after the right was taken is not told. Raises NoSuchMailbox,
    NoPermission, StoreUnavailable."""
    found = await session.readable(path)
    if (found.account, found.mailbox.id) != (place.account, place.mailbox.id):
        raise NoSuchMailbox("it is called otherwise since it was opened")
    return found


def _described(session: Session, known: Known, place: Place, view: View, read_only: bool) -> bytes:
    """What is said of a mailbox that is opened: the same for all, as long as nothing has happened in the account."""
    modseq = view.snapshot.modseq
    key = (place.mailbox.id, modseq, read_only, len(session.names), session.rev2, session.uidonly, session.engine.utf8)
    text: bytes | None = known.get(key) if place.own else None
    if text is None:
        text = b"".join(_description(session, place, view, read_only))
        if place.own:
            known.tell(key, text)
    return text


def _description(session: Session, place: Place, view: View, read_only: bool) -> list[bytes]:
    mailbox, snapshot = place.mailbox, view.snapshot
    flags, permanent = session.names.describe(read_only, place.rights)
    if session.rev2:
        # RFC 9051 §6.3.2: the name as the server has it.
        own = [response.listed(mailbox.path, (), utf8=session.engine.utf8)]
    else:
        # RFC 9051 Appendix E took these out. Nothing is recent here.
        # RFC 9586 §3: nor is a message told by its number where UIDONLY is enabled.
        own = [response.recent(0), *([] if session.uidonly else _first_unseen(mailbox, view))]
    return [
        flags,
        response.exists(len(view)),
        *own,
        permanent,
        response.ok("UIDs are good as long as this", response.uidvalidity(snapshot.uidvalidity)),
        response.ok("The next UID", response.uidnext(snapshot.uidnext)),
        response.ok("The last change", response.highest_modseq(view.modseq)),
        # RFC 8474 §4.2
        response.ok("Its id", response.mailbox_id(object_id(mailbox.id, place.ids))),
    ]


def _check(session: Session, known: request.Resync) -> None:
    """RFC 7162 §3.2.5, RFC 9586 §3.5. Raises Senseless: the mailbox that is open stays open."""
    if not session.qresync:
        raise Senseless("Say ENABLE QRESYNC first")
    if known.matches and session.uidonly:
        raise uid_required()


async def _tell_missed(session: Session, view: View, known: request.Resync) -> None:
    """What went and what changed since the client was here (RFC 7162 §3.2.5.1)."""
    missed = await resync.look(session, known.modseq, gone=True)
    uids = resync.wanted(session, known.known)
    earlier = uids
    if missed.gone is None:
        # RFC 7162 §3.2.5.2: what the client shows to know needs no telling; else it would be told all that ever went.
        first = resync.first_unmatched(view, known.matches)
        earlier = ranges.intersect(uids, [(first, view.snapshot.uidnext)])
    if gone := resync.vanished(view, missed, earlier):
        session.engine.send(response.vanished_earlier(gone))
    for number, lot in enumerate(resync.changed(session, missed, session.open.view.spans(uids), emails.CHUNK)):
        if number:
            await session.pause()
        await session.learn_flags(lot)
        await session.tell_flags(lot)


def _first_unseen(mailbox: Mailbox, view: View) -> list[bytes]:
    """RFC 3501 §6.3.1. Where nothing is unseen nothing is looked through."""
    if not mailbox.unseen:
        return []
    unseen = next((number for number, bits in enumerate(view.snapshot.flags, 1) if not bits & SEEN), None)
    return [] if unseen is None else [response.ok("The first unseen one", response.unseen(unseen))]


async def close(session: Session, command: Command, asked: request.Close) -> None:
    """CLOSE and UNSELECT."""
    # RFC 4314 §4: whoever may not expunge closes all the same.
    if asked.expunge and not session.open.read_only and "e" in session.open.rights:
        # Nor does it matter where that was taken back just now.
        with suppress(NoPermission):
            await messages.remove_deleted(session, command.tag)
    session.shut()
    session.engine.ok(command, "Closed")
