"""Values as people write them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import written
from posthouse.written import Dial, Endpoint, Rate


@given(st.integers(0, 10**9))
def test_durations_read_back(thousandths: int) -> None:
    assert written.parse_duration(written.format_duration(thousandths / 1000)) == pytest.approx(thousandths / 1000)


@given(st.integers(0, 2**49))
def test_sizes_read_back(octets: int) -> None:
    assert written.parse_size(written.format_size(octets)) == octets


@given(st.ip_addresses(), st.integers(0, 65535))
def test_endpoints_read_back(address: object, port: int) -> None:
    endpoint = Endpoint(str(address), port)
    assert written.parse_endpoint(str(endpoint)) == endpoint


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_rates_read_back(count: int, seconds: int) -> None:
    assert written.parse_rate(str(Rate(count, seconds))) == Rate(count, seconds)


def test_an_address_in_clothes_of_ipv6_is_the_one_it_stands_for() -> None:
    assert written.unmapped("::ffff:192.0.2.1") == written.unmapped("::ffff:c000:201") == "192.0.2.1"
    for host in ("192.0.2.1", "2001:db8::1", "::ffff:1:c000:201", "fe80::1%eth0", "/run/lmtp", ""):
        assert written.unmapped(host) == host
    assert str(written.parse_network("::ffff:192.0.2.1")) == "192.0.2.1/32"
    assert str(written.parse_network("::ffff:192.0.2.0/120")) == "192.0.2.0/24"
    assert str(written.parse_network("::ffff:192.0.2.1/120", strict=False)) == "192.0.2.0/24"
    assert str(written.parse_network("::ffff:0:0/96")) == "0.0.0.0/0"
    assert str(written.parse_network("::/0")) == "::/0"
    assert str(written.parse_network("2001:db8::1")) == "2001:db8::1/128"


@given(st.ip_addresses(v=4))
def test_any_address_of_ipv4_is_found_again(address: ipaddress.IPv4Address) -> None:
    assert written.unmapped(f"::ffff:{address}") == str(address)


@given(st.text(max_size=30))
def test_nothing_but_value_error_is_raised(text: str) -> None:
    for parse in (
        written.parse_duration,
        written.parse_size,
        written.parse_endpoint,
        written.parse_dial,
        written.parse_rate,
        written.parse_network,
    ):
        try:
            parse(text)
        except ValueError:
            continue


def test_examples() -> None:
    assert written.parse_duration("90s") == 90.0
    assert written.parse_duration("5 d") == 432_000.0
    assert written.parse_duration("250ms") == 0.25
    assert written.parse_duration("36525d") == 36_525 * 86400.0
    assert written.parse_size("25MB") == 25 * 1024 * 1024
    assert written.parse_endpoint("localhost:25") == Endpoint("127.0.0.1", 25)
    assert written.parse_endpoint("192.0.2.1", port=53) == Endpoint("192.0.2.1", 53)
    assert written.parse_endpoint("*:25") == Endpoint("*", 25)
    path = written.parse_endpoint("unix:/run/lmtp")
    assert (path.host, path.is_path, path.loopback, str(path)) == ("/run/lmtp", True, True, "unix:/run/lmtp")
    for text in ("unix:lmtp", "unix:", "unix:/run\n/lmtp", "/run/lmtp"):
        with pytest.raises(ValueError, match="address"):
            written.parse_endpoint(text)
    assert written.parse_dial(":2525") == Dial(None, 2525)
    assert written.parse_dial("[::1]") == Dial("::1", None)
    assert str(Dial("::1", 25)) == "[::1]:25"
    assert str(Rate(100, 3600)) == "100/1h"


@pytest.mark.parametrize(
    "text", ["", "5", "5 minutes", "-1s", "1.5h", "²s", "5M", "1h30m", "99999999999d", "36526d", "5m\n"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        written.parse_duration(text)


def test_sizes_fit_into_64_bits() -> None:
    assert written.parse_size("8589934591GB") == (2**33 - 1) << 30
    with pytest.raises(ValueError):
        written.parse_size("8589934592GB")


@pytest.mark.parametrize("text", ["", ":25", "example.org:25", "::1:25", "[127.0.0.1]:25", "1.2.3.4:65536", "1.2.3.4"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError):
        written.parse_endpoint(text)


@pytest.mark.parametrize("text", ["", "*:25", "127.0.0.1:0", ":"])
def test_what_cannot_be_dialled(text: str) -> None:
    with pytest.raises(ValueError):
        written.parse_dial(text)


def test_loopback() -> None:
    assert Endpoint("127.8.0.1", 25).loopback
    assert Endpoint("::1", 25).loopback
    assert not Endpoint("*", 25).loopback
    assert not Endpoint("192.0.2.1", 25).loopback


@pytest.mark.parametrize(
    ("octets", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (3 << 20, "3.0 MB"), (5 << 30, "5.0 GB")]
)
def test_rough_sizes(octets: int, said: str) -> None:
    assert written.rough_size(octets) == said
