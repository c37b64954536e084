from pathlib import Path

import pytest

from posthouse.directory import domains
from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.model import NEW, Account, version
from posthouse.policy.check import Facts, RecipientFacts
from posthouse.policy.relaying import Relaying
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.store.support import opened
from tests.support import run

FAR = RecipientFacts(Recipient(parse("bob@elsewhere.example")), Expansion(Standing.RELAY))
OURS = RecipientFacts(Recipient(parse("bob@example.org")), Expansion(Standing.KNOWN, remote=(parse("b@far.example"),)))


def test_strangers_reach_our_addresses_only() -> None:
    # RFC 5321 §7.9
    facts = Facts("mx", "192.0.2.1")
    check = Relaying()
    check.connect(facts)
    denied = check.rcpt(facts, FAR)
    assert denied is not None
    assert denied.reply is not None
    assert (denied.reply.code, denied.reply.enhanced) == (550, "5.7.1")
    # An alias of ours that leads elsewhere is ours.
    assert check.rcpt(facts, OURS) is None
    assert not Relaying.exemptible


def test_those_who_logged_in_may() -> None:
    facts = Facts("submission", "192.0.2.1", account=Account(1, "alice@example.org", "", None, None, True, 0))
    assert Relaying().rcpt(facts, FAR) is None


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::1%eth0", True),
        ("::1", False),
        ("::ffff:192.0.2.9", True),
        ("/run/lmtp", False),
    ],
)
def test_trusted_networks_may(peer: str, trusted: bool) -> None:
    facts = Facts("mx", peer)
    check = Relaying(["192.0.2.0/24", "2001:db8::/32"])
    check.connect(facts)
    assert facts.trusted is trusted
    assert (check.rcpt(facts, FAR) is None) is trusted


def to(address: str) -> RecipientFacts:
    return RecipientFacts(Recipient(parse(address)), Expansion(Standing.RELAY))


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("bob@elsewhere.example", True),
        ("bob.smith+tag@elsewhere.example", True),
        ("bob@sub.elsewhere.example", False),
        ("bob@xelsewhere.example", False),
        # What the next server might unwrap is not ours to send on.
        ("bob%third.example@elsewhere.example", False),
        ("third.example!bob@elsewhere.example", False),
        ('"bob@third.example"@elsewhere.example', False),
    ],
)
def test_a_backup_mx_relays_for_its_domains(address: str, taken: bool) -> None:
    check = Relaying(domains=["elsewhere.example"])
    assert (check.rcpt(Facts("mx", "192.0.2.1"), to(address)) is None) is taken


def test_lmtp_sends_nothing_elsewhere() -> None:
    # RFC 5321 §3.4
    denied = Relaying().rcpt(Facts("lmtp", "127.0.0.1"), FAR)
    assert denied is not None
    assert str(denied.reply) == "551 5.7.1 User not local; send it by SMTP to <bob@elsewhere.example>"


def test_nobody_is_refused_for_good_by_a_store_that_is_new() -> None:
    """Its disk was not there when the server started, which made another: all mail of its domains came back."""
    new = RecipientFacts(Recipient(parse("bob@elsewhere.example")), Expansion(Standing.RELAY, version=NEW))
    for facts in (Facts("mx", "192.0.2.1"), Facts("lmtp", "192.0.2.1")):
        later = Relaying().rcpt(facts, new)
        assert later is not None
        assert later.reply is not None
        assert (later.reply.code, later.reply.enhanced) == (451, "4.3.5")
    # A server that only relays is meant to serve none.
    for relay in (Relaying(domains=["far.example"]), Relaying(trusted=["10.0.0.0/8"])):
        denied = relay.rcpt(Facts("mx", "192.0.2.1"), new)
        assert denied is not None
        assert denied.reply is not None
        assert denied.reply.code == 550


def test_a_new_store_is_told_from_one_that_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            assert await store.read(version) == NEW
            await store.write(domains.add, "example.org", 1)
            assert await store.read(version) > NEW

    run(main())
