"""The stub resolver against our own nameserver, which is written with another library."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from posthouse.clock import SetClock
from posthouse.net.dns import (
    Bogus,
    DnsError,
    Mx,
    NoRecords,
    NoSuchDomain,
    Resolver,
    StubResolver,
    TemporaryFailure,
    Tlsa,
    believed,
    system_servers,
)
from posthouse.net.nameserver import BadZone, Nameserver, Zone
from posthouse.written import Endpoint
from tests.support import run

ZONE = """
# The demo's world.
example.org                MX    20 mx2.example.org.
example.org                MX    10 mx1.example.org.
example.org                TXT   "v=spf1 a " "-all"
mx1.example.org            A     192.0.2.1
mx1.example.org            AAAA  2001:db8::1
mx2.example.org            A     192.0.2.2
six.example.org            AAAA  2001:db8::6
www.example.org            CNAME mx1.example.org.
one.example.org            CNAME two.example.org.
two.example.org            CNAME one.example.org.
nomail.example             MX    0 .
_25._tcp.mx1.example.org   TLSA  3 1 0 00ff
1.2.0.192.in-addr.arpa     PTR   mx1.example.org.
"""


_started: list[Nameserver] = []


def play(main: Coroutine[Any, Any, None]) -> None:
    """Run it, and stop every nameserver that `world` started."""

    async def and_stop() -> None:
        try:
            await main
        finally:
            while _started:
                await _started.pop().stop()

    run(and_stop())


class World:
    """A nameserver and a resolver that asks it."""

    def __init__(self, server: Nameserver, resolver: StubResolver, clock: SetClock) -> None:
        self.server = server
        self.resolver = resolver
        self.clock = clock

    async def fails(self, question: Coroutine[Any, Any, object], error: type[DnsError]) -> str:
        with pytest.raises(error) as caught:
            await question
        assert type(caught.value) is error or issubclass(type(caught.value), error)
        return str(caught.value)


async def world(
    *,
    authentic: bool = False,
    trusted: bool | None = None,
    extra: tuple[Endpoint, ...] = (),
    timeout: float = 30,
) -> World:
    """`timeout`: who answers is waited for as long as it takes, and who never does, shortly."""
    server, clock = Nameserver(Zone.parse(ZONE), authentic=authentic), SetClock()
    endpoint = await server.start()
    _started.append(server)
    resolver = StubResolver((*extra, endpoint), clock, trusted=trusted, timeout=timeout, attempts=2)
    return World(server, resolver, clock)


def test_each_kind_of_record() -> None:
    async def main() -> None:
        one = await world()
        resolver: Resolver = one.resolver
        mx = await resolver.mx("Example.ORG.")
        assert mx.records == (Mx(10, "mx1.example.org"), Mx(20, "mx2.example.org"))
        assert (mx.ttl, mx.name, mx.authentic) == (300, "example.org", False)
        assert (await resolver.addresses("mx1.example.org")).records == ("192.0.2.1", "2001:db8::1")
        assert (await resolver.addresses("mx1.example.org", ipv6=False)).records == ("192.0.2.1",)
        assert (await resolver.addresses("six.example.org")).records == ("2001:db8::6",)
        assert (await resolver.addresses("www.example.org")).name == "mx1.example.org"
        assert (await resolver.txt("example.org")).records == (b"v=spf1 a -all",)
        assert (await resolver.ptr("192.0.2.1")).records == ("mx1.example.org",)
        assert (await resolver.tlsa("_25._tcp.mx1.example.org")).records == (Tlsa(3, 1, 0, b"\x00\xff"),)
        assert (await resolver.mx("nomail.example")).records == (Mx(0, ""),)

    play(main())


def test_no_name_and_no_records_are_told_apart() -> None:
    async def main() -> None:
        one = await world()
        assert await one.fails(one.resolver.mx("none.example"), NoSuchDomain) == "MX of none.example: no such domain"
        assert await one.fails(one.resolver.mx("mx1.example.org"), NoRecords) == "MX of mx1.example.org: no MX records"
        # RFC 8020: there are names below it, so it exists.
        await one.fails(one.resolver.mx("_tcp.mx1.example.org"), NoRecords)
        await one.fails(one.resolver.addresses("none.example"), NoSuchDomain)
        await one.fails(one.resolver.addresses("example.org"), NoRecords)
        await one.fails(one.resolver.addresses("six.example.org", ipv6=False), NoRecords)
        for impossible in ("a" * 64 + ".example", "a..example", "ä.example", ".".join(["a" * 60] * 5)):
            await one.fails(one.resolver.mx(impossible), NoSuchDomain)

    play(main())


def test_answers_are_cached_for_as_long_as_they_hold() -> None:
    async def main() -> None:
        one = await world()
        for _ in range(3):
            await one.resolver.mx("example.org")
            await one.fails(one.resolver.mx("none.example"), NoSuchDomain)
        assert one.server.queries == [("example.org", "MX"), ("none.example", "MX")]
        one.clock.advance(301)
        await one.resolver.mx("example.org")
        await one.fails(one.resolver.mx("none.example"), NoSuchDomain)
        assert len(one.server.queries) == 4

    play(main())


def test_the_cache_is_bounded() -> None:
    async def main() -> None:
        server, clock = Nameserver(Zone.parse(ZONE)), SetClock()
        for n in range(50):
            server.zone.add(f"h{n}.example", "TXT", '"' + "x" * 200 + '"')
        resolver = StubResolver([await server.start()], clock, timeout=30, cache_octets=5000)
        for n in range(50):
            await resolver.txt(f"h{n}.example")
        assert 0 < len(resolver._cache._entries) < 10
        assert resolver._cache._room >= 0
        await resolver.txt("h49.example")
        assert len(server.queries) == 50
        clock.advance(10_000)
        await resolver.txt("h0.example")
        await server.stop()

    play(main())


def test_the_cache_weighs_names_by_what_they_take_here() -> None:
    """In the answer the end that they share stands once."""

    async def main() -> None:
        one = await world()
        shared = ".".join(["a" * 60] * 3)
        for n in range(100):
            one.server.zone.add("many.example", "MX", f"10 h{n}.{shared}.")
        resolver = StubResolver([one.server.endpoint], one.clock, timeout=30, cache_octets=20_000)
        for _ in range(2):
            assert len((await resolver.mx("many.example")).records) == 100
        # By UDP, and because it is too long for that by TCP.
        assert one.server.queries == [("many.example", "MX")] * 4
        resolver = StubResolver([one.server.endpoint], one.clock, timeout=30, cache_octets=50_000)
        for _ in range(2):
            await resolver.mx("many.example")
        assert one.server.queries == [("many.example", "MX")] * 6

    play(main())


def test_equal_questions_under_way_share_one() -> None:
    async def main() -> None:
        one = await world()
        asking = [asyncio.create_task(one.resolver.mx("example.org")) for _ in range(20)]
        await asyncio.sleep(0)
        # Who is cancelled takes nothing from the others.
        asking[0].cancel()
        answers = await asyncio.gather(*asking[1:])
        assert all(answer == answers[0] for answer in answers)
        assert len(one.server.queries) == 1

    play(main())


@pytest.mark.parametrize("fault", ["servfail", "silence", "refused", "garbage"])
def test_a_resolver_that_fails_is_a_temporary_failure(fault: Any) -> None:
    async def main() -> None:
        one = await world(timeout=0.05 if fault in ("silence", "garbage") else 30)
        one.server.fail("example.org", fault)
        await one.fails(one.resolver.mx("example.org"), TemporaryFailure)
        # It was asked twice; the second question may still be on its way to who is silent.
        while len(one.server.queries) < 2:
            await asyncio.sleep(0.001)
        # A failure is remembered too, but not for long.
        await one.fails(one.resolver.mx("example.org"), TemporaryFailure)
        assert len(one.server.queries) == 2
        one.server.faults.clear()
        one.resolver._timeout = 30
        one.clock.advance(6)
        await one.resolver.mx("example.org")

    play(main())


def test_the_next_resolver_is_asked_when_one_fails() -> None:
    async def main() -> None:
        broken = Nameserver(Zone())
        broken.fail("*", "servfail")
        dead = Endpoint("127.0.0.1", 9)
        one = await world(extra=(await broken.start(), dead))
        await one.resolver.mx("example.org")
        assert len(broken.queries) == 1
        await broken.stop()

    play(main())


@pytest.mark.parametrize("fault", ["bogus", "bogus without a word"])
def test_forged_answers_are_bogus(fault: Any) -> None:
    async def main() -> None:
        one = await world()
        one.server.fail("example.org", fault)
        await one.fails(one.resolver.mx("example.org"), Bogus)

    play(main())


def test_aliases_in_a_circle_say_nothing_of_what_there_is() -> None:
    async def main() -> None:
        one = await world()
        for question in (one.resolver.mx("one.example.org"), one.resolver.addresses("two.example.org")):
            assert "lead in a circle" in await one.fails(question, TemporaryFailure)
        # Asked of each resolver once (and once more without DNSSEC), for each of MX, A and AAAA; then remembered.
        assert len(one.server.queries) == 6
        await one.fails(one.resolver.mx("one.example.org"), TemporaryFailure)
        assert len(one.server.queries) == 6

    play(main())


def test_a_failure_of_one_family_counts_only_without_the_other() -> None:
    async def main() -> None:
        one = await world(timeout=0.05)
        one.server.fail("six.example.org", "silence")
        await one.fails(one.resolver.addresses("six.example.org"), TemporaryFailure)

    play(main())


def test_what_does_not_fit_a_datagram_comes_by_tcp() -> None:
    async def main() -> None:
        one = await world()
        for n in range(200):
            one.server.zone.add("big.example", "MX", f"{n} mx{n}.big.example.")
        assert len((await one.resolver.mx("big.example")).records) == 200
        one.server.fail("example.org", "truncated")
        assert len((await one.resolver.mx("example.org")).records) == 2

    play(main())


def test_the_verdict_of_dnssec_is_believed_from_whom_we_trust() -> None:
    async def main() -> None:
        for authentic, trusted, taken in (
            (True, None, True),
            (True, False, False),
            (True, True, True),
            (False, True, False),
        ):
            one = await world(authentic=authentic, trusted=trusted)
            assert (await one.resolver.mx("example.org")).authentic is taken
        assert not believed(Endpoint("192.0.2.53", 53), None)
        assert believed(Endpoint("192.0.2.53", 53), True)
        assert believed(Endpoint("::1", 53), None)

    play(main())


def test_each_question_has_a_port_and_an_id_of_its_own() -> None:
    async def main() -> None:
        seen: list[tuple[int, bytes]] = []

        class Listening(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                seen.append((addr[1], data[:2]))

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Listening, local_addr=("127.0.0.1", 0))
        resolver = StubResolver([Endpoint(*transport.get_extra_info("sockname"))], SetClock(), timeout=30, attempts=1)
        asking = [asyncio.create_task(resolver.txt(f"{n}.example")) for n in range(40)]
        # All of them wait for their answers: what is open at once has different ports.
        while len(seen) < 40:
            await asyncio.sleep(0.001)
        for task in [*asking, *resolver._asking.values()]:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert len({port for port, _ in seen}) > 30
        assert len({id for _, id in seen}) > 30
        transport.close()

    play(main())


def test_the_resolvers_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver ::1\nnameserver nonsense\n")
    assert system_servers(file) == (Endpoint("192.0.2.53", 53), Endpoint("::1", 53))
    assert system_servers(tmp_path / "none") == (Endpoint("127.0.0.1", 53),)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("example.org MX", "line 1: example.org MX"),
        ("\nexample.org SRV 1 2 3 x.", "line 2: 'SRV' is none of A, AAAA"),
        ("a..b A 192.0.2.1", "line 1: a..b A 192.0.2.1"),
    ],
)
def test_a_zone_that_is_wrong_is_refused_by_line(text: str, error: str) -> None:
    with pytest.raises(BadZone) as caught:
        Zone.parse(text)
    assert str(caught.value).startswith(error)


def test_a_zone_from_a_table() -> None:
    async def main() -> None:
        server = Nameserver(Zone.of({"example.org": {"MX": "10 mx.example.org.", "A": ["192.0.2.1", "192.0.2.2"]}}))
        resolver = StubResolver([await server.start()], SetClock(), timeout=30)
        assert len((await resolver.addresses("example.org")).records) == 2
        server.zone.remove("example.org")
        with pytest.raises(NoSuchDomain):
            await resolver.mx("example.org")
        await server.stop()

    play(main())
