"""`python -m tests.stress [--clients 20] [--minutes 3] [--seed 1]`: clients of a running posthouse at one mailbox.

Half of them speak plain IMAP, some CONDSTORE, some QRESYNC and come back where they were, some NOTIFY, one of every
seven speaks compressed (COMPRESS=DEFLATE), one has message numbers off (UIDONLY), while mail is delivered by SMTP and a
POP3 client reads. Searches are watched (CONTEXT). It ends at the first word that the protocol does not allow, with the
end of that conversation; else all clients must in the end believe the same as one that looks for the first time, and no
message that nobody could remove may be missing.
"""

import argparse
import asyncio
import time
from asyncio import StreamReader, StreamWriter
from random import Random
from typing import Final

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.doors.house import ImapClient, Pop3Client, message
from tests.stress import deeds
from tests.stress.packed import PackedClient
from tests.stress.picture import Common, Picture, is_kept
from tests.stress.uidonly import ByUid

DOMAIN = "stress.test"
USER = f"alice@{DOMAIN}"
LOGIN = f'LOGIN {USER} "{PASSWORD}"'
# Messages of outside in one connection: servers take so many, and then want another.
_A_CONNECTION: Final = 200
# It is one machine that does all this.
SETTINGS = """
[limits]
connections_per_address = 1000
connection_rate = "100000/1m"
message_rate = "1000000/1h"
greeting_delay = "0s"
"""


async def client_of(server: PosthouseServer, kind: int, random: Random, common: Common) -> Picture:
    """A client at the open mailbox: every third with CONDSTORE, every fourth with QRESYNC, every fifth with NOTIFY,
    every seventh compressed."""
    client = await PackedClient.connect(server.ports["imap"])
    picture = Picture(client, random, f"client {kind}", common)
    await client.ok(LOGIN)
    if kind % 7 == 6:
        await client.compress()
    if kind % 4 == 3:
        await client.ok("ENABLE QRESYNC")
        picture.vanishing = True
    if kind % 5 == 1:
        # Expunges wait for a command that may tell them: this one speaks of messages by number.
        await client.ok("NOTIFY SET (SELECTED-DELAYED (MessageNew (UID FLAGS) MessageExpunge FlagChange))")
    await picture.say("SELECT INBOX (CONDSTORE)" if kind % 3 == 2 else "SELECT INBOX")
    return picture


async def act(picture: Picture, until: float) -> None:
    """Do this and that; a client that has QRESYNC goes away now and then and catches up."""
    while time.monotonic() < until:
        if picture.vanishing and picture.random.random() < 0.02:
            await come_back(picture)
        await deeds.act(picture)
    await picture.say("NOOP")


async def come_back(picture: Picture) -> None:
    """Leave the mailbox, and open it with what is known (RFC 7162 §3.2.5): all that went meanwhile is named."""
    await picture.learn_the_rest()
    await picture.say("NOOP")
    await picture.learn_the_rest()
    before = {uid for uid in picture.uids if uid is not None}
    known = picture.known
    await picture.say("UNSELECT")
    if known:
        told = await picture.client.ok(f"SELECT INBOX (QRESYNC ({picture.validity} {known}))")
        gone = {uid for response in told for uid in vanished(response)}
        found = await picture.client.ok("UID FETCH 1:* (UID)")
        there = {int(line.split(b"UID ")[1].strip(b")").split()[0]) for line in found if b" FETCH (" in line}
        later = {uid for response in found for uid in vanished(response)}
        picture.log += [f"S: {response[:300]!r}" for response in (*told, *found)]
        picture.check(not any(is_kept(uid) for uid in gone & before), "lost: nobody has removed it")
        picture.check(not gone & there, "said to have vanished, and still there")
        picture.check(before - gone - later <= there, f"{before - gone - later - there} went, and nobody has said so")
        # What was told since the mailbox was opened again is not in the picture.
        await picture.client.ok("UNSELECT")
    picture.forget()
    await picture.say("SELECT INBOX")


def vanished(response: bytes) -> set[int]:
    """The uids that a VANISHED names."""
    if not response.startswith(b"* VANISHED"):
        return set()
    found: set[int] = set()
    for part in response.split()[-1].split(b","):
        low, _, high = part.partition(b":")
        found |= set(range(int(low), int(high or low) + 1))
    return found


async def deliver(server: PosthouseServer, random: Random, until: float) -> int:
    """Mail from outside, a message every few dozen milliseconds, so many a connection."""
    count = 0
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["smtp"])

        async def say(line: bytes, reader: StreamReader = reader, writer: StreamWriter = writer) -> None:
            writer.write(line + b"\r\n")
            answer = await reader.readline()
            assert answer[:1] in b"23", answer

        await reader.readline()
        await say(b"HELO outside.test")
        for _ in range(_A_CONNECTION):
            if time.monotonic() >= until:
                break
            await say(b"MAIL FROM:<bob@outside.test>")
            await say(f"RCPT TO:<{USER}>".encode())
            await say(b"DATA")
            await say(message(1_000_000 + count) + b".")
            count += 1
            await asyncio.sleep(random.random() * 0.06)
        writer.close()
        await writer.wait_closed()
    return count


async def pop(server: PosthouseServer, random: Random, until: float) -> None:
    """Log in, read, delete what may go, and hang up without QUIT now and then."""
    while time.monotonic() < until:
        client = await Pop3Client.connect(server.ports["pop3"])
        try:
            await client.say(f"USER {USER}")
            if not (await client.say(f"PASS {PASSWORD}")).startswith(b"+OK"):
                continue
            listed = await client.lines("UIDL")
            for line in random.sample(listed, min(3, len(listed))):
                await client.lines(f"RETR {line.split()[0].decode()}")
            await client.say("QUIT" if random.random() < 0.7 else "NOOP")
        finally:
            await client.close()
        await asyncio.sleep(random.random() * 0.2)


async def compare(server: PosthouseServer, pictures: list[Picture], by_uid: ByUid) -> int:
    """All believe what is there; and nothing is missing that nobody could remove. How many messages there are."""
    first = await ImapClient.connect(server.ports["imap"])
    await first.ok(LOGIN)
    fresh = Picture(first, Random(0), "the last to look", Common())
    await fresh.say("EXAMINE INBOX")
    if fresh.uids:
        await fresh.say("FETCH 1:* (UID FLAGS)")
    await by_uid.compare({uid: flags - {rb"\Recent"} for uid, flags in fresh.flags.items()})
    for picture in pictures:
        await picture.say("NOOP")
        await picture.learn_the_rest()
        picture.check(picture.uids == fresh.uids, "other messages than there are")
        await picture.compare_results()
        for uid, flags in fresh.flags.items():
            known = picture.flags[uid] - {rb"\Recent"}
            picture.check(known == flags - {rb"\Recent"}, f"other flags of {uid}: {known}, not {flags}")
    last = max((uid for uid in fresh.uids if uid is not None), default=0)
    lost = [uid for uid in range(1, last + 1) if is_kept(uid) and uid not in fresh.uids]
    fresh.check(not lost, f"{lost} are lost: nobody has removed them")
    await first.close()
    return len(fresh.uids)


async def stress(clients: int, seconds: float, seed: int) -> str:
    """Run it on a server of its own; what was done. AssertionError with the conversation where anything is wrong."""
    server = PosthouseServer(domain=DOMAIN, users=["alice"], settings=SETTINGS)
    try:
        server.start()
        random, common = Random(seed), Common()
        first = await ImapClient.connect(server.ports["imap"])
        await first.ok(LOGIN)
        await first.say("CREATE Archive")
        for number in range(30):
            await first.append(message(number))
        await first.close()
        pictures = [await client_of(server, kind, Random(random.random()), common) for kind in range(clients)]
        by_uid = await ByUid.open(server.ports["imap"], LOGIN, Random(seed))
        until = time.monotonic() + seconds
        delivered, *_ = await asyncio.gather(
            deliver(server, random, until),
            pop(server, random, until),
            by_uid.act(until),
            *(act(one, until) for one in pictures),
        )
        left = await compare(server, pictures, by_uid)
        await by_uid.client.close()
        for picture in pictures:
            await picture.client.close()
        heard = by_uid.heard + sum(picture.heard for picture in pictures)
        return (
            f"{clients} clients, {seconds:g} s, {heard} responses checked, {delivered} delivered, {left} messages left"
        )
    finally:
        server.stop()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(asyncio.run(stress(options.clients, options.minutes * 60, options.seed)))


if __name__ == "__main__":
    main()
