"""What is written to the addresses beside a mailing list: joining, leaving, help, confirmations, and bounces.

Promises: nobody is put on a list or taken off it without an answer from his own address, or a token that only he was
sent; each command has one answer, and what a program sent none; an address that is named as author gets a few letters
a day, for it may be a victim's. A member whose mail comes back for good on several days gets nothing more, and the
owners are told; a refusal by policy (5.7.x) says nothing about an address and never counts.
Refuses: to answer what it does not understand more than once a message.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from posthouse.delivery.letters import Letters
from posthouse.delivery.posts import Post
from posthouse.directory import digests, members
from posthouse.directory.addresses import ListReached
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Delivery, Request
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
# How mail is wanted, in the words of several list managers ("set digest", "set list nomail").
_DELIVERIES: Final[dict[str, Delivery]] = {
    "digest": "digest",
    "each": "each",
    "nodigest": "each",
    "mail": "each",
    "nomail": "none",
}
_COMMANDS: Final = (*_JOIN, *_LEAVE, *_DELIVERIES, "set")
# A report that returns a whole message is seldom larger, and a command never.
_LARGEST: Final = 1024 * 1024
_LOOKED_AT: Final = 4096
# Of the words of a report the owners are shown so many letters.
_MOST_WORDS: Final = 500
# Words of a command that are looked at.
_MOST_ARGUMENTS: Final = 4


def handle(
    tx: Tx,
    mailing_list: MailingList,
    reached: ListReached,
    post: Post,
    wanted: Sequence[str],
    letters: Letters,
    verp: Verp,
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
        if request is None:
            return too_late(tx, mailing_list, post, letters)
        _carry_out(tx, mailing_list, request, letters)
        return ()
    if not members.may_answer(tx, mailing_list.id, author, letters.now):
        return ()
    asked, *further = [reached.purpose] if reached.purpose != "request" else wanted
    delivery = _delivery(further)
    if asked in _JOIN:
        _join(tx, mailing_list, post, author, delivery or "each", letters)
    elif asked in _LEAVE:
        _leave(tx, mailing_list, author, letters)
    elif delivery := _DELIVERIES.get(asked) or (delivery if asked == "set" else None):
        _deliver(tx, mailing_list, author, delivery, letters)
    else:
        _say(tx, mailing_list, letters, author, "How this list is used", _help(mailing_list))
    return ()


def too_late(tx: Tx, mailing_list: MailingList, post: Post, letters: Letters) -> tuple[Step, ...]:
    """Tell whoever answered by hand that nothing waits for his answer."""
    author = post.author_address
    if author is not None and not post.impersonal and members.may_answer(tx, mailing_list.id, author, letters.now):
        text = (
            f"You answered a letter of {mailing_list.address}, and nothing waits for that answer:\n"
            f"somebody was quicker, or the letter was more than {members.TOKEN_DAYS} days old.\n"
            f"What was asked can be asked again.\n"
        )
        _say(tx, mailing_list, letters, author, "Nothing was changed", text)
    return ()


def _leave_at_once(tx: Tx, mailing_list: MailingList, number: int | None, letters: Letters) -> None:
    """RFC 2369 §3.2, RFC 8058: who holds the tag of a member is that member."""
    found = members.numbered(tx, mailing_list.id, number)
    if found is not None:
        _take_off(tx, mailing_list, found.address, letters)


def command(post: Post, octets: Buffer) -> Sequence[str]:
    """What a message to NAME-request asks for: the first words of the subject, or of the text. Not for a transaction.

    At least one, in small letters.
    """
    for text in (post.subject, next(_text(octets), "")):
        words = text.partition("\n")[0].lower().split()[:_MOST_ARGUMENTS]
        if words and words[0] in _COMMANDS:
            return words
    return ["help"]


def _delivery(words: Sequence[str]) -> Delivery | None:
    """How mail is wanted, as the words behind a command say; "digest off" is the opposite of "digest"."""
    for word, following in pairwise([*words, ""]):
        if found := _DELIVERIES.get(word):
            return "each" if following == "off" else found
    return None


def _text(octets: Buffer) -> Iterator[str]:
    if len(octets) > _LARGEST:
        return
    root = mime.scan(octets)
    part = root
    while part.children:
        part = part.children[0]
    if part.type == "text":
        yield mime.decode_body(octets, part)[:_LOOKED_AT].decode("utf-8", "replace")


def _join(tx: Tx, mailing_list: MailingList, post: Post, author: Address, delivery: Delivery, letters: Letters) -> None:
    if members.find(tx, mailing_list.id, author) is not None:
        _say(
            tx, mailing_list, letters, author, "You are on the list", f"{author} is on {mailing_list.address} already."
        )
    elif mailing_list.joining == "closed":
        _say(tx, mailing_list, letters, author, "This list is closed", _closed(mailing_list))
    else:
        name = post.author.name if post.author else ""
        _ask(tx, mailing_list, Request(mailing_list.id, author, name, "join", delivery), author, letters)


def _leave(tx: Tx, mailing_list: MailingList, author: Address, letters: Letters) -> None:
    _ask_member(tx, mailing_list, Request(mailing_list.id, author, "", "leave"), letters)


def _deliver(tx: Tx, mailing_list: MailingList, author: Address, delivery: Delivery, letters: Letters) -> None:
    _ask_member(tx, mailing_list, Request(mailing_list.id, author, "", "deliver", delivery), letters)


def _ask_member(tx: Tx, mailing_list: MailingList, request: Request, letters: Letters) -> None:
    """Have a member confirm what was asked in his name."""
    who = request.address
    if members.find(tx, mailing_list.id, who) is None:
        text = f"{who} is not on {mailing_list.address}. Perhaps you joined by another address."
        _say(tx, mailing_list, letters, who, "You are not on the list", text)
    else:
        _ask(tx, mailing_list, request, who, letters)


_ASKED: Final = {
    "join": ("Do you want to join?", "Somebody, we hope you, asked to put {address} on the list {list}."),
    "leave": ("Do you want to leave?", "Somebody, we hope you, asked to take {address} off the list {list}."),
    "deliver": (
        "Change what you get?",
        "Somebody, we hope you, asked that {address} gets {delivery} of the list {list}.",
    ),
    "admit": ("Somebody wants to join", "{address} asks to be put on the list {list}, and has confirmed it."),
}

_DELIVERED: Final[dict[Delivery, str]] = {"each": "each message", "digest": "digests", "none": "nothing"}


def _ask(tx: Tx, mailing_list: MailingList, request: Request, whom: Address, letters: Letters) -> None:
    """Remember the request, and send its token to who has to confirm it."""
    token = letters.token()
    if not members.ask(tx, token, request, letters.now):
        return
    title, words = _ASKED[request.what]
    delivery = _DELIVERED[request.delivery]
    text = words.format(address=request.address, list=mailing_list.address, delivery=delivery)
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
            _take_off(tx, mailing_list, request.address, letters)
    elif request.what == "join" and mailing_list.joining == "closed":
        _say(tx, mailing_list, letters, request.address, "This list is closed", _closed(mailing_list))
    elif request.what == "join" and mailing_list.joining == "approved":
        for owner in members.staff(tx, mailing_list.id, "owner"):
            admit = replace(request, what="admit")
            _ask(tx, mailing_list, admit, owner.address, letters)
        text = f"The owners of {mailing_list.address} are asked whether {request.address} may join."
        _say(tx, mailing_list, letters, request.address, "Your request waits", text)
    elif request.what == "deliver":
        if on_it:
            _change_delivery(tx, mailing_list, request, letters)
    elif not on_it:
        who, name, delivery = request.address, request.name, request.delivery
        members.add(tx, mailing_list.id, who, letters.now, name=name, delivery=delivery)
        text = f"{request.address} is on the list now.\n\n{_help(mailing_list)}"
        _say(tx, mailing_list, letters, request.address, "Welcome", text)
        _notice(tx, mailing_list, letters, f"{who} has joined")


def _take_off(tx: Tx, mailing_list: MailingList, who: Address, letters: Letters) -> None:
    members.remove(tx, mailing_list.id, who)
    _say(tx, mailing_list, letters, who, "You have left", f"{who} is not on {mailing_list.address} any more.")
    _notice(tx, mailing_list, letters, f"{who} has left")


def _notice(tx: Tx, mailing_list: MailingList, letters: Letters, news: str) -> None:
    """Owners hear of it where they want to."""
    if mailing_list.notices:
        for owner in members.staff(tx, mailing_list.id, "owner"):
            _say(tx, mailing_list, letters, owner.address, news, f"{news}: {mailing_list.address}.")


def _change_delivery(tx: Tx, mailing_list: MailingList, request: Request, letters: Letters) -> None:
    who, delivery = request.address, request.delivery
    members.change(tx, mailing_list.id, who, delivery=delivery)
    # Who wants nothing any more gets nothing at once.
    later = delivery != "none" and digests.gathering(tx, mailing_list.id)
    since = "When the digest has been sent that is being gathered now" if later else "From now on"
    text = f"{since}, {who} gets {_DELIVERED[delivery]} of {mailing_list.address}."
    _say(tx, mailing_list, letters, who, "What you get is changed", text)


def _closed(mailing_list: MailingList) -> str:
    return f"{mailing_list.address} takes members by its owners only: {mailing_list.beside('owner')}."


def _help(mailing_list: MailingList) -> str:
    return (
        f"To write to all members: {mailing_list.address}\n"
        f"To join: {mailing_list.beside('subscribe')}\n"
        f"To leave: {mailing_list.beside('unsubscribe')}\n"
        f"To get digests, each message, or nothing for a while:\n"
        f'    write "digest", "each" or "nomail" to {mailing_list.beside("request")}\n'
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
