"""What a transcript cannot show: logins that the TLS session is part of, and LMTP at a Unix socket."""

import asyncio
import datetime
import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from posthouse.net.binding import bindings
from posthouse.wire.sasl.exchange import ChannelBinding, ClientExchange
from posthouse.wire.sasl.scram import ScramClient
from tests.harness import PASSWORD, Client, client_tls, house
from tests.support import run

ALICE = "alice@home.example"


# --- SCRAM-SHA-256-PLUS -----------------------------------------------------------------------------------------------


def of_the_session(client: Client, type: str) -> ChannelBinding:
    """The client's side of a channel binding (RFC 9266, RFC 5929)."""
    tls = client.writer.get_extra_info("ssl_object")
    if type == "tls-exporter":
        return ChannelBinding(type, dict(bindings(tls))[type])
    digest = hashes.Hash(hashes.SHA256())
    digest.update(tls.getpeercert(binary_form=True))
    return ChannelBinding(type, digest.finalize())


async def log_in(client: Client, exchange: ClientExchange) -> str:
    """Log in by this exchange; the last reply."""
    initial = exchange.initial()
    assert initial is not None
    reply = await client.say(f"AUTH {exchange.mechanism} {b64encode(initial).decode()}")
    while reply.startswith("334 "):
        reply = await client.say(b64encode(exchange.respond(b64decode(reply[4:]))).decode())
    return reply


@pytest.mark.parametrize("type", ["tls-exporter", "tls-server-end-point"])
@pytest.mark.parametrize("door", ["submission", "submissions"])
def test_a_login_is_bound_to_its_session(tmp_path: Path, type: str, door: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(ALICE)
            client = await home.connect(door, tls=door == "submissions")
            if door == "submission":
                assert "PLUS" not in await client.say("EHLO laptop")
                await client.start_tls()
            assert "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in await client.say("EHLO laptop")
            foreign = ScramClient(ALICE, PASSWORD, "c" * 24, ChannelBinding(type, b"somebody in the middle"))
            assert (await log_in(client, foreign)).startswith("535 5.7.8")
            own = ScramClient(ALICE, PASSWORD, "c" * 24, of_the_session(client, type))
            assert (await log_in(client, own)).startswith("235")

    run(main())


def test_who_takes_the_offer_out_is_found_out(tmp_path: Path) -> None:
    # RFC 5802 §6
    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(ALICE)
            client = await home.connect("submissions", tls=True)
            await client.say("EHLO laptop")
            first = b64encode(b"y,,n=" + ALICE.encode() + b",r=" + b"c" * 24).decode()
            assert (await client.say(f"AUTH SCRAM-SHA-256 {first}")).startswith("501 5.5.2")

    run(main())


def test_what_is_beyond_ascii_is_told_to_who_asks_for_it(tmp_path: Path) -> None:
    # RFC 6531 §3.7.4.2
    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(ALICE)
            await home.alias("all@home.example", "jürgen@far.example")
            client = await home.connect("submissions", tls=True)
            await client.say("EHLO laptop")
            await client.say("AUTH PLAIN " + b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode())
            for verb in ("EXPN", "VRFY"):
                assert (await client.say(f"{verb} all@home.example")).startswith("252 2.6.8 ")
                assert "<jürgen@far.example>" in await client.say(f"{verb} all@home.example SMTPUTF8")

    run(main())


# --- EXTERNAL ---------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of an office."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Office")])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.path = directory / "office.pem"
        self.path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self._name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def client(self, *addresses: str) -> ssl.SSLContext:
        """Whoever has a certificate for these."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.RFC822Name(one) for one in addresses])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Somebody")])
        certificate = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        path = self._directory / "client.pem"
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        path.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem)
        )
        context = client_tls()
        context.load_cert_chain(path)
        return context


async def is_turned_away(port: int, context: ssl.SSLContext) -> bool:
    """The handshake ends; in TLS 1.3 the client hears of it with the first answer."""
    try:
        return await (await Client.open(port, context)).reply() == ""
    except (ssl.SSLError, ConnectionError):
        return True


NOBODY = b64encode(b"nobody@home.example").decode()


def test_a_certificate_is_a_login(tmp_path: Path) -> None:
    office, other = Authority(tmp_path), tmp_path / "other"
    other.mkdir()

    async def main() -> None:
        async with house(tmp_path, settings=f'tls.client_authorities = "{office.path}"') as home:
            await home.people(ALICE)
            port = home.ports["submissions"]
            client = await Client.open(port, office.client(ALICE, "a.liddell@home.example"))
            await client.reply()
            assert "AUTH EXTERNAL SCRAM" in await client.say("EHLO laptop")
            assert await client.say(f"AUTH EXTERNAL {NOBODY}") == "535 5.7.8 Wrong login or password"
            assert (await client.say("AUTH EXTERNAL =")).startswith("235")
            assert (await client.say(f"MAIL FROM:<{ALICE}>")).startswith("250")
            await client.close()
            # A certificate for somebody who is not here is nobody's.
            client = await Client.open(port, office.client("x@home.example"))
            await client.reply()
            await client.say("EHLO laptop")
            assert (await client.say("AUTH EXTERNAL =")).startswith("535")
            await client.close()
            # Without one, people log in as ever.
            client = await home.connect("submissions", tls=True)
            assert "EXTERNAL" not in await client.say("EHLO laptop")
            await client.close()
            # One of another authority's ends the handshake, and port 25 asks nobody.
            assert await is_turned_away(port, Authority(other).client(ALICE))
            client = await home.connect("smtp")
            await client.say("EHLO laptop")
            await client.start_tls()
            assert (await client.say("EHLO laptop")).startswith("250")

    run(main())


# --- LMTP at a Unix socket --------------------------------------------------------------------------------------------


def test_lmtp_at_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"

    async def main() -> None:
        async with house(tmp_path, unix={"lmtp": path}) as home:
            await home.people(ALICE)
            client = Client(*await asyncio.open_unix_connection(path))
            assert (await client.reply()).startswith("220")
            await client.envelope("eve@far.example", [ALICE], hello="LHLO list.example")
            assert (await client.data(b"Subject: Hello\r\n\r\nHi\r\n")).startswith("250")
            assert "AUTH" not in await client.say("LHLO list.example")
            (message,) = await home.mail(ALICE)
            assert b"Received: from list.example ([127.0.0.1])" in message
            await client.close()

    run(main())
