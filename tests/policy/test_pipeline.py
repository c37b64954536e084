import asyncio
from collections.abc import Mapping
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import observe
from posthouse.directory.addresses import Expansion, Standing
from posthouse.policy.check import (
    ACCEPT,
    Action,
    Check,
    Facts,
    RecipientFacts,
    Verdict,
    combine,
    defer,
    junk,
    refuse,
)
from posthouse.policy.pipeline import Pipeline
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.support import run


def facts(recipients: int = 0) -> Facts:
    found = Facts("mx", "192.0.2.1")
    found.begin(None)
    found.recipients = [recipient(n) for n in range(recipients)]
    return found


def recipient(number: int = 0) -> RecipientFacts:
    return RecipientFacts(Recipient(parse(f"u{number}@example.org")), Expansion(Standing.KNOWN))


REFUSED = refuse("no", 550, "5.7.1", "No")
DEFERRED = defer("later", 450, "4.7.1", "Later")
JUNKED = junk("smell", "smells")


class Says(Check):
    """Says the same at every stage."""

    name: ClassVar[str] = "says"

    def __init__(self, verdict: Verdict | None) -> None:
        self.verdict = verdict
        self.asked = 0

    def connect(self, facts: Facts) -> Verdict | None:
        self.asked += 1
        return self.verdict

    def mail(self, facts: Facts) -> Verdict | None:
        self.asked += 1
        return self.verdict

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        self.asked += 1
        return self.verdict

    def data(self, facts: Facts) -> Verdict | None:
        self.asked += 1
        return self.verdict


class Always(Says):
    """One that no list exempts from."""

    exemptible: ClassVar[bool] = False


class Waits(Check):
    """Answers later."""

    name: ClassVar[str] = "waits"

    async def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        await asyncio.sleep(0)
        return DEFERRED

    async def data(self, facts: Facts) -> Mapping[int, Verdict]:
        await asyncio.sleep(0)
        return {1: JUNKED}


class Raises(Check):
    """Is broken."""

    name: ClassVar[str] = "raises"

    def mail(self, facts: Facts) -> None:
        raise ZeroDivisionError("division by zero")

    async def data(self, facts: Facts) -> None:
        raise ZeroDivisionError("division by zero")


class Allows(Check):
    """Exempts from the check "says": everybody, this envelope, or one recipient."""

    name: ClassVar[str] = "allows"

    def connect(self, facts: Facts) -> None:
        facts.exempt = frozenset({"says"})

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> None:
        recipient.exempt = frozenset({"says"})


def test_the_strongest_counts_and_all_reasons_are_kept() -> None:
    found = run(Pipeline([Says(JUNKED), Says(DEFERRED), Says(None), Says(ACCEPT)]).mail(facts()))
    assert found.action is Action.DEFER
    assert found.reply == DEFERRED.reply
    assert found.reasons == ("smell: smells", "later: Later")


VERDICTS = st.sampled_from([ACCEPT, JUNKED, DEFERRED, REFUSED, defer("x", 421, "4.3.2", "Bye", close=True)])


@given(st.lists(VERDICTS))
def test_combining_is_the_strongest_whatever_the_grouping(verdicts: list[Verdict]) -> None:
    left = ACCEPT
    for verdict in verdicts:
        left = combine(left, verdict)
    right = ACCEPT
    for verdict in reversed(verdicts):
        right = combine(verdict, right)
    assert left == right
    assert left.action == max((verdict.action for verdict in verdicts), default=Action.ACCEPT)


def test_a_refusal_ends_the_stage() -> None:
    last = Says(JUNKED)
    found = run(Pipeline([Says(REFUSED), last]).mail(facts()))
    assert found == REFUSED
    assert last.asked == 0


def test_stages_that_a_check_does_not_have_are_not_asked() -> None:
    check = Says(REFUSED)
    assert run(Pipeline([check]).helo(facts())) is ACCEPT
    assert check.asked == 0
    assert run(Pipeline([Waits()]).mail(facts())) is ACCEPT


def test_a_check_that_waits() -> None:
    found = facts(2)
    assert run(Pipeline([Waits()]).rcpt(found, recipient())).action is Action.DEFER
    verdicts = run(Pipeline([Waits()]).data(found))
    assert [verdict.action for verdict in verdicts] == [Action.ACCEPT, Action.JUNK]


def test_a_check_that_raises_defers_and_is_told_of() -> None:
    told: list[observe.Step] = []
    stop = observe.subscribe(told.append)
    found = run(Pipeline([Raises()]).mail(facts()))
    verdicts = run(Pipeline([Raises()]).data(facts(1)))
    stop()
    assert found.reply is not None
    assert (found.action, found.reply.code, found.reply.enhanced) == (Action.DEFER, 451, "4.3.0")
    assert "division" not in found.reply.text
    assert verdicts[0].action is Action.DEFER
    failed = [step for step in told if step.kind == "check.failed"]
    assert [(step.facts["check"], step.facts["stage"]) for step in failed] == [("raises", "mail"), ("raises", "data")]
    assert "ZeroDivisionError" in str(failed[0].facts["traceback"])


def test_junk_said_early_stays_said_and_other_answers_do_not() -> None:
    class Early(Check):
        name: ClassVar[str] = "early"

        def connect(self, facts: Facts) -> Verdict:
            return JUNKED

        def mail(self, facts: Facts) -> Verdict:
            return DEFERRED

    async def main() -> None:
        pipeline, found = Pipeline([Early()]), facts(2)
        await pipeline.connect(found)
        await pipeline.mail(found)
        found.recipients[0].verdict = junk("own", "reason")
        verdicts = await pipeline.data(found)
        assert [verdict.action for verdict in verdicts] == [Action.JUNK, Action.JUNK]
        assert verdicts[0].reasons == ("smell: smells", "own: reason")
        found.begin(None)
        found.recipients = [recipient()]
        assert (await pipeline.data(found))[0].reasons == ("smell: smells",)

    run(main())


def test_exemptions() -> None:
    async def main() -> None:
        session = facts(2)
        says, always = Says(REFUSED), Always(REFUSED)
        assert (await Pipeline([Allows(), says]).connect(session)) is ACCEPT
        assert (await Pipeline([says]).mail(session)) is ACCEPT
        assert (await Pipeline([says]).data(session)) == [ACCEPT, ACCEPT]
        assert (await Pipeline([always]).mail(session)) == REFUSED

        envelope = facts(1)
        envelope.envelope_exempt = frozenset({"says"})
        assert (await Pipeline([says]).mail(envelope)) is ACCEPT
        envelope.begin(None)
        assert (await Pipeline([says]).mail(envelope)) == REFUSED

        found = facts(2)
        assert (await Pipeline([Allows(), says]).rcpt(found, found.recipients[0])) is ACCEPT
        assert (await Pipeline([says]).rcpt(found, found.recipients[1])) == REFUSED
        assert await Pipeline([says]).data(found) == [ACCEPT, REFUSED]
        # Behind the check it comes too late: a refusal has ended the stage.
        assert (await Pipeline([says, Allows()]).rcpt(found, found.recipients[1])) == REFUSED

    run(main())


@pytest.mark.parametrize("recipients", [0, 3])
def test_data_without_checks_accepts_all(recipients: int) -> None:
    assert run(Pipeline([]).data(facts(recipients))) == [ACCEPT] * recipients
