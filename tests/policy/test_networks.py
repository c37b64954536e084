import pytest

from posthouse.policy.networks import Networks, neighbours_of


@pytest.mark.parametrize(
    ("peer", "neighbours"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("/run/lmtp", "/run/lmtp"),
    ],
)
def test_neighbours(peer: str, neighbours: str) -> None:
    assert neighbours_of(peer) == neighbours


def test_who_is_in_a_network() -> None:
    some = Networks(["192.0.2.0/25", "2001:db8::/32"])
    assert [some.hold(peer) for peer in ("192.0.2.1", "192.0.2.200", "2001:db8::9", "::ffff:192.0.2.1", "*")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert Networks([], machine=True).hold("*")
    assert not Networks([], machine=True).hold("192.0.2.1")
