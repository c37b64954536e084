"""The trail of an envelope: a journey of its own where it was refused, the beginning of one where it was not."""

from random import Random

from posthouse.clock import SetClock
from posthouse.message.header import Header
from posthouse.observe import code, parse_code
from posthouse.policy.check import Facts
from posthouse.reception.refusals import Refusals, Trail
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.reception.support import Written

NO = Reply(550, "5.1.1", "No such address here")


def begun() -> tuple[Written, Refusals, Trail, Facts]:
    """An envelope of eve's."""
    written = Written()
    refusals = Refusals(written, SetClock(), Random(1))
    facts = Facts("mx", "192.0.2.7", helo="far.example")
    return written, refusals, refusals.begin(parse("eve@far.example")), facts


def test_a_trail_without_a_refusal_is_no_journey() -> None:
    written, refusals, trail, facts = begun()
    refusals.end(trail, facts)
    assert written.journeys == []


def test_refused_recipients_share_the_journey_of_their_envelope() -> None:
    written, refusals, trail, facts = begun()
    for name in ("ann", "bob"):
        refusals.refuse(trail, facts, NO, ["recipient: no such address"], parse(f"{name}@home.example"))
    refusals.end(trail, facts)
    # Once, whatever follows.
    refusals.end(trail, facts)
    (journey,) = written.journeys
    assert journey.recipients == ("ann@home.example", "bob@home.example")
    assert [step.facts["recipients"] for step in journey.steps] == [("ann@home.example",), ("bob@home.example",)]
    assert parse_code(code(journey.id)) == journey.id
    assert journey.steps[0].facts["reply"] == "550 5.1.1 No such address here"
    assert journey.steps[0].facts["reasons"] == ("recipient: no such address",)


def test_a_refused_message_is_found_by_what_its_header_says() -> None:
    written, refusals, trail, facts = begun()
    trail.header = Header.parse(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@far.example>\r\n")
    refusals.refuse(trail, facts, NO)
    refusals.end(trail, facts)
    (journey,) = written.journeys
    assert (journey.message_id, journey.subject, journey.sender) == ("1@far.example", "Grüße", "eve@far.example")


def test_a_trail_is_bounded() -> None:
    written, refusals, trail, facts = begun()
    for number in range(1000):
        refusals.refuse(trail, facts, NO, recipient=parse(f"user{number}@home.example"))
    refusals.end(trail, facts)
    (journey,) = written.journeys
    assert len(journey.steps) == len(journey.recipients) == 50
