import base64
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from posthouse.trust.keys import Algorithm, BadKey, BadRecord, KeyRecord, PrivateKey, read_record, record_text
from tests.trust.support import ED25519, RSA
from tests.trust.vectors import ED25519_SEED, RECORDS

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8, OLD = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
OPEN = serialization.NoEncryption()


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_is_the_same_when_it_is_read_again(algorithm: Algorithm) -> None:
    made = PrivateKey.generate(algorithm)
    read = PrivateKey.of(made.octets(), checked=True)
    assert (read.algorithm, read.public) == (algorithm, made.public)
    assert read.octets() == made.octets()


def test_new_rsa_keys_have_2048_bits() -> None:
    public = serialization.load_der_public_key(RSA.key.public)
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048


def test_the_key_of_rfc_8463_has_the_public_half_that_stands_there() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(ED25519_SEED))
    read = PrivateKey.of(key.private_bytes(PEM, PKCS8, OPEN))
    assert record_text(read.algorithm, read.public) == RECORDS["brisbane._domainkey.football.example.com"]


def test_keys_of_other_servers_are_taken() -> None:
    key = rsa.generate_private_key(65537, 1024)
    for octets in (key.private_bytes(PEM, OLD, OPEN), key.private_bytes(DER, OLD, OPEN)):
        assert PrivateKey.of(octets, checked=True).algorithm is Algorithm.RSA


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")), "passwo"),
        (ec.generate_private_key(ec.SECP256R1()).private_bytes(DER, PKCS8, OPEN), "RSA and Ed25519 only"),
    ],
)
def test_what_cannot_sign_is_refused(octets: bytes, why: str) -> None:
    with pytest.raises(BadKey, match=why):
        PrivateKey.of(octets)


# 512 bits, which anybody breaks in hours.
SMALL = """-----BEGIN PRIVATE KEY-----
MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEApB7xGZZp7w0BnTB7
YWzaEwcqAwP8Snndu5KRaT8eRRXDhkZ5e6QvnNIVQ2jyd0wSowl5fMuRu9D9g7B7
oWZiywIDAQABAkArV0x+YF1rVrj1ZOdATDmuyraKg1Pt6w7mSQeDjrqUrYVog0Wx
Orke6TH+kX75wPbgr7WcUo6SmxTONTkbZLsxAiEAzkqWh1XqKvnL1NmjoOzkOJ7E
rsJ2GOi8NBv1uTNAv4kCIQDLqv/kWqUr4nYbnWqIpp1FGVaU+W7MArr68DZPV3lG
swIgFoZmcVicPR0ReKhbCZNUSCpt53csVgPzqOz0o8hI5aECIQCNW+d16FBB8FGH
gy/BHtuDbT3B8oorQS3kI7ueQBllrwIgbmu8T8BYbGvGG/gGksSZHPgfkC9J16sX
RYtzGbAS8IA=
-----END PRIVATE KEY-----
"""


def test_an_rsa_key_that_others_would_not_take_is_refused() -> None:
    with pytest.raises(BadKey, match="512 bits"):
        PrivateKey.of(SMALL.encode())


@given(st.binary(max_size=80))
def test_octets_that_are_no_key(octets: bytes) -> None:
    with pytest.raises(BadKey):
        PrivateKey.of(octets)


def test_a_private_key_does_not_show() -> None:
    assert "Private" not in repr(ED25519.key).replace("PrivateKey(", "")


# --- records


@pytest.mark.parametrize("key", [RSA.key, ED25519.key])
def test_a_record_is_read_as_it_was_written(key: PrivateKey) -> None:
    assert read_record(record_text(key.algorithm, key.public).encode()) == KeyRecord(key.algorithm, key.public)


@pytest.mark.parametrize("text", RECORDS.values())
def test_the_records_of_rfc_8463(text: str) -> None:
    record = read_record(text.encode())
    assert record_text(record.algorithm, record.public) == text


@pytest.mark.parametrize(
    ("text", "record"),
    [
        # RFC 6376 §3.6.1: only p= has to be there; an empty one is a key that was revoked.
        (b"p=AQID", KeyRecord(Algorithm.RSA, b"\1\2\3")),
        (b"v=DKIM1; p=", KeyRecord(Algorithm.RSA, b"")),
        (b" v = DKIM1 ; t = s : y ; n=notes; g=*; p = AQ\r\n ID ;", KeyRecord(Algorithm.RSA, b"\1\2\3", testing=True)),
        (b"v=DKIM1; h=sha1:sha256; s=email; k=rsa; p=AQID", KeyRecord(Algorithm.RSA, b"\1\2\3")),
    ],
)
def test_records_as_others_write_them(text: bytes, record: KeyRecord) -> None:
    assert read_record(text) == record


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"v=DKIM2; p=AQID", "version"),
        (b"k=rsa; v=DKIM1; p=AQID", "does not come first"),
        (b"v=DKIM1; k=rsa", "holds no key"),
        (b"v=DKIM1; k=dsa; p=AQID", "'dsa' are not known"),
        (b"v=DKIM1; h=sha1; p=AQID", "no hash that is still in use"),
        (b"v=DKIM1; s=tlsrpt; p=AQID", "not meant for mail"),
        (b"v=DKIM1; p=A*ID", "no Base64"),
        (b"v=DKIM1; p=\xc3\xa9", "no Base64"),
        (b"v=DKIM1; k=ed25519; p=AQID", "32 octets, this one 3"),
        (b"v=spf1 -all", "version"),
    ],
)
def test_what_is_no_record_of_a_key(text: bytes, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        read_record(text)


@given(st.text("vkphst=;DKIM1 rsa*:", max_size=40).map(str.encode) | st.binary(max_size=40))
def test_reading_a_record_raises_nothing_else(text: bytes) -> None:
    with suppress(BadRecord):
        read_record(text)
