"""What a NOTIFY wants to be told of mailboxes other than the open one (RFC 5465 §6), by what is named.

Promises: a look costs the depth of a mailbox, not the number of groups. PERSONAL and INBOXES are the client's own
mailboxes; SUBSCRIBED, SUBTREE and MAILBOXES may mean others' too.
"""

from collections.abc import Sequence

from posthouse.imapd.places import PREFIX
from posthouse.mailbox import mailboxes as names
from posthouse.mailbox.mailboxes import OTHERS, SEPARATOR
from posthouse.mailbox.model import BadName
from posthouse.mailbox.tree import Node
from posthouse.wire.imap import notify as wire
from posthouse.wire.imap.notify import Event, Filter


class Wishes:
    """`server`: annotations of the server are to be told too, which are no mailbox'; `annotations`: any are; `abroad`:
    mailboxes of others may be meant; `subscribed`: those that are subscribed to are."""

    __slots__ = (
        "_all",
        "_homes",
        "_named",
        "_subscribed",
        "_subtrees",
        "abroad",
        "annotations",
        "server",
        "subscribed",
    )

    def __init__(self, groups: Sequence[wire.Group]) -> None:
        self._all: frozenset[Event] = frozenset()
        self._subscribed: frozenset[Event] = frozenset()
        self._named: dict[str, frozenset[Event]] = {}
        self._subtrees: dict[str, frozenset[Event]] = {}
        wanted = frozenset[Event]().union(*[group.events for group in groups])
        self.server = Event.SERVER_METADATA_CHANGE in wanted
        self.annotations = self.server or Event.MAILBOX_METADATA_CHANGE in wanted
        for group in groups:
            match group.filter:
                case Filter.SUBSCRIBED:
                    self._subscribed |= group.events
                case Filter.MAILBOXES | Filter.SUBTREE:
                    named = self._named if group.filter is Filter.MAILBOXES else self._subtrees
                    for name in map(_normal, group.mailboxes):
                        named[name] = named.get(name, frozenset()) | group.events
                case _:
                    # RFC 5465 §6.3: any mailbox may be delivered to here, so INBOXES is PERSONAL.
                    self._all |= group.events
        # The names of others under which something is wished for; "" and OTHERS stand for all.
        asked = [name for found in (self._named, self._subtrees) for name, events in found.items() if events]
        self._homes = frozenset([_home(name) for name in asked if name.startswith(PREFIX)])
        self._homes |= {name for name in ("", OTHERS) if self._subtrees.get(name)}
        self.subscribed = bool(self._subscribed)
        self.abroad = bool(self._homes) or self.subscribed

    def of(self, node: Node) -> frozenset[Event]:
        """All that any group wants to know of this mailbox of the client's own (RFC 5465 §6)."""
        return self._all | self.at(node.path, node.subscribed)

    def at(self, path: str, subscribed: bool) -> frozenset[Event]:
        """The same of another's, by the name that the client knows it by."""
        found = self._named.get(path, frozenset())
        if subscribed:
            found |= self._subscribed
        if self._subtrees:
            while path:
                found |= self._subtrees.get(path, frozenset())
                path = path.rpartition(SEPARATOR)[0]
            # All are below the root.
            found |= self._subtrees.get("", frozenset())
        return found

    def means(self, path: str) -> bool:
        """May any mailbox be meant of the other who has this one, whatever is subscribed to?"""
        return not self._homes.isdisjoint(("", OTHERS, _home(path)))


def _home(path: str) -> str:
    """What stands before all names of the other's mailboxes that this name is one of."""
    return SEPARATOR.join(path.split(SEPARATOR)[:2])


def _normal(path: str) -> str:
    """A name as the tree has it; what cannot be one is the name of nothing (RFC 5465 §3.1)."""
    path = path.removesuffix(SEPARATOR)
    if path.startswith(PREFIX):
        # As `places.find` reads it.
        name, _, inner = path.removeprefix(PREFIX).partition(SEPARATOR)
        home = PREFIX + name.casefold()
        return home + SEPARATOR + _normal(inner) if inner else home
    try:
        return SEPARATOR.join(names.split(path))
    except BadName:
        return path
