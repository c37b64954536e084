"""Conversations with the doors as they are written down, over real connections, whole and one octet at a time.

The world of each: at home.example live alice and bob (who log in with PASSWORD); full takes 400 octets in all and
packed takes nothing; gone is disabled; team is alice and bob; mixed is bob and full; away leads to ann@far.example.
alice may send as team; carol keeps a copy of what she sends. The clock stands still.
"""

import asyncio
import re
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, aliases, identities, lists, members
from posthouse.directory.members import Role
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse
from tests.harness import Client, House, client_tls, house
from tests.support import run, until
from tests.transcript import Line, Script, read, scripts

LISTENERS = {"smtp": "starttls", "lmtp": "none", "submission": "starttls", "submissions": "implicit"}


async def settle_in(home: House) -> None:
    """The people above."""

    def disable(tx: Tx) -> None:
        accounts.set_enabled(tx, gone, False)
        for alias, *targets in (("team", "alice", "bob"), ("mixed", "bob", "full")):
            aliases.add_alias(tx, at_home(alias), [at_home(one) for one in targets])
        aliases.add_alias(tx, at_home("away"), [parse("ann@far.example")])
        identities.grant(tx, alice, at_home("team"))
        clubs: list[tuple[str, bool, Role]] = [
            ("club", False, "member"),
            ("open", True, "member"),
            ("led", False, "owner"),
        ]
        for name, visible, role in clubs:
            made = lists.add(tx, at_home(name), "", 1, visible=visible)
            members.add(tx, made.id, at_home("alice"), 1, role=role)
            members.add(tx, made.id, parse("ann@far.example"), 1)
        accounts.set_copy_to_sent(tx, carol, True)
        accounts.set_full_name(tx, alice, "Alice Liddell")

    names = ("alice@home.example", "carol@home.example", "bob@home.example", "gone@home.example")
    alice, carol, *_, gone = await home.people(*names)
    await home.people("full@home.example", octets=400)
    await home.people("packed@home.example", emails=0)
    await home.changed(disable)


def at_home(name: str) -> Address:
    """An address at home.example."""
    return parse(f"{name}@home.example")


class Player:
    """Plays one script against one door."""

    def __init__(self, home: House, script: Script, client: Client, *, whole: bool) -> None:
        self.home = home
        self.script = script
        self.client = client
        self.whole = whole

    async def play(self) -> None:
        """All of it; then nothing more may come."""
        waiting: list[bytes] = []
        for line in self.script.lines:
            if line.who == "C" and not line.ends:
                waiting.append(line.what)
                continue
            if waiting:
                await self.say(b"".join(waiting))
                waiting.clear()
            if line.who == "A":
                await self.act(line.what.decode())
            elif line.who == "C":
                await self.hang_up()
            elif line.ends:
                assert await self.read_rest() == b"", self.where(line)
            else:
                await self.expect(line)
        if waiting:
            await self.say(b"".join(waiting))

    async def hang_up(self) -> None:
        """Leave, and wait until the server has noticed."""
        await self.client.close()
        await until(lambda: any(step.kind == "smtp.closed" for step in self.home.steps))

    async def say(self, octets: bytes) -> None:
        if self.whole:
            self.client.write(octets)
            return
        for octet in octets:
            self.client.write(bytes([octet]))
            # Each travels alone: uvloop gathers what is written in one turn.
            await asyncio.sleep(0)

    async def expect(self, line: Line) -> None:
        pattern = rb"[^\r\n]*".join(map(re.escape, line.what.split("…".encode())))
        async with asyncio.timeout(30):
            got = await self.client.reader.readline()
        assert re.fullmatch(pattern, got), f"{self.where(line)}: expected {line.what!r}, got {got!r}"

    async def read_rest(self) -> bytes:
        async with asyncio.timeout(30):
            return await self.client.reader.read()

    def where(self, line: Line) -> str:
        return f"{self.script.path.name}:{line.number} ({self.script.about})"

    async def act(self, what: str) -> None:
        verb, *rest = what.split()
        match verb:
            case "silence":
                self.be_silent()
            case "tls":
                await self.client.writer.start_tls(client_tls())
            case "filed" | "junk" | "sent":
                await self.holds(rest[0], "inbox" if verb == "filed" else verb, int(rest[1]))
            case "queued":
                assert [address for address, _ in await self.home.queued()] == rest
            case "held":
                rows = await self.home.query("SELECT due_at FROM queued_recipient WHERE address = ?", rest[0])
                assert [round((due_at - self.home.clock.now()) / 1000, -2) for (due_at,) in rows] == [int(rest[1])]
            case "wishes":
                ((wishes,),) = await self.home.query(f"SELECT {rest[0]} FROM queued_recipient")
                assert str(wishes) == " ".join(rest[1:]), wishes
            case "refused":
                assert (await self.home.journeys(rest[0]))[0].steps[0].kind == "mail.refused"
            case "header":
                (octets,) = await self.home.mail(rest[0])
                assert re.search(" ".join(rest[1:]).encode(), octets.partition(b"\r\n\r\n")[0], re.MULTILINE), octets
            case "lacks":
                (octets,) = await self.home.mail(rest[0])
                assert rest[1].encode() not in octets
            case _:
                raise AssertionError(f"nobody knows how to {what}")

    def be_silent(self) -> None:
        """Let what a client may take to say something be over soon."""
        ((stream,),) = (server._sessions.values() for server in self.home.app._servers if server.connections)
        assert stream is not None
        assert stream.timeout == self.home.settings.limits.smtp_timeout
        stream.timeout = 0.01

    async def holds(self, name: str, role: str, wanted: int) -> None:
        """What couriers bring comes a moment later."""
        count = -1
        try:
            async with asyncio.timeout(30):
                while (count := len(await self.home.mail(name, role))) != wanted:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{name} has {count}") from None


@pytest.mark.parametrize("path", scripts("smtpd"), ids=lambda path: path.stem)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "octets"])
def test_conversation_goes_as_written(path: Path, whole: bool, tmp_path: Path) -> None:
    script = read(path)
    door = script.settings.get("door", "smtp")
    if not whole and script.settings.get("pieces") == "whole":
        pytest.skip("this is about octets that arrive together")

    async def main() -> None:
        settings = script.settings.get("settings", "")
        async with house(tmp_path, listeners=LISTENERS, settings=settings, clock=SetClock()) as home:
            await settle_in(home)
            client = await home.call(door, tls=door == "submissions")
            player = Player(home, script, client, whole=whole)
            await player.play()
            await player.hang_up()
            assert home.unfinished() == []

    run(main())


def test_every_reply_of_a_door_is_written_down() -> None:
    said = "\n".join(path.read_text() for path in scripts("smtpd"))
    for code in ("220", "221", "214", "235", "250", "252", "334", "354", "421", "452", "454", "500", "501",
                 "502", "503", "504", "530", "535", "538", "550", "552", "553", "554", "555"):  # fmt: skip
        assert re.search(rf"^S: {code}[ -]", said, re.MULTILINE), f"no transcript shows {code}"
