import base64
import mmap
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.trust.dkim import LIFETIME, SigningKey, sign, take_apart
from posthouse.trust.keys import PrivateKey
from tests.trust import reference, vectors
from tests.trust.support import BOTH, ED25519, records

NOW = 1_767_225_600_123
DOMAIN = "example.org"
RECORDS = records(DOMAIN, *BOTH)
PASSED = ["pass a=rsa-sha256 d=example.org", "pass a=ed25519-sha256 d=example.org"]
HEAD = (
    b"From: Alice <alice@example.org>\r\nTo: Bob <bob@there.example>\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
)


def signatures(message: bytes, prologue: bytes = b"", keys: tuple[SigningKey, ...] = BOTH) -> bytes:
    """The fields that are put in front."""
    return sign(take_apart(prologue, message), DOMAIN, keys, NOW)


def verified(message: bytes) -> list[str]:
    """What comes of the signatures."""
    return reference.verify(message, RECORDS)


def test_the_reference_reads_the_example_of_rfc_8463() -> None:
    assert reference.verify(vectors.SIGNATURES + vectors.MESSAGE, vectors.RECORDS) == [
        "pass a=ed25519-sha256 d=football.example.com",
        "pass a=rsa-sha256 d=football.example.com",
    ]
    assert "the body was changed" in reference.verify(vectors.SIGNATURES + vectors.MESSAGE + b"x", vectors.RECORDS)


def test_the_key_of_rfc_8463_signs_its_message() -> None:
    seed = Ed25519PrivateKey.from_private_bytes(base64.b64decode(vectors.ED25519_SEED))
    octets = seed.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey("brisbane", PrivateKey.of(octets))
    made = sign(take_apart(b"", vectors.MESSAGE), "football.example.com", [key], 1528637909_000)
    assert vectors.BODY_HASH.encode() in made
    passed = reference.verify(made + vectors.MESSAGE, vectors.RECORDS)
    assert passed == ["pass a=ed25519-sha256 d=football.example.com"]


@pytest.mark.parametrize(
    "message",
    [
        HEAD + b"\r\nHello.\r\n",
        HEAD + b"\r\nHello.  \t \r\n\t\r\n\r\n",
        HEAD + b"\r\n",
        HEAD,
        HEAD + b"\r\nno line ending",
        HEAD + b"\r\n\r\n\r\n",
        HEAD + b"\r\n" + "驿站\r\n".encode() * 1000,
        HEAD.replace(b"To: Bob", b"To: \r\n\t Carol <carol@there.example>,\r\n   Bob") + b"\r\nfolded\r\n",
        HEAD + b"References:" + b" <%d@example.org>" * 60 % tuple(range(60)) + b"\r\n\r\nlong line\r\n",
        HEAD.replace(b"Subject:", b"SUBJECT \t:") + b"\r\nspace before the colon\r\n",
        HEAD + b"Subject: two\r\nsubject: three\r\n\r\nthe same field several times\r\n",
        HEAD
        + b"X: "
        + b"x" * 20_000
        + b"\r\nCc: carol@there.example\r\n\r\na header longer than what is looked at first\r\n",
        b"From: alice@example.org\r\n\r\n" + b"a" * 200_000 + b" \r\n" + b"\r\n" * 100_000 + b"end",
    ],
)
@pytest.mark.parametrize("prologue", [b"", b"List-Id: <staff.example.org>\r\nCc: dave@there.example\r\n"])
def test_what_is_signed_verifies(message: bytes, prologue: bytes) -> None:
    made = signatures(message, prologue)
    # SMTP ends what has no line ending, and a header that no empty line follows has no body.
    assert verified(made + prologue + message) == PASSED


PIECES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"\xff", b"From: x\r\n", b"\r\n\r\n"]), max_size=30)


@settings(max_examples=50)
@given(PIECES.map(b"".join))
def test_any_body_verifies(body: bytes) -> None:
    message = HEAD + b"\r\n" + body
    made = signatures(message, keys=(ED25519,))
    assert verified(made + message) == PASSED[1:]


def test_changes_on_the_way_that_mean_nothing_do_no_harm() -> None:
    message = HEAD + b"\r\nHello,  Bob. \r\n\r\n"
    made = signatures(message)
    way = b"Received: from here by there\r\n"
    changed = HEAD.replace(b"Subject: ", b"SUBJECT:\r\n   ") + b"\r\nHello,\tBob.\r\n"
    assert verified(way + made + changed) == PASSED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Hello", b"hello"),
        (b"Subject: ", b"Subject: Re: "),
        (b"alice@example.org", b"eve@example.org"),
        (b"there.example>\r\n", b"there.example>,\r\n eve@far.example\r\n"),
    ],
)
def test_changes_that_mean_something_are_found(before: bytes, after: bytes) -> None:
    message = HEAD + b"\r\nHello.\r\n"
    assert before in message
    assert "pass" not in "".join(verified(signatures(message) + message.replace(before, after)))


@pytest.mark.parametrize(
    "name",
    [
        *("From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ],
)
def test_nobody_can_add_another_field_that_people_see(name: str) -> None:
    message = HEAD + b"\r\nHello.\r\n"
    made = signatures(message)
    for place in (
        made + f"{name}: added\r\n".encode() + message,
        made + HEAD + f"{name}: added\r\n\r\nHello.\r\n".encode(),
    ):
        assert verified(place) == ["the header was changed"] * 2


@pytest.mark.parametrize("name", ["List-Unsubscribe", "List-Unsubscribe-Post", "List-Id", "Sender", "Resent-From"])
def test_other_fields_are_signed_where_they_are_there(name: str) -> None:
    field = f"{name}: <https://example.org/>\r\n".encode()
    message = HEAD + field + b"\r\nHello.\r\n"
    made = signatures(message)
    assert verified(made + message) == PASSED
    assert verified(made + message.replace(field, b"")) == ["the header was changed"] * 2
    # A list further on adds its own on top; ours still stands at the bottom.
    assert verified(field + made + message) == PASSED


def test_what_a_signature_says() -> None:
    made = signatures(HEAD + b"\r\nHello.\r\n", keys=(ED25519,))
    said = reference.tags(made.split(b":", 1)[1])
    assert list(said) == ["v", "a", "c", "d", "s", "t", "x", "h", "bh", "b"]
    assert (said["v"], said["c"], said["d"], said["s"]) == ("1", "relaxed/relaxed", "example.org", "ed")
    # RFC 6376 §3.5: seconds; x= lies behind t=.
    assert (int(said["t"]), int(said["x"])) == (NOW // 1000, NOW // 1000 + LIFETIME)


def test_lines_are_short() -> None:
    made = signatures(HEAD + b"Cc: x@example.org\r\n" * 100 + b"\r\nHello.\r\n")
    assert made.endswith(b"\r\n")
    assert max(map(len, made.split(b"\r\n"))) <= 78
    assert all(line[:1] in (b"D", b"\t", b" ") or not line for line in made.split(b"\r\n"))
    assert b"\r\n\r\n" not in made


def test_a_mapped_file_is_signed_like_octets(tmp_path: Path) -> None:
    message = HEAD + b"\r\n" + b"A line  of text.\t\r\n" * 20_000
    (tmp_path / "message").write_bytes(message)
    with (tmp_path / "message").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert signatures(message, keys=(ED25519,)) == sign(take_apart(b"", mapped), DOMAIN, (ED25519,), NOW)
    assert sign(take_apart(b"", memoryview(message)), DOMAIN, (ED25519,), NOW) == signatures(message, keys=(ED25519,))


def test_a_header_that_is_not_read_to_its_end_is_not_complete() -> None:
    assert take_apart(b"", HEAD + b"\r\n").header.complete
    assert not take_apart(b"", HEAD + b"X: x\r\n" * 3000 + b"\r\n").header.complete
    assert not take_apart(b"", b"X: " + b"x" * 400_000 + b"\r\n" + HEAD + b"\r\n").header.complete


@given(st.binary(max_size=300))
def test_any_octets_can_be_taken_apart(octets: bytes) -> None:
    parts = take_apart(b"List-Id: <x>\r\n", octets)
    assert 0 <= parts.body <= len(octets)
