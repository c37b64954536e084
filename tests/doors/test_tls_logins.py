"""Logins that the TLS session is part of, where mail is read: SCRAM-SHA-256-PLUS and EXTERNAL (RFC 7677, RFC 4422)."""

import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from posthouse.net.binding import bindings
from posthouse.wire.sasl.exchange import ChannelBinding, ClientExchange
from posthouse.wire.sasl.scram import ScramClient
from tests.doors.house import ALICE, BOB, PASSWORD, House, ImapClient, Pop3Client, in_house
from tests.harness import client_tls
from tests.harness import house as served
from tests.smtpd.test_logins import Authority
from tests.support import run


def of_the_session(client: ImapClient | Pop3Client, type: str) -> ChannelBinding:
    """The client's side of a channel binding (RFC 9266, RFC 5929)."""
    tls = client.writer.get_extra_info("ssl_object")
    if type == "tls-exporter":
        return ChannelBinding(type, dict(bindings(tls))[type])
    digest = hashes.Hash(hashes.SHA256())
    digest.update(tls.getpeercert(binary_form=True))
    return ChannelBinding(type, digest.finalize())


async def imap_login(client: ImapClient, exchange: ClientExchange) -> bytes:
    """Log in by this exchange; the answer."""
    initial = exchange.initial()
    assert initial is not None
    await client.send(f"a AUTHENTICATE {exchange.mechanism} {b64encode(initial).decode()}\r\n".encode())
    while (line := await client.line()).startswith(b"+ "):
        await client.send(b64encode(exchange.respond(b64decode(line[2:]))) + b"\r\n")
    return line


async def pop3_login(client: Pop3Client, exchange: ClientExchange) -> bytes:
    """The same by POP3."""
    initial = exchange.initial()
    assert initial is not None
    line = await client.say(f"AUTH {exchange.mechanism} {b64encode(initial).decode()}")
    while line.startswith(b"+ "):
        line = await client.say(b64encode(exchange.respond(b64decode(line[2:]))).decode())
    return line


@pytest.mark.parametrize("type", ["tls-exporter", "tls-server-end-point"])
@pytest.mark.parametrize("implicit", [True, False])
def test_imap_logins_are_bound_to_their_session(tmp_path: Path, type: str, implicit: bool) -> None:
    async def test(house: House) -> None:
        client = await ImapClient.connect(house.imaps_port if implicit else house.imap_port, tls(implicit))
        house.clients.append(client)
        assert (b"PLUS" in client.greeting) is implicit
        if not implicit:
            await client.ok("STARTTLS")
            await client.writer.start_tls(client_tls())
        assert b"AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN" in (await client.ok("CAPABILITY"))[0]
        foreign = ScramClient(ALICE, PASSWORD, "c" * 24, ChannelBinding(type, b"somebody in the middle"))
        assert b"NO [AUTHENTICATIONFAILED]" in await imap_login(client, foreign)
        own = ScramClient(ALICE, PASSWORD, "c" * 24, of_the_session(client, type))
        assert b"a OK" in await imap_login(client, own)
        assert await client.ok("SELECT INBOX")

    in_house(tmp_path, test)


@pytest.mark.parametrize("type", ["tls-exporter", "tls-server-end-point"])
@pytest.mark.parametrize("implicit", [True, False])
def test_pop3_logins_are_bound_to_their_session(tmp_path: Path, type: str, implicit: bool) -> None:
    async def test(house: House) -> None:
        client = await Pop3Client.connect(house.pop3s_port if implicit else house.pop3_port, tls(implicit))
        house.clients.append(client)
        if not implicit:
            assert b"SASL SCRAM-SHA-256 PLAIN LOGIN" in await client.lines("CAPA")
            assert (await client.say("STLS")).startswith(b"+OK")
            await client.writer.start_tls(client_tls())
        assert b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in await client.lines("CAPA")
        foreign = ScramClient(ALICE, PASSWORD, "c" * 24, ChannelBinding(type, b"somebody in the middle"))
        assert (await pop3_login(client, foreign)).startswith(b"-ERR [AUTH]")
        own = ScramClient(ALICE, PASSWORD, "c" * 24, of_the_session(client, type))
        assert (await pop3_login(client, own)).startswith(b"+OK")

    in_house(tmp_path, test)


def tls(implicit: bool) -> ssl.SSLContext | None:
    return client_tls() if implicit else None


def test_a_certificate_is_a_login(tmp_path: Path) -> None:
    office = Authority(tmp_path)

    async def test(house: House) -> None:
        client = await ImapClient.connect(house.imaps_port, office.client(ALICE))
        house.clients.append(client)
        assert b"AUTH=EXTERNAL AUTH=SCRAM" in client.greeting
        other = b64encode(BOB.encode()).decode()
        assert (await client.tagged(f"AUTHENTICATE EXTERNAL {other}")).startswith(b"NO [AUTHENTICATIONFAILED]")
        await client.ok("AUTHENTICATE EXTERNAL =")
        await client.ok("SELECT INBOX")
        pop3 = await Pop3Client.connect(house.pop3s_port, office.client(ALICE))
        house.clients.append(pop3)
        assert b"SASL EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in await pop3.lines("CAPA")
        assert (await pop3.say(f"AUTH EXTERNAL {other}")).startswith(b"-ERR [AUTH]")
        assert (await pop3.say("AUTH EXTERNAL =")).startswith(b"+OK")
        # Whoever shows none logs in as ever, and STARTTLS asks as well.
        plain = await ImapClient.connect(house.imaps_port, client_tls())
        house.clients.append(plain)
        assert b"EXTERNAL" not in plain.greeting
        assert b"CANNOT" in await plain.tagged("AUTHENTICATE EXTERNAL =")
        await plain.ok(f'LOGIN {ALICE} "{PASSWORD}"')
        later = await house.imap(None)
        await later.ok("STARTTLS")
        await later.writer.start_tls(office.client(BOB))
        await later.ok("AUTHENTICATE EXTERNAL =")

    in_house(tmp_path, test, authorities=office.path)


def test_without_authorities_a_certificate_is_nothing(tmp_path: Path) -> None:
    office = Authority(tmp_path)

    async def test(house: House) -> None:
        client = await ImapClient.connect(house.imaps_port, office.client(ALICE))
        house.clients.append(client)
        assert b"EXTERNAL" not in client.greeting

    in_house(tmp_path, test)


def test_the_configuration_says_whose_certificates_log_in(tmp_path: Path) -> None:
    """`tls.client_authorities`, where mail is read as where it is submitted."""
    office, settings = Authority(tmp_path), f'tls.client_authorities = "{tmp_path / "office.pem"}"'

    async def main() -> None:
        async with served(tmp_path, listeners={"imaps": "implicit", "pop3s": "implicit"}, settings=settings) as home:
            await home.people(ALICE)
            imap = await ImapClient.connect(home.ports["imaps"], office.client(ALICE))
            await imap.ok("AUTHENTICATE EXTERNAL =")
            await imap.ok("SELECT INBOX")
            await imap.close()
            pop3 = await Pop3Client.connect(home.ports["pop3s"], office.client(ALICE))
            assert (await pop3.say("AUTH EXTERNAL =")).startswith(b"+OK")
            await pop3.close()

    run(main())
