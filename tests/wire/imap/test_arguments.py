"""What a client asks for twice, and what it asks for too much of."""

import pytest

from posthouse import limits
from posthouse.wire.imap import command, request
from posthouse.wire.imap.fetch import Attribute
from posthouse.wire.imap.grammar import ParseError
from posthouse.wire.imap.request import Request, StatusItem


def parsed(line: bytes) -> Request:
    """The request that a line is."""
    head = command.head(b"a " + line)
    assert head is not None
    assert head.row is not None
    return command.parse(head.row, b"a " + line, head.arguments, utf8=False)


def test_what_is_asked_for_twice_is_told_once() -> None:
    """It would be told so often of each message, or of each mailbox."""
    asked = parsed(b"FETCH 1:* (UID BODY.PEEK[1] UID FLAGS BODY.PEEK[1] BODY.PEEK[1]<0.5>)")
    assert isinstance(asked, request.Fetch)
    assert len(asked.items) == 4
    assert [item for item in asked.items if isinstance(item, Attribute)] == [Attribute.UID, Attribute.FLAGS]
    asked = parsed(b"STATUS a (UNSEEN MESSAGES UNSEEN)")
    assert isinstance(asked, request.Status)
    assert asked.items == (StatusItem.UNSEEN, StatusItem.MESSAGES)
    asked = parsed(
        b'LIST "" * RETURN (STATUS (UNSEEN UNSEEN) METADATA (/shared/b /shared/a /shared/b) METADATA /shared/A)'
    )
    assert isinstance(asked, request.List)
    assert asked.status == (StatusItem.UNSEEN,)
    assert asked.metadata == ("/shared/b", "/shared/a")


def test_items_of_a_fetch_are_limited() -> None:
    """Each goes through the message."""
    items = [b"BODY.PEEK[1]<%d.1>" % number for number in range(limits.FETCH_ITEMS)]
    parsed(b"FETCH 1 (" + b" ".join(items) + b")")
    with pytest.raises(ParseError) as refused:
        parsed(b"UID FETCH 1 (UID " + b" ".join(items) + b")")
    assert refused.value.no
    assert refused.value.code == b"LIMIT"


def test_annotations_beside_a_list_are_limited_however_they_are_asked_for() -> None:
    entries = [b"/shared/%d" % number for number in range(limits.METADATA_ASKED)]
    most = b"METADATA (" + b" ".join(entries) + b")"
    parsed(b'LIST "" * RETURN (' + most + b" " + most + b")")
    with pytest.raises(ParseError) as refused:
        parsed(b'LIST "" * RETURN (' + most + b" METADATA /shared/another)")
    assert refused.value.no
    assert refused.value.code == b"LIMIT"
