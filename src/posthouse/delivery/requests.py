"""What is written to the addresses beside a mailing list: joining, leaving, help, confirmations, and bounces.

Promises: nobody is put on a list or taken off it without an answer from his own address, or a token that only he was
sent; each command has one answer, and what a program sent none; an address that is named as author gets a few letters
a day, for it may be a victim's. A member whose mail comes back for good on several days gets nothing more, and the
owners are told; a refusal by policy (5.7.x) says nothing about an address and never counts.
Refuses: to answer what it does not understand more than once a message.
"""

from collections.abc import Iterator
from typing import Final

from posthouse.delivery.letters import Letters
from posthouse.delivery.posts import Post
from posthouse.directory import members
from posthouse.directory.addresses import ListReached
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Request
from posthouse.directory.verp import Verp
from posthouse.message import mime
from posthouse.message.addresses import Mailbox
from posthouse.message.header import Header
from posthouse.message.octets import Buffer
from posthouse.message.report import Report, parse_report
from posthouse.observe import Step
from posthouse.store.database import Tx
from posthouse.terms.address import Address, BadAddress, parse

_JOIN: Final = ("subscribe", "join")
_LEAVE: Final = ("unsubscribe", "leave", "signoff")
# A report that returns a whole message is seldom larger, and a command never.
_LARGEST: Final = 1024 * 1024
_LOOKED_AT: Final = 4096
# Of the words of a report the owners are shown so many letters.
_MOST_WORDS: Final = 500


def handle(
    tx: Tx, mailing_list: MailingList, reached: ListReached, post: Post, wanted: str, letters: Letters, verp: Verp
) -> tuple[Step, ...]:
    """Do what was asked at NAME-request (`wanted`: see `command`), -subscribe, -unsubscribe, -confirm+TOKEN or
    -leave+TAG, and answer."""
    if reached.purpose == "leave":
        _leave_at_once(tx, mailing_list, verp.member("leave", reached.token), letters)
        return ()
    # A program that answers the letter with the token has not been asked whether it wants to.
    author = post.author_address
    if author is None or post.impersonal:
        return ()
    if reached.purpose == "confirm":
        request = members.confirmed(tx, mailing_list.id, reached.token, letters.now)
        if request is not None:
            _carry_out(tx, mailing_list, request, letters)
        return ()
    if not members.may_answer(tx, mailing_list.id, author, letters.now):
        return ()
    asked = reached.purpose if reached.purpose != "request" else wanted
    if asked in _JOIN:
        _join(tx, mailing_list, post, author, letters)
    elif asked in _LEAVE:
        _leave(tx, mailing_list, author, letters)
    else:
        _say(tx, mailing_list, letters, author, "How this list is used", _help(mailing_list))
    return ()


def _leave_at_once(tx: Tx, mailing_list: MailingList, number: int | None, letters: Letters) -> None:
    """RFC 2369 §3.2, RFC 8058: who holds the tag of a member is that member."""
    found = members.numbered(tx, mailing_list.id, number)
    if found is not None:
        who = found.address
        members.remove(tx, mailing_list.id, who)
        _say(tx, mailing_list, letters, who, "You have left", f"{who} is not on {mailing_list.address} any more.")


def command(post: Post, octets: Buffer) -> str:
    """What a message to NAME-request asks for: the first word of the subject, or of the text. Not for a transaction."""
    for text in (post.subject, next(_text(octets), "")):
        words = text.split()
        if words and (words[0].lower() in (*_JOIN, *_LEAVE) or text is not post.subject):
            return words[0].lower()
    return "help"


def _text(octets: Buffer) -> Iterator[str]:
    if len(octets) > _LARGEST:
        return
    root = mime.scan(octets)
    part = root
    while part.children:
        part = part.children[0]
    if part.type == "text":
        yield mime.decode_body(octets, part)[:_LOOKED_AT].decode("utf-8", "replace")


def _join(tx: Tx, mailing_list: MailingList, post: Post, author: Address, letters: Letters) -> None:
    if members.find(tx, mailing_list.id, author) is not None:
        _say(
            tx, mailing_list, letters, author, "You are on the list", f"{author} is on {mailing_list.address} already."
        )
    elif mailing_list.joining == "closed":
        _say(tx, mailing_list, letters, author, "This list is closed", _closed(mailing_list))
    else:
        name = post.author.name if post.author else ""
        _ask(tx, mailing_list, Request(mailing_list.id, author, name, "join"), author, letters)


def _leave(tx: Tx, mailing_list: MailingList, author: Address, letters: Letters) -> None:
    if members.find(tx, mailing_list.id, author) is None:
        text = f"{author} is not on {mailing_list.address}. Perhaps you joined by another address."
        _say(tx, mailing_list, letters, author, "You are not on the list", text)
    else:
        _ask(tx, mailing_list, Request(mailing_list.id, author, "", "leave"), author, letters)


_ASKED: Final = {
    "join": ("Do you want to join?", "Somebody, we hope you, asked to put {address} on the list {list}."),
    "leave": ("Do you want to leave?", "Somebody, we hope you, asked to take {address} off the list {list}."),
    "admit": ("Somebody wants to join", "{address} asks to be put on the list {list}, and has confirmed it."),
}


def _ask(tx: Tx, mailing_list: MailingList, request: Request, whom: Address, letters: Letters) -> None:
    """Remember the request, and send its token to who has to confirm it."""
    token = letters.token()
    if not members.ask(tx, token, request, letters.now):
        return
    title, words = _ASKED[request.what]
    text = words.format(address=request.address, list=mailing_list.address)
    text += (
        f"\n\nAnswer this mail, and it is done. Leave it, and nothing happens. You have {members.TOKEN_DAYS} days.\n"
    )
    confirm = mailing_list.beside(f"confirm+{token}")
    sender = Mailbox(mailing_list.title, confirm.local, confirm.domain)
    letters.write(tx, sender, whom, f"{title} ({mailing_list.title})", text)


def _carry_out(tx: Tx, mailing_list: MailingList, request: Request, letters: Letters) -> None:
    """A request that was confirmed."""
    on_it = members.find(tx, mailing_list.id, request.address) is not None
    if request.what == "leave":
        if on_it:
            members.remove(tx, mailing_list.id, request.address)
        text = f"{request.address} is not on {mailing_list.address} any more."
        _say(tx, mailing_list, letters, request.address, "You have left", text)
    elif request.what == "join" and mailing_list.joining == "closed":
        _say(tx, mailing_list, letters, request.address, "This list is closed", _closed(mailing_list))
    elif request.what == "join" and mailing_list.joining == "approved":
        for owner in members.staff(tx, mailing_list.id, "owner"):
            admit = Request(request.list, request.address, request.name, "admit")
            _ask(tx, mailing_list, admit, owner.address, letters)
    elif not on_it:
        members.add(tx, mailing_list.id, request.address, letters.now, name=request.name)
        text = f"{request.address} is on the list now.\n\n{_help(mailing_list)}"
        _say(tx, mailing_list, letters, request.address, "Welcome", text)


def _closed(mailing_list: MailingList) -> str:
    return f"{mailing_list.address} takes members by its owners only: {mailing_list.beside('owner')}."


def _help(mailing_list: MailingList) -> str:
    return (
        f"To write to all members: {mailing_list.address}\n"
        f"To join: {mailing_list.beside('subscribe')}\n"
        f"To leave: {mailing_list.beside('unsubscribe')}\n"
        f"To reach who looks after the list: {mailing_list.beside('owner')}\n"
    )


def _say(tx: Tx, mailing_list: MailingList, letters: Letters, to: Address, title: str, text: str) -> None:
    owner = mailing_list.beside("owner")
    sender = Mailbox(mailing_list.title, owner.local, owner.domain)
    letters.write(tx, sender, to, f"{title} ({mailing_list.title})", text)


# --- bounces ----------------------------------------------------------------------------------------------------------


def report_of(tag: str, octets: Buffer) -> Report | None:
    """What came back, where it is to be believed. Not for a transaction."""
    # What is written here has no Received field; whatever comes in through a door has one. Of strangers we believe only
    # who was sent the tag.
    if len(octets) > _LARGEST or (not tag and Header.parse(octets).count(b"received")):
        return None
    return parse_report(octets)


def bounced(
    tx: Tx, mailing_list: MailingList, tag: str, report: Report | None, verp: Verp, letters: Letters
) -> tuple[Step, ...]:
    """Something came back for a member: his by the tag, or, in a report of ours, by what that names."""
    tagged = members.numbered(tx, mailing_list.id, verp.member("bounces", tag))
    if report is None or (tag and tagged is None):
        return ()
    for one in report.recipients:
        # RFC 3463 §3.8: 5.7.x is about the message or about us, not about the address.
        if one.action != "failed" or not one.status.startswith("5.") or one.status.startswith("5.7."):
            continue
        for who in [tagged.address] if tagged else list(_named(one.original, one.final)):
            if members.bounced(tx, mailing_list.id, who, letters.now):
                _tell_owners(tx, mailing_list, who, (one.diagnostic or one.status)[:_MOST_WORDS], letters)
    return ()


def _named(*written: str | None) -> Iterator[Address]:
    """At home nothing is tagged: the report is our own, and names the address."""
    for text in written:
        try:
            yield parse((text or "").rpartition(";")[2].strip())
        except BadAddress:
            continue


def _tell_owners(tx: Tx, mailing_list: MailingList, who: Address, words: str, letters: Letters) -> None:
    text = (
        f"Mail to {who} came back on {members.BOUNCE_DAYS} days, so {mailing_list.address} sends nothing there now.\n\n"
        f"What was said last: {words}\n\nThe address is still on the list; an owner can enable or remove it.\n"
    )
    for owner in members.staff(tx, mailing_list.id, "owner"):
        _say(tx, mailing_list, letters, owner.address, f"A member is not reached: {who}", text)
