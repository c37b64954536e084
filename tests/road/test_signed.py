"""Mail of an account leaves with the signatures of its domain, and what a stranger sends through an alias without."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from posthouse.directory import signing
from posthouse.store.database import Tx
from tests.harness import PASSWORD, House, house
from tests.interop.names import nameserver
from tests.relay.support import Peer
from tests.support import run, until
from tests.trust import reference
from tests.trust.support import BOTH, records

ALICE = "alice@home.example"
DOMAIN = "home.example"
ZONE = {"there.example": {"MX": "10 mx.there.example."}, "mx.there.example": {"A": "127.0.0.1"}}
MESSAGE = f"From: <{ALICE}>\r\nTo: <bob@there.example>\r\nSubject: Hello\r\n\r\nGrüße!  \r\n".encode()
LOGIN = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()


def add_keys(tx: Tx) -> None:
    """RSA and Ed25519 for home.example."""
    for one in BOTH:
        signing.add(tx, DOMAIN, one.key, 0, one.selector)


async def relayed(home: House, peer: Peer) -> bytes:
    """The next message that the peer got."""
    await until(lambda: peer.messages)
    return peer.messages.pop()


@asynccontextmanager
async def between(directory: Path, peer: Peer, more: str = "") -> AsyncIterator[House]:
    """A house with Alice and keys, for which the peer is there.example."""
    with nameserver(ZONE) as resolver:
        settings = f'dns.resolver = "{resolver}"\nrelay.port = {peer.port}\n{more}'
        async with house(directory, settings=settings) as home:
            await home.people(ALICE)
            await home.changed(add_keys)
            yield home


@pytest.mark.parametrize("offered", ["250-there\r\n250-PIPELINING\r\n250 8BITMIME", "250 there"])
def test_mail_of_an_account_leaves_signed(tmp_path: Path, offered: str) -> None:
    """In the form in which the peer takes it: without 8BITMIME it is converted first."""

    async def main() -> None:
        async with Peer({"EHLO": [offered]}) as peer, between(tmp_path, peer) as home:
            client = await home.connect("submission")
            await client.say("EHLO there", f"AUTH PLAIN {LOGIN}")
            assert (await client.send(ALICE, ["bob@there.example"], MESSAGE)).startswith("250")
            octets = await relayed(home, peer)
            assert ("Grüße!".encode() in octets) is ("8BITMIME" in offered)
            assert reference.verify(octets, records(DOMAIN, *BOTH)) == [
                "pass a=rsa-sha256 d=home.example",
                "pass a=ed25519-sha256 d=home.example",
            ]

    run(main())


def test_what_a_stranger_writes_in_her_name_is_passed_on_unsigned(tmp_path: Path) -> None:
    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer) as home:
            await home.alias(f"astray@{DOMAIN}", "bob@there.example")
            stranger = await home.connect("smtp")
            assert (await stranger.send(ALICE, [f"astray@{DOMAIN}"], MESSAGE)).startswith("250")
            octets = await relayed(home, peer)
            assert f"From: <{ALICE}>".encode() in octets
            assert b"DKIM-Signature" not in octets

    run(main())


async def told(home: House, kind: str) -> list[Mapping[str, object]]:
    """Steps of this kind in the one journey of Alice's mail, once it has ended."""
    async with asyncio.timeout(30):
        while True:
            (journey,) = await home.journeys(ALICE)
            if any(step.kind == "recipient.relayed" for step in journey.steps):
                return [step.facts for step in journey.steps if step.kind == kind]
            await asyncio.sleep(0.01)


def test_what_a_host_of_ours_writes_leaves_signed(tmp_path: Path) -> None:
    """Where it may relay without a login; the journey says with which keys."""

    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer, 'relay.trusted_networks = ["127.0.0.0/8"]\n') as home:
            printer = await home.connect("smtp")
            assert (await printer.send(ALICE, ["bob@there.example"], MESSAGE)).startswith("250")
            assert reference.verify(await relayed(home, peer), records(DOMAIN, *BOTH)) == [
                "pass a=rsa-sha256 d=home.example",
                "pass a=ed25519-sha256 d=home.example",
            ]
            (signed,) = await told(home, "relay.signed")
            assert signed == {"domain": DOMAIN, "selectors": tuple(one.selector for one in BOTH)}

    run(main())
