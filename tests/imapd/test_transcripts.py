"""The IMAP door in transcripts, over a real store and a real socket; what needs several clients is in the files beside.

Settings: `@ login no`, `@ mailbox NAME` (which is open, INBOX unless said; `none`), `@ messages 3` (numbered ones are
filed first), `@ eml corpus-name` (one of tests/corpus is), `@ password required over TLS`, `@ quota OCTETS EMAILS`,
`@ limit 3` (messages of one command).
`A: file 4` delivers message 4, `A: bob SAYS` lets another client of the same account say something, `A: owner SAYS` one
of bob@example.org's account, and `A: owner file NAME` delivers a message to a mailbox of that one's.
"""

import re
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts
from tests.doors.house import ALICE, BOB, PASSWORD, House, ImapClient, message, opened
from tests.support import run
from tests.transcript import Script, read, scripts

CORPUS = Path(__file__).parent.parent / "corpus"


@pytest.mark.parametrize("path", scripts("imapd"), ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path) -> None:
    script = read(path)
    clear = script.settings.get("password") is None
    limit = int(script.settings.get("limit", "0"))

    async def main() -> None:
        async with opened(
            tmp_path, clock=SetClock(), clear_text_login=clear, append_limit=100_000, message_limit=limit
        ) as house:
            await _play(house, script)

    run(main())


async def _play(house: House, script: Script) -> None:
    settings = script.settings
    for number in range(1, int(settings.get("messages", "0")) + 1):
        await house.file(message(number))
    if "eml" in settings:
        await house.file(
            (CORPUS / f"{settings['eml']}.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        )
    if "quota" in settings:
        octets, count = map(int, settings["quota"].split())
        await house.store.write(accounts.set_quota, house.alice.id, octets, count)
    client = await _client(house, settings)
    other: ImapClient | None = None
    owner: ImapClient | None = None
    for line in script.lines:
        where = f"{script.path.name}:{line.number} ({script.about})"
        if line.who == "C":
            await client.send(line.what)
        elif line.ends:
            assert await client.closed(), where
        elif line.who == "S":
            got = (
                await client.reader.readline()
                if line.what.endswith(b"\n")
                else await client.reader.readexactly(len(line.what))
            )
            pattern = b".*".join(map(re.escape, line.what.split("…".encode())))
            assert re.fullmatch(pattern, got, re.DOTALL), f"{where}: expected {line.what!r}, got {got!r}"
        else:
            verb, _, rest = line.what.decode().partition(" ")
            if verb == "file":
                await house.file(message(int(rest)))
            elif verb == "owner" and rest.startswith("file "):
                await house.file(account=house.bob, mailbox=rest.removeprefix("file "))
            elif verb == "owner":
                owner = owner or await house.imap(BOB, mailbox=None)
                await owner.ok(rest)
            else:
                other = other or await house.imap()
                await other.ok(rest)


async def _client(house: House, settings: dict[str, str]) -> ImapClient:
    client = await house.imap(None)
    if settings.get("login") != "no":
        await client.ok(f'LOGIN {ALICE} "{PASSWORD}"')
        mailbox = settings.get("mailbox", "INBOX")
        if mailbox != "none":
            await client.ok(f"SELECT {mailbox}")
    return client
