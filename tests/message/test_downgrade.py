import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.addresses import parse_addresses
from posthouse.message.downgrade import conventional, for_ascii
from posthouse.message.header import Header, parameter, parse_parameters
from posthouse.message.words import decode_words


def test_what_is_ascii_stays_as_it_is() -> None:
    header = b"Subject:  two  spaces \r\nbroken line\r\nX: y\r\n\tz\r\n\r\n"
    assert conventional(header) is header
    assert conventional(header[:-2] + "Subject: é\r\n\r\n".encode()).startswith(header[:-2])


def test_texts_are_encoded() -> None:
    made = conventional("From: a@example.org\r\nSubject: Grüße\r\n\r\n".encode())
    assert made.isascii()
    assert made.endswith(b"\r\n\r\n")
    assert decode_words(Header.parse(made).first(b"subject") or b"") == "Grüße"
    # Charsets that nobody declared are guessed.
    assert decode_words(Header.parse(conventional(b"Subject: Gr\xfc\xdfe\r\n\r\n")).first(b"subject") or b"") == "Grüße"


@pytest.mark.parametrize(
    ("written", "name", "local", "domain"),
    [
        ("Jürgen <j@example.org>", "Jürgen", "j", "example.org"),
        ("Jürgen <j@bücher.example>", "Jürgen", "j", "xn--bcher-kva.example"),
        ("Jürgen <jürgen@example.org>", "Jürgen", "invalid", "internationalized-address.invalid"),
        ("jürgen@bücher.example", "", "invalid", "internationalized-address.invalid"),
        ("j@b\u00fc..example", "", "invalid", "internationalized-address.invalid"),
    ],
)
def test_people(written: str, name: str, local: str, domain: str) -> None:
    """RFC 6858 §2.1."""
    made = conventional(f"To: {written}, Bob <bob@example.org>\r\n\r\n".encode())
    assert made.isascii()
    first, second = parse_addresses(Header.parse(made).first(b"to") or b"")
    assert (first.name, getattr(first, "local", None), getattr(first, "domain", None)) == (name, local, domain)
    assert second.name == "Bob"


def test_members_of_a_group_stand_alone() -> None:
    made = conventional("To: Gäste: a@example.org, b@example.org;\r\n\r\n".encode())
    assert made == b"To: a@example.org, b@example.org\r\n\r\n"


def test_parameters_of_mime() -> None:
    header = 'Content-Type: text/plain; charset=utf-8; x="a b"; name="Grüße.txt"\r\n\r\n'
    made = conventional(header.encode())
    kind, parameters = parse_parameters(Header.parse(made).first(b"content-type") or b"")
    assert kind == b"text/plain"
    assert [parameter(parameters, name) for name in (b"charset", b"x", b"name")] == ["utf-8", "a b", "Grüße.txt"]


def test_what_cannot_be_said_is_left_out() -> None:
    """RFC 6858 §2.4."""
    header = "Süß: x\r\nno field: ä\r\nContent-Type: ä/b; c=d\r\nX: y\r\n\r\n"
    assert conventional(header.encode()) == b"X: y\r\n\r\n"


def test_a_header_past_the_limits_keeps_its_lines() -> None:
    header = b"X: \xe4\r\n" * 5000 + b"\r\n"
    assert conventional(header) == b"X: ?\r\n" * 5000 + b"\r\n"


def test_whole_messages() -> None:
    message = "Subject: é\r\n\r\nBödy\r\n".encode()
    prologue = "Delivered-To: jürgen@example.org\r\n".encode()
    plain = b"Delivered-To: j@example.org\r\n"
    assert b"".join(for_ascii(plain, b"Subject: e\r\n\r\nBody\r\n")) == plain + b"Subject: e\r\n\r\nBody\r\n"
    # The body is not ours to change.
    assert b"".join(for_ascii(plain, "A: b\r\n\r\nBödy".encode())) == plain + "A: b\r\n\r\nBödy".encode()
    header, body = for_ascii(prologue, message)
    assert bytes(header).isascii()
    assert bytes(body) == "Bödy\r\n".encode()
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            parts = for_ascii(prologue, mapped)
            assert b"".join(map(bytes, parts)) == bytes(header) + bytes(body)
            for part in parts:
                if isinstance(part, memoryview):
                    part.release()


@given(st.binary(max_size=400))
def test_no_header_raises_and_all_come_out_in_ascii(octets: bytes) -> None:
    assert conventional(octets).isascii()


@given(st.lists(st.sampled_from(["From", "To", "Subject", "Content-Type", "X-é"]), max_size=4), st.text(max_size=80))
def test_no_text_raises(names: list[str], text: str) -> None:
    header = "".join(f"{name}: {text}\r\n" for name in names) + "\r\n"
    made = conventional(header.encode("utf-8", "replace"))
    assert made.isascii()
