"""Conversations as IMAP's THREAD makes them, of the messages of one search (RFC 5256 §3). The model's own threads
(`threads.py`) are another matter: those never merge, and know mail that is elsewhere.

Promises: pure; nothing recurses, whatever depth a stranger's References make; n log n. A message stands in one place.
Refuses: to write the answer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from posthouse.mailbox.parted import parted


class Member(NamedTuple):
    """A message: the number it is answered by, when it was sent, the base subject it is sorted by, whether that is
    a reply's; its id (0: it has none) and those of its ancestors, from the oldest to its parent."""

    number: int
    sent: int
    subject: bytes
    reply: bool
    id: int
    ancestors: Sequence[int]


class Node:
    """A place in a tree: a message, or (`number` 0) one that is not there and holds others together."""

    __slots__ = ("children", "number", "parent", "reply", "sent", "subject")

    def __init__(self, member: Member | None = None) -> None:
        self.number = self.sent = 0
        self.subject = b""
        self.reply = False
        self.parent: Node | None = None
        # In the order they came; a dict, for hostile trees take many away again. Most have none.
        self.children: dict[Node, None] | tuple[()] = ()
        if member is not None:
            self.hold(member)

    def hold(self, member: Member) -> None:
        """Be the place of this message."""
        self.number, self.sent, self.subject, self.reply = member[:4]

    def leave(self) -> None:
        """Have no parent any more."""
        if self.parent is not None:
            assert self.parent.children, "a child is one of its parent's"
            del self.parent.children[self]
            self.parent = None

    def adopt(self, child: "Node") -> None:
        """Take it from where it is."""
        child.leave()
        child.parent = self
        if self.children:
            self.children[child] = None
        else:
            self.children = {child: None}


# Steps up a tree for each message, all in all, that are taken to see whether a link would close a circle. Honest mail
# needs none; what a stranger has made so is not moved.
_STEPS: Final = 50
# Places of messages that are not there: so many, and more for each message. Honest mail needs less than one each; of
# what hostile References name beyond that no place is made.
_PLACES: Final = 10_000
_PLACES_EACH: Final = 3


def _sent_at(member: Member) -> int:
    return member.sent


# More trees than these are sorted in parts: in a thread others have their turn between two.
_AT_ONCE: Final = 30_000


def by_subject(members: Iterable[Member]) -> list[Node]:
    """ORDEREDSUBJECT: those of one subject together, the first of them above all others. `members` ascend by number."""
    found: dict[bytes, Node] = {}
    every = list(members)
    ordered: Iterable[Member] = (
        sorted(every, key=_sent_at) if len(every) <= _AT_ONCE else chain.from_iterable(parted(every, _sent_at))
    )
    for member in ordered:
        root = found.get(member.subject)
        if root is None:
            found[member.subject] = Node(member)
        else:
            root.adopt(Node(member))
    while every:
        del every[-_AT_ONCE:]  # all at once would be one long step
    return list(found.values())


class Room(NamedTuple):
    """How near the bounds on hostile mail the making of some conversations came. `places`: the fewest that were left at
    any time; `steps`: how many were taken."""

    places: int
    steps: int

    @property
    def wide(self) -> bool:
        """Certainly no bound had a say. A message brings as many steps as are allowed here for all of them."""
        return self.places > 0 and self.steps < _STEPS

    def after(self, part: "Room", gone: int, named: int) -> "Room":
        """What can be said where `gone` messages are taken away and those that come name so many ancestors, and `part`
        is what was found where the messages were put together that are linked to these: the others take what they took.
        """
        # One that is gone brought no places any more, and a place may stand where it stood.
        return Room(min(self.places - (_PLACES_EACH + 1) * gone - named, part.places), self.steps + part.steps)


def by_references(members: Iterable[Member]) -> list[Node]:
    """REFERENCES. `members` ascend by number."""
    return references(members)[0]


def references(members: Iterable[Member]) -> tuple[list[Node], Room]:
    """The same, and whether that would be so without bounds.

    Where it would, a tree is made of messages that are linked, by an id that both have or a subject that is not empty,
    and of no others: so it is the same tree, whatever other messages there are.
    """
    links = _Links(members)
    nodes = links.nodes
    roots = _pruned(nodes)
    _order(nodes)  # (4): the subject of a thread is that of its first message
    roots = _by_sent(roots)
    roots, changed = _gathered(roots)
    _order(changed)  # (6)
    roots = _by_sent(roots)
    links.let_go()
    return roots, links.room


def by_ancestors(members: Iterable[Member]) -> list[Node]:
    """REFS: the same without a look at subjects, and the thread with the newest message last."""
    links = _Links(members)
    roots = _pruned(links.nodes)
    _order(links.nodes)
    roots = _by(roots, _newest)
    links.let_go()
    return roots


def part(roots: list[Node]) -> None:
    """Take the trees apart, and out of the list: what holds nothing that holds it goes at once when it is let go. Some
    at a time: to let a million go is one step of a tenth of a second."""
    while roots:
        some = roots[-_AT_ONCE:]
        del roots[-_AT_ONCE:]
        for root in some:
            for node in list(below(root)):
                node.parent, node.children = None, ()


def below(root: Node) -> Iterator[Node]:
    """A node and all under it, each before its children."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children)


def _newest(root: Node) -> int:
    return max([node.sent for node in below(root) if node.number]) if root.children else root.sent


class _Links:
    """(1): every message below the nearest of its ancestors, as they all tell."""

    def __init__(self, members: Iterable[Member]) -> None:
        # All places there are.
        self.nodes: list[Node] = []
        self._named: dict[int, Node] = {}
        # Nodes that were in one tree at some time, by one that leads them: most links need no more to be seen safe.
        self._leaders: dict[Node, Node] = {}
        self._steps = self._taken = 0
        self._places = self._fewest = _PLACES
        for member in members:
            self._steps += _STEPS
            self._places += _PLACES_EACH
            self._link(member)

    def _link(self, member: Member) -> None:
        node = self._place(member)
        above: Node | None = None
        for one in member.ancestors:
            ancestor = self._named.get(one)
            if ancestor is None:
                if not self._places:
                    continue
                self._places -= 1
                if self._places < self._fewest:
                    self._fewest = self._places
                ancestor = self._make(one)
            # (1)(A): what is linked stays so, and nothing goes round in a circle.
            if above is not None and ancestor.parent is None and self._safe(above, ancestor):
                self._join(above, ancestor)
            above = ancestor
        # (1)(B): the last of them is the parent, whatever others have said.
        if above is None:
            node.leave()
        elif node.parent is not above and self._safe(above, node):
            self._join(above, node)

    def let_go(self) -> None:
        """Of much mail forget the names, some at a time: all at once would be a long step too."""
        for names in (self._named, self._leaders):
            while len(names) > _AT_ONCE:
                for _ in range(_AT_ONCE):
                    names.popitem()

    @property
    def room(self) -> Room:
        """How near the bounds it came."""
        return Room(self._fewest, self._taken)

    def _place(self, member: Member) -> Node:
        node = self._named.get(member.id) if member.id else None
        if node is None or node.number:
            # (1): a second message with the same id is as one without.
            node = self._make(member.id if node is None else 0)
        node.hold(member)
        return node

    def _make(self, name: int) -> Node:
        node = Node()
        self.nodes.append(node)
        if name:
            self._named[name] = node
        return node

    def _safe(self, above: Node, node: Node) -> bool:
        """False where `above` is in the tree of `node`."""
        if not node.children:
            return above is not node
        if self._leader(above) is not self._leader(node):
            return True
        up: Node | None = above
        while up is not None and up is not node and self._steps > 0:
            self._steps -= 1
            self._taken += 1
            up = up.parent
        return up is None

    def _join(self, above: Node, node: Node) -> None:
        above.adopt(node)
        self._leaders[self._leader(node)] = self._leader(above)

    def _leader(self, node: Node) -> Node:
        leaders = self._leaders
        up = leaders.get(node, node)
        while up is not node:
            further = leaders.get(up, up)
            leaders[node] = further
            node, up = up, further
        return node


def _pruned(nodes: Sequence[Node]) -> list[Node]:
    """(2), (3): what has nothing above it, without the places of messages that are not there, but where one holds
    together what would be parted."""
    roots = [node for node in nodes if node.parent is None]
    for node in nodes:
        # Each place that is not there is passed once: from the nearest message above it, or from the top.
        if node.children and (node.number or node.parent is None):
            _take_near(node)
    found: list[Node] = []
    for root in roots:
        if not root.number and len(root.children) == 1:
            (only,) = root.children
            only.leave()
            found.append(only)
        elif root.number or root.children:
            found.append(root)
    return found


def _take_near(node: Node) -> None:
    """Make the messages nearest below it a node's children."""
    if 0 not in [child.number for child in node.children]:
        return
    near: list[Node] = []
    waiting = list(node.children)[::-1]
    while waiting:
        one = waiting.pop()
        if one.number:
            near.append(one)
        else:
            waiting.extend(list(one.children)[::-1])
    for one in near:
        one.parent = node
    node.children = dict.fromkeys(near)


def _first(node: Node) -> Node:
    """A message's place, or of what holds others together its first child."""
    while not node.number:
        node = next(iter(node.children))
    return node


def _by_sent(roots: list[Node]) -> list[Node]:
    return _by(roots, _sent)


def _by(roots: list[Node], key: Callable[[Node], Any]) -> list[Node]:
    if len(roots) <= _AT_ONCE:
        return sorted(roots, key=key)
    return [node for some in parted(roots, key) for node in some]


def _sent(node: Node) -> tuple[int, int]:
    first = _first(node)
    return first.sent, first.number


def _order(nodes: Iterable[Node]) -> None:
    """The children of each by when they were sent. Below the top there are only messages by now."""
    for node in nodes:
        if len(node.children) > 1 and (node.number or node.parent is None):
            node.children = dict.fromkeys(sorted(node.children, key=_sent))


def _gathered(roots: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """(5): threads of one subject put together; and the places whose children are others now."""
    table: dict[bytes, Node] = {}
    joined: list[Node] = []
    changed: dict[Node, None] = {}
    subjects = [_first(node).subject for node in roots]
    for node, subject in zip(roots, subjects, strict=True):
        known = table.get(subject)
        # (5)(B): sooner one that is not there than a message, sooner a message than a reply.
        if subject and (known is None or _rank(node) < _rank(known)):
            table[subject] = node
    for node, subject in zip(roots, subjects, strict=True):
        chosen = table.get(subject)
        if chosen is None or chosen is node:
            continue
        if not chosen.number and not node.number:
            for child in list(node.children):
                chosen.adopt(child)
        elif not chosen.number or (node.reply and not chosen.reply):
            chosen.adopt(node)
        else:
            both = table[subject] = Node()
            both.adopt(chosen)
            both.adopt(node)
            joined.append(both)
        changed[table[subject]] = None
    left = [node for node in [*roots, *joined] if node.parent is None and (node.number or node.children)]
    return left, list(changed)


def _rank(node: Node) -> int:
    return 0 if not node.number else 2 if node.reply else 1
