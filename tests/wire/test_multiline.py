"""A message as POP3's multi-line answer: what a client makes of it is the message again."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.multiline import END, is_dotted, is_kept, size, top, whole, whole_kept

TEXT = st.lists(st.sampled_from([b"a", b".", b"\r\n", b"\r", b"\n", b"long line", b"\r\n.", b"\r\n\r\n"])).map(b"".join)


def received(answer: bytes) -> bytes:
    """What a client has of a multi-line answer (RFC 1939 §3)."""
    assert answer.endswith(b".\r\n")
    lines = answer.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


def with_crlf(octets: bytes) -> bytes:
    """Every line ending made CRLF, the last line too."""
    lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return lines if lines.endswith(b"\r\n") or not lines else lines + b"\r\n"


@given(TEXT)
def test_a_client_gets_the_message(octets: bytes) -> None:
    assert received(b"".join(whole([octets]))) == with_crlf(octets)


@given(TEXT, TEXT.map(with_crlf))
def test_parts_of_a_message_follow_each_other(octets: bytes, prologue: bytes) -> None:
    assert b"".join(whole([prologue, memoryview(octets)])) == b"".join(whole([prologue + octets]))


@given(TEXT, st.integers(0, 5))
def test_top_is_the_header_and_so_many_lines(octets: bytes, count: int) -> None:
    text = with_crlf(octets)
    if text.startswith(b"\r\n"):
        header, body = b"\r\n", text[2:]
    else:
        header, empty, body = text.partition(b"\r\n\r\n")
        header += empty
    lines = body.split(b"\r\n")[:-1]
    expected = header + b"".join(line + b"\r\n" for line in lines[:count])
    assert received(b"".join(top([octets], count))) == expected


def test_a_large_message_passes_in_pieces() -> None:
    message = b"Subject: x\r\n\r\n" + b".0123456789\r\n" * 100_000
    pieces = list(whole([message]))
    assert max(map(len, pieces)) <= 2 * 65536
    assert received(b"".join(pieces)) == message
    assert b"".join(top([message], 50_000)).count(b"\r\n..") == 50_000


def test_no_message_ends_its_answer_early() -> None:
    assert b"".join(whole([b"a\n.\nb\r.\rc\r\n.\r\nd"])) == b"a\r\n..\r\nb\r\n..\r\nc\r\n..\r\nd\r\n.\r\n"


@given(TEXT, TEXT.map(with_crlf))
def test_the_size_is_that_of_what_a_client_gets(octets: bytes, prologue: bytes) -> None:
    """RFC 1939 §11: dots that are doubled and the end of the answer do not count."""
    assert size([prologue, octets]) == len(received(b"".join(whole([prologue, memoryview(octets)]))))


@given(TEXT)
def test_what_is_kept_comes_as_it_is(octets: bytes) -> None:
    assert is_kept(octets) == is_kept(memoryview(octets)) == (with_crlf(octets) == octets)


@given(TEXT.map(with_crlf), TEXT.map(with_crlf))
def test_what_is_kept_is_sent_as_it_is_but_for_dots(prologue: bytes, octets: bytes) -> None:
    """With or without its being known that it is kept; and where nothing is dotted, each octet as it is."""
    answer = b"".join(whole([prologue, octets]))
    assert b"".join(whole_kept(prologue, octets)) == answer
    assert received(answer) == prologue + octets
    dotted = is_dotted(prologue) or is_dotted(memoryview(octets))
    assert (answer == prologue + octets + END) is not dotted


def test_large_messages_are_measured_in_pieces() -> None:
    lines = b"x" * 65_535 + b"\r\n" + b"y" * 65_534
    assert (is_kept(lines), size([lines])) == (False, len(lines) + 2)
    assert is_kept(lines + b"\r\n")
    assert not is_kept(lines + b"\n\r\n")
    assert size([lines + b"\n"]) == len(lines) + 2
