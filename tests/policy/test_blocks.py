import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.policy import blocks
from posthouse.policy.blocks import Block, NoSuchBlock, Table, TooManyBlocks
from posthouse.store.sqlite import SqliteStore
from tests.directory.support import with_store

NOW = SetClock().now()
HOUR = 3_600_000


def block(network: str, until: int | None = NOW + HOUR, times: int = 1) -> Block:
    return Block(network, NOW, until, "a reason", times)


networks = st.one_of(
    st.builds(
        lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
        st.sampled_from(["192.0.2.1", "192.0.2.129", "198.51.100.9"]),
        st.integers(0, 32),
    ),
    st.builds(
        lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
        st.sampled_from(["2001:db8::1", "2001:db8:0:1::1", "::c000:201"]),
        st.integers(0, 128),
    ),
)


@given(
    st.lists(
        st.builds(block, networks, st.sampled_from([None, NOW - 1, NOW + 1, NOW + HOUR]), st.integers(0, 3)), max_size=8
    ),
    st.sampled_from(["192.0.2.1", "192.0.2.129", "203.0.113.1", "2001:db8::1", "2001:db8:0:1::1", "::ffff:192.0.2.1"]),
)
def test_the_block_that_counts_is_found(kept: list[Block], peer: str) -> None:
    table = Table(kept)
    address = ipaddress.ip_address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    latest = {one.network: one for one in kept}.values()
    under = [one for one in latest if address in ipaddress.ip_network(one.network) and one.holds(NOW)]
    found = table.find(peer, NOW)
    if not under:
        assert found is None
        return
    assert found in under
    by_hand = [one for one in under if one.by_hand]
    ends = [float("inf") if one.until is None else one.until for one in by_hand or under]
    assert found.by_hand == bool(by_hand)
    assert (float("inf") if found.until is None else found.until) == max(ends)


def test_an_address_that_is_none_is_under_no_block() -> None:
    assert Table([block("0.0.0.0/0")]).find("/run/lmtp", NOW) is None


def test_how_a_network_is_shown() -> None:
    shown = [block(one).shown for one in ("192.0.2.1/32", "192.0.2.0/24", "2001:db8::/64", "2001:db8::1/128")]
    assert shown == ["192.0.2.1", "192.0.2.0/24", "2001:db8::/64", "2001:db8::1"]


def test_what_is_blocked_by_hand_is_kept_whatever_a_process_notices(tmp_path: Path) -> None:
    async def test(store: SqliteStore, _: SetClock) -> None:
        await store.write(blocks.add, "192.0.2.1/32", NOW, None, "by hand")
        await store.write(blocks.add, "192.0.2.2/32", NOW - HOUR, NOW - 1, "was by hand")
        await store.write(blocks.record, [block("192.0.2.1/32"), block("192.0.2.2/32"), block("192.0.2.3/32", times=2)])
        assert [(one.network, one.times) for one in await store.read(blocks.listed)] == [
            ("192.0.2.1/32", 0),
            ("192.0.2.2/32", 1),
            ("192.0.2.3/32", 2),
        ]
        assert (await store.read(blocks.table)).times("192.0.2.3/32") == 2
        await store.write(blocks.remove, "192.0.2.1/32")
        with pytest.raises(NoSuchBlock, match=r"192\.0\.2\.1 is not blocked"):
            await store.write(blocks.remove, "192.0.2.1/32")

    with_store(tmp_path, test)


def test_old_ones_go_and_there_are_never_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST", 3)

    async def test(store: SqliteStore, _: SetClock) -> None:
        await store.write(blocks.record, [block(f"192.0.2.{n}/32", NOW + n) for n in range(3)])
        await store.write(blocks.record, [block("198.51.100.1/32", NOW + HOUR)])
        kept = [one.network for one in await store.read(blocks.listed)]
        assert kept == ["192.0.2.1/32", "192.0.2.2/32", "198.51.100.1/32"]
        await store.write(blocks.forget_old, NOW + 2 + blocks.MEMORY)
        assert [one.network for one in await store.read(blocks.listed)] == ["192.0.2.2/32", "198.51.100.1/32"]
        for n in range(3):
            await store.write(blocks.add, f"203.0.113.{n}/32", NOW, None, "")
        with pytest.raises(TooManyBlocks):
            await store.write(blocks.add, "203.0.113.9/32", NOW, None, "")
        await store.write(blocks.add, "203.0.113.1/32", NOW, NOW + 1, "another reason")

    with_store(tmp_path, test)
