import pytest

from posthouse.directory.addresses import Expansion, Local, Standing
from posthouse.message.header import Header
from posthouse.policy.check import Facts, RecipientFacts
from posthouse.policy.forwarding import BouncesOnly, ForwardingLoops
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient

AWAY = Expansion(Standing.KNOWN, remote=(parse("bob@far.example"),))
HOME = Expansion(Standing.KNOWN, local=(Local(1),))
RELAYED = Expansion(Standing.RELAY, remote=(parse("bob@home.example"),))


def judged(header: bytes, *expansions: Expansion) -> dict[int, str | None]:
    facts = Facts("mx", "192.0.2.1", header=Header.parse(header))
    facts.recipients = [RecipientFacts(Recipient(parse("bob@home.example")), one) for one in expansions]
    found = ForwardingLoops().data(facts) or {}
    return {index: verdict.reply.enhanced if verdict.reply else None for index, verdict in found.items()}


def test_what_an_address_forwarded_before_it_does_not_forward_again() -> None:
    header = b"Delivered-To: other@home.example\r\nDelivered-To: Bob@home.example\r\n\r\n"
    assert judged(header, HOME, AWAY, RELAYED) == {1: "5.4.6"}


def test_other_marks_say_nothing() -> None:
    assert judged(b"Delivered-To: other@home.example\r\n\r\n", AWAY) == {}
    assert judged(b"\r\n", AWAY) == {}


@pytest.mark.parametrize(
    ("local", "sender", "reaches", "refused"),
    [
        ("SRS0=h4sh=dd=far.example=alice", "eve@far.example", "alice@far.example", True),
        ("srs1=h4sh=far.example==x", "eve@far.example", "SRS0=x@far.example", True),
        ("SRS0=h4sh=dd=far.example=alice", None, "alice@far.example", False),
        ("bob", "eve@far.example", "alice@far.example", False),
        # Not ours to judge: another's reverse-path that one of ours sends to.
        ("SRS0=h4sh=dd=x=y", "eve@far.example", "SRS0=h4sh=dd=x=y@home.example", False),
    ],
)
def test_reverse_paths_take_bounces_only(local: str, sender: str | None, reaches: str, refused: bool) -> None:
    facts = Facts("mx", "192.0.2.1", sender=parse(sender) if sender else None)
    expansion = Expansion(Standing.KNOWN, remote=(parse(reaches),))
    verdict = BouncesOnly().rcpt(facts, RecipientFacts(Recipient(parse(f"{local}@home.example")), expansion))
    assert (verdict is not None and str(verdict.reply)[:9] == "550 5.7.1") is refused
