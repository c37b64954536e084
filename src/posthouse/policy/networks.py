"""Networks: which of some an address is in, and which one stands for its neighbours.

Promises: an IPv4 address that is mapped into IPv6 is itself; text that is no address (a socket's path) is in no network
and stands for itself. Refuses: to look anything up.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from posthouse.directory.throttle import address_of

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
# What providers hand out as one: an IPv4 /24 is the least that is routed, an IPv6 /48 what a site is given (RFC 6177).
NEIGHBOURS_V4: Final = 24
NEIGHBOURS_V6: Final = 48


class Networks:
    """Some networks, asked often about few addresses. `machine`: peers without an address (of sockets that are files)
    are in one of them, too."""

    def __init__(self, networks: Iterable[str], *, machine: bool = False) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._machine = machine
        self.hold = lru_cache(maxsize=4096)(self._hold)

    def _hold(self, peer: str) -> bool:
        """Is this address in one of them?"""
        address = address_of(peer)
        return self._machine if address is None else any(address in network for network in self._networks)


@lru_cache(maxsize=16_384)
def neighbours_of(peer: str) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one."""
    address = address_of(peer)
    if address is None:
        return peer
    prefix = NEIGHBOURS_V4 if address.version == 4 else NEIGHBOURS_V6
    return str(ipaddress.ip_network((address, prefix), strict=False))
