"""What strangers may not do: seen through the door, behind a balancer that names whoever a test wants to be."""

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.net.stream import Stream
from posthouse.policy import blocks
from posthouse.smtpd.pace import Pace
from tests.harness import MESSAGE, PASSWORD, Client, House, client_tls, house
from tests.support import run, until

BOB = "bob@home.example"
EVE = "203.0.113.9"
QUICK = "limits.greeting_delay = '0s'\nlimits.error_delay = '0s'\n"


def among_strangers(
    directory: Path, test: Callable[[House], Awaitable[None]], settings: str = QUICK, clock: SetClock | None = None
) -> None:
    """Run the test in a house where bob lives, each of whose doors is behind a balancer."""

    async def main() -> None:
        listener = 'proxy = "127.0.0.0/8"'
        async with house(directory, settings=settings, each_listener=listener, clock=clock) as home:
            await home.people(BOB)
            await test(home)

    run(main())


async def call(home: House, peer: str = EVE, *, local: str = "192.0.2.25", behind: bytes = b"") -> Client:
    """A connection from `peer` to `local`, which has said `behind` at once; nothing is read of it."""
    client = await home.call("smtp")
    family = "TCP6" if ":" in peer else "TCP4"
    client.write(f"PROXY {family} {peer} {'::25' if family == 'TCP6' else local} 4711 25\r\n".encode() + behind)
    return client


async def greeted(home: House, peer: str = EVE, *, local: str = "192.0.2.25") -> Client:
    client = await call(home, peer, local=local)
    assert (await client.reply()).startswith("220")
    return client


def kinds(home: House) -> list[str]:
    return [step.kind for step in home.steps]


# --- who is there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [EVE, "2001:db8::9"])
def test_who_is_behind_the_balancer_is_who_sent_it(tmp_path: Path, peer: str) -> None:
    async def test(home: House) -> None:
        client = await greeted(home, peer)
        assert (await client.send("eve@far.example", [BOB])).startswith("250")
        (message,) = await home.mail(BOB)
        assert re.search(rb"^Received: from far.example \(\[(IPv6:)?%s\]\)" % peer.encode(), message, re.MULTILINE)

    among_strangers(tmp_path, test)


def test_tls_comes_behind_the_header(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", home.ports["submissions"])
        client = Client(reader, writer)
        client.write(b"PROXY TCP4 203.0.113.9 192.0.2.25 4711 465\r\n")
        await writer.start_tls(client_tls())
        assert (await client.reply()).startswith("220")
        await client.close()

    among_strangers(tmp_path, test)


# --- early talkers ----------------------------------------------------------------------------------------------------


def test_who_speaks_before_the_greeting_is_refused(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await call(home, behind=b"EHLO far.example\r\n")
        assert await client.reply() == "554 5.5.1 You spoke before the greeting; goodbye"
        assert await client.ended()
        assert "session.early" in kinds(home)

    among_strangers(tmp_path, test, "limits.greeting_delay = '20s'")


def test_an_early_talker_may_only_be_noted(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await call(home, behind=b"EHLO far.example\r\n")
        assert (await client.reply()).startswith("220")
        assert (await client.reply()).startswith("250")
        assert "session.early" in kinds(home)

    among_strangers(tmp_path, test, "limits.greeting_delay = '20s'\nlimits.early_talkers = 'note'")


@pytest.fixture
def hushes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each client was made to wait for its greeting."""
    waits: list[float] = []
    real = Stream.hush

    async def hush(stream: Stream, seconds: float) -> bool:
        waits.append(seconds)
        return await real(stream, seconds / 100)

    monkeypatch.setattr(Stream, "hush", hush)
    return waits


def test_strangers_wait_for_the_greeting_and_those_we_know_do_not(tmp_path: Path, hushes: list[float]) -> None:
    async def test(home: House) -> None:
        for waited in (1, 1, 2):
            client = await greeted(home, EVE if waited == 1 else "203.0.113.10")
            assert len(hushes) == waited
            assert (await client.send("eve@far.example", [BOB])).startswith("250")
        # And who hangs up meanwhile is gone.
        (await call(home, "203.0.113.11")).hang_up()
        await until(lambda: "smtp.closed" in kinds(home))
        assert hushes == [2.0] * 3

    among_strangers(tmp_path, test, "limits.greeting_delay = '2s'")


def test_on_this_machine_nobody_waits_and_nobody_is_refused(tmp_path: Path, hushes: list[float]) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            await home.connect("smtp")
        listener = 'proxy = "127.0.0.0/8"'
        async with house(tmp_path, settings="limits.never_blocked = '203.0.113.0/24'", each_listener=listener) as home:
            client = await call(home, behind=b"EHLO far.example\r\n")
            assert [(await client.reply())[:3] for _ in range(2)] == ["220", "250"]
        assert hushes == []

    run(main())


# --- blocks -----------------------------------------------------------------------------------------------------------


async def harvest(home: House, peer: str = EVE) -> None:
    """Ask for addresses that do not exist until that is enough."""
    for _ in range(3):
        client = await greeted(home, peer)
        await client.say("EHLO far.example", "MAIL FROM:<eve@far.example>")
        for number in range(20):
            await client.say(f"RCPT TO:<nobody{number}@home.example>")
        client.hang_up()


def test_who_tries_out_addresses_is_turned_away_at_every_door_for_a_while(tmp_path: Path) -> None:
    clock = SetClock()

    async def test(home: House) -> None:
        await harvest(home)
        assert [step.facts["network"] for step in home.steps if step.kind == "abuse.blocked"] == [EVE]
        client = await call(home)
        assert await client.reply() == "421 4.7.0 Your network has misbehaved and is turned away for a while"
        assert await client.ended()
        reader, writer = await asyncio.open_connection("127.0.0.1", home.ports["submissions"])
        writer.write(b"PROXY TCP4 203.0.113.9 192.0.2.25 4711 465\r\n")
        assert await reader.read() == b""
        writer.close()
        await greeted(home, "203.0.113.10")
        clock.advance(599)
        assert (await (await call(home)).reply()).startswith("421")
        clock.advance(2)
        await greeted(home)

    among_strangers(tmp_path, test, QUICK + "limits.errors = 50", clock)


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (b"GET / HTTP/1.1\r\n", 4),
        (b"EHLO far.example\r\nSTARTTLS\r\nMAIL FROM:<a@b.example>\r\n", 2),
        (b"EHLO far.example\r\nMAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<x@elsewhere.example>\r\n" * 5, 2),
        (b"HAHA\r\n" * 21, 4),
    ],
    ids=["http", "injection", "relaying", "errors"],
)
def test_other_things_that_lead_there(tmp_path: Path, said: bytes, times: int) -> None:
    async def test(home: House) -> None:
        for _ in range(times):
            assert "abuse.blocked" not in kinds(home)
            client = await greeted(home)
            client.write(said)
            client.writer.write_eof()
            assert await client.reader.read()
        await until(lambda: "abuse.blocked" in kinds(home))
        assert (await (await call(home)).reply()).startswith("421")

    among_strangers(tmp_path, test, clock=SetClock())


def test_who_guesses_passwords_is_turned_away_from_the_mx_too(tmp_path: Path) -> None:
    clock = SetClock()

    async def test(home: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", home.ports["submission"])
        client = Client(reader, writer)
        client.write(b"PROXY TCP4 203.0.113.9 192.0.2.25 4711 587\r\n")
        await client.reply()
        await client.say("EHLO laptop")
        for guess in range(12):
            assert (await client.say(f"AUTH PLAIN {plain(BOB, f'wrong {guess}')}"))[0] in "45"
            clock.advance(60)
        assert (await (await call(home)).reply()).startswith("421")
        await client.close()

    among_strangers(tmp_path, test, QUICK + 'limits.login_failures = "2/1d"\nlimits.login_timeout = "1d"', clock)


def plain(login: str, password: str) -> str:
    return b64encode(f"\0{login}\0{password}".encode()).decode()


def test_a_block_by_hand_is_final_and_ends_when_it_is_taken_back(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        await home.changed(lambda tx: blocks.add(tx, "203.0.113.0/24", home.clock.now(), None, "spam"))
        await until(lambda: home.app._abuse.refusal(EVE) is not None)
        client = await call(home)
        assert await client.reply() == "554 5.7.1 Your network is blocked here"
        # RFC 5321 §3.1: only QUIT is left.
        assert (await client.say("EHLO far.example")).startswith("503")
        assert (await client.say("QUIT")).startswith("221")
        await home.changed(lambda tx: blocks.remove(tx, "203.0.113.0/24"))
        await until(lambda: home.app._abuse.refusal(EVE) is None)
        await greeted(home)

    among_strangers(tmp_path, test)


def test_who_logged_in_is_not_marked_for_addresses_that_are_wrong(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", home.ports["submission"])
        client = Client(reader, writer)
        client.write(b"PROXY TCP4 203.0.113.9 192.0.2.25 4711 587\r\n")
        await client.reply()
        await client.say("EHLO laptop", f"AUTH PLAIN {plain(BOB, PASSWORD)}", f"MAIL FROM:<{BOB}>")
        for number in range(60):
            await client.say(f"RCPT TO:<nobody{number}@home.example>")
        await client.close()
        await greeted(home)

    among_strangers(tmp_path, test, QUICK + "limits.errors = 100")


# --- slow ones --------------------------------------------------------------------------------------------------------


def test_errors_are_answered_later_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(stream: Stream, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Stream, "pause", pause)

    async def test(home: House) -> None:
        client = await greeted(home)
        await client.say("EHLO far.example", "MAIL FROM:<eve@far.example>")
        for _ in range(5):
            await client.say("HAHA")
        assert pauses == []
        await client.say("RCPT TO:<nobody@home.example>")
        await client.say("RCPT TO:<ann@elsewhere.example>", "HAHA", "NOOP")
        assert pauses == [2.0, 4.0, 5.0]

    among_strangers(tmp_path, test, "limits.greeting_delay = '0s'\nlimits.error_delay = '2s'")


def test_who_is_made_to_wait_holds_nobody_up(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await greeted(home)
        assert (await client.say(*["HAHA"] * 5)).startswith("500")
        client.write(b"HAHA\r\n")
        other = await greeted(home, "203.0.113.10")
        assert (await other.send("eve@far.example", [BOB])).startswith("250")
        client.hang_up()
        # The end of the server is not held up, either.

    among_strangers(tmp_path, test, "limits.greeting_delay = '0s'\nlimits.error_delay = '1d'")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a client was too slow, each time that something has come of it."""
    found: list[bool] = []
    real = Pace.is_late

    def is_late(pace: Pace, octets: int, *, message: bool) -> bool:
        found.append(real(pace, octets, message=message))
        return found[-1]

    monkeypatch.setattr(Pace, "is_late", is_late)
    return found


@pytest.mark.parametrize("where", ["command", "message", "session"])
def test_who_sends_an_octet_now_and_then_is_let_go(tmp_path: Path, looks: list[bool], where: str) -> None:
    clock = SetClock()

    async def test(home: House) -> None:
        client = await greeted(home)
        if where == "message":
            await client.envelope("eve@far.example", [BOB])
            await client.say("DATA")
        octets = b"NOOP\r\n" if where == "session" else b"x"
        for _ in range(100):
            looks.clear()
            client.write(octets)
            await until(lambda: looks)
            if looks[-1]:
                break
            clock.advance(20)
        rest = await client.reader.read()
        assert rest.endswith(b"421 4.4.2 You said nothing for too long; goodbye\r\n"), rest
        assert home.unfinished() == []

    among_strangers(tmp_path, test, clock=clock)


def test_a_message_that_comes_steadily_may_take_its_time(tmp_path: Path, looks: list[bool]) -> None:
    clock = SetClock()

    async def test(home: House) -> None:
        client = await greeted(home)
        await client.envelope("eve@far.example", [BOB])
        await client.say("DATA")
        client.write(MESSAGE)
        for _ in range(60):
            # 500 octets a second, over 20 minutes.
            looks.clear()
            client.write((b"x" * 98 + b"\r\n") * 100)
            await until(lambda: looks)
            clock.advance(20)
        assert (await client.say(".")).startswith("250")

    among_strangers(tmp_path, test, clock=clock)


# --- XCLIENT ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def with_xclient(directory: Path, believed: str = "127.0.0.0/8") -> AsyncIterator[House]:
    listener = f'xclient_from = "{believed}"'
    async with house(directory, listeners={"smtp": "starttls"}, settings=QUICK, each_listener=listener) as home:
        await home.people(BOB)
        yield home


def test_xclient_names_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_xclient(tmp_path) as home:
            client = await home.connect("smtp")
            hello = await client.say("EHLO filter.example")
            assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME" in hello
            told = "XCLIENT NAME=mx.far.example ADDR=203.0.113.9 PORT=4711 PROTO=ESMTP HELO=mx.far.example"
            assert (await client.say(told)).startswith("220")
            assert (await client.say("MAIL FROM:<eve@far.example>")).startswith("503")
            assert (await client.send("eve@far.example", [BOB])).startswith("250")
            (message,) = await home.mail(BOB)
            assert b"(mx.far.example [203.0.113.9])" in message.partition(b"by")[0]
            # It may say so again, for the next one.
            assert (await client.say("XCLIENT ADDR=IPV6:2001:db8::9 NAME=[UNAVAILABLE]")).startswith("220")
            assert (await client.send("eve@far.example", [BOB])).startswith("250")
            assert b"([IPv6:2001:db8::9])" in (await home.mail(BOB))[1].partition(b"by")[0]

    run(main())


def test_xclient_with_a_login_or_an_address_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_xclient(tmp_path) as home:
            client = await home.connect("smtp")
            await client.say("EHLO filter.example", f"XCLIENT ADDR=203.0.113.9 LOGIN={BOB} DESTADDR=192.0.2.25")
            taken = await client.envelope(BOB, ["postmaster@[192.0.2.25]", "ann@elsewhere.example"])
            assert taken.startswith("250")
            await client.say("RSET")
            await client.say("XCLIENT LOGIN=nobody@home.example")
            assert (await client.envelope("a@b.example", ["ann@elsewhere.example"])).startswith("550 5.7.1")

    run(main())


def test_xclient_is_believed_of_those_alone_who_are_configured(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_xclient(tmp_path, "192.0.2.0/24") as home:
            client = await home.connect("smtp")
            assert "XCLIENT" not in await client.say("EHLO far.example")
            assert (await client.say("XCLIENT ADDR=203.0.113.9")).startswith("502")

    run(main())


@pytest.mark.parametrize("wrong", ["ADDR=elsewhere", "PROTO=HTTP", "DESTADDR=1.2.3", "ADDR=IPV6:1"])
def test_xclient_with_values_that_are_none(tmp_path: Path, wrong: str) -> None:
    async def main() -> None:
        async with with_xclient(tmp_path) as home:
            client = await home.connect("smtp")
            assert (await client.say("EHLO filter.example", f"XCLIENT {wrong}")).startswith("501")
            assert (await client.send("eve@far.example", [BOB])).startswith("250")

    run(main())


def test_whom_xclient_names_may_be_blocked(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_xclient(tmp_path) as home:
            await home.changed(lambda tx: blocks.add(tx, "203.0.113.9/32", home.clock.now(), None, ""))
            await until(lambda: home.app._abuse.refusal(EVE) is not None)
            client = await home.connect("smtp")
            assert (await client.say("EHLO filter.example", "XCLIENT ADDR=203.0.113.9")).startswith("554 5.7.1")
            # It is no command that was refused: nobody goes on behind it.
            assert await client.ended()

    run(main())
