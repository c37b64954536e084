"""Mail of an account leaves as the recipient's domain asks: by MTA-STS or DANE, with right and with wrong certificates.

The whole road: a name server, the policy's host and the next server are real, on loopback.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from posthouse.net.nameserver import Nameserver, Zone
from posthouse.trust.dane import public_key_of
from tests.harness import PASSWORD, House, house
from tests.relay.support import Peer
from tests.relay.test_security import GOOD, HOST, ROOT, STRANGE, TODAY, WITH_TLS, shows
from tests.store.support import opened
from tests.support import run
from tests.trust.certificates import Issued, issue

ALICE = "alice@home.example"
BOB = "bob@there.example"
LOGIN = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
MESSAGE = f"From: <{ALICE}>\r\nTo: <{BOB}>\r\nSubject: Hello\r\nMessage-ID: <1@home.example>\r\n\r\nHi\r\n".encode()
POLICY_HOST = issue("mta-sts.there.example", 20, ROOT, names=["mta-sts.there.example"], now=TODAY)
POLICY = f"version: STSv1\r\nmode: enforce\r\nmx: {HOST}\r\nmax_age: 86400\r\n"


@asynccontextmanager
async def policy_host(directory: Path, asked: list[str]) -> AsyncIterator[int]:
    """What serves there.example's policy by HTTPS: its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(POLICY)}\r\n\r\n"
        writer.write((head + POLICY).encode())
        await writer.drain()
        writer.close()

    context: ssl.SSLContext = shows(POLICY_HOST, directory=directory / "policy host")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def world(
    directory: Path, shown: Sequence[Issued], records: Callable[[int], dict[str, dict[str, str]]], *, signed: bool
) -> AsyncIterator[tuple[House, Peer, list[str]]]:
    """A house with Alice, and there.example, whose host shows these certificates; `signed`: DNSSEC vouches for it all.

    `records`: what more DNS has, for the port of the host.
    """
    peer, asked = Peer({"EHLO": (WITH_TLS,)}, tls=shows(*shown, directory=directory / "peer")), list[str]()
    (directory / "ca.pem").write_bytes(ROOT.pem)
    async with peer, policy_host(directory, asked) as https:
        zone = {"there.example": {"MX": f"10 {HOST}."}, HOST: {"A": "127.0.0.1"}, **records(peer.port)}
        server = Nameserver(Zone.of(zone), authentic=signed)
        settings = (
            f'dns.resolver = "{await server.start()}"\nrelay.port = {peer.port}\n'
            f'relay.authorities = "{directory / "ca.pem"}"\nrelay.https_dial = "127.0.0.1:{https}"\n'
        )
        try:
            async with house(directory / "house", settings=settings) as home:
                await home.people(ALICE)
                client = await home.connect("submission")
                await client.say("EHLO there", f"AUTH PLAIN {LOGIN}")
                assert (await client.send(ALICE, [BOB], MESSAGE)).startswith("250")
                yield home, peer, asked
        finally:
            await server.stop()


async def told(home: House, *kinds: str) -> dict[str, str]:
    """The sentences of the journey's steps of these kinds, once they are all there."""
    async with asyncio.timeout(30):
        while True:
            (one,) = await home.journeys("<1@home.example>")
            found = {step.kind: str(dict(step.facts)) for step in one.steps}
            if all(kind in found for kind in kinds):
                return found
            await asyncio.sleep(0.01)


async def counted(directory: Path) -> list[tuple[str, str, str, int]]:
    """What was counted for reports, as it stands once the house has stopped."""
    async with opened(directory / "house") as store:
        rows = await store.read(lambda tx: tx.query("SELECT domain, type, result, sessions FROM tls_result", ()))
    return [(domain, type, result, sessions) for domain, type, result, sessions in rows]


@pytest.mark.parametrize(("shown", "good"), [([GOOD, ROOT], True), ([STRANGE], False)])
def test_mta_sts_is_enforced(tmp_path: Path, shown: Sequence[Issued], good: bool) -> None:
    def records(_: int) -> dict[str, dict[str, str]]:
        return {"_mta-sts.there.example": {"TXT": '"v=STSv1; id=1"'}}

    async def main() -> None:
        (tmp_path / "house").mkdir()
        async with world(tmp_path, shown, records, signed=False) as (home, peer, asked):
            end = "recipient.relayed" if good else "recipient.deferred"
            steps = await told(home, end, "relay.security")
            assert ("4.7.5 TLS handshake failed: certificate refused" in steps[end]) is not good
            assert "MTA-STS" in steps["relay.security"]
            assert len(peer.messages) == good
            assert asked == ["GET /.well-known/mta-sts.txt HTTP/1.1"]
            assert await home.query("SELECT domain, record, policy FROM sts_policy") == [("there.example", "1", POLICY)]
        assert await counted(tmp_path) == [("there.example", "sts", "" if good else "certificate-not-trusted", 1)]

    run(main())


@pytest.mark.parametrize(
    ("of", "signed", "good", "result"),
    [
        (STRANGE, True, True, ("tlsa", "")),
        (GOOD, True, False, ("tlsa", "validation-failure")),
        # Without DNSSEC the record is nobody's word.
        (GOOD, False, True, ("no-policy-found", "")),
    ],
)
def test_dane_is_obeyed(tmp_path: Path, of: Issued, signed: bool, good: bool, result: tuple[str, str]) -> None:
    def records(port: int) -> dict[str, dict[str, str]]:
        return {f"_{port}._tcp.{HOST}": {"TLSA": f"3 1 1 {sha256(public_key_of(of.der)).hexdigest()}"}}

    async def main() -> None:
        (tmp_path / "house").mkdir()
        async with world(tmp_path, [STRANGE], records, signed=signed) as (home, peer, _):
            end = "recipient.relayed" if good else "recipient.deferred"
            steps = await told(home, end)
            assert len(peer.messages) == good
            assert ("relay.security" in steps) is signed
            if not good:
                assert "4.7.5 The server is not the one that its TLSA records describe" in steps[end]
        assert await counted(tmp_path) == [("there.example", *result, 1)]

    run(main())
