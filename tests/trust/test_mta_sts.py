"""MTA-STS: records and policies read, matched and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.trust.mta_sts import (
    LARGEST_POLICY,
    LONGEST_AGE,
    MOST_HOSTS,
    BadPolicy,
    Policy,
    parse_policy,
    policy_host,
    read_record,
    record_name,
)

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


def test_where_record_and_policy_stand() -> None:
    assert (record_name("example.com"), policy_host("example.com")) == ("_mta-sts.example.com", "mta-sts.example.com")


@pytest.mark.parametrize(
    ("texts", "id"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1;id=a;"], "a"),
        ([b"v=STSv1 ;\tid=a ; "], "a"),
        ([b"v=STSv1; later=yes; id=a"], "a"),
        ([b"v=spf1 -all", b"v=STSv1; id=a;"], "a"),
        # Several records of ours are none (RFC 8461 §3.1).
        ([b"v=STSv1; id=a;", b"v=STSv1; id=b;"], None),
        ([b"v=STSv1; id=a; id=b"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id=a;;"], None),
        ([b"v=STSv1; id=a; what"], None),
        ([b"v=STSv1; x=1"], None),
        ([b"v=stsv1; id=a"], None),
        ([b" v=STSv1; id=a"], None),
        ([b"v=STSv10; id=a"], None),
        ([b"v=STSv1; id=a\xe4"], None),
        ([], None),
    ],
)
def test_a_record_is_read(texts: list[bytes], id: str | None) -> None:
    assert read_record(texts) == id


def test_a_policy_is_read() -> None:
    assert parse_policy(POLICY) == Policy("enforce", ("mail.example.com", "*.example.net"), 604800)
    assert parse_policy(POLICY.replace(b"\r\n", b"\n").rstrip(b"\n")) == parse_policy(POLICY)


def test_of_a_field_that_stands_twice_the_first_counts_and_unknown_ones_do_not_matter() -> None:
    assert parse_policy(POLICY + b"mode: none\r\nfuture: some thing \xc3\xa4\r\n") == parse_policy(POLICY)


def test_a_policy_of_no_protection_needs_no_hosts() -> None:
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 1\n") == Policy("none", (), 1)


def test_a_promise_of_more_than_a_year_is_one_of_a_year() -> None:
    assert parse_policy(POLICY.replace(b"604800", b"9999999999")).max_age == LONGEST_AGE


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        POLICY.replace(b"STSv1", b"STSv2"),
        POLICY.replace(b"enforce", b"enforced"),
        POLICY.replace(b"mode", b"mood"),
        POLICY.replace(b"604800", b"-1"),
        POLICY.replace(b"604800", b"99999999999"),
        POLICY.replace(b"max_age: 604800", b"max_age:"),
        POLICY.replace(b"mail.example.com", b"mail.*.com"),
        POLICY.replace(b"mail.example.com", b"[192.0.2.1]"),
        POLICY.replace(b"mail.example.com", b"*"),
        POLICY.replace(b"mail.example.com", b"mail..com"),
        POLICY.replace(b"mail.example.com", b"m\xc3\xa4il.example.com"),
        POLICY.replace(b"mail.example.com", b"a." * 200 + b"com"),
        b"version: STSv1\nmode: enforce\nmax_age: 1\n",
        b"<html>\n" + POLICY,
        POLICY.replace(b"\r\n", b"\r"),
        POLICY + b"\xff",
        POLICY + b"\r\n" * (LARGEST_POLICY // 2),
        POLICY + b"mx:a.b\n" * (MOST_HOSTS + 1),
        POLICY.replace(b"mail.example.com", b"mail.example.com" + b" " * 60_000 + b"\x01"),
    ],
)
def test_what_breaks_the_grammar_is_no_policy(octets: bytes) -> None:
    with pytest.raises(BadPolicy):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.Example.Com.", True),
        ("a.mail.example.com", False),
        ("example.com", False),
        ("mx.example.net", True),
        # RFC 8461 §4.1: one label, and exactly one.
        ("a.mx.example.net", False),
        ("example.net", False),
        (".example.net", False),
        ("", False),
    ],
)
def test_which_hosts_a_policy_allows(host: str, allowed: bool) -> None:
    assert parse_policy(POLICY).allows(host) is allowed


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.builds(lambda star, domain: ("*." if star else "") + domain, st.booleans(), DOMAIN)
POLICIES = st.builds(
    Policy,
    st.sampled_from(["enforce", "testing", "none"]),
    st.lists(PATTERN, min_size=1, max_size=5, unique=True).map(tuple),
    st.integers(0, LONGEST_AGE),
)


@given(POLICIES)
def test_a_policy_that_was_written_is_read_again(policy: Policy) -> None:
    assert parse_policy(str(policy).encode()) == policy


@given(st.binary(max_size=300) | st.lists(st.sampled_from(POLICY.splitlines()), max_size=9).map(b"\n".join))
def test_a_policy_raises_nothing_but_its_own_error(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except BadPolicy:
        return
    assert policy.mode == "none" or policy.mx


@given(st.lists(st.binary(max_size=60) | st.from_regex(rb"v=STSv1;[ a-z0-9=;]{0,30}", fullmatch=True), max_size=3))
def test_a_record_raises_nothing(texts: list[bytes]) -> None:
    id = read_record(texts)
    assert id is None or (id.isascii() and id.isalnum() and len(id) <= 32)


@given(POLICIES, DOMAIN)
def test_a_wildcard_never_allows_two_labels(policy: Policy, domain: str) -> None:
    for pattern in policy.mx:
        if pattern.startswith("*."):
            assert policy.allows("x" + pattern[1:])
            deep = f"x.{domain}{pattern[1:]}"
            assert policy.allows(deep) == any(one == deep or one == "*." + deep.partition(".")[2] for one in policy.mx)


def test_a_policy_that_could_not_be_read_again_is_none() -> None:
    """What is kept has a space behind each colon: it was taken, and from the next start on no mail went there."""
    hosts = "".join(f"mx:{f'a{n}'.ljust(60, 'x')}.{'b' * 57}.example\n" for n in range(500))
    octets = f"version:STSv1\nmode:enforce\nmax_age:1\n{hosts}".encode()
    assert len(octets) < LARGEST_POLICY
    with pytest.raises(BadPolicy, match="octets"):
        parse_policy(octets)
    shorter = parse_policy(octets.replace(b"b" * 57, b"b" * 50))
    assert parse_policy(str(shorter).encode()) == shorter
