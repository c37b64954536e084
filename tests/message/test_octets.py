import base64
import binascii
import mmap
import quopri
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import octets as octets_module
from posthouse.message.octets import WINDOW, count_lines, decoded, find, from_base64, searchable


@contextmanager
def mapped(path: Path, content: bytes) -> Iterator[mmap.mmap]:
    path.write_bytes(content)
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        yield mapping


@pytest.mark.parametrize("at", [0, 1, WINDOW - 3, WINDOW - 2, WINDOW - 1, WINDOW, 2 * WINDOW - 1, 3 * WINDOW - 4])
def test_a_needle_is_found_wherever_windows_meet(tmp_path: Path, at: int) -> None:
    content = bytearray(b"." * (3 * WINDOW))
    content[at : at + 4] = b"\n--b"
    with mapped(tmp_path / "file", bytes(content)) as mapping:
        assert find(mapping, b"\n--b", 0, len(mapping)) == at
        assert find(mapping, b"\n--b", at, at + 4) == at
        assert find(mapping, b"\n--b", at, at + 3) == -1
        assert find(mapping, b"\n--b", at + 1, len(mapping)) == -1


def test_lines_are_counted_alike(tmp_path: Path) -> None:
    content = b"line\r\n" * 100_000 + b"end"
    with mapped(tmp_path / "file", content) as mapping:
        assert count_lines(mapping, 0, len(mapping)) == count_lines(content, 0, len(content)) == 100_000
        assert count_lines(mapping, 6, 17) == count_lines(content, 6, 17) == 1


def test_a_view_of_everything_is_not_copied() -> None:
    whole = b"message"
    assert searchable(memoryview(whole)) is whole
    assert searchable(memoryview(whole)[1:]) == b"essage"
    assert searchable(whole) is whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"SGVsbG8=", b"Hello"),
        (b"SGVs\r\nbG8=\r\n", b"Hello"),
        (b"SGVsbG8", b"Hello"),
        (b"SGV*s bG 8", b"Hello"),
        (b"SGVsbG8=\r\n-- trailing words", b"Hello"),
        (b"SGVsbA=", b"Hell"),
        (b"S", b""),
        (b"", b""),
        (b"====", b""),
    ],
)
def test_faulty_base64(text: bytes, expected: bytes) -> None:
    assert from_base64(text) == expected


def in_pieces(content: bytes, encoding: bytes) -> bytes:
    return b"".join(decoded(content, 0, len(content), encoding))


@given(st.binary(max_size=200), st.integers(1, 40), st.sampled_from([b"\r\n", b"\n"]))
def test_windows_cut_no_base64(content: bytes, window: int, ending: bytes) -> None:
    encoded = base64.encodebytes(content).replace(b"\n", ending)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(octets_module, "WINDOW", window)
        assert in_pieces(encoded, b"base64") == content


@given(
    st.lists(st.sampled_from([b"a", b" ", b"\t", b"=", b"=C3", b"=A4", b"=\r\n", b"=\n", b"\r\n", b"\n", b"\xc3"])).map(
        b"".join
    ),
    st.integers(1, 40),
)
def test_windows_cut_no_quoted_printable(encoded: bytes, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(octets_module, "WINDOW", window)
        assert in_pieces(encoded, b"quoted-printable") == binascii.a2b_qp(encoded)


@given(st.binary(max_size=300))
def test_quoted_printable_of_the_standard_library(content: bytes) -> None:
    # It takes all line endings for those of the first line.
    content = re.sub(rb"\r+\n", b"\n", content)
    assert in_pieces(quopri.encodestring(content, quotetabs=True), b"quoted-printable") == content


@given(st.binary(), st.sampled_from([b"base64", b"quoted-printable", b"7bit", b"x-other"]))
def test_never_raises(content: bytes, encoding: bytes) -> None:
    in_pieces(content, encoding)
