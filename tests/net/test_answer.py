"""Reading answers: what dnspython writes we read, and no octets whatever raise anything but Malformed."""

import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net import answer
from posthouse.net.answer import AAAA, CNAME, MX, PTR, TLSA, TXT, A, Malformed, Mx, Tlsa, TooManyAliases, read
from posthouse.net.dns import _encode_name, _encode_query

NAMES = {A: "A", AAAA: "AAAA", MX: "MX", TXT: "TXT", PTR: "PTR", TLSA: "TLSA", CNAME: "CNAME"}


def encoded(name: str) -> bytes:
    octets = _encode_name(name)
    assert octets is not None
    return octets


def question(name: str, kind: int) -> bytes:
    return _encode_query(7, encoded(name), kind, False)


def answered(name: str, kind: int, *records: tuple[str, str, str], ttl: int = 300) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(question(name, kind)))
    for owner, rdtype, data in records:
        response.answer.append(dns.rrset.from_text(owner + ".", ttl, "IN", rdtype, data))
    return response.to_wire()


@pytest.mark.parametrize(
    ("kind", "data", "record"),
    [
        (A, "192.0.2.1", "192.0.2.1"),
        (AAAA, "2001:db8::1", "2001:db8::1"),
        (MX, "10 MX1.Example.org.", Mx(10, "mx1.example.org")),
        (MX, "0 .", Mx(0, "")),
        (TXT, '"v=spf1 " "-all"', b"v=spf1 -all"),
        (PTR, "mail.example.org.", "mail.example.org"),
        (TLSA, "3 1 0 00ff", Tlsa(3, 1, 0, b"\x00\xff")),
    ],
)
def test_each_type_is_read(kind: int, data: str, record: object) -> None:
    message = read(answered("example.org", kind, ("example.org", NAMES[kind], data)), 7, encoded("example.org"), kind)
    assert message.follow(kind) == ("example.org", (record,), 300)


def test_our_question_is_one_that_others_understand() -> None:
    query = dns.message.from_wire(question("_25._tcp.mx.example.org", TLSA))
    assert query.question[0].to_text() == "_25._tcp.mx.example.org. IN TLSA"
    assert query.flags & dns.flags.RD
    assert query.flags & dns.flags.AD
    assert query.payload == 1232
    assert dns.message.from_wire(_encode_query(7, b"\0", A, True)).flags & dns.flags.CD


def test_aliases_are_followed_and_the_shortest_ttl_holds() -> None:
    response = dns.message.make_response(dns.message.from_wire(question("www.example.org", A)))
    for owner, ttl, rdtype, data in (
        ("www.example.org.", 60, "CNAME", "one.example.org."),
        ("one.example.org.", 900, "CNAME", "two.example.org."),
        ("two.example.org.", 300, "A", "192.0.2.1"),
    ):
        response.answer.append(dns.rrset.from_text(owner, ttl, "IN", rdtype, data))
    message = read(response.to_wire(), 7, encoded("www.example.org"), A)
    assert message.follow(A) == ("two.example.org", ("192.0.2.1",), 60)


def test_a_circle_of_aliases_has_no_end() -> None:
    records = (("a.example", "CNAME", "b.example."), ("b.example", "CNAME", "a.example."))
    message = read(answered("a.example", A, *records), 7, encoded("a.example"), A)
    with pytest.raises(TooManyAliases):
        message.follow(A)


@pytest.mark.parametrize(("length", "too_long"), [(15, False), (16, True)])
def test_aliases_are_followed_so_far(length: int, too_long: bool) -> None:
    chain = [(f"n{n}.example", "CNAME", f"n{n + 1}.example.") for n in range(length)]
    octets = answered("n0.example", A, *chain, (f"n{length}.example", "A", "192.0.2.1"))
    message = read(octets, 7, encoded("n0.example"), A)
    if too_long:
        with pytest.raises(TooManyAliases):
            message.follow(A)
    else:
        assert message.follow(A)[:2] == (f"n{length}.example", ("192.0.2.1",))


def test_aliases_that_end_nowhere_have_an_end() -> None:
    message = read(answered("a.example", A, ("a.example", "CNAME", "b.example.")), 7, encoded("a.example"), A)
    assert message.follow(A)[:2] == ("b.example", ())


def test_records_of_other_names_are_not_believed() -> None:
    message = read(answered("example.org", A, ("example.com", "A", "192.0.2.66")), 7, encoded("example.org"), A)
    assert message.follow(A)[1] == ()


@pytest.mark.parametrize(
    "octets",
    [
        answered("example.com", A, ("example.com", "A", "192.0.2.1")),
        answered("example.org", AAAA, ("example.org", "AAAA", "::1")),
        question("example.org", A),
        b"\0\x08" + answered("example.org", A)[2:],
        answered("example.org", A, ("example.org", "A", "192.0.2.1"))[:-1],
        b"",
    ],
    ids=["another name", "another type", "a question", "another id", "cut short", "nothing"],
)
def test_what_is_no_answer_to_the_question_is_refused(octets: bytes) -> None:
    with pytest.raises(Malformed):
        read(octets, 7, encoded("example.org"), A)


def test_a_name_that_leads_in_a_circle_is_refused() -> None:
    head = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + encoded("a.example") + struct.pack("!HH", A, 1)
    for pointer in (len(head), len(head) + 2, 0x3FFF):
        record = struct.pack("!H", 0xC000 | pointer) + struct.pack("!HHIH", A, 1, 60, 4) + b"\x7f\0\0\1"
        with pytest.raises(Malformed):
            read(head + record, 7, encoded("a.example"), A)


def test_octets_that_would_be_taken_for_another_name_are_escaped() -> None:
    response = dns.message.make_response(dns.message.from_wire(question("example.org", MX)))
    rdata = dns.rdata.from_text("IN", "MX", r"10 a\.b\010\255.example.org.")
    response.answer.append(dns.rrset.from_rdata("example.org.", 60, rdata))
    message = read(response.to_wire(), 7, encoded("example.org"), MX)
    assert message.follow(MX)[1] == (Mx(10, r"a\046b\010\255.example.org"),)


def test_a_name_in_brackets_is_no_address_literal() -> None:
    """A route, and what security it must have, would take it for one (RFC 5321 §4.1.3)."""
    response = dns.message.make_response(dns.message.from_wire(question("example.org", MX)))
    response.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "MX", "10 [192.0.2.66]."))
    message = read(response.to_wire(), 7, encoded("example.org"), MX)
    assert message.follow(MX)[1] == (Mx(10, r"\091192.0.2.66\093"),)


def test_however_many_names_end_in_the_same_labels_these_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's answer of 64 KB would else hold the loop for most of a second."""
    name = ".".join("a" * 127)
    octets = struct.pack("!6H", 7, 0x8180, 1, 4000, 0, 0) + encoded(name) + struct.pack("!HH", MX, 1)
    octets += (b"\xc0\x0c" + struct.pack("!HHIHH", MX, 1, 60, 4, 10) + b"\xc0\x0e") * 4000
    presented: list[bytes] = []

    def present(label: bytes) -> str:
        presented.append(label)
        return label.decode()

    monkeypatch.setattr(answer, "_present", present)
    message = read(octets, 7, encoded(name), MX)
    assert message.follow(MX) == (name, (Mx(10, name[2:]),) * 4000, 60)
    assert len(presented) < 3 * 127


def test_a_name_is_no_longer_for_ending_in_known_labels() -> None:
    name = ".".join("a" * 126)
    head = struct.pack("!6H", 7, 0x8180, 1, 2, 0, 0) + encoded(name) + struct.pack("!HH", MX, 1)
    first = b"\xc0\x0c" + struct.pack("!HHIHH", MX, 1, 60, 6, 10) + b"\x01b\xc0\x0c"
    for label, fits in ((b"\x01b", True), (b"\x02bb", False)):
        host = label + b"\xc0\x0c"
        octets = head + first + b"\xc0\x0c" + struct.pack("!HHIHH", MX, 1, 60, 2 + len(host), 10) + host
        if fits:
            assert read(octets, 7, encoded(name), MX).follow(MX)[1] == (Mx(10, f"b.{name}"),) * 2
        else:
            with pytest.raises(Malformed):
                read(octets, 7, encoded(name), MX)


labels = st.binary(min_size=1, max_size=20)
hosts = st.lists(labels, min_size=1, max_size=4).map(lambda parts: dns.name.Name([*parts, b""]))


@given(st.lists(st.tuples(st.integers(0, 65535), hosts), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_mx_records_read_as_dnspython_writes_them(records: list[tuple[int, dns.name.Name]], ttl: int) -> None:
    response = dns.message.make_response(dns.message.from_wire(question("example.org", MX)))
    rdatas = [dns.rdata.from_text("IN", "MX", f"{preference} {host.to_text()}") for preference, host in records]
    response.answer.append(dns.rrset.from_rdata_list("example.org.", ttl, rdatas))
    message = read(response.to_wire(), 7, encoded("example.org"), MX)
    _, found, seconds = message.follow(MX)
    assert seconds == ttl
    assert len(found) == len(set(rdatas))
    for record in found:
        assert isinstance(record, Mx)
        assert record.host.isascii()
        assert record.host.isprintable()


GOOD = answered(
    "example.org", MX, ("example.org", "MX", "10 mx1.example.org."), ("example.org", "CNAME", "x.example.org.")
)


@given(st.data())
def test_damaged_answers_raise_nothing_but_malformed(data: st.DataObject) -> None:
    octets = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(12, len(octets) - 1))
        octets[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for candidate in (bytes(octets), bytes(octets[:cut])):
        try:
            read(candidate, 7, encoded("example.org"), MX).follow(MX)
        except (Malformed, TooManyAliases):
            continue


@given(st.binary(max_size=200), st.sampled_from(sorted(NAMES)))
def test_any_octets_behind_our_question_raise_nothing_but_malformed(tail: bytes, kind: int) -> None:
    head = struct.pack("!6H", 7, 0x8180, 1, 3, 2, 1) + encoded("example.org") + struct.pack("!HH", kind, 1)
    for octets in (head + tail, tail):
        try:
            read(octets, 7, encoded("example.org"), kind).follow(kind)
        except (Malformed, TooManyAliases):
            continue
