"""The mailboxes of an account as sessions that watch them see them: one immutable tree that all of them share.

Promises: a tree is what an account's mailboxes were at one modseq; who knows the changes since then knows what there is
now. Trees live as long as a session holds them.
Refuses: to say which changes make a new one necessary (`changes.heard` does).
"""

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

from posthouse.mailbox import changes, mailboxes
from posthouse.store.database import Store, Tx


class Node(NamedTuple):
    """A mailbox: its names from the top, parted by "/"; what it is used for; the uid that comes next in it."""

    id: int
    parent: int | None
    path: str
    role: str | None
    subscribed: bool
    uidnext: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Tree:
    """The mailboxes of an account at `modseq`; `parents`: those that have others below them."""

    modseq: int
    nodes: dict[int, Node]
    parents: frozenset[int]


def load(tx: Tx, account: int) -> Tree:
    """The mailboxes as they are now. Raises NoSuchAccount."""
    nodes = {
        mailbox.id: Node(mailbox.id, mailbox.parent, mailbox.path, mailbox.role, mailbox.subscribed, mailbox.uidnext)
        for mailbox in mailboxes.list_mailboxes(tx, account)
    }
    parents = frozenset([node.parent for node in nodes.values() if node.parent is not None])
    return Tree(changes.states(tx, account).modseq, nodes, parents)


class Trees:
    """The newest tree of each account that anybody in this process watches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest: WeakValueDictionary[int, Tree] = WeakValueDictionary()

    async def find(self, account: int, modseq: int = 0) -> Tree:
        """A tree that is not older than `modseq`. Raises NoSuchAccount, StoreUnavailable."""
        tree = self._newest.get(account)
        if tree is not None and tree.modseq >= modseq:
            return tree
        tree = await self._store.read(load, account)
        newest = self._newest.get(account)
        if newest is not None and newest.modseq >= tree.modseq:
            return newest
        self._newest[account] = tree
        return tree

    def __len__(self) -> int:
        """How many trees anybody holds that are some account's newest."""
        return len(self._newest)
