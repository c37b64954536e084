"""PROXY headers, as octets."""

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.net.proxy import BadHeader, Header, read
from posthouse.written import Endpoint, unmapped

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"220 what stands behind\r\n"

endpoints = st.one_of(
    *(
        st.tuples(*[st.builds(Endpoint, st.ip_addresses(v=version).map(str), st.integers(0, 65535))] * 2)
        for version in (4, 6)
    )
)


def line(source: Endpoint, destination: Endpoint) -> bytes:
    """Version 1, as a balancer writes it."""
    family = "TCP6" if ":" in source.host else "TCP4"
    return f"PROXY {family} {source.host} {destination.host} {source.port} {destination.port}\r\n".encode()


def binary(source: Endpoint, destination: Endpoint, *, transport: int = 1, extensions: bytes = b"") -> bytes:
    """Version 2."""
    family = 2 if ":" in source.host else 1
    block = b"".join(ipaddress.ip_address(one.host).packed for one in (source, destination))
    block += struct.pack("!HH", source.port, destination.port) + extensions
    return SIGNATURE + bytes([0x21, family << 4 | transport]) + struct.pack("!H", len(block)) + block


def fed(octets: bytes) -> Header | None:
    """The answer, and that every beginning of the octets agrees with it: nothing is known too early, or differently."""
    found = read(octets)
    for end in range(len(octets)):
        early = read(octets[:end])
        assert early is None or early == found
        assert early is None or end >= early.length
    return found


@given(endpoints, st.binary(max_size=40))
def test_what_a_balancer_writes_is_read(pair: tuple[Endpoint, Endpoint], extensions: bytes) -> None:
    plain = [Endpoint(unmapped(one.host), one.port) for one in pair]
    for written in (line(*pair), binary(*pair), binary(*pair, extensions=extensions)):
        assert fed(written + BEHIND) == Header(plain[0], plain[1], len(written))
        assert read(written[:-1]) is None


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=120).map(lambda rest: b"PROXY TCP4 " + rest)))
@example(SIGNATURE + b"\x21\x11\0\0")
def test_a_reader_raises_nothing_but_its_own(octets: bytes) -> None:
    try:
        header = read(octets)
    except BadHeader:
        return
    assert header is None or header.length <= len(octets)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=300))
def test_any_binary_header_is_read_needs_more_or_is_none(command: int, kind: int, length: int, rest: bytes) -> None:
    octets = SIGNATURE + bytes([command, kind]) + struct.pack("!H", length) + rest
    try:
        header = read(octets)
    except BadHeader:
        return
    if header is None:
        assert len(rest) < length
    else:
        assert header.length == 16 + length
        assert (header.source is None) == (command == 0x20 or kind not in (0x11, 0x21))


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        b"PROXY UNKNOWN \x01 whatever\r\n",
        SIGNATURE + b"\x20\x00\0\0",
        SIGNATURE + b"\x20\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x20\xff\0\x03abc",
        SIGNATURE + b"\x21\x00\0\0",
        SIGNATURE + b"\x21\x12\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
    ],
)
def test_who_is_not_named_is_nobody_else(octets: bytes) -> None:
    assert fed(octets + BEHIND) == Header(None, None, len(octets))


@given(st.binary(max_size=60))
@example(b" \n")
@example(b" \r")
def test_a_line_is_the_same_however_it_is_cut(rest: bytes) -> None:
    octets = b"PROXY UNKNOWN" + rest + b"\r\n"
    try:
        fed(octets)
    except BadHeader:
        with pytest.raises(BadHeader):
            read(octets)


def test_an_address_in_clothes_of_ipv6_is_the_one_it_stands_for() -> None:
    mapped, plain = Endpoint("::ffff:192.0.2.1", 4711), Endpoint("192.0.2.1", 4711)
    for written in (line(mapped, mapped), binary(mapped, mapped)):
        assert fed(written) == Header(plain, plain, len(written))


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO far.example\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY  TCP4 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY TCP5 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 3\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 \r\n",
        b"PROXY TCP4 1.2.3.04 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 1.2.3.256 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.5 \u0661 2\r\n".encode(),
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n",
        b"PROXY TCP4 1.2.3.4\r1.2.3.5 1 2\r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY UNKNOWN \rEHLO there\r\n",
        SIGNATURE + b"\x11\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\0\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x41\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x13\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x10\x01" + bytes(12),
        SIGNATURE[:11] + b"\r",
    ],
)
def test_what_is_no_header_is_refused(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        read(octets)


def test_the_longest_line_is_taken_and_one_longer_is_not() -> None:
    longest = (
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535"
    )
    assert len(longest) == 105
    assert fed(longest + b"\r\n") == Header(None, None, 107)
    with pytest.raises(BadHeader, match="no end"):
        read(longest + b"x\r\n")
