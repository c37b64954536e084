"""Blocked networks, as the store keeps them and as they are looked up.

Promises: of an address the block that lasts longest is found, by hand before any other, in a handful of look-ups
however many there are. No more than MOST automatic ones are kept: those that end first go. A block that has ended is
remembered until MEMORY later, so that the next one of that network lasts twice as long.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.directory.model import DirectoryError
from posthouse.directory.throttle import address_of
from posthouse.store.database import Topic, Tx

MOST: Final = 10_000
# Milliseconds.
MEMORY: Final = 7 * 86_400_000


def shown(network: str) -> str:
    """A network as people write it: a single address without its length."""
    return network.removesuffix("/128" if ":" in network else "/32")


class NoSuchBlock(DirectoryError):
    """Nothing is blocked under this name."""

    def __init__(self, network: str) -> None:
        super().__init__(f"{shown(network)} is not blocked")


@dataclass(frozen=True, slots=True)
class Block:
    """A network from which nobody is served. Times in UTC milliseconds; `until` None: until it is taken back.

    `times`: how often it has been blocked; 0: by hand.
    """

    network: str
    since: int
    until: int | None
    reason: str
    times: int = 0

    @property
    def by_hand(self) -> bool:
        """A person has decided it."""
        return self.times == 0

    @property
    def shown(self) -> str:
        """The network as people write it."""
        return shown(self.network)

    def holds(self, now: int) -> bool:
        """Is it in force?"""
        return self.until is None or now < self.until

    def outlasts(self, other: "Block | None") -> bool:
        """Is this the one to tell of?"""
        if other is None:
            return True
        if self.by_hand is not other.by_hand:
            return self.by_hand
        return other.until is not None and (self.until is None or self.until > other.until)


class Table:
    """Blocks by network: for each length of prefix that occurs, one look-up."""

    __slots__ = ("_blocks",)

    def __init__(self, found: Iterable[Block]) -> None:
        self._blocks: dict[tuple[int, int], dict[int, Block]] = {}
        for block in found:
            self.put(block)

    def put(self, block: Block) -> None:
        """One more, or another of the same network."""
        network = ipaddress.ip_network(block.network)
        same = self._blocks.setdefault((network.version, network.prefixlen), {})
        same[int(network.network_address)] = block

    def find(self, peer: str, now: int) -> Block | None:
        """The block in force that this address falls under."""
        address = address_of(peer) if self._blocks else None
        if address is None:
            return None
        number, found = int(address), None
        for (version, prefix), same in self._blocks.items():
            if version == address.version:
                rest = address.max_prefixlen - prefix
                block = same.get(number >> rest << rest)
                if block is not None and block.holds(now) and block.outlasts(found):
                    found = block
        return found

    def times(self, network: str) -> int:
        """How often this very network has been blocked."""
        parsed = ipaddress.ip_network(network)
        block = self._blocks.get((parsed.version, parsed.prefixlen), {}).get(int(parsed.network_address))
        return 0 if block is None else block.times


# --- over a transaction -----------------------------------------------------------------------------------------------


def table(tx: Tx) -> Table:
    """All that is kept, ready to be asked."""
    return Table(listed(tx))


def listed(tx: Tx) -> list[Block]:
    """All that is kept, in the order of the networks; some of it has ended."""
    return [Block(*row) for row in tx.all("blocks", limit=2 * MOST)]


def record(tx: Tx, made: Sequence[Block]) -> None:
    """What a process has blocked by itself. What is blocked by hand stays as it is."""
    tx.many(
        "block_record",
        [
            {
                "network": block.network,
                "since": block.since,
                "until": block.until,
                "reason": block.reason,
                "times": block.times,
            }
            for block in made
        ],
    )
    tx.run("blocks_crowded_out", most=MOST)
    tx.ring(Topic.BLOCKS)


def add(tx: Tx, network: str, now: int, until: int | None, reason: str) -> Block:
    """Block a network by hand; what was said of it before is replaced. Raises TooManyBlocks."""
    block = Block(network, now, until, reason)
    if tx.value("blocks_by_hand_count") >= MOST and tx.one("block_find", network=network) is None:
        raise TooManyBlocks
    tx.run("block_put", network=network, since=now, until=until, reason=reason, times=0)
    tx.ring(Topic.BLOCKS)
    return block


def remove(tx: Tx, network: str) -> None:
    """Block it no more, and forget that it ever was. Raises NoSuchBlock."""
    if not tx.run("block_delete", network=network):
        raise NoSuchBlock(network)
    tx.ring(Topic.BLOCKS)


def forget_old(tx: Tx, now: int) -> None:
    """Let go of those that ended long ago."""
    if tx.run("blocks_forget", before=now - MEMORY):
        tx.ring(Topic.BLOCKS)


class TooManyBlocks(DirectoryError):
    """A firewall does this better."""

    def __init__(self) -> None:
        super().__init__(f"{MOST} networks are blocked by hand, the most there may be; a firewall holds more")
