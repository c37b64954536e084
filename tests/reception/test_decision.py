"""What verdicts come to: nobody is forgotten, and nobody is told two things."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.policy.check import ACCEPT, Action, Verdict, defer, junk, refuse
from posthouse.reception.decision import decide

REFUSED = refuse("spam", 550, "5.7.1", "We do not take this")
DEFERRED = defer("greylist", 451, "4.7.1", "Come back later")
JUNK = junk("spam", "looks like it")
VERDICTS = st.lists(st.sampled_from([ACCEPT, JUNK, DEFERRED, REFUSED]), min_size=1, max_size=8)


@given(VERDICTS)
def test_smtp_says_no_only_where_that_holds_for_all(verdicts: list[Verdict]) -> None:
    decision = decide(verdicts, each=False)
    assert decision.nobody is all(verdict.action >= Action.DEFER for verdict in verdicts)
    # One reply: for each recipient the same.
    assert len(set(decision.refused)) == 1
    if decision.nobody:
        assert (decision.taken, decision.deferred) == ((), ())
        # Trying again helps where it helps one of them.
        deferred = any(verdict.action is Action.DEFER for verdict in verdicts)
        assert decision.refused[0] == (DEFERRED if deferred else REFUSED).reply


@given(VERDICTS, st.booleans())
def test_each_recipient_gets_it_or_waits_or_is_told_no(verdicts: list[Verdict], each: bool) -> None:
    decision = decide(verdicts, each=each)
    told = {index for index, reply in enumerate(decision.refused) if reply is not None}
    fates = [*decision.taken, *decision.deferred, *told]
    assert sorted(fates) == list(range(len(verdicts)))
    assert decision.junked <= set(decision.taken)


@given(VERDICTS)
def test_whoever_cannot_be_told_no_finds_it_in_junk_or_later(verdicts: list[Verdict]) -> None:
    decision = decide(verdicts, each=False)
    if decision.nobody:
        return
    for index, verdict in enumerate(verdicts):
        assert (index in decision.deferred) is (verdict.action is Action.DEFER)
        assert (index in decision.junked) is (verdict.action in (Action.JUNK, Action.REFUSE))


@given(VERDICTS)
def test_lmtp_tells_each_his_own(verdicts: list[Verdict]) -> None:
    decision = decide(verdicts, each=True)
    assert decision.deferred == ()
    for verdict, reply in zip(verdicts, decision.refused, strict=True):
        assert reply == (verdict.reply if verdict.action >= Action.DEFER else None)


def test_a_refusal_without_words_gets_some() -> None:
    reply = decide([Verdict(Action.REFUSE)], each=False).refused[0]
    assert reply is not None
    assert reply.code == 554
