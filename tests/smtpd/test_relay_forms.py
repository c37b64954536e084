"""No open relay, however an address is written: each form through the door, from a stranger and without a login."""

import asyncio
from pathlib import Path

import pytest

from tests.harness import LISTENERS, MESSAGE, Client, House, house
from tests.support import run

# Each form of a recipient, and the first digits of what port 25 says to it. Alice lives at ours.example; the server is
# mail.home.example, reached at 127.0.0.1.
FORMS: list[tuple[str, str]] = [
    # What is plainly somebody else's.
    ("<x@else.example>", "550 5.7.1"),
    ("x@else.example", "550 5.7.1"),
    ("<x@sub.ours.example>", "550 5.7.1"),
    ("<x@oursexample>", "550 5.7.1"),
    ("<alice@localhost>", "550 5.7.1"),
    ("<postmaster@else.example>", "550 5.7.1"),
    # Source routes: obsolete, and refused whole (RFC 5321 §3.6.1, §F.2).
    ("<@ours.example:x@else.example>", "5"),
    ("<@ours.example,@b.example:x@else.example>", "5"),
    ("<@else.example:alice@ours.example>", "5"),
    ("<@ours.example>", "5"),
    # The percent hack and bang paths are local parts like others, of nobody here.
    ("<x%else.example@ours.example>", "550 5.1.1"),
    ("<x%else.example>", "5"),
    ("<else.example!x@ours.example>", "550 5.1.1"),
    ("<else.example!x>", "5"),
    ("<alice+x%else.example@ours.example>", "250"),
    # An address inside quotes is a local part.
    ('<"x@else.example"@ours.example>', "550 5.1.1"),
    ('<"x@else.example">', "5"),
    ('<alice+"x@else.example"@ours.example>', "5"),
    ('<"x@ours.example"@else.example>', "550 5.7.1"),
    ('<"alice"@ours.example>', "250"),
    ('<"al\\ice"@ours.example>', "250"),
    ('<" alice"@ours.example>', "550 5.1.1"),
    ('<"@ours.example:x@else.example"@ours.example>', "550 5.1.1"),
    # More than one @, more than one path, and what is stuck to them.
    ("<x@else.example@ours.example>", "5"),
    ("<x@ours.example@else.example>", "5"),
    ("<alice@ours.example>x@else.example", "5"),
    ("<alice@ours.example> <x@else.example>", "5"),
    ("<alice@ours.example>,<x@else.example>", "5"),
    ("<alice@ours.example,x@else.example>", "5"),
    ("<alice@ours.example\t@else.example>", "5"),
    ("< alice@ours.example>", "5"),
    ("<alice@ours.example >", "5"),
    ("<(c)alice@ours.example>", "5"),
    ("<alice@(c)ours.example>", "5"),
    # A dot behind a domain is none of SMTP's.
    ("<alice@ours.example.>", "5"),
    ("<x@else.example.>", "5"),
    ("<alice.@ours.example>", "5"),
    # Address literals: ours are names of this host, and it relays to none (RFC 5321 §4.1.3, §4.5.1).
    ("<postmaster@[127.0.0.1]>", "250"),
    ("<PostMaster@[127.0.0.1]>", "250"),
    ("<alice@[127.0.0.1]>", "550 5.1.1"),
    ("<x@[127.0.0.1]>", "550 5.1.1"),
    ("<postmaster@[127.0.0.2]>", "550 5.7.1"),
    ("<postmaster@[IPv6:::1]>", "550 5.7.1"),
    ("<postmaster@[192.0.2.1]>", "550 5.7.1"),
    ("<alice@[IPv6:::ffff:127.0.0.1]>", "550 5.7.1"),
    ("<alice@[ours.example]>", "5"),
    ("<alice@[127.0.0.1%25lo]>", "5"),
    ("<alice@[2130706433]>", "5"),
    ("<alice@2130706433>", "550 5.7.1"),
    ("<alice@#127>", "5"),
    ("<alice@[x-tag:y]>", "5"),
    # Names of this host, and of nobody.
    ("<postmaster>", "250"),
    ("<Postmaster>", "250"),
    ("<postmaster@mail.home.example>", "250"),
    ("<alice@mail.home.example>", "550 5.1.1"),
    ("<alice>", "5"),
    ("<alice@>", "5"),
    ("<@>", "5"),
    ("<>", "5"),
    # Programs and files were addresses once.
    ("<|sh@ours.example>", "550 5.1.1"),
    ('<"/etc/passwd"@ours.example>', "550 5.1.1"),
    ("<:include:/etc/passwd@ours.example>", "5"),
    # Ours, as others write it.
    ("<alice@OURS.EXAMPLE>", "250"),
    ("<ALICE@ours.example>", "250"),
]


async def settled(home: House) -> None:
    await home.people("alice@ours.example")


async def asked(home: House, door: str, hello: str, form: str) -> str:
    """What the door says to a stranger who sends to this."""
    client: Client = await home.connect(door)
    sender = await client.say(f"{hello} far.example", "MAIL FROM:<m@spam.example>")
    reply = await client.say(f"RCPT TO:{form}") if sender.startswith("250") else sender
    client.hang_up()
    return reply


def test_port_25_takes_mail_for_our_addresses_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, listeners=LISTENERS) as home:
            await settled(home)
            said = await asyncio.gather(*(asked(home, "smtp", "EHLO", form) for form, _ in FORMS))
            wrong = [
                (form, reply) for (form, code), reply in zip(FORMS, said, strict=True) if not reply.startswith(code)
            ]
            assert not wrong

    run(main())


def test_lmtp_takes_what_port_25_takes_and_relays_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, listeners=LISTENERS) as home:
            await settled(home)
            said = await asyncio.gather(*(asked(home, "lmtp", "LHLO", form) for form, _ in FORMS))
            for (form, code), reply in zip(FORMS, said, strict=True):
                assert reply[0] == code[0], (form, reply)

    run(main())


def test_submission_without_a_login_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, listeners=LISTENERS) as home:
            await settled(home)
            said = await asyncio.gather(*(asked(home, "submission", "EHLO", form) for form, _ in FORMS))
            assert {reply[:9] for reply in said} == {"530 5.7.0"}

    run(main())


@pytest.mark.parametrize("sender", ["<alice@ours.example>", "<>", "<postmaster@[127.0.0.1]>", "<x@else.example>"])
def test_nobody_relays_in_a_name_of_ours(tmp_path: Path, sender: str) -> None:
    async def main() -> None:
        async with house(tmp_path, listeners=LISTENERS) as home:
            await settled(home)
            client = await home.connect("smtp")
            said = await client.say("EHLO far.example", f"MAIL FROM:{sender}", "RCPT TO:<x@else.example>")
            assert said.startswith("550 5.7.1")
            assert (await client.say("DATA")).startswith("503")

    run(main())


def test_what_is_taken_for_postmaster_at_our_literal_is_filed_and_not_queued(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, listeners=LISTENERS) as home:
            await settled(home)
            client = await home.connect("smtp")
            assert (await client.send("eve@far.example", ["postmaster@[127.0.0.1]"], MESSAGE)).startswith("250")
            assert len(await home.mail("alice@ours.example")) == 1
            assert await home.queued() == []

    run(main())
