"""Several clients at once on one mailbox, doing at random what clients do.

Each keeps its own picture of the mailbox from what it is told (tests/stress/picture.py); in the end all pictures and
the store are the same.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import mailboxes
from posthouse.mailbox.model import DELETED
from posthouse.mailbox.snapshot import load
from posthouse.store.database import Tx
from posthouse.terms.keywords import SEEN
from tests.doors.house import House, in_house, message, opened
from tests.stress import deeds
from tests.stress.picture import Common, Picture


def _truth(tx: Tx, account: int) -> list[tuple[int, int]]:
    snapshot = load(tx, account, mailboxes.find(tx, account, "INBOX"))
    return list(zip(snapshot.uids, snapshot.flags, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_all_pictures_agree_in_the_end(tmp_path: Path, seed: int) -> None:
    """Two clients at each of two servers on one store, one of them with QRESYNC, while mail is delivered."""

    async def test(house: House) -> None:
        random, common = Random(seed), Common()
        for number in range(6):
            await house.file(message(number))
        async with opened(tmp_path) as other:
            pictures = []
            for name, server in enumerate((house, house, other, other)):
                client = await server.imap(mailbox=None)
                picture = Picture(client, Random(random.random()), f"client {name} of seed {seed}", common)
                if name % 2:
                    await client.ok("ENABLE QRESYNC")
                    picture.vanishing = True
                await picture.say("SELECT INBOX")
                pictures.append(picture)
            await asyncio.gather(_deliver(other, random), *(_act(picture) for picture in pictures))
            for server in (house, other):
                # What one server has answered, the other has been rung for.
                server.store.hear()
            for picture in pictures:
                await picture.say("NOOP")
                await picture.learn_the_rest()
            _compare(pictures, await house.store.read(_truth, house.alice.id))

    in_house(tmp_path, test)


async def _act(picture: Picture) -> None:
    for _ in range(60):
        await deeds.act(picture)


async def _deliver(house: House, random: Random) -> None:
    for number in range(5):
        await house.file(message(5000 + number))
        await asyncio.sleep(random.random() * 0.02)


def _compare(pictures: Sequence[Picture], truth: Sequence[tuple[int, int]]) -> None:
    for picture in pictures:
        picture.check(picture.uids == [uid for uid, _ in truth], "other messages than the store has")
        for uid, bits in truth:
            flags = picture.flags[uid]
            picture.check((rb"\Deleted" in flags) is bool(bits & DELETED), f"\\Deleted of {uid}")
            picture.check((rb"\Seen" in flags) is bool(bits & SEEN), f"\\Seen of {uid}")
            picture.check(flags == pictures[0].flags[uid], f"other flags of {uid} than another client knows")
