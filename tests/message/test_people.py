from hypothesis import given
from hypothesis import strategies as st

from posthouse.limits import HEADER_FIELDS
from posthouse.message.header import Header
from posthouse.message.people import address_of, author, named, people


def written(head: bytes) -> str | None:
    found = author(Header.parse(head + b"\r\n"))
    return None if found is None else found.address


def test_the_author_is_the_one_in_from() -> None:
    assert written(b"From: Ann <ann@home.example>\r\n") == "ann@home.example"
    assert written(b"From: team: ann@home.example;\r\n") == "ann@home.example"
    for several in (
        b"From: ann@home.example, bob@home.example\r\n",
        b"From: ann@home.example\r\nFrom: bob@home.example\r\n",
    ):
        assert written(several) is None
    for nobody in (b"", b"From: undisclosed:;\r\n", b"From: ann\r\n", b"From: ann@-\r\n"):
        assert written(nobody) is None


def test_a_header_that_is_not_known_to_its_end_names_no_author() -> None:
    assert written(b"From: ann@home.example\r\n" + b"X: y\r\n" * HEADER_FIELDS) is None


def test_groups_are_gone_through_in_order() -> None:
    found = people(b"a@x.example, team: b@x.example, c@x.example;, d@x.example")
    assert [one.local for one in found] == ["a", "b", "c", "d"]
    header = Header.parse(b"To: a@x.example\r\nCc: z@x.example\r\nTo: b@x.example\r\n\r\n")
    assert [one.local for one in named(header, b"to")] == ["a", "b"]


@given(st.binary(max_size=200))
def test_whatever_stands_there_the_author_can_be_written_to(octets: bytes) -> None:
    found = author(Header.parse(b"From: " + octets + b"\r\n\r\n"))
    assert found is None or address_of(found) is not None
