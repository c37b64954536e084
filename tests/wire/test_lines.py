"""CRLF ends a line and only CRLF does, whatever the pieces it arrives in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.lines import BareLineEnding, Lines, LineTooLong, clean

TRICKY = st.binary(max_size=12) | st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"long line"])).map(
    b"".join
)


def read(pieces: list[bytes], limit: int = 8) -> list[bytes | str]:
    """All that comes out of `pieces`, with the errors by name."""
    lines = Lines()
    out: list[bytes | str] = []
    for piece in pieces:
        lines.receive(piece)
        while True:
            try:
                line = lines.line(limit)
            except BareLineEnding as error:
                out.append(error.octet)
            except LineTooLong:
                out.append("long")
            else:
                if line is None:
                    break
                out.append(line)
    return out


def test_lines_come_out_whole() -> None:
    assert read([b"one\r\ntw", b"o\r", b"\n\r\nthr"]) == [b"one", b"two", b""]


@pytest.mark.parametrize("octets", [b"a\n", b"\n", b"a\n\r\n"])
def test_a_bare_lf_is_reported_at_once(octets: bytes) -> None:
    assert read([octets])[0] == "LF"


def test_a_bare_cr_is_reported_when_its_line_is_complete() -> None:
    assert read([b"a\rb"]) == []
    assert read([b"a\rb\r\nc\r\n"]) == ["CR", b"c"]
    assert read([b"a\r\r\n"]) == ["CR"]


def test_the_limit_counts_the_ending() -> None:
    assert read([b"123456\r\n1234567\r\nx\r\n"]) == [b"123456", "long", b"x"]


def test_a_long_line_is_dropped_up_to_its_crlf_and_costs_no_memory() -> None:
    lines = Lines()
    lines.receive(b"x" * 9)
    with pytest.raises(LineTooLong):
        lines.line(8)
    for _ in range(1000):
        lines.receive(b"y\n" * 100 + b"\r")
        assert lines.line(8) is None
        assert len(lines) <= 1
    lines.receive(b"\nnext\r\n")
    assert lines.line(8) == b"next"


def test_a_buffer_used_again_is_copied() -> None:
    lines = Lines()
    buffer = bytearray(b"one\r\n")
    lines.receive(memoryview(buffer))
    buffer[:] = b"two\r\n"
    assert lines.line(100) == b"one"


def test_octets_leave_by_number_too() -> None:
    lines = Lines()
    lines.receive(b"head\r\n12345tail\r\n")
    assert lines.line(100) == b"head"
    assert lines.take(5) == b"12345"
    assert len(lines) == 6
    assert lines.line(100) == b"tail"
    assert lines.take() == b""
    lines.receive(b"rest")
    assert lines.take(100) == b"rest"


@given(st.lists(TRICKY))
def test_any_split_gives_the_same(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    one_by_one = [whole[at : at + 1] for at in range(len(whole))]
    assert read(pieces) == read([whole]) == read(one_by_one)


@given(TRICKY)
def test_clean_is_what_lines_take(octets: bytes) -> None:
    stripped = octets.replace(b"\r\n", b"")
    assert clean(octets) == (b"\r" not in stripped and b"\n" not in stripped)
