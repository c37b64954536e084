"""The whole road of a mailing list, through real doors: a post, its copies here and elsewhere, what comes back, a way
out, and what is told to those who may not post.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from posthouse.directory import lists, members
from posthouse.directory.members import BOUNCE_DAYS
from posthouse.message.addresses import Mailbox
from posthouse.message.report import RecipientReport, delivery_report
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.harness import Client, House
from tests.relay.support import Peer
from tests.road.test_signed import ALICE, DOMAIN, LOGIN, between, relayed
from tests.support import run
from tests.trust import reference
from tests.trust.support import BOTH, records

BOB, DAVE, TEAM = "bob@home.example", "dave@there.example", "team@home.example"
POST = (
    f"From: Alice <{ALICE}>\r\nTo: {TEAM}\r\nSubject: Lunch\r\nMessage-ID: <p1@home.example>\r\n\r\nNoon?\r\n".encode()
)


async def found(home: House, *wanted: str, **settings: str) -> None:
    """The list, with these members, and Bob as its owner."""

    def work(tx: Tx) -> None:
        made = lists.add(tx, parse(TEAM), "The team", 1, **settings)
        members.add(tx, made.id, parse(BOB), 1, role="owner")
        for one in wanted:
            members.add(tx, made.id, parse(one), 1)

    await home.people(BOB)
    await home.changed(work)


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await what():
            await asyncio.sleep(0.01)


async def arrived(home: House, name: str, count: int) -> list[bytes]:
    """What stands in somebody's Inbox, once it is so much."""

    async def enough() -> bool:
        return len(await home.mail(name)) >= count

    await until(enough)
    return await home.mail(name)


async def submit(home: House) -> Client:
    """Alice, logged in."""
    client = await home.connect("submission")
    await client.say("EHLO there", f"AUTH PLAIN {LOGIN}")
    return client


def unfolded(octets: bytes) -> str:
    return re.sub(r"\r\n[ \t]+", " ", octets.decode())


def test_a_post_reaches_members_here_and_elsewhere_and_what_comes_back_is_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer) as home:
            await found(home, ALICE, DAVE)
            client = await submit(home)
            assert (await client.send(ALICE, [TEAM], POST)).startswith("250")
            for name in (ALICE, BOB):
                (copy,) = await arrived(home, name, 1)
                assert copy.startswith(b"Return-Path: <team-bounces@home.example>\r\n")
                assert 'List-Id: "The team" <team.home.example>' in unfolded(copy)
            octets = await relayed(home, peer)
            assert reference.verify(octets, records(DOMAIN, *BOTH)) == [
                "pass a=rsa-sha256 d=home.example",
                "pass a=ed25519-sha256 d=home.example",
            ]
            assert re.search(r"h=[^;]*\bList-Unsubscribe\b", unfolded(octets))
            path = re.search(r"MAIL FROM:<(team-bounces\+[0-9a-z]+@home\.example)>", "\n".join(peer.said[0]))
            out = re.search(r"List-Unsubscribe: <mailto:(team-leave\+[0-9a-z]+@home\.example)>", unfolded(octets))
            assert path is not None
            assert out is not None
            await of_strangers(home, path[1], out[1])

    run(main())


async def of_strangers(home: House, path: str, out: str) -> None:
    """Dave's server reports that there is no Dave; then he leaves by the way that his copy names."""
    report = delivery_report(
        reporting_mta="mx.there.example",
        sender=Mailbox("", "MAILER-DAEMON", "there.example"),
        to=Mailbox("", "team-bounces", DOMAIN),
        at=1,
        message_id="1@there.example",
        recipients=[RecipientReport(DAVE, "failed", "5.1.1")],
        original=b"Subject: x\r\n\r\n",
    )
    stranger = await home.connect("smtp")
    assert (await stranger.send("", [path], report)).startswith("250")

    async def counted() -> bool:
        return await home.query("SELECT bounces FROM list_member WHERE key = ?", DAVE) == [(1,)]

    await until(counted)
    # A report about everybody that anybody could write.
    assert (await stranger.send("", ["team-bounces@home.example"], report.replace(b"dave", b"bob"))).startswith("250")
    assert (await stranger.send(DAVE, [out], b"Subject: unsubscribe\r\n\r\n")).startswith("250")

    async def left() -> bool:
        return await home.query("SELECT 1 FROM list_member WHERE key = ?", DAVE) == []

    async def worked_on() -> bool:
        return await home.queued() == []

    await until(left)
    await until(worked_on)
    assert await home.query("SELECT sum(bounces) FROM list_member") == [(0,)]
    assert BOUNCE_DAYS > 1


def test_who_may_not_post_hears_so_at_every_door(tmp_path: Path) -> None:
    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer) as home:
            await found(home, others="refuse")
            for sender, octets in ((ALICE, POST), ("eve@far.example", POST.replace(b"alice@home", b"eve@far"))):
                client = await submit(home) if sender == ALICE else await home.connect("smtp")
                assert (await client.send(sender, [TEAM], octets)).startswith("550 5.7.2")
            stranger = await home.connect("smtp")
            automatic = POST.replace(b"Subject", b"Auto-Submitted: auto-replied\r\nSubject").replace(b"alice@", b"bob@")
            assert (await stranger.send("eve@far.example", [TEAM], automatic)).startswith("550 5.7.2")
            assert (await stranger.send("eve@far.example", [TEAM], b"Delivered-To: " + TEAM.encode() + b"\r\n" + POST)
                    ).startswith("554 5.4.6")  # fmt: skip

    run(main())


def test_lmtp_answers_for_the_list_and_for_people_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer) as home:
            await found(home, others="refuse")
            client = await home.connect("lmtp")
            await client.envelope("eve@far.example", [TEAM, ALICE], hello="LHLO far.example")
            answer = await client.data(POST.replace(b"alice@home", b"eve@far"))
            assert (answer[:9], (await client.reply())[:9]) == ("550 5.7.2", "250 2.0.0")
            await client.envelope("bob@far.example", [TEAM, ALICE], hello="LHLO far.example")
            answer = await client.data(POST.replace(b"alice@", b"bob@"))
            assert (answer[:9], (await client.reply())[:9]) == ("250 2.0.0", "250 2.0.0")
            (copy,) = await arrived(home, BOB, 1)
            assert b"List-Id:" in copy
            assert len(await arrived(home, ALICE, 2)) == 2

    run(main())
