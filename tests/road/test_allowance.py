"""What an account may send, as an administrator gave it to this account: counted, refused, and told by letter."""

import asyncio
import base64
from pathlib import Path

from posthouse.directory import accounts
from posthouse.written import Rate
from tests.harness import PASSWORD, House, house
from tests.support import run

ALICE, BOB = "alice@home.example", "bob@home.example"


async def sending(home: House, name: str, recipients: int) -> list[str]:
    """Answers to so many recipients of one message."""
    client = await home.connect("submission")
    login = base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()
    await client.say("EHLO there", f"AUTH PLAIN {login}", f"MAIL FROM:<{name}>")
    return [await client.say(f"RCPT TO:<bob+{n}@home.example>") for n in range(recipients)]


async def letters(home: House, name: str, number: int) -> list[bytes]:
    """What stands in an Inbox once so many are there."""
    async with asyncio.timeout(30):
        while len(found := await home.mail(name)) < number:
            await asyncio.sleep(0.01)
    return found


def test_an_account_has_limits_of_its_own_and_hears_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        settings = 'limits.submission_rate = "2/1h"\n'
        async with house(tmp_path, settings=settings) as home:
            alice, _ = await home.people(ALICE, BOB)
            await home.changed(lambda tx: accounts.set_submission(tx, alice, Rate(5, 86_400), 4))
            assert (await sending(home, ALICE, 5))[3:] == [
                "250 2.1.5 Recipient ok",
                "452 4.5.3 A message of yours may have 4 recipients; send the others another copy",
            ]
            first, second = await sending(home, ALICE, 2)
            assert first.startswith("250")
            assert second.startswith("450 4.7.1 You may send to 5 recipients in 1d; try again in ")
            # Which of them is filed first is nobody's promise.
            nearly, reached = sorted(await letters(home, ALICE, 2), key=lambda one: b"is reached" in one)
            assert b"Subject: Your limit for sending mail is nearly reached\r\n" in nearly
            assert b"may write to 5 recipients in 1d, and has written to 4 of them." in nearly
            assert b"Subject: Your limit for sending mail is reached\r\n" in reached
            # For who was given nothing, what is configured holds.
            assert (await sending(home, BOB, 3))[2].startswith("450 4.7.1 You may send to 2 recipients in 1h")

    run(main())
