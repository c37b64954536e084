"""What security a hop must have: every source, and who wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.answer import Tlsa
from posthouse.trust.mta_sts import Policy
from posthouse.trust.transport import OPPORTUNISTIC, Dane, Encryption, Target, TlsPolicy, Wish, required

EE = Tlsa(3, 1, 1, bytes(32))
TA = Tlsa(2, 0, 1, bytes(32))
HOST = "mx.there.example"
HERE = Target("there.example", HOST)
VOUCHED = Target("there.example", HOST, vouched=True)
ENFORCE = Policy("enforce", (HOST,), 1000)
TESTING = Policy("testing", (HOST,), 1000)
ELSEWHERE = Policy("enforce", ("mx.elsewhere.example",), 1000)
MODES: list[Encryption] = ["off", "opportunistic", "require", "verify"]
RANK = {mode: rank for rank, mode in enumerate(MODES)}


def dane(*records: Tlsa) -> Dane:
    return Dane(HOST, records)


@pytest.mark.parametrize("mode", MODES)
def test_without_any_policy_what_is_configured_holds(mode: Encryption) -> None:
    found = required(TlsPolicy(mode), HERE)
    assert (found.policy, found.basis.type, found.refusal) == (TlsPolicy(mode), "no-policy-found", None)


@pytest.mark.parametrize("mode", MODES[1:])
def test_mta_sts_enforced_wants_a_verified_host(mode: Encryption) -> None:
    found = required(TlsPolicy(mode), HERE, sts=ENFORCE)
    assert (found.policy, found.refusal, found.basis.type) == (TlsPolicy("verify"), None, "sts")
    assert found.basis.lines == ("version: STSv1", "mode: enforce", f"mx: {HOST}", "max_age: 1000")
    assert found.policy.weaker is None


def test_a_host_that_mta_sts_does_not_allow_is_refused() -> None:
    found = required(OPPORTUNISTIC, HERE, sts=ELSEWHERE)
    assert found.refusal
    assert (found.refusal.code, found.refusal.enhanced, found.failure) == (451, "4.7.5", "validation-failure")


@pytest.mark.parametrize(
    ("mode", "fallback"), [("opportunistic", "opportunistic"), ("require", "require"), ("verify", None)]
)
def test_mta_sts_in_testing_falls_back_to_what_is_configured(mode: Encryption, fallback: Encryption | None) -> None:
    assert required(TlsPolicy(mode), HERE, sts=TESTING).policy == TlsPolicy("verify", fallback)


def test_mta_sts_in_testing_lets_a_strange_host_pass_and_tells() -> None:
    found = required(OPPORTUNISTIC, HERE, sts=Policy("testing", ("*.elsewhere.example",), 1))
    assert (found.policy, found.refusal, found.failure) == (OPPORTUNISTIC, None, "validation-failure")


def test_mta_sts_of_mode_none_is_none() -> None:
    assert required(OPPORTUNISTIC, HERE, sts=Policy("none", (), 1)) == required(OPPORTUNISTIC, HERE)


@pytest.mark.parametrize("sts", [None, ENFORCE, ELSEWHERE, TESTING])
def test_dane_wins(sts: Policy | None) -> None:
    """RFC 8461 §2: MTA-STS never overrides DANE; and DNSSEC vouches for the host itself."""
    found = required(OPPORTUNISTIC, VOUCHED, sts=sts, tlsa=dane(EE))
    assert (found.policy, found.refusal) == (TlsPolicy("verify", None, (HOST,), (EE,)), None)
    assert (found.basis.type, found.basis.lines) == ("tlsa", (f"3 1 1 {'00' * 32}",))


def test_below_a_trust_anchor_the_domain_is_a_name_too() -> None:
    found = required(OPPORTUNISTIC, VOUCHED, tlsa=Dane("real.there.example", (TA, EE)))
    assert found.policy.names == ("real.there.example", HOST, "there.example")


def test_domains_at_one_host_share_what_its_own_key_proves() -> None:
    one, other = (required(OPPORTUNISTIC, Target(domain, HOST), tlsa=dane(EE)) for domain in ("a.example", "b.example"))
    assert one.policy == other.policy
    one, other = (required(OPPORTUNISTIC, Target(d, HOST), sts=ENFORCE) for d in ("a.example", "b.example"))
    assert one.policy == other.policy


def test_records_that_cannot_be_used_still_want_encryption() -> None:
    found = required(OPPORTUNISTIC, VOUCHED, tlsa=dane())
    assert (found.policy, found.failure) == (TlsPolicy("require"), "tlsa-invalid")
    assert required(TlsPolicy("verify"), VOUCHED, tlsa=dane()).policy == TlsPolicy("verify")
    # MTA-STS then says more than they do.
    assert required(OPPORTUNISTIC, VOUCHED, tlsa=dane(), sts=ENFORCE).policy == TlsPolicy("verify")
    assert required(OPPORTUNISTIC, VOUCHED, tlsa=dane(), sts=TESTING).policy == TlsPolicy("verify", "require")


def test_off_is_off() -> None:
    found = required(TlsPolicy("off"), VOUCHED, sts=ENFORCE, tlsa=dane(EE))
    assert (found.policy, found.refusal) == (TlsPolicy("off"), None)


# --- what the sender wants (RFC 8689) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sts", [ENFORCE, TESTING])
def test_requiretls_is_met_by_mta_sts_that_vouches_for_the_host(sts: Policy) -> None:
    found = required(OPPORTUNISTIC, HERE, sts=sts, wish=Wish.TLS)
    assert (found.policy, found.refusal) == (TlsPolicy("verify"), None)


def test_requiretls_is_met_by_dnssec() -> None:
    assert required(OPPORTUNISTIC, VOUCHED, wish=Wish.TLS).policy == TlsPolicy("verify")
    assert required(OPPORTUNISTIC, VOUCHED, tlsa=dane(EE), wish=Wish.TLS).policy.tlsa == (EE,)


@pytest.mark.parametrize(
    ("own", "target", "sts"),
    [
        (OPPORTUNISTIC, HERE, None),
        (TlsPolicy("verify"), HERE, None),
        (OPPORTUNISTIC, HERE, ELSEWHERE),
        (OPPORTUNISTIC, HERE, Policy("testing", ("mx.elsewhere.example",), 1)),
        (TlsPolicy("off"), VOUCHED, ENFORCE),
    ],
)
def test_requiretls_that_nobody_vouches_for_is_returned(own: TlsPolicy, target: Target, sts: Policy | None) -> None:
    found = required(own, target, sts=sts, wish=Wish.TLS)
    assert found.refusal
    assert (found.refusal.code, found.refusal.enhanced) == (550, "5.7.10")


def test_delivery_before_security_takes_back_what_the_domain_asks() -> None:
    """RFC 8689 §4.2.2."""
    enforced = required(OPPORTUNISTIC, HERE, sts=ENFORCE, wish=Wish.DELIVERY)
    assert (enforced.policy, enforced.refusal) == (TlsPolicy("verify", "opportunistic"), None)
    assert required(OPPORTUNISTIC, HERE, sts=ELSEWHERE, wish=Wish.DELIVERY).refusal is None
    by_dane = required(OPPORTUNISTIC, VOUCHED, tlsa=dane(EE), wish=Wish.DELIVERY).policy
    assert by_dane == TlsPolicy("verify", "opportunistic", (HOST,), (EE,))
    assert by_dane.weaker == OPPORTUNISTIC
    assert required(OPPORTUNISTIC, VOUCHED, tlsa=dane(), wish=Wish.DELIVERY).policy == OPPORTUNISTIC


def test_delivery_before_security_does_not_take_back_what_is_configured() -> None:
    assert required(TlsPolicy("require"), HERE, sts=ENFORCE, wish=Wish.DELIVERY).policy == TlsPolicy(
        "verify", "require"
    )
    assert required(TlsPolicy("verify"), HERE, sts=ENFORCE, wish=Wish.DELIVERY).policy == TlsPolicy("verify")
    assert required(TlsPolicy("require"), VOUCHED, tlsa=dane(), wish=Wish.DELIVERY).policy == TlsPolicy("require")


def test_the_way_down() -> None:
    assert OPPORTUNISTIC.weaker == TlsPolicy("off")
    assert TlsPolicy("off").weaker is None
    assert TlsPolicy("require").weaker is None
    assert TlsPolicy("verify", "opportunistic").weaker == OPPORTUNISTIC


POLICY = st.sampled_from([None, ENFORCE, TESTING, ELSEWHERE, Policy("none", (), 1)])
RECORDS = st.sampled_from([None, dane(), dane(EE), dane(TA)])


@given(st.sampled_from(MODES), st.sampled_from([HERE, VOUCHED]), POLICY, RECORDS, st.sampled_from(list(Wish)))
def test_nothing_lowers_what_is_configured(
    mode: Encryption, target: Target, sts: Policy | None, tlsa: Dane | None, wish: Wish
) -> None:
    found = required(TlsPolicy(mode), target, sts=sts, tlsa=tlsa, wish=wish)
    policy: TlsPolicy | None = found.policy
    while policy is not None and not found.refusal:
        # Down to the last thing that may be tried; below opportunistic, and nothing else, there is clear text.
        if policy.mode != "off" or mode == "off":
            assert RANK[policy.mode] >= RANK[mode]
        else:
            assert mode == "opportunistic"
        if wish is Wish.TLS:
            assert policy.mode == "verify"
        policy = policy.weaker
