"""Recipients of other domains, as an account names them."""

import asyncio
from typing import cast

import pytest

from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.model import Account
from posthouse.net.answer import Mx
from posthouse.net.dns import Answer, NoRecords, NoSuchDomain, Resolver, TemporaryFailure
from posthouse.policy import elsewhere
from posthouse.policy.check import Facts, RecipientFacts, Verdict
from posthouse.policy.elsewhere import TakesMail
from posthouse.policy.pipeline import Pipeline
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.support import run

ALICE = Account(1, "alice@example.org", "", None, None, True, 0)


class Dns:
    """Answers by name."""

    async def mx(self, domain: str) -> Answer[Mx]:
        """What a name is for."""
        match domain.partition(".")[0]:
            case "good":
                return Answer((Mx(10, "mx.good.example"),), 60, False, domain)
            case "null":
                return Answer((Mx(0, ""),), 60, False, domain)
            case "none":
                raise NoSuchDomain(domain, "no such domain")
            case "implicit":
                raise NoRecords(domain, "no records")
            case "slow":
                await asyncio.sleep(60)
        raise TemporaryFailure(domain, "no answer")


def judged(address: str, account: Account | None = ALICE, standing: Standing = Standing.RELAY) -> Verdict:
    """The verdict on a recipient."""
    pipeline = Pipeline([TakesMail(cast(Resolver, Dns()))])
    facts = Facts("submission", "192.0.2.1", account=account)
    return run(pipeline.rcpt(facts, RecipientFacts(Recipient(parse(address)), Expansion(standing))))


@pytest.mark.parametrize(
    ("domain", "reply"),
    [
        # RFC 7505 §4
        ("null.example", "556 5.1.10 Domain null.example takes no mail"),
        ("none.example", "550 5.1.2 Domain none.example does not exist"),
        ("good.example", None),
        ("implicit.example", None),
        ("ill.example", None),
        ("[192.0.2.7]", None),
    ],
)
def test_a_domain_that_takes_no_mail_is_refused(domain: str, reply: str | None) -> None:
    verdict = judged(f"ann@{domain}")
    assert (str(verdict.reply) if verdict.reply else None) == reply


def test_dns_has_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "_PATIENCE", 0.01)
    assert judged("ann@slow.example").reply is None


def test_strangers_and_recipients_here_are_others_matter() -> None:
    assert judged("ann@none.example", account=None).reply is None
    assert judged("bob@none.example", standing=Standing.KNOWN).reply is None
