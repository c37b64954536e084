"""What a transcript cannot show: peers that vanish, limits over many connections, errors of our own, the end."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from posthouse import app
from posthouse.directory import accounts
from posthouse.limits import KB, UNFINISHED_MEMORY
from posthouse.net.stream import Stream
from posthouse.policy.limits import Limits
from posthouse.policy.pipeline import Pipeline
from posthouse.reception.answer import Reception
from tests.harness import MESSAGE, PASSWORD, Client, House, house
from tests.support import run, until

BOB = "bob@home.example"
LARGE = MESSAGE + (b"y" * 990 + b"\r\n") * 600


class Slow:
    """Holds every message at its judgement until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        real = Pipeline.data

        async def data(pipeline: Pipeline, *args: object) -> object:
            self.asked.set()
            await self.go.wait()
            return await real(pipeline, *args)  # type: ignore[arg-type]  # passed on as it came

        monkeypatch.setattr(Pipeline, "data", data)


def in_a_house(directory: Path, test: Callable[[House], Awaitable[None]], settings: str = "") -> None:
    """Run the test in a house where bob lives."""

    async def main() -> None:
        async with house(directory, settings=settings) as home:
            await home.people(BOB)
            await test(home)

    run(main())


def streams(home: House) -> list[Stream]:
    """The server's ends of the connections that there are."""
    return [stream for server in home.app._servers for stream in server._sessions.values() if stream is not None]


async def sent_without_waiting(home: House, *behind: bytes, message: bytes = MESSAGE) -> Client:
    """A client that has sent a message, and perhaps more, and waits for no answer."""
    client = await home.connect("smtp")
    await client.envelope("eve@far.example", [BOB])
    assert (await client.say("DATA")).startswith("354")
    client.write(b"".join([message, b".\r\n", *behind]))
    return client


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_peer_that_hung_up_before_the_answer_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, message: bytes
) -> None:
    async def test(home: House) -> None:
        slow = Slow(monkeypatch)
        client = await sent_without_waiting(home, message=message)
        await slow.asked.wait()
        if how == "reset":
            client.hang_up()
        else:
            client.writer.write_eof()
        await until(lambda: all(one.ended for one in streams(home)))
        slow.go.set()
        # RFC 1047: it will come again, and would be filed twice.
        await until(lambda: any("hung up" in str(step.facts.get("reply")) for step in home.steps))
        await until(lambda: not streams(home))
        assert await home.mail(BOB) == []
        assert home.unfinished() == home.kept_files() == []
        (journey,) = await home.journeys(BOB)
        assert journey.message_id == "1@far.example"

    in_a_house(tmp_path, test)


def test_many_recipients_are_paid_from_the_memory_of_unfinished_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty strangers who paused behind a thousand long ones each held 81 MB, whatever the budgets were."""
    monkeypatch.setattr("posthouse.smtpd.session.RECIPIENTS_FREE", 2)
    monkeypatch.setattr("posthouse.smtpd.session.RECIPIENT_MEMORY", UNFINISHED_MEMORY // 4)

    async def test(home: House) -> None:
        one, other = await home.connect("smtp"), await home.connect("smtp")
        for client in (one, other):
            await client.envelope("eve@far.example", [f"bob+{n}@home.example" for n in range(2)])
        more = [f"RCPT TO:<bob+more{n}@home.example>" for n in range(5)]
        assert [(await one.say(line))[:9] for line in more] == ["250 2.1.5"] * 4 + ["452 4.3.1"]
        assert (await other.say(more[0])).startswith("452 4.3.1")
        # They stay refused, and what was taken stays taken.
        assert (await one.say(more[4])).startswith("452 4.3.1")
        assert (await one.say("RSET")).startswith("250")
        assert [(await other.say(line))[:3] for line in more] == ["250"] * 4 + ["452"]
        assert (await other.say("DATA")).startswith("354")
        other.write(MESSAGE + b".\r\n")
        assert (await other.reply()).startswith("250 2.0.0 Taken")
        for client in (one, other):
            await client.say("RSET")
            await client.envelope("eve@far.example", [f"bob+{n}@home.example" for n in range(2)])
        assert [(await one.say(line))[:3] for line in more] == ["250"] * 4 + ["452"]
        one.hang_up()
        await until(lambda: len(streams(home)) == 1)
        assert (await other.say(more[0])).startswith("250")

    in_a_house(tmp_path, test)


def test_who_said_quit_and_sends_nothing_more_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(home: House) -> None:
        slow = Slow(monkeypatch)
        client = await sent_without_waiting(home, b"QUIT\r\n")
        client.writer.write_eof()
        await slow.asked.wait()
        await until(lambda: all(one.ended for one in streams(home)))
        slow.go.set()
        assert (await client.reply()).startswith("250 2.0.0 Taken")
        assert (await client.reply()).startswith("221")
        assert await client.ended()
        assert len(await home.mail(BOB)) == 1

    in_a_house(tmp_path, test)


def test_what_waits_behind_its_dot_is_answered_when_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_GOODBYE_SECONDS", 30.0)

    async def main() -> None:
        said: list[str] = []
        async with house(tmp_path) as home:
            await home.people(BOB)
            slow = Slow(monkeypatch)
            client = await sent_without_waiting(home)
            idle = await home.connect("submission")
            half = await home.connect("smtp")
            await half.envelope("eve@far.example", [BOB])
            await half.say("DATA")
            half.write(MESSAGE)
            await slow.asked.wait()
            stopping = asyncio.create_task(home.app.stop())
            # Who has nothing to wait for hears of it at once.
            said = [await one.reply() for one in (idle, half)]
            slow.go.set()
            said += [await client.reply() for _ in range(2)]
            await stopping
            assert len(await home.mail(BOB)) == 1
        assert [one[:9] for one in said] == ["421 4.3.2", "421 4.3.2", "250 2.0.0", "421 4.3.2"]

    run(main())


def test_abandoned_messages_leave_nothing(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        clients = []
        for size in (100, 50 * KB, 400 * KB):
            client = await home.connect("smtp")
            await client.envelope("eve@far.example", [BOB])
            await client.say("DATA")
            client.write(b"Subject: half\r\n\r\n" + (b"x" * 998 + b"\r\n") * (size // 1000))
            clients.append(client)
        await until(lambda: len(home.unfinished()) == 1)
        for client in clients:
            client.hang_up()
        await until(lambda: not home.unfinished())
        assert await home.query("SELECT count(*) FROM blob") == [(0,)]

    in_a_house(tmp_path, test)


def test_connections_are_counted_and_counted_out(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        first, _ = await home.connect("smtp"), await home.connect("submission")
        third = await home.call("smtp")
        assert await third.reply() == "421 4.3.2 Too many connections; try again later"
        assert await third.ended()
        await first.say("QUIT")
        assert await first.ended()
        await until(lambda: len(streams(home)) == 1)
        assert (await (await home.connect("smtp")).say("NOOP")).startswith("250")

    in_a_house(tmp_path, test, "limits.connections = 2")


def test_a_connection_may_not_chatter_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_policy_limits", lambda settings: Limits(commands=5))

    async def test(home: House) -> None:
        client = await home.connect("smtp")
        assert [await client.say("NOOP") for _ in range(5)] == ["250 2.0.0 Still here"] * 5
        # What was asked is not answered any more.
        assert await client.say("NOOP") == "421 4.7.0 Too many commands in one connection"
        assert await client.ended()

    in_a_house(tmp_path, test)


def test_an_error_of_ours_is_told_and_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake")

    async def test(home: House) -> None:
        monkeypatch.setattr(Reception, "finish", broken)
        client = await sent_without_waiting(home, message=LARGE)
        assert await client.reply() == "421 4.3.0 An error of this server's; try again later"
        assert await client.ended()
        assert any(step.kind == "session.failed" for step in home.steps)
        assert home.unfinished() == []

    in_a_house(tmp_path, test)


def test_replies_to_a_pipelined_group_leave_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(home: House) -> None:
        client = await home.connect("smtp")
        await client.say("EHLO far.example")
        writes: list[bytes] = []
        real = Stream.write

        def write(stream: Stream, octets: bytes) -> None:
            writes.append(octets)
            real(stream, octets)

        monkeypatch.setattr(Stream, "write", write)
        await client.say("MAIL FROM:<eve@far.example>", *[f"RCPT TO:<{BOB}>"] * 20, "DATA")
        assert [one.count(b"\r\n") for one in writes if one] == [22]

    in_a_house(tmp_path, test)


def test_what_comes_of_a_message_is_acknowledged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(home: House) -> None:
        acknowledged: list[Stream] = []
        monkeypatch.setattr(Stream, "acknowledge", lambda stream: acknowledged.append(stream))
        client = await home.connect("smtp")
        await client.envelope("eve@far.example", [BOB])
        # Each answer carries its own acknowledgement; a piece of a message has no answer to go with.
        await client.say("DATA")
        assert acknowledged == []
        client.write(MESSAGE[:20])
        await until(lambda: len(acknowledged) == 1)
        client.write(MESSAGE[20:40])
        await until(lambda: len(acknowledged) == 2)

    in_a_house(tmp_path, test)


def test_what_comes_of_a_chunk_is_acknowledged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(home: House) -> None:
        acknowledged: list[Stream] = []
        monkeypatch.setattr(Stream, "acknowledge", lambda stream: acknowledged.append(stream))
        client = await home.connect("smtp")
        await client.envelope("eve@far.example", [BOB])
        # BDAT is answered when its chunk is here.
        client.write(b"BDAT 100 LAST\r\n" + MESSAGE[:20])
        await until(lambda: len(acknowledged) == 1)

    in_a_house(tmp_path, test)


def test_the_journey_of_a_message_tells_of_the_recipients_that_were_refused(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await home.connect("smtp")
        await client.say("EHLO far.example", "MAIL FROM:<eve@far.example>", "RCPT TO:<nobody@home.example>")
        await client.say(f"RCPT TO:<{BOB}>")
        taken = await client.data(MESSAGE)
        (journey,) = await home.journeys(taken.split()[-1])
        assert [step.kind for step in journey.steps] == ["mail.refused", "mail.received", "delivery.filed"]
        assert (await home.journeys("nobody@home.example"))[0].id == journey.id
        await client.say("QUIT")
        # And only there: what is refused later is written later.
        later = await home.connect("smtp")
        await later.envelope("dan@far.example", ["nobody@home.example"])
        await later.say("QUIT")
        assert len(await home.journeys("dan@far.example")) == 1
        assert len(await home.journeys("eve@far.example")) == 1

    in_a_house(tmp_path, test)


def test_a_login_ends_with_the_account(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await home.connect("submissions", tls=True)
        proof = b64encode(f"\0{BOB}\0{PASSWORD}".encode()).decode()
        assert (await client.say("EHLO laptop", f"AUTH PLAIN {proof}")).startswith("235")
        assert (await client.say(f"MAIL FROM:<{BOB}>")).startswith("250")
        await client.say("RSET")
        ((account,),) = await home.query("SELECT id FROM account")
        await home.changed(lambda tx: accounts.set_enabled(tx, account, False))
        assert (await client.say(f"MAIL FROM:<{BOB}>")).startswith("550 5.2.1")

    in_a_house(tmp_path, test)


def test_a_handshake_that_fails_ends_the_connection(tmp_path: Path) -> None:
    async def test(home: House) -> None:
        client = await home.connect("smtp")
        await client.say("EHLO far.example")
        assert (await client.say("STARTTLS")).startswith("220")
        client.write(b"this is no handshake\r\n" * 10)
        with contextlib.suppress(ConnectionResetError):
            await client.ended()
        await until(lambda: not streams(home))
        assert any(step.kind == "smtp.closed" for step in home.steps)
        assert not any(step.kind == "session.failed" for step in home.steps)

    in_a_house(tmp_path, test)
