"""The tree of mailboxes that those who watch an account share."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import changes, mailboxes, tree
from posthouse.mailbox.model import NoSuchAccount
from posthouse.mailbox.tree import Trees
from posthouse.store.database import Tx
from posthouse.store.sqlite import READERS
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_a_tree_is_what_there_is(db: Db) -> None:
    below = db.write(mailboxes.create, 1, "a/b", NOW)
    db.write(file, 1, message())
    found = db.read(tree.load, 1)
    assert found.modseq == db.read(changes.states, 1).modseq
    assert found.nodes[below].path == "a/b"
    assert found.parents == {found.nodes[below].parent}
    assert (found.nodes[INBOX].path, found.nodes[INBOX].role, found.nodes[INBOX].uidnext) == ("INBOX", "inbox", 2)
    with pytest.raises(NoSuchAccount):
        db.read(tree.load, 9)


async def answer_in_every_thread(db: Db) -> None:
    """Each thread that reads remembers its last answer: give each another one."""
    together = threading.Barrier(READERS)

    def meet(tx: Tx) -> None:
        together.wait(30)

    await asyncio.gather(*[db.store.read(meet) for _ in range(READERS)])


def test_a_tree_is_shared_until_a_newer_one_is_asked_for(db: Db) -> None:
    trees = Trees(db.store)
    first = db.runner.run(trees.find(1))
    db.write(mailboxes.create, 1, "a", NOW)
    assert db.runner.run(trees.find(1)) is first
    now = db.read(changes.states, 1).modseq
    second = db.runner.run(trees.find(1, now))
    assert second is not first
    assert second.modseq == now
    assert db.runner.run(trees.find(1)) is second
    del first, second
    db.runner.run(answer_in_every_thread(db))
    gc.collect()
    assert len(trees) == 0
