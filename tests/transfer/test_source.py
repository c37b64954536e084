from hypothesis import given
from hypothesis import strategies as st

from posthouse.transfer.source import key_of, with_crlf, with_lf

LINES = st.lists(st.sampled_from([b"a", b"", b"\r", b"\n", b"\r\n", b"bc\r\n", b"\r\r\n"]), max_size=12)


@given(LINES)
def test_line_ends_whatever_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert b"".join(with_crlf(iter(pieces))) == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert b"".join(with_lf(iter(pieces))) == whole.replace(b"\r\n", b"\n")


def test_keys_know_where_a_part_ends() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert key_of("a", b"b") == key_of(b"a", "b")
    assert len(key_of("a\udc80")) == 16
