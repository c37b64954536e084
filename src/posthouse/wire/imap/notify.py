"""What a NOTIFY asks to be told of (RFC 5465 §5, §6, §8 `event-groups`): groups of mailboxes and events, their grammar.

Promises: a combination that the RFC forbids is BAD; an event that it does not know, or that nobody here tells of, is NO
with BADEVENT. Refuses: to know mailboxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from posthouse import limits
from posthouse.wire.imap import fetch
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.response import bad_event


class Filter(Enum):
    """Which mailboxes a group is about (RFC 5465 §6)."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    MAILBOXES = b"MAILBOXES"


OF_SELECTED: Final = frozenset({Filter.SELECTED, Filter.SELECTED_DELAYED})
_NAMING: Final = frozenset({Filter.SUBTREE, Filter.MAILBOXES})


class Event(Enum):
    """What a client can be told of (RFC 5465 §5)."""

    MESSAGE_NEW = b"MessageNew"
    MESSAGE_EXPUNGE = b"MessageExpunge"
    FLAG_CHANGE = b"FlagChange"
    MAILBOX_NAME = b"MailboxName"
    SUBSCRIPTION_CHANGE = b"SubscriptionChange"
    MAILBOX_METADATA_CHANGE = b"MailboxMetadataChange"
    SERVER_METADATA_CHANGE = b"ServerMetadataChange"


OF_MESSAGES: Final = frozenset({Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE, Event.FLAG_CHANGE})
EVENTS: Final[dict[bytes, Event]] = {event.value.upper(): event for event in Event}


@dataclass(frozen=True, slots=True)
class Group:
    """Events of some mailboxes. `mailboxes`: the names behind SUBTREE and MAILBOXES. `items`: what is to be fetched of
    each new message in the open mailbox."""

    filter: Filter
    mailboxes: tuple[str, ...] = ()
    events: frozenset[Event] = frozenset()
    items: tuple[fetch.Item, ...] = ()


def parse_groups(parser: Parser) -> tuple[Group, ...]:
    """1*(SP event-group), to the end of the command."""
    groups = parser.spaced(_group)
    if sum(group.filter in OF_SELECTED for group in groups) > 1:
        # RFC 5465 §6.1
        raise ParseError("Only one group can be of the selected mailbox")
    if sum(len(group.items) for group in groups) > limits.NOTIFY_ITEMS:
        raise ParseError("There are too many items to be fetched", b"LIMIT", no=True)
    if len(groups) + sum(len(group.mailboxes) for group in groups) > limits.NOTIFY_NAMES:
        raise ParseError("There are too many mailboxes to be watched", b"NOTIFICATIONOVERFLOW", no=True)
    return groups


def _group(parser: Parser) -> Group:
    # event-group = "(" filter-mailboxes SP events ")"
    parser.expect(b"(", "a parenthesis")
    chosen = parser.choice(_FILTERS, "which mailboxes are meant")
    mailboxes: tuple[str, ...] = ()
    if chosen in _NAMING:
        parser.space()
        mailboxes = parser.listed(Parser.mailbox) if parser.sees(b"(") else (parser.mailbox(),)
    parser.space()
    start = parser.at
    found = _events(parser)
    parser.expect(b")", "a closing parenthesis")
    events = frozenset(event for event, _ in found)
    items = tuple(item for _, items in found for item in items)
    if flaw := _flaw(chosen, events, items):
        parser.at = start
        parser.fail(flaw)
    return Group(chosen, mailboxes, events, items)


def _events(parser: Parser) -> Sequence[tuple[Event, tuple[fetch.Item, ...]]]:
    # events = "(" event *(SP event) ")" / "NONE"
    if parser.sees(b"("):
        return parser.listed(_event)
    start = parser.at
    if parser.keyword() != b"NONE":
        parser.at = start
        parser.fail("events in parentheses, or NONE")
    return ()


def _event(parser: Parser) -> tuple[Event, tuple[fetch.Item, ...]]:
    event = EVENTS.get(parser.keyword())
    if event is None:
        # RFC 5465 §3.1: NO, and not BAD.
        raise ParseError("Of that event nobody is told here", bad_event([known.value for known in Event]), no=True)
    if event is Event.MESSAGE_NEW and parser.accept(b" ("):
        parser.at -= 1
        return event, parser.listed(fetch.parse_item)
    return event, ()


def _flaw(chosen: Filter, events: frozenset[Event], items: Sequence[fetch.Item]) -> str | None:
    """What RFC 5465 §5 and §6.1 forbid of these."""
    if events & OF_MESSAGES and not {Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE} <= events:
        return "MessageNew and MessageExpunge together"
    if chosen in OF_SELECTED and events - OF_MESSAGES:
        return "events of messages for the selected mailbox"
    if items and chosen not in OF_SELECTED:
        return "items to be fetched for the selected mailbox only"
    return None


_FILTERS: Final[dict[bytes, Filter]] = {chosen.value: chosen for chosen in Filter}
