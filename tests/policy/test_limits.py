from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.model import Account
from posthouse.policy.check import Facts, RecipientFacts, Verdict
from posthouse.policy.limits import (
    NEIGHBOURS,
    Buckets,
    Connections,
    Conversation,
    DomainRate,
    DomainRates,
    HeloRequired,
    Limits,
    Loops,
    SubmissionRate,
)
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from posthouse.terms.reply import Reply
from posthouse.written import Rate

ALICE = Account(1, "a@example.org", "", None, None, True, 0)
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


def codes(check: Connections, *peers: str) -> list[tuple[int, str | None] | None]:
    """What the gate says to these, who come one after the other and stay."""
    said = [check.arrive(peer) for peer in peers]
    return [None if reply is None else (reply.code, reply.enhanced) for reply in said]


def test_connections_of_a_network_and_in_all() -> None:
    check = Connections(SetClock(), Limits(connections=4, connections_per_network=2, connection_rate=Rate(100, 60)))
    peers = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2")
    assert codes(check, *peers) == [None, None, (421, "4.7.0"), None, (421, "4.3.2")]
    for peer in peers:
        check.depart(peer)
    assert check.arrive(peers[0]) is None


def test_connections_of_neighbours() -> None:
    check = Connections(SetClock(), Limits(connections_per_neighbours=2))
    assert codes(check, "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:1::1") == [
        None,
        None,
        (421, "4.7.0"),
        None,
    ]
    assert codes(check, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.3.1") == [None, None, (421, "4.7.0"), None]
    check.depart("192.0.2.3")
    check.depart("192.0.2.2")
    assert codes(check, "192.0.2.4") == [None]
    # Whoever has no address is on this machine.
    assert codes(check, "*", "*", "*", "127.0.0.1", "127.0.0.1", "127.0.0.1") == [None] * 6


def test_nothing_is_left_of_those_who_left() -> None:
    check = Connections(SetClock(), Limits(connections_per_network=1))
    peers = [f"192.0.2.{n % 3}" for n in range(9)]
    codes(check, *peers)
    for peer in peers:
        check.depart(peer)
    assert not check._here
    assert not check._beside


def test_who_is_blocked_is_not_welcome_but_counted_all_the_same() -> None:
    no = Reply(554, "5.7.1", "no")
    check = Connections(SetClock(), Limits(), blocked=lambda peer: no if peer == "192.0.2.1" else None)
    assert check.arrive("192.0.2.1") is no
    assert check.arrive("192.0.2.2") is None
    check.depart("192.0.2.1")
    check.depart("192.0.2.2")
    assert not check._here


def test_who_is_blocked_does_not_take_the_room_of_others() -> None:
    """554 leaves a stranger until he says QUIT, 421 does not: ten thousand who stay would keep everybody else out."""
    no = Reply(554, "5.7.1", "no")
    limits = Limits(connections=8, connections_per_network=2, connections_per_neighbours=3)
    check = Connections(SetClock(), limits, blocked=lambda peer: no)
    assert codes(check, "192.0.2.1", "192.0.2.1") == [(554, "5.7.1")] * 2
    assert codes(check, "192.0.2.1", "192.0.2.2") == [(421, "4.7.0")] * 2


@pytest.mark.parametrize("peer", ["2001:db8:0:{:x}::1", "192.0.2.{}"])
def test_whoever_comes_from_another_network_each_time_comes_too_often_all_the_same(peer: str) -> None:
    clock = SetClock()
    gate = Connections(clock, Limits(connection_rate=Rate(2, 60), connections_per_neighbours=1000))
    told = codes(gate, *(peer.format(n) for n in range(2 * NEIGHBOURS + 1)))
    assert told == [None] * 2 * NEIGHBOURS + [(421, "4.7.0")]
    assert codes(gate, "2001:db8:1::1", "198.51.100.1") == [None, None]

    check = Conversation(clock, Limits(message_rate=Rate(2, 60)))
    verdicts = [check.mail(Facts("mx", peer.format(n))) for n in range(2 * NEIGHBOURS + 1)]
    assert [code(one) for one in verdicts] == [None] * 2 * NEIGHBOURS + [(450, "4.7.1", False)]


def test_how_often_a_network_connects() -> None:
    clock = SetClock()
    check = Connections(clock, Limits(connection_rate=Rate(2, 60)))
    stranger, near = "192.0.2.1", "127.0.0.2"
    for peer, expected in ((stranger, [None, None, (421, "4.7.0")]), (near, [None] * 3)):
        answers = []
        for _ in range(3):
            answers += codes(check, peer)
            check.depart(peer)
        assert answers == expected
    clock.advance(31)
    assert check.arrive(stranger) is None


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


def test_each_error_is_answered_later_than_the_one_before() -> None:
    check = Conversation(SetClock(), Limits(free_errors=2, tarpit=2.0, errors=100))
    stranger, near = Facts("mx", "192.0.2.1"), Facts("mx", "127.0.0.1")
    own = Facts("submission", "192.0.2.1", account=Account(1, "a@example.org", "", None, None, True, 0))
    pauses: dict[int, list[float]] = {}
    for number, facts in enumerate((stranger, near, own)):
        for _ in range(6):
            check.error(facts)
            pauses.setdefault(number, []).append(check.pause(facts))
    assert pauses == {0: [0.0, 0.0, 2.0, 4.0, 5.0, 5.0], 1: [0.0] * 6, 2: [0.0] * 6}
    off = Conversation(SetClock(), Limits(tarpit=0.0))
    stranger.errors = 19
    assert off.pause(stranger) == 0.0


def test_rates_of_domains() -> None:
    clock = SetClock()
    check = DomainRate(
        clock, {"news.example": DomainRates(sender=Rate(1, 60)), "*": DomainRates(recipient=Rate(2, 60))}
    )
    facts = Facts("mx", "192.0.2.1")
    answers = []
    for sender in ("a@news.example", "b@news.example", "a@other.example", "a@other.example"):
        facts.begin(parse(sender))
        answers.append(code(check.mail(facts)))
    facts.begin(None)
    assert check.mail(facts) is None
    assert answers == [None, (450, "4.7.1", False), None, None]
    assert [code(check.rcpt(facts, SOMEBODY)) for _ in range(3)] == [None, None, (450, "4.7.1", False)]
    other = RecipientFacts(Recipient(parse("a@example.net")), Expansion(Standing.RELAY))
    # "*" is each other domain by itself; one that is named has what it is given.
    assert check.rcpt(facts, other) is None
    news = RecipientFacts(Recipient(parse("a@news.example")), Expansion(Standing.RELAY))
    assert [check.rcpt(facts, news) for _ in range(3)] == [None] * 3
    clock.advance(31)
    assert check.rcpt(facts, SOMEBODY) is None


def test_recipients_of_an_account() -> None:
    clock = SetClock()
    check = SubmissionRate(clock, Rate(2, 3600))
    own = Facts("submission", "192.0.2.1", account=ALICE)
    assert [code(check.rcpt(own, SOMEBODY)) for _ in range(3)] == [None, None, (450, "4.7.1", False)]
    assert check.rcpt(Facts("mx", "192.0.2.1"), SOMEBODY) is None
    assert not check.allow(ALICE)
    assert check.allow(replace(ALICE, id=2), 2)
    often = check.rcpt(own, SOMEBODY)
    assert often is not None
    assert str(often.reply) == "450 4.7.1 You may send to 2 recipients in 1h; try again in 30 minutes"
    clock.advance(1801)
    assert check.rcpt(own, SOMEBODY) is None


def test_a_message_of_an_account_has_so_many_recipients() -> None:
    check = SubmissionRate(SetClock(), Rate(100, 3600), 2)
    own = Facts("submission", "192.0.2.1", account=ALICE)
    own.recipients = [SOMEBODY]
    assert check.rcpt(own, SOMEBODY) is None
    own.recipients = [SOMEBODY, SOMEBODY]
    assert code(check.rcpt(own, SOMEBODY)) == (452, "4.5.3", False)
    # One of its own goes before.
    own.account = replace(ALICE, submission_recipients=3)
    assert check.rcpt(own, SOMEBODY) is None
    own.account = replace(ALICE, submission_recipients=1)
    own.recipients = [SOMEBODY]
    said = check.rcpt(own, SOMEBODY)
    assert said is not None
    assert str(said.reply) == "452 4.5.3 A message of yours may have 1 recipients; send the others another copy"


def test_a_rate_of_an_accounts_own_goes_before_what_is_configured() -> None:
    clock = SetClock()
    check = SubmissionRate(clock, Rate(2, 3600))
    more, fewer = replace(ALICE, submission_rate=Rate(3, 60)), replace(ALICE, id=2, submission_rate=Rate(1, 86400))
    assert [check.allow(more) for _ in range(4)] == [True, True, True, False]
    assert [check.allow(fewer) for _ in range(2)] == [True, False]
    clock.advance(21)
    assert (check.allow(more), check.allow(fewer)) == (True, False)
    # Without it the configured one holds, and what was counted under another does not.
    assert [check.allow(ALICE) for _ in range(3)] == [True, True, False]


def test_an_account_is_warned_when_little_is_left_and_when_it_is_stopped() -> None:
    clock, told = SetClock(), list[tuple[int, int, bool]]()
    check = SubmissionRate(
        clock, Rate(10, 7200), warn=lambda account, notice: told.append((account.id, notice.used, notice.wait > 0))
    )
    for _ in range(7):
        assert check.allow(ALICE)
    assert told == []
    for _ in range(3):
        assert check.allow(ALICE)
    assert told == [(1, 8, False)]
    for _ in range(3):
        assert not check.allow(ALICE)
    assert told == [(1, 8, False), (1, 10, True)]
    # Another account is another's.
    assert not check.allow(replace(ALICE, id=2), 11)
    assert told[2:] == [(2, 0, True)]
    clock.advance(7200)
    assert check.allow(ALICE, 9)
    assert told[3:] == [(1, 9, False)]


def test_helo_and_loops() -> None:
    facts = Facts("mx", "192.0.2.1")
    assert code(HeloRequired().mail(facts)) == (503, "5.5.1", False)
    facts.helo = "mx.elsewhere.example"
    assert HeloRequired().mail(facts) is None
    facts.received = 100
    assert Loops().data(facts) is None
    facts.received = 101
    assert code(Loops().data(facts)) == (554, "5.4.6", False)
