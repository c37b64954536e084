"""Reverse-paths of forwarded mail, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory.srs import DAYS, Srs
from posthouse.terms.address import Address, BadAddress, parse

HOME = "home.example"
DAY = 86400
LOCALS = st.text("abcXYZ019.-_+=", min_size=1, max_size=40)
DOMAINS = st.sampled_from(["far.example", "a.b.c.example", "xn--bcher-kva.example"])


def srs(secret: bytes = b"one") -> tuple[Srs, SetClock]:
    clock = SetClock()
    return Srs(secret, clock), clock


@given(LOCALS, DOMAINS, st.booleans())
def test_what_goes_out_comes_back(local: str, domain: str, case_is_lost: bool) -> None:
    try:
        sender = parse(f"{local}@{domain}")
    except BadAddress:
        return
    ours, _ = srs()
    out = ours.forward(sender, HOME)
    assert out.domain == HOME
    if case_is_lost:
        out = Address(out.local.lower(), out.domain)
    if ours.ticket(out) is not None:
        return
    back = ours.reverse(out)
    assert back is not None
    assert back.key == sender.key


def test_three_forwarders_keep_two_names() -> None:
    (first, _), (second, _), (third, _) = srs(b"1"), srs(b"2"), srs(b"3")
    alice = parse("alice@far.example")
    once = first.forward(alice, "one.example")
    twice = second.forward(once, "two.example")
    thrice = third.forward(twice, "three.example")
    assert twice.local.startswith("SRS1=")
    assert "two.example" not in str(thrice)
    assert third.reverse(thrice) == Address(once.local, "one.example")
    assert first.reverse(once) == alice


@pytest.mark.parametrize("separator", "=+-")
def test_what_stands_behind_the_tag_of_others_comes_back(separator: str) -> None:
    """It may be what separates the user from the rest at the first forwarder's (SRS0 with an extension)."""
    (second, _), (third, _) = srs(b"2"), srs(b"3")
    once = parse(f"SRS0{separator}h4sh=dd=far.example=alice@one.example")
    twice = second.forward(once, "two.example")
    assert second.reverse(twice) == once
    assert third.reverse(third.forward(twice, "three.example")) == once
    # As another one writes it, who keeps the sign behind the first forwarder's name.
    theirs = parse(f"SRS1=h4sh=one.example={separator}h4sh=dd=far.example=alice@two.example")
    assert third.reverse(third.forward(theirs, "three.example")) == once


def test_it_holds_for_some_weeks() -> None:
    ours, clock = srs()
    out = ours.forward(parse("alice@far.example"), HOME)
    clock.advance(DAYS * DAY)
    assert ours.reverse(out) == parse("alice@far.example")
    clock.advance(DAY)
    assert ours.reverse(out) is None


@pytest.mark.parametrize("secret", [b"one", b"two"])
def test_nobody_else_writes_such_addresses(secret: bytes) -> None:
    ours, _ = srs()
    theirs, _ = srs(secret)
    out = theirs.forward(parse("alice@far.example"), HOME)
    assert (ours.reverse(out) is not None) is (secret == b"one")
    forged = Address(out.local.replace("alice", "mallory"), HOME)
    assert ours.reverse(forged) is None


def test_what_cannot_be_rewritten_stays() -> None:
    ours, _ = srs()
    assert ours.forward(parse("alice@[192.0.2.1]"), HOME) == parse("alice@[192.0.2.1]")


@pytest.mark.parametrize("kind", ["", "SRS0=abcd=xy=", "SRS1=abcd=two.example==x=y="])
def test_what_would_be_too_long_has_a_ticket(kind: str) -> None:
    ours, clock = srs()
    sender = Address(f"{kind}{'a' * (64 - len(kind))}", "far.example")
    out = ours.forward(sender, HOME)
    assert parse(str(out)) == out
    ticket = ours.ticket(out)
    assert ticket
    assert ours.ticket(Address(out.local.lower(), HOME)) == ticket
    assert ours.ticket(ours.forward(Address("b" * 64, "far.example"), HOME)) not in (None, ticket)
    assert ours.reverse(out) is None
    assert srs(b"two")[0].ticket(out) is None
    clock.advance((DAYS + 1) * DAY)
    assert ours.ticket(out) is None


def test_what_holds_its_sender_has_no_ticket() -> None:
    ours, _ = srs()
    assert ours.ticket(ours.forward(parse("alice@far.example"), HOME)) is None
    assert ours.ticket(parse("alice@far.example")) is None


def test_quoted_local_parts_travel_too() -> None:
    ours, _ = srs()
    sender = parse('"a b=c"@far.example')
    assert ours.reverse(parse(str(ours.forward(sender, HOME)))) == sender


@given(st.text(max_size=60))
def test_never_raises(local: str) -> None:
    ours, _ = srs()
    assert ours.reverse(Address(f"SRS0={local}", HOME)) is None
    assert ours.reverse(Address(local, HOME)) is None
    assert ours.ticket(Address(f"SRS0={local}", HOME)) is None
