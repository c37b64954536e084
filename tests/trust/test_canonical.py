import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.header import Header
from posthouse.trust import canonical
from tests.trust import reference, vectors


def whole(octets: bytes, *, relaxed: bool, step: int = 1 << 20) -> bytes:
    """A body in canonical form, read in pieces of `step`."""
    pieces = (octets[at : at + step] for at in range(0, len(octets), step))
    return b"".join(canonical.body(pieces, relaxed=relaxed))


# RFC 6376 §3.4.5: the three examples, one message.
EXAMPLE = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"


def test_the_examples_of_rfc_6376() -> None:
    header = Header.parse(EXAMPLE)
    fields = [header.octets(field) for field in header.fields]
    assert b"".join(canonical.header_field(one, relaxed=True) for one in fields) == b"a:X\r\nb:Y Z\r\n"
    assert b"".join(canonical.header_field(one, relaxed=False) for one in fields) == b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
    body = EXAMPLE[header.end :]
    assert whole(body, relaxed=True) == b" C\r\nD E\r\n"
    assert whole(body, relaxed=False) == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize(
    ("octets", "relaxed", "simple"),
    [
        # RFC 6376 §3.4.3, §3.4.4: nothing is nothing, or one empty line.
        (b"", b"", b"\r\n"),
        (b"\r\n\r\n", b"", b"\r\n"),
        (b" \t\r\n\r\n \r\n", b"", b" \t\r\n\r\n \r\n"),
        (b" ", b"", b" \r\n"),
        # A CRLF is added where it is missing.
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a \t", b"a\r\n", b"a \t\r\n"),
        (b"a\r\n\r\n\r\nb\r\n\r\n", b"a\r\n\r\n\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n"),
        # A bare CR or LF is no end of a line.
        (b"a \r", b"a \r\r\n", b"a \r\r\n"),
        (b"a\n\n", b"a\n\n\r\n", b"a\n\n\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
        (b"\x0b \x0c\r\n", b"\x0b \x0c\r\n", b"\x0b \x0c\r\n"),
    ],
)
def test_bodies(octets: bytes, relaxed: bytes, simple: bytes) -> None:
    for step in (1, 2, 3, 100):
        assert whole(octets, relaxed=True, step=step) == relaxed
        assert whole(octets, relaxed=False, step=step) == simple


def test_the_hash_of_an_empty_body() -> None:
    # RFC 6376 §3.4.3 and §3.4.4 print both.
    simple, relaxed = (canonical.body_hash([b""], relaxed=one) for one in (False, True))
    assert base64.b64encode(simple) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert base64.b64encode(relaxed) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_the_body_hash_of_rfc_8463() -> None:
    header = Header.parse(vectors.MESSAGE)
    hashed = canonical.body_hash([vectors.MESSAGE[header.end :]], relaxed=True)
    assert base64.b64encode(hashed).decode() == vectors.BODY_HASH


SOME = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"\xe9", b"  ", b"\r\n\r\n"]), max_size=40)


@given(SOME.map(b"".join), st.integers(1, 7), st.booleans())
def test_any_cut_gives_what_the_rfc_says(octets: bytes, step: int, relaxed: bool) -> None:
    assert whole(octets, relaxed=relaxed, step=step) == reference.body(octets, relaxed=relaxed)


@given(st.binary(max_size=200), st.booleans())
def test_any_octets(octets: bytes, relaxed: bool) -> None:
    assert whole(octets, relaxed=relaxed, step=16) == reference.body(octets, relaxed=relaxed)


FOLDS = st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b":", b";", b"\xc3\xa9"]), max_size=20)


@given(st.sampled_from([b"Subject", b"X-y", b"TO"]), st.sampled_from([b"", b" ", b"\t "]), FOLDS.map(b"".join))
def test_any_field(name: bytes, space: bytes, value: bytes) -> None:
    octets = name + space + b":" + value + b"\r\n"
    for relaxed in (True, False):
        assert canonical.header_field(octets, relaxed=relaxed) == reference.field(octets, relaxed=relaxed)


def test_a_field_at_the_end_of_everything_gets_its_line_ending() -> None:
    assert canonical.header_field(b"Subject: Hello", relaxed=False) == b"Subject: Hello\r\n"
    assert canonical.header_field(b"Subject: Hello", relaxed=True) == b"subject:Hello\r\n"


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("unit", [b" ", b"\t", b"\r\n", b" \r\n", b"\r\r\n", b"\r"])
def test_a_body_of_nothing_but_space_is_held_in_little_memory(unit: bytes, relaxed: bool) -> None:
    size, longest = 1 << 16, 0

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield unit * (size // len(unit))
        yield b"x"

    for piece in canonical.body(pieces(), relaxed=relaxed):
        longest = max(longest, len(piece))
    assert longest <= size + 3
