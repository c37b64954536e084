"""The message between DATA and its dot: any split, any octets, and what a line-by-line reading would give."""

import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import limits
from posthouse.wire.lines import BareLineEnding, clean
from posthouse.wire.smtp.data import Chunks, Stuffer, Unstuffer, pieces

TRICKY = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r\n.", b"..", b"a", b"\r\n..", b"text", b"\r", b"\n", b"\r\n.\r\n"])
).map(b"".join)
SOUND = st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.", b"..", b"a", b"\r\n..", b"text", b"\xff"])).map(b"".join)


def unstuff(parts: list[bytes]) -> tuple[bytes, bytes | None, Unstuffer]:
    """The message, what is behind it (None: it has not ended), and the Unstuffer."""
    unstuffer = Unstuffer()
    message = b""
    for at, part in enumerate(parts):
        octets, behind = unstuffer.receive(part)
        message += octets
        if behind is not None:
            return message, behind + b"".join(parts[at + 1 :]), unstuffer
    return message, None, unstuffer


def by_line(octets: bytes) -> tuple[bytes, bytes | None]:
    """RFC 5321 §4.5.2, read slowly: lines are what CRLF ends."""
    message = b""
    while b"\r\n" in octets:
        line, _, octets = octets.partition(b"\r\n")
        if line == b".":
            return message, octets
        message += line.removeprefix(b".") + b"\r\n"
    return message, None


def singly(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


@given(st.lists(TRICKY))
def test_any_split_gives_the_same(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    one, two, three = unstuff(parts), unstuff([whole]), unstuff(singly(whole))
    assert one[1] == two[1] == three[1]
    assert one[2].flaw == two[2].flaw == three[2].flaw or one[1] is None
    if two[1] is not None and two[2].flaw is None:
        assert one[0] == two[0] == three[0]


@given(st.lists(TRICKY))
def test_the_end_is_where_a_slow_reader_finds_it(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    message, behind, unstuffer = unstuff(parts)
    slow, slow_behind = by_line(whole)
    assert behind == slow_behind
    if behind is not None:
        rest = slow.replace(b"\r\n", b"")
        assert (unstuffer.flaw == "bare") == (b"\r" in rest or b"\n" in rest)
        if unstuffer.flaw is None:
            assert message == slow
            assert unstuffer.size == len(message)


@given(st.lists(SOUND), st.lists(st.binary(min_size=1, max_size=3)))
def test_what_is_stuffed_comes_out_again(parts: list[bytes], behind: list[bytes]) -> None:
    stuffer = Stuffer()
    sent = [stuffer.send(part) for part in parts] + [stuffer.end()] + behind
    message = b"".join(parts)
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    assert unstuff(singly(b"".join(sent)))[:2] == (message, b"".join(behind))


@pytest.mark.parametrize("octets", [b"a\nb", b"a\rb", b"a\r", b"\n", b"\n\r"])
def test_a_bare_ending_is_not_sent(octets: bytes) -> None:
    for parts in ([octets], singly(octets)):
        stuffer = Stuffer()
        with pytest.raises(BareLineEnding):
            b"".join([stuffer.send(part) for part in parts] + [stuffer.end()])


@pytest.mark.parametrize("piece", [1, 1000, limits.TEXT_LINE, 10 * limits.TEXT_LINE])
@pytest.mark.parametrize(("length", "flaw"), [(limits.TEXT_LINE, None), (limits.TEXT_LINE + 1, "long")])
def test_a_line_has_a_limit(piece: int, length: int, flaw: str | None) -> None:
    if piece == 1:
        piece = 4096
    text = b"short\r\n" * 1000 + b"x" * (length - 2) + b"\r\n" + b"short\r\n.\r\n"
    _, behind, unstuffer = unstuff([text[at : at + piece] for at in range(0, len(text), piece)])
    assert behind == b""
    assert unstuffer.flaw == flaw


def test_nothing_comes_out_behind_a_flaw() -> None:
    unstuffer = Unstuffer()
    assert unstuffer.receive(b"good\r\nb\nd")[0] == b""
    assert unstuffer.receive(b"more\r\n") == (b"", None)
    assert unstuffer.receive(b".\r\n") == (b"", b"")


def test_large_buffers_are_cut_outside_of_endings() -> None:
    text = b"\r\n" * 100_001
    assert b"".join(pieces(text)) == text
    with tempfile.TemporaryFile() as file:
        file.write(b"x" + text)
        file.flush()
        with mmap.mmap(file.fileno(), 0) as mapped:
            stuffer = Stuffer()
            assert b"".join(map(stuffer.send, pieces(mapped))) == b"x" + text


def chunked(parts: list[bytes], *, binary: bool = False) -> tuple[bytes, Chunks]:
    """The message in these chunks, and the Chunks."""
    chunks = Chunks(binary=binary)
    return b"".join([*map(chunks.receive, parts), chunks.end()]), chunks


@given(st.lists(TRICKY))
def test_chunks_are_the_message_wherever_they_are_cut(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    bare = not clean(whole)
    for cut in (parts, [whole], singly(whole)):
        message, chunks = chunked(cut)
        assert chunks.arrived == len(whole)
        assert (chunks.flaw == "bare") == bare
        if not bare:
            assert (message, chunks.size) == (whole, len(whole))
        assert chunked(cut, binary=True)[0] == whole


@pytest.mark.parametrize(("length", "flaw"), [(limits.TEXT_LINE, None), (limits.TEXT_LINE + 1, "long")])
def test_a_line_in_chunks_has_the_same_limit(length: int, flaw: str | None) -> None:
    text = b"short\r\n" * 1000 + b"x" * (length - 2) + b"\r\n" + b"short\r\n"
    assert chunked([text[at : at + 5000] for at in range(0, len(text), 5000)])[1].flaw == flaw
    assert chunked([text], binary=True)[1].flaw is None
