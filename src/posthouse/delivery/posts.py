"""What is posted to a mailing list: read, judged by the list's rules, held for a moderator, made ready for members.

Promises: a message is held or goes out, and each hold has a reason in words; what nobody wrote by hand, and what came
by this list before, is neither. Refuses: to send (lists.py), and to judge whether it is spam (policy/).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from posthouse import journey
from posthouse.delivery.letters import Letters
from posthouse.directory import lists, members
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Member
from posthouse.message import listed
from posthouse.message.addresses import Mailbox
from posthouse.message.build import Attachment
from posthouse.message.header import Header, decode_words, message_ids
from posthouse.message.listed import Edit
from posthouse.message.marks import is_automatic, is_impersonal, senders_on
from posthouse.message.octets import Buffer
from posthouse.message.people import address_of, author, named
from posthouse.observe import Fact, Step
from posthouse.queue import queue
from posthouse.queue.queue import LIST, Job, NewRecipient, QueuedMail
from posthouse.store import blobs
from posthouse.store.database import Row, Tx
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Wishes
from posthouse.trust.tags import BadTags, parse_tags

# Of a held message so much goes to each of the moderators; the command shows all of it.
_MOST_ATTACHED: Final = 64 * 1024
# Moderators get a letter for each post, up to so many that wait; then for each hundredth.
_MOST_LETTERS: Final = 100
# Until an approval has been carried out; a server that runs does so at once.
_APPROVAL_MS: Final = 30 * 86_400_000
LONGEST: Final = 500
NO_SUBJECT: Final = "(no subject)"


@dataclass(frozen=True, slots=True)
class Post:
    """A message for the list. `author`: the one in From, None where there are several or none that mail can go to.

    `seals`: of each DKIM signature of the author's domain, or of one above or below it, the fields that it names;
    `present`: the fields that there are. `automatic`: nobody wrote it by hand (RFC 3834 §2); `impersonal`: or it went
    to many. `round`: the lists that it came by; `marks`: addresses that sent it on (RFC 9228 §4).
    """

    author: Mailbox | None
    subject: str
    message_id: str | None
    size: int
    seals: tuple[frozenset[bytes], ...]
    present: frozenset[bytes]
    automatic: bool
    impersonal: bool
    round: tuple[str, ...]
    marks: frozenset[str]
    sender: Address | None
    reply_to: tuple[Mailbox, ...] = ()

    @property
    def author_address(self) -> Address | None:
        """The author's, where it is one that mail can go to."""
        return None if self.author is None else address_of(self.author)


@dataclass(frozen=True, slots=True)
class Held:
    """A post that waits: a blob with a `prologue` in front of it. `author` and `subject` as the header says them; times
    are UTC milliseconds."""

    id: int
    token: str
    blob: int
    prologue: bytes
    size: int
    journey: int
    sender: Address | None
    smtputf8: bool
    requiretls: bool
    author: str
    subject: str
    reason: str
    held_at: int


class TooManyWait(Exception):
    """No more posts can wait for the moderators of this list now. The door defers before it comes to that, where it
    can."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read(job: Job, octets: Buffer) -> Post:
    """The post that a queued message is."""
    return _read(octets, job.sender)


def read_again(held: Held, octets: Buffer) -> Post:
    """The post that was held."""
    return _read(octets, held.sender)


def _read(octets: Buffer, sender: Address | None) -> Post:
    header = Header.parse(octets)
    writer = author(header)
    ids = message_ids(header.first(b"message-id") or b"")
    return Post(
        author=writer,
        subject=decode_words(header.first(b"subject") or b""),
        message_id=ids[0] if ids else None,
        size=len(octets),
        seals=() if writer is None else tuple(_seals(header, writer.domain)),
        present=frozenset(field.name for field in header.fields),
        automatic=sender is None or is_automatic(header),
        impersonal=sender is None or is_impersonal(header),
        round=listed.list_ids(header),
        marks=senders_on(header),
        sender=sender,
        reply_to=tuple(named(header, b"reply-to")),
    )


def _seals(header: Header, author: str) -> Iterator[frozenset[bytes]]:
    """The fields that the author's DKIM signatures name (RFC 6376 §3.5). Whether one holds is for the members' servers
    to see."""
    for value in header.all(b"dkim-signature"):
        try:
            tags = parse_tags(value)
        except BadTags:
            continue
        names = frozenset(name.strip().lower().encode() for name in tags.get("h", "").split(":"))
        if b"from" in names and _aligned(author, tags.get("d", "")):  # RFC 6376 §5.4: From must be signed
            yield names


def _aligned(author: str, signer: str) -> bool:
    """RFC 7489 §3.1.1, relaxed: one domain is above the other, and neither is a top-level one."""
    author, signer = author.lower(), signer.lower()
    shorter, longer = sorted((author, signer), key=len)
    return "." in shorter and (longer == shorter or longer.endswith(f".{shorter}"))


# --- judging ----------------------------------------------------------------------------------------------------------


def reason_to_drop(mailing_list: MailingList, post: Post) -> str | None:
    """Why nobody is to get it, nor to look at it; None: it is a post. The door refuses such (policy/posting.py)."""
    if listed.list_id(mailing_list.address) in post.round or str(mailing_list.address).casefold() in post.marks:
        return "it came by this list before"
    return "nobody wrote it by hand" if post.automatic else None


def reason_to_hold(mailing_list: MailingList, post: Post, author: Member | None, *, held: bool) -> str | None:
    """Why a moderator has to look at it; None: it goes out. `held`: whoever judged it as it came in had doubts."""
    if held:
        return "it looked like junk"
    if post.author is None:
        return "it does not say who wrote it"
    if post.size > mailing_list.message_size:
        return f"it has {post.size} octets; the list takes {mailing_list.message_size}"
    if not mailing_list.goes_out(None if author is None else author.role):
        return "its author may not post without a moderator"
    return None


# --- holding ----------------------------------------------------------------------------------------------------------


def hold(
    tx: Tx, job: Job, mailing_list: MailingList, post: Post, octets: Buffer, reason: str, letters: Letters
) -> tuple[Step, ...]:
    """Keep it for a moderator, and tell them. Raises TooManyWait, before it has written anything."""
    waiting = lists.held(tx, mailing_list.id)
    if waiting >= lists.MOST_HELD:
        raise TooManyWait(str(mailing_list.address))
    token = letters.token()
    author = str(post.author_address or "") or "nobody"
    subject = (post.subject or NO_SUBJECT)[:LONGEST]
    tx.run(
        "list_held_insert",
        list=mailing_list.id,
        token=token,
        blob=job.mail.blob,
        prologue=job.prologue,
        size=job.mail.size,
        journey=job.mail.journey,
        sender=str(post.sender) if post.sender else None,
        smtputf8=int(job.mail.wishes.smtputf8),
        requiretls=int(job.mail.wishes.requiretls),
        author=author,
        subject=subject,
        reason=reason,
        held_at=letters.now,
    )
    if waiting < _MOST_LETTERS or waiting % _MOST_LETTERS == 0:
        _tell_moderators(tx, mailing_list, token, author, subject, reason, octets, letters)
    facts: dict[str, Fact] = {"list": str(mailing_list.address), "reason": reason}
    return (Step("list.held", letters.now, job.mail.journey, facts),)


def dropped(job: Job, mailing_list: MailingList, reason: str, now: int) -> tuple[Step, ...]:
    """What is told of a post that nobody gets."""
    return (Step("list.dropped", now, job.mail.journey, {"list": str(mailing_list.address), "reason": reason}),)


def _tell_moderators(
    tx: Tx,
    mailing_list: MailingList,
    token: str,
    author: str,
    subject: str,
    reason: str,
    octets: Buffer,
    letters: Letters,
) -> None:
    approve, refuse = mailing_list.beside(f"approve+{token}"), mailing_list.beside(f"refuse+{token}")
    text = (
        f"A message to {mailing_list.address} waits for you, because {reason}.\n\n"
        f"From: {author}\nSubject: {subject}\n\n"
        f"To let it out, answer this mail, or write to {approve}.\n"
        f"To drop it, write to {refuse}.\nThe message is attached.\n"
    )
    message = Attachment("message.eml", bytes(octets[:_MOST_ATTACHED]), "message/rfc822")
    sender = Mailbox(mailing_list.title, *_parts(mailing_list.beside("owner")))
    for one in members.staff(tx, mailing_list.id, "moderator"):
        title = f"To be approved: {subject}"
        letters.write(tx, sender, one.address, title, text, reply_to=approve, attachments=(message,))


def find_held(tx: Tx, mailing_list: int, token: str) -> Held | None:
    """The held post of that token, which moderators were sent."""
    row = tx.one("list_held_get", list=mailing_list, token=token)
    return None if row is None else _held(row)


def numbered(tx: Tx, mailing_list: int, id: int) -> Held | None:
    """The held post of that number, which is no secret: not for what mail asks for."""
    row = tx.one("list_held_numbered", list=mailing_list, id=id)
    return None if row is None else _held(row)


def list_held(tx: Tx, mailing_list: int, after: int = 0, limit: int = 500) -> list[Held]:
    """What waits, oldest first, behind the number `after`."""
    return [_held(row) for row in tx.all("list_held_list", list=mailing_list, after=after, limit=limit)]


def drop(tx: Tx, mailing_list: MailingList, held: Held, now: int, *, approved: bool = False) -> tuple[Step, ...]:
    """It waits no more: it was let out, or will not be. The step for its journey; none where somebody was quicker."""
    blob = tx.value("list_held_delete", id=held.id)
    if blob is None:
        return ()
    blobs.suspect(tx, [blob], now)
    kind = "list.approved" if approved else "list.refused"
    return (Step(kind, now, held.journey, {"list": str(mailing_list.address)}),)


def expire(tx: Tx, before: int, now: int, limit: int = 100) -> int:
    """Drop what has waited since before that time; how many, at most `limit`."""
    rows = tx.all("list_held_before", before=before, limit=limit)
    for id, of, written in rows:
        blobs.suspect(tx, [tx.value("list_held_delete", id=id)], now)
        journey.record(tx, of, [Step("list.expired", now, of, {"list": written})])
    return len(rows)


def approve(tx: Tx, mailing_list: MailingList, held: Held, now: int) -> None:
    """Let it out as a moderator's answer does: by a message to the address that moderators are told."""
    address = mailing_list.beside(f"approve+{held.token}")
    mail = replace(mail_of(held), queued_at=now, expires_at=now + _APPROVAL_MS)
    queue.accept(tx, mail, [NewRecipient(address, f"{LIST}{mailing_list.id}", notify=frozenset({"NEVER"}))])


def mail_of(held: Held) -> QueuedMail:
    """The held post as it stood in the queue."""
    wishes = Wishes(smtputf8=held.smtputf8, requiretls=held.requiretls)
    return QueuedMail(held.journey, held.blob, held.size, held.sender, held.held_at, held.held_at, wishes=wishes)


def _held(row: Row) -> Held:
    id, token, blob, before, size, of, sender, smtputf8, requiretls, *rest = row
    written_by = parse(sender) if sender else None
    return Held(id, token, blob, before, size, of, written_by, bool(smtputf8), bool(requiretls), *rest)


# --- for the members --------------------------------------------------------------------------------------------------


def keeps_a_seal(post: Post, edit: Edit) -> bool:
    """A signature of the author's will hold for the members, as far as can be seen."""
    touched = edit.touches(post.present)
    return not edit.footer and any(not seal & touched for seal in post.seals)


def finish(edit: Edit, mailing_list: MailingList, post: Post, *, rewritten: bool) -> Edit:
    """The edit with who stands in From and where answers go."""
    to_list = Mailbox(mailing_list.title, *_parts(mailing_list.address))
    back = (to_list,) if mailing_list.reply_to == "list" else ()
    if not rewritten or post.author is None:
        return replace(edit, reply_to=back)
    name = post.author.name or post.author.local
    author = Mailbox(f"{name} via {mailing_list.title}", *_parts(mailing_list.address))
    # Who answers to the author must still reach him.
    answers = back or post.reply_to or (post.author,)
    return replace(edit, author=author, reply_to=answers)


def front(mailing_list: MailingList) -> bytes:
    """What stands in front of each member's copy: the mark of the list (RFC 9228 §4), which stays where others take
    away the fields of this one, and these."""
    edit = Edit(mailing_list.title, mailing_list.address, mailing_list.beside("owner"), mailing_list.beside("request"))
    mark = f"Delivered-To: {mailing_list.address}\r\n".encode()
    return mark + listed.fields(edit, closed=mailing_list.posting == "owners")


def way_out(mailing_list: MailingList, purpose: str) -> bytes:
    """The field that says how a member leaves: by this address of the list."""
    return listed.way_out(mailing_list.beside(purpose))


def _parts(address: Address) -> tuple[str, str]:
    return address.local, address.domain
