"""What a sender wishes, as it holds: times and priorities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.smtpd.wishes import SENDER_OK, need_settling, settled
from posthouse.terms.envelope import NO_WISHES, DeliverBy, Envelope, Wishes
from posthouse.terms.reply import Refusal
from posthouse.wire.smtp.command import Mail
from posthouse.wire.smtp.parameters import DeliverWithin

NOW = 1_767_225_600_000
DAY = 86_400.0


def mail(wishes: Wishes = NO_WISHES, hold_for: int | None = None, by: DeliverWithin | None = None) -> Mail:
    """A MAIL that asks for that."""
    return Mail(Envelope(None, wishes=wishes), hold_for=hold_for, by=by)


@pytest.mark.parametrize(
    ("event", "needed"),
    [
        (mail(), False),
        (mail(Wishes(body="8BITMIME", smtputf8=True, ret="FULL")), False),
        (mail(Wishes(priority=-1)), False),
        (mail(Wishes(priority=1)), True),
        (mail(Wishes(body="BINARYMIME")), True),
        (mail(Wishes(hold_until=NOW)), True),
        (mail(Wishes(requiretls=True), hold_for=0), True),
        (mail(Wishes(requiretls=True), by=DeliverWithin(5, False, False)), True),
    ],
)
def test_most_mail_needs_nothing(event: Mail, needed: bool) -> None:
    assert need_settling(event) is needed


@pytest.mark.parametrize(
    ("event", "hold_until"),
    [
        (mail(hold_for=60), NOW + 60_000),
        (mail(hold_for=0), None),
        (mail(hold_for=int(DAY)), NOW + 86_400_000),
        (mail(Wishes(hold_until=NOW + 5)), NOW + 5),
        # A clock that is a little behind ours.
        (mail(Wishes(hold_until=NOW - 59_999)), None),
    ],
)
def test_until_when_a_message_is_held(event: Mail, hold_until: int | None) -> None:
    wishes, said = settled(event, NOW, DAY, known=False)
    assert (wishes.hold_until, said) == (hold_until, SENDER_OK)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (mail(hold_for=int(DAY) + 1), "A message is held for 1 days at most"),
        (mail(Wishes(hold_until=NOW + 86_400_001)), "A message is held for 1 days at most"),
        (mail(Wishes(hold_until=NOW - 60_000)), "That time is past"),
        (mail(hold_for=60, by=DeliverWithin(60, True, False)), "The message would be late before it leaves"),
    ],
)
def test_what_cannot_be_is_refused(event: Mail, why: str) -> None:
    with pytest.raises(Refusal) as refused:
        settled(event, NOW, DAY, known=True)
    assert str(refused.value.reply) == f"501 5.5.4 {why}"


def test_what_is_only_to_be_told_of_may_be_late_already() -> None:
    # RFC 2852 §4
    wishes, _ = settled(mail(hold_for=60, by=DeliverWithin(-5, False, True)), NOW, DAY, known=False)
    assert wishes.deliver_by == DeliverBy(NOW - 5000, False, True)


@given(st.integers(-9, 9), st.booleans())
def test_a_priority_is_never_raised_for_a_stranger(priority: int, known: bool) -> None:
    wishes, said = settled(mail(Wishes(priority=priority)), NOW, DAY, known=known)
    assert wishes.priority == (priority if known else min(priority, 0))
    # RFC 6710 §5: X.3.6, and the new priority first in the text.
    assert (said.enhanced == "2.3.6") is (wishes.priority != priority)
    assert said.enhanced != "2.3.6" or said.text.startswith("0 ")
