from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, addresses, aliases
from posthouse.directory.addresses import Expansion, Local, Rules, Standing
from posthouse.policy import recipient
from posthouse.policy.check import Action, Facts, RecipientFacts, Verdict
from posthouse.policy.pipeline import Pipeline
from posthouse.policy.recipient import Quota, RecipientExists
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.directory.support import add_account, add_domain, with_store


@pytest.mark.parametrize(
    ("standing", "code", "enhanced"),
    [
        (Standing.UNKNOWN, 550, "5.1.1"),
        (Standing.DISABLED, 550, "5.2.1"),
        (Standing.LOOP, 550, "5.4.6"),
        (Standing.TOO_DEEP, 550, "5.2.4"),
        (Standing.TOO_MANY, 550, "5.2.4"),
    ],
)
def test_who_is_refused(standing: Standing, code: int, enhanced: str) -> None:
    verdict = RecipientExists().rcpt(Facts("mx", "192.0.2.1"), facts_of(Expansion(standing)))
    assert verdict is not None
    assert verdict.reply is not None
    assert (verdict.action, verdict.reply.code, verdict.reply.enhanced) == (Action.REFUSE, code, enhanced)


def facts_of(expansion: Expansion) -> RecipientFacts:
    return RecipientFacts(Recipient(parse("alice@example.org")), expansion)


@pytest.mark.parametrize("standing", [Standing.KNOWN, Standing.RELAY])
def test_others_are_let_through(standing: Standing) -> None:
    assert RecipientExists().rcpt(Facts("mx", "192.0.2.1"), facts_of(Expansion(standing))) is None


def test_quota(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        small = await store.write(add_account, "small@example.org", quota_octets=1000)
        none = await store.write(add_account, "none@example.org", quota_emails=0)
        await store.write(add_account, "free@example.org")
        await store.write(
            aliases.add_alias,
            parse("all@example.org"),
            [parse("none@example.org"), parse("small@example.org"), parse("x@elsewhere.example")],
        )
        quota = Quota(store, clock)
        facts = Facts("mx", "192.0.2.1")

        async def judge(address: str, size: int) -> tuple[int, str | None] | None:
            expansion = await store.read(addresses.expand, parse(address), Rules())
            facts.begin(None, size)
            verdict = await Pipeline([quota]).rcpt(facts, facts_of(expansion))
            return (verdict.reply.code, verdict.reply.enhanced) if verdict.reply else None

        assert await judge("small@example.org", 0) is None
        assert await judge("small@example.org", 1000) is None
        assert await judge("small@example.org", 1001) == (552, "5.2.2")
        assert await judge("none@example.org", 0) == (452, "4.2.2")
        assert await judge("free@example.org", 10**9) is None
        # Somebody with room is enough.
        assert await judge("all@example.org", 10**9) is None
        # A look is good for a moment; what changed is seen after it.
        await store.write(accounts.set_quota, none.id, None, 5)
        assert await judge("none@example.org", 0) == (452, "4.2.2")
        clock.advance(recipient.FRESH + 1)
        assert await judge("none@example.org", 0) is None
        await store.write(accounts.set_quota, small.id, 0, None)
        clock.advance(recipient.FRESH + 1)
        assert await judge("small@example.org", 0) == (452, "4.2.2")

    with_store(tmp_path, main)


def test_a_large_alias_is_taken_without_a_look(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        crowd = tuple(Local(number, "", True) for number in range(recipient.MOST_LOOKED_AT + 1))
        answer = Quota(store, clock).rcpt(Facts("mx", "192.0.2.1"), facts_of(Expansion(Standing.KNOWN, crowd)))
        assert answer is None or isinstance(answer, Verdict)
        assert answer is None

    with_store(tmp_path, main)
