"""Why mail was not taken, by code and by words that real servers use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.cause import WORDS, Cause, cause_of


@pytest.mark.parametrize(
    ("status", "words", "cause"),
    [
        ("5.1.1", "whatever", Cause.NO_SUCH_USER),
        ("5.1.10", "Null MX", Cause.NO_SUCH_DOMAIN),
        ("5.2.2", "", Cause.FULL),
        ("4.7.1", "Greylisted, come again later; try again", Cause.BUSY),
        ("5.7.1", "Service unavailable; client host blocked using zen.spamhaus.org", Cause.REPUTATION),
        ("5.7.1", "This message looks like spam", Cause.CONTENT),
        ("5.7.1", "Not today", Cause.POLICY),
        ("5.7.26", "This mail has been blocked because the sender is unauthenticated", Cause.AUTHENTICATION),
        ("5.0.0", "550 <bob@x.example>: Recipient address rejected: User unknown in virtual mailbox table",
         Cause.NO_SUCH_USER),
        (None, "552 mailbox full", Cause.FULL),
        (None, "550 over quota", Cause.FULL),
        (None, "554 message too large", Cause.TOO_LARGE),
        (None, "550 account has been disabled", Cause.DISABLED),
        (None, "554 too many hops", Cause.LOOP),
        ("4.4.7", "Connection timed out", Cause.EXPIRED),
        ("5.5.0", "554 what?", Cause.OTHER),
    ],
)  # fmt: skip
def test_the_cause_of_a_reply(status: str | None, words: str, cause: Cause) -> None:
    assert cause_of(status, words) is cause


@given(st.none() | st.text(), st.text())
def test_whatever_is_said_there_is_a_cause(status: str | None, words: str) -> None:
    assert cause_of(status, words) in WORDS
