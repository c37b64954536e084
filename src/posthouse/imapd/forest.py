"""Conversations as THREAD tells them (RFC 5256 §5), packed, and mended where a few messages have come or gone.

Promises: what is mended is, octet by octet, what would be made afresh. Refuses: to know why a tree has changed.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from posthouse.mailbox.conversations import Node, Room

# Messages that are written at once.
_STEP: Final = 32_768


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees in a row. `order`: the uids of their messages, as they are told, `form`: what stands around these, with %d
    for each. Of each tree: when the first message was sent, and where it begins in `order` and `form`."""

    order: "array[int]"
    form: bytes
    sent: "array[int]"
    starts: "array[int]"
    cuts: "array[int]"

    def key(self, tree: int) -> tuple[int, int]:
        """What trees are in order by."""
        return self.sent[tree], self.order[self.starts[tree]]

    def at(self, tree: int) -> tuple[int, int]:
        """Where a tree begins in `order` and `form`; behind the last one they end."""
        if tree == len(self.starts):
            return len(self.order), len(self.form)
        return self.starts[tree], self.cuts[tree]

    def without(self, uids: Set[int]) -> list[int]:
        """Which trees begin with one of these."""
        return [tree for tree, start in enumerate(self.starts) if self.order[start] in uids]

    def part(self, start: int, stop: int) -> "Trees":
        """Those from one to the other, which is no more among them."""
        (first, cut), (last, end) = self.at(start), self.at(stop)
        return Trees(
            self.order[first:last],
            self.form[cut:end],
            self.sent[start:stop],
            array("I", [one - first for one in self.starts[start:stop]]),
            array("I", [one - cut for one in self.cuts[start:stop]]),
        )


@dataclass(frozen=True, slots=True)
class Forest:
    """The conversations of some messages: `uids`, ascending, are these; `places` is where among them each one of the
    trees' order stands. `room`: whether a few can be put in and taken out; None where they cannot."""

    uids: "array[int]"
    places: "array[int]"
    trees: Trees
    room: Room | None

    @classmethod
    def of(cls, uids: "array[int]", trees: Trees, room: Room | None) -> "Forest":
        """Of these messages, of which none is missing."""
        places = array("I")
        # In steps: in C each is done at once, and others have a turn between two.
        for start in range(0, len(uids), _STEP):
            some = trees.order[start : start + _STEP]
            places.extend([bisect_left(uids, uid) for uid in some])
        return cls(uids, places, trees, room)

    def pieces(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """The answer, some thousand messages at a time; `numbers` are those by which the client knows the messages."""
        trees = self.trees
        start = 0
        while start < len(trees.starts):
            stop = max(bisect_left(trees.starts, trees.starts[start] + _STEP), start + 1)
            (first, cut), (last, end) = trees.at(start), trees.at(stop)
            yield trees.form[cut:end] % tuple(map(numbers.__getitem__, self.places[first:last]))
            start = stop


def joined(parts: Sequence[Trees]) -> Trees:
    """Trees one after the other."""
    order, sent, starts, cuts = array("I"), array("q"), array("I"), array("I")
    form: list[bytes] = []
    cut = 0
    for part in parts:
        starts.extend([one + len(order) for one in part.starts])
        cuts.extend([one + cut for one in part.cuts])
        order.extend(part.order)
        sent.extend(part.sent)
        form.append(part.form)
        cut += len(part.form)
    return Trees(order, b"".join(form), sent, starts, cuts)


def mended(trees: Trees, out: Sequence[int], new: Trees) -> Trees:
    """Trees without some, by their numbers, which ascend, and with others, which are in order as these are."""
    every = range(len(trees.starts))
    here = [(bisect_left(every, new.key(one), key=trees.key), False, one) for one in range(len(new.starts))]
    away = [(tree, True, tree) for tree in out]
    parts: list[Trees] = []
    start = 0
    for at, gone, one in sorted([*here, *away]):
        parts.append(trees.part(start, at))
        start = at
        if gone:
            start += 1
        else:
            parts.append(new.part(one, one + 1))
    return joined([*parts, trees.part(start, len(trees.starts))])


def packed(roots: Sequence[Node]) -> Trees:
    """Trees as the response has them (thread-list): a reply behind what it answers, several replies in parentheses
    each."""
    if len(roots) <= _STEP:
        return _packed(roots)
    return joined([_packed(roots[start : start + _STEP]) for start in range(0, len(roots), _STEP)])


def _packed(roots: Sequence[Node]) -> Trees:
    pieces: list[bytes] = []
    order: list[int] = []
    sent: list[int] = []
    starts: list[int] = []
    cuts: list[int] = []
    for root in roots:
        starts.append(len(order))
        cuts.append(len(pieces))
        if root.number and not root.children:
            # Most are alone.
            pieces.append(b"(%d)")
            order.append(root.number)
        else:
            for piece, number in _told(root):
                pieces.append(piece)
                if number:
                    order.append(number)
        sent.append(_first(root).sent)
    ends = [0, *accumulate(map(len, pieces))]
    return Trees(
        array("I", order),
        b"".join(pieces),
        array("q", sent),
        array("I", starts),
        array("I", [ends[cut] for cut in cuts]),
    )


def _first(node: Node) -> Node:
    while not node.number:
        node = next(iter(node.children))
    return node


def _told(root: Node) -> Iterator[tuple[bytes, int]]:
    """The pieces of a tree; with a number where one stands in it."""
    waiting: list[Node | None] = [root]
    while waiting:
        node = waiting.pop()
        if node is None:
            yield b")", 0
            continue
        if node.number and not node.children:
            yield b"(%d)", node.number
            continue
        yield b"(", 0
        form = b"%d"
        while node.number:
            yield form, node.number
            form = b" %d"
            if len(node.children) != 1:
                break
            (node,) = node.children
        if node.children and form == b" %d":
            yield b" ", 0
        waiting.append(None)
        waiting.extend(list(node.children)[::-1])
