"""Return options, keys of SORT, mailboxes of ESEARCH; whole commands are in the transcripts."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.imap import command, sequence
from posthouse.wire.imap.command import TABLE
from posthouse.wire.imap.finding import Partial
from posthouse.wire.imap.grammar import ParseError
from posthouse.wire.imap.sequence import in_order

ENDS = st.integers(1, 12)


@given(count=st.integers(0, 9), first=ENDS, last=ENDS, backwards=st.booleans())
def test_a_part_of_the_results(count: int, first: int, last: int, backwards: bool) -> None:
    """RFC 9394 §3.1: 1 is the first, -1 the last; the ends may stand in any order; what there is not is left out."""
    found = [10 * number for number in range(1, count + 1)]
    places = range(min(first, last), max(first, last) + 1)
    sign = -1 if backwards else 1
    if backwards:
        expected = [found[-place] for place in places if place <= count][::-1]
    else:
        expected = [found[place - 1] for place in places if place <= count]
    assert Partial(sign * first, sign * last, b"").of(found) == expected


@given(st.lists(st.integers(1, 20), unique=True))
def test_a_set_in_order_says_the_numbers_in_their_order(numbers: list[int]) -> None:
    written = in_order(numbers)
    spread: list[int] = []
    for part in written.split(b",") if written else []:
        low, _, high = part.partition(b":")
        assert not high or int(low) < int(high)
        spread += range(int(low), int(high or low) + 1)
    assert spread == numbers
    if numbers == sorted(numbers):
        assert written == sequence.compress(numbers)


WORDS = st.sampled_from(
    b"RETURN|(|)|SAVE|UPDATE|PARTIAL|1:5|-1:-5|0:1|ALL|COUNT|RELEVANCY|REVERSE|DATE|SUBJECT|FUZZY|TEXT|x|UTF-8|KLINGON|"
    b'REFERENCES|IN|personal|mailboxes|subtree|a|IN (a)|"a"|"|{1}\r\nx|MODSEQ|"/flags/x"|all|5|OLDER|EMAILID|FILTER|'
    b"SAVEDON|1-Jan-2020|NOT|OR|((|))|\xff".split(b"|")
)


@given(
    name=st.sampled_from([b"SEARCH", b"SORT", b"UID THREAD", b"THREAD", b"ESEARCH", b"CANCELUPDATE"]),
    words=st.lists(WORDS, max_size=12),
    space=st.sampled_from([b" ", b""]),
)
def test_whatever_is_said_is_a_request_or_an_error(name: bytes, words: list[bytes], space: bytes) -> None:
    octets = b" " + b" ".join(words[:3]) + space + b" ".join(words[3:])
    with suppress(ParseError):
        command.parse(TABLE[name], octets, 0, utf8=False)
