"""What NOTIFY may ask for; its forms are in the transcripts."""

import pytest

from posthouse import limits
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.notify import Event, Filter, Group, parse_groups


def test_groups_are_read() -> None:
    found = parse_groups(Parser(b' (mailboxes ("a b" inbox) (mailboxname)) (subtree c none)'))
    assert found == (
        Group(Filter.MAILBOXES, ("a b", "INBOX"), frozenset({Event.MAILBOX_NAME})),
        Group(Filter.SUBTREE, ("c",)),
    )


@pytest.mark.parametrize(
    ("groups", "code"),
    [
        (b" (mailboxes (%b) NONE)" % b" ".join([b"a"] * limits.NOTIFY_NAMES), b"NOTIFICATIONOVERFLOW"),
        (b" (personal NONE)" * (limits.NOTIFY_NAMES + 1), b"NOTIFICATIONOVERFLOW"),
        (
            b" (selected (MessageNew (%b) MessageExpunge))" % b" ".join([b"UID"] * (limits.NOTIFY_ITEMS + 1)),
            b"LIMIT",
        ),
        (
            b" (personal (Weather))",
            b"BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange"
            b" ServerMetadataChange)",
        ),
    ],
)
def test_what_is_too_much_is_no(groups: bytes, code: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_groups(Parser(groups))
    assert (caught.value.no, caught.value.code) == (True, code)
