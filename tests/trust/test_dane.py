"""DANE: which records count, and which chains they vouch for."""

from collections.abc import Sequence
from hashlib import sha256, sha512

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.answer import Tlsa
from posthouse.trust.dane import NotVerified, name_of, public_key_of, usable, verify
from tests.trust.certificates import NOW_MS, Issued, issue

ROOT = issue("root", 1, ca=True)
MIDDLE = issue("middle", 2, ROOT, ca=True)
LEAF = issue("leaf", 3, MIDDLE, names=["mx.there.example"])
CHAIN = [LEAF.der, MIDDLE.der, ROOT.der]
NAMES = ["mx.there.example", "there.example"]
DAY = 86_400_000


def tlsa(usage: int, selector: int, matching: int, of: Issued) -> Tlsa:
    picked = of.der if selector == 0 else public_key_of(of.der)
    return Tlsa(usage, selector, matching, [picked, sha256(picked).digest(), sha512(picked).digest()][matching])


def failure(
    records: Sequence[Tlsa], chain: Sequence[bytes] = CHAIN, names: Sequence[str] = NAMES, now: int = NOW_MS
) -> str | None:
    try:
        verify(usable(records), chain, names, now)
    except NotVerified as error:
        return error.failure
    return None


def test_where_the_records_stand() -> None:
    assert name_of(25, "mx.there.example") == "_25._tcp.mx.there.example"


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_record_of_the_server_itself(selector: int, matching: int) -> None:
    assert failure([tlsa(3, selector, matching, LEAF)]) is None
    assert failure([tlsa(3, selector, matching, MIDDLE)]) == "validation-failure"


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("anchor", [ROOT, MIDDLE])
def test_a_record_of_a_trust_anchor(selector: int, matching: int, anchor: Issued) -> None:
    assert failure([tlsa(2, selector, matching, anchor)]) is None


def test_for_the_server_itself_names_and_dates_do_not_matter() -> None:
    record = [tlsa(3, 1, 1, LEAF)]
    assert failure(record, [LEAF.der], ["other.example"], NOW_MS + 1000 * DAY) is None


def test_below_an_anchor_the_name_counts() -> None:
    record = [tlsa(2, 0, 1, ROOT)]
    assert failure(record, names=["other.example"]) == "certificate-host-mismatch"
    assert failure(record, names=["other.example", "mx.there.example"]) is None


@pytest.mark.parametrize(
    ("name", "good"), [("a.there.example", True), ("b.a.there.example", False), ("there.example", False)]
)
def test_a_wildcard_stands_for_one_label(name: str, good: bool) -> None:
    wild = issue("wild", 4, MIDDLE, names=["*.there.example"])
    found = failure([tlsa(2, 0, 1, ROOT)], [wild.der, MIDDLE.der, ROOT.der], [name])
    assert found == (None if good else "certificate-host-mismatch")


def test_below_an_anchor_the_dates_count() -> None:
    assert failure([tlsa(2, 0, 1, ROOT)], now=NOW_MS + 31 * DAY) == "certificate-expired"
    assert failure([tlsa(2, 0, 1, ROOT)], now=NOW_MS - 5 * DAY) == "certificate-not-trusted"


def test_the_anchor_must_be_shown_unless_its_record_holds_it_whole() -> None:
    assert failure([tlsa(2, 0, 1, ROOT)], [LEAF.der, MIDDLE.der]) == "validation-failure"
    assert failure([tlsa(2, 0, 0, ROOT)], [LEAF.der, MIDDLE.der]) is None
    assert failure([tlsa(2, 0, 0, MIDDLE)], [LEAF.der]) is None


def test_a_chain_that_does_not_lead_to_the_anchor() -> None:
    other = issue("root", 5, ca=True)
    assert failure([tlsa(2, 0, 1, other)], [*CHAIN, other.der]) == "certificate-not-trusted"
    stranger = issue("leaf", 6, other, names=["mx.there.example"])
    assert failure([tlsa(2, 0, 1, ROOT)], [stranger.der, ROOT.der]) == "certificate-not-trusted"


def test_who_is_no_authority_signs_nothing() -> None:
    pretender = issue("pretender", 7, MIDDLE, names=["there.example"])
    forged = issue("forged", 8, pretender, names=["mx.there.example"])
    assert (
        failure([tlsa(2, 0, 1, ROOT)], [forged.der, pretender.der, MIDDLE.der, ROOT.der]) == "certificate-not-trusted"
    )


def test_a_common_name_is_no_name() -> None:
    nameless = issue("mx.there.example", 9, MIDDLE)
    found = failure([tlsa(2, 0, 1, ROOT)], [nameless.der, MIDDLE.der, ROOT.der])
    assert found == "certificate-host-mismatch"


def test_an_anchor_above_does_not_count_as_the_server_itself() -> None:
    """RFC 7672 §3.1.1 and §3.1.2: each usage looks at its own place in the chain."""
    assert failure([tlsa(2, 0, 1, LEAF)], [LEAF.der]) == "validation-failure"


@pytest.mark.parametrize(
    "record",
    [
        Tlsa(0, 0, 1, bytes(32)),
        Tlsa(1, 1, 1, bytes(32)),
        Tlsa(3, 2, 1, bytes(32)),
        Tlsa(3, 1, 3, bytes(32)),
        Tlsa(3, 1, 1, bytes(31)),
        Tlsa(3, 1, 2, bytes(32)),
        Tlsa(3, 1, 0, b""),
        Tlsa(255, 255, 255, b""),
    ],
)
def test_records_that_cannot_be_used(record: Tlsa) -> None:
    assert usable([record]) == ()
    assert usable([record, tlsa(3, 1, 1, LEAF)]) == (tlsa(3, 1, 1, LEAF),)


def test_of_two_digests_the_stronger_counts() -> None:
    """RFC 7671 §9: else whoever breaks the weaker one has them both."""
    weak, strong, whole = tlsa(3, 1, 1, LEAF), tlsa(3, 1, 2, MIDDLE), tlsa(3, 1, 0, ROOT)
    assert set(usable([weak, strong, whole])) == {strong, whole}
    # Another usage or selector is another thing.
    assert set(usable([tlsa(3, 0, 1, LEAF), strong])) == {tlsa(3, 0, 1, LEAF), strong}


def test_equal_records_make_equal_policies() -> None:
    records = [tlsa(3, 1, 1, LEAF), tlsa(2, 0, 1, ROOT)]
    assert usable(records) == usable(records[::-1]) == usable(records * 2)


def test_nothing_shown_is_nothing_verified() -> None:
    assert failure([tlsa(3, 1, 1, LEAF)], []) == "validation-failure"


@pytest.mark.parametrize("one", [ROOT, MIDDLE, LEAF])
def test_a_public_key_is_found_where_it_stands(one: Issued) -> None:
    written = one.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_of(one.der) == written


@given(st.data())
def test_whatever_a_peer_shows_raises_nothing_but_its_own_error(data: st.DataObject) -> None:
    def mangled(octets: bytes) -> bytes:
        at = data.draw(st.integers(0, len(octets) - 1))
        patch = data.draw(st.binary(max_size=4))
        return octets[:at] + patch + octets[at + data.draw(st.integers(0, 4)) :]

    chain = [mangled(one) if data.draw(st.booleans()) else one for one in CHAIN]
    records = [tlsa(data.draw(st.sampled_from([2, 3])), data.draw(st.integers(0, 1)), 1, ROOT)]
    assert failure(records, [*chain, data.draw(st.binary(max_size=50))]) in (
        None,
        "validation-failure",
        "certificate-expired",
        "certificate-host-mismatch",
        "certificate-not-trusted",
    )


@given(st.lists(st.builds(Tlsa, st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.binary(max_size=65))))
def test_whatever_dns_says_raises_nothing(records: list[Tlsa]) -> None:
    assert all(one.usage in (2, 3) for one in usable(records))
