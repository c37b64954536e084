from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.model import Account
from posthouse.policy.check import Facts, RecipientFacts, Verdict
from posthouse.policy.limits import (
    Buckets,
    Connections,
    Conversation,
    HeloRequired,
    Limits,
    Loops,
    SubmissionRate,
)
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from posthouse.written import Rate

SOMEBODY = RecipientFacts(Recipient(parse("a@example.org")), Expansion(Standing.KNOWN))


def code(verdict: Verdict | None) -> tuple[int, str | None, bool] | None:
    if verdict is None:
        return None
    assert verdict.reply is not None
    return verdict.reply.code, verdict.reply.enhanced, verdict.close


@given(
    st.integers(1, 20),
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), max_size=60),
)
def test_a_bucket_gives_what_the_rate_says(count: int, seconds: int, steps: list[tuple[int, int]]) -> None:
    clock = SetClock()
    buckets = Buckets(clock, Rate(count, seconds))
    tokens, at = float(count), clock.monotonic()
    for pause, amount in steps:
        clock.advance(pause)
        tokens = min(count, tokens + (clock.monotonic() - at) * count / seconds)
        at = clock.monotonic()
        wait = buckets.take("key", amount)
        if abs(tokens - amount) > 1e-3:
            assert (wait == 0.0) == (tokens >= amount)
        if wait == 0.0:
            tokens -= amount
        elif amount <= count:
            assert abs(wait - (amount - tokens) * seconds / count) < 0.01 * seconds


def test_buckets_are_apart_bounded_and_give_back() -> None:
    buckets = Buckets(SetClock(), Rate(1, 60), keys=10)
    assert buckets.take("a") == 0.0
    assert buckets.take("b") == 0.0
    assert 59 < buckets.take("a") < 61
    buckets.give_back("a")
    assert buckets.take("a") == 0.0
    assert buckets.take("c", 2) > 0
    for n in range(100):
        assert buckets.take(f"n{n}") == 0.0


def test_connections_of_a_network_and_in_all() -> None:
    clock = SetClock()
    check = Connections(clock, Limits(connections=4, connections_per_network=2, connection_rate=Rate(100, 60)))
    peers = [Facts("mx", peer) for peer in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2")]
    answers = [code(check.connect(facts)) for facts in peers]
    assert answers == [None, None, (421, "4.7.0", True), None, (421, "4.3.2", True)]
    for facts in peers:
        check.leave(facts)
    assert check.connect(peers[0]) is None


def test_how_often_a_network_connects() -> None:
    clock = SetClock()
    check = Connections(clock, Limits(connection_rate=Rate(2, 60)))
    stranger, near = Facts("mx", "192.0.2.1"), Facts("mx", "127.0.0.2")
    for facts, expected in ((stranger, [None, None, (421, "4.7.0", True)]), (near, [None] * 3)):
        answers = []
        for _ in range(3):
            answers.append(code(check.connect(facts)))
            check.leave(facts)
        assert answers == expected
    clock.advance(31)
    assert check.connect(stranger) is None


def test_messages() -> None:
    check = Conversation(SetClock(), Limits(messages=3, message_rate=Rate(2, 60)))
    stranger = Facts("mx", "192.0.2.1")
    assert [code(check.mail(stranger)) for _ in range(4)] == [
        None,
        None,
        (450, "4.7.1", False),
        (421, "4.7.0", True),
    ]
    own = Facts("submission", "192.0.2.1", account=Account(1, "a@example.org", "", None, None, True, 0))
    assert check.mail(own) is None
    assert check.mail(Facts("mx", "::1")) is None


def test_recipients_of_a_message() -> None:
    check = Conversation(SetClock(), Limits(recipients=3, null_sender_recipients=2))
    facts = Facts("mx", "192.0.2.1")
    facts.begin(parse("bob@elsewhere.example"))
    facts.recipients = [SOMEBODY] * 2
    assert check.rcpt(facts, SOMEBODY) is None
    facts.recipients.append(SOMEBODY)
    assert code(check.rcpt(facts, SOMEBODY)) == (452, "4.5.3", False)
    facts.begin(None)
    facts.recipients = [SOMEBODY] * 2
    assert code(check.rcpt(facts, SOMEBODY)) == (550, "5.5.3", False)


def test_commands_and_errors() -> None:
    check = Conversation(SetClock(), Limits(commands=2, errors=1))
    facts = Facts("mx", "192.0.2.1")
    assert [code(check.command(facts)) for _ in range(3)] == [None, None, (421, "4.7.0", True)]
    assert [code(check.error(facts)) for _ in range(2)] == [None, (421, "4.7.0", True)]


def test_recipients_of_an_account() -> None:
    clock = SetClock()
    check = SubmissionRate(clock, Rate(2, 3600))
    own = Facts("submission", "192.0.2.1", account=Account(1, "a@example.org", "", None, None, True, 0))
    assert [code(check.rcpt(own, SOMEBODY)) for _ in range(3)] == [None, None, (450, "4.7.1", False)]
    assert check.rcpt(Facts("mx", "192.0.2.1"), SOMEBODY) is None
    assert not check.allow(1)
    assert check.allow(2, 2)
    clock.advance(1801)
    assert check.rcpt(own, SOMEBODY) is None


def test_helo_and_loops() -> None:
    facts = Facts("mx", "192.0.2.1")
    assert code(HeloRequired().mail(facts)) == (503, "5.5.1", False)
    facts.helo = "mx.elsewhere.example"
    assert HeloRequired().mail(facts) is None
    facts.received = 100
    assert Loops().data(facts) is None
    facts.received = 101
    assert code(Loops().data(facts)) == (554, "5.4.6", False)
