from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from posthouse.directory import domains, lists, members
from posthouse.directory.addresses import Rules, expand
from posthouse.message.header import Header
from posthouse.policy.check import Facts, RecipientFacts, Verdict
from posthouse.policy.posting import Posting
from posthouse.store.database import Store, Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.store.support import open_store
from tests.support import run

REFUSES = {"others": "refuse"}


async def judge(store: Store, facts: Facts) -> Mapping[int, Verdict]:
    answer = Posting(store).data(facts)
    return {} if answer is None else await answer


@pytest.mark.parametrize(
    ("settings", "header", "size", "code"),
    [
        (REFUSES, b"From: member@far.example\r\n", 10, None),
        (REFUSES, b"From: mallory@far.example\r\n", 10, "550 5.7.2"),
        (REFUSES, b"Subject: nobody\r\n", 10, "550 5.7.2"),
        ({}, b"From: mallory@far.example\r\n", 10, None),
        (REFUSES | {"posting": "anyone"}, b"From: mallory@far.example\r\n", 10, None),
        (REFUSES | {"posting": "owners"}, b"From: member@far.example\r\n", 10, "550 5.7.2"),
        ({}, b"From: member@far.example\r\nList-Id: T <TEAM.home.example>\r\n", 10, "554 5.4.6"),
        ({}, b"From: member@far.example\r\nList-Id: Dev <dev-team.home.example>\r\n", 10, None),
        ({}, b"From: member@far.example\r\nList-Id: <steam.home.example>\r\n", 10, None),
        ({}, b"From: member@far.example\r\nList-Id: team.home.example <team.home.example.org>\r\n", 10, None),
        ({}, b"From: member@far.example\r\nDelivered-To: team@home.example\r\n", 10, "554 5.4.6"),
        ({}, b"From: member@far.example\r\nAuto-Submitted: auto-replied\r\n", 10, "550 5.7.2"),
        ({}, b"From: member@far.example\r\nAuto-Submitted: no\r\n", 10, None),
        ({"message_size": 100}, b"From: member@far.example\r\n", 101, "552 5.2.3"),
    ],
)
def test_who_may_not_post_hears_so_at_the_door(
    tmp_path: Path, settings: dict[str, Any], header: bytes, size: int, code: str | None
) -> None:
    async def main() -> None:
        store = open_store(tmp_path)

        def prepare(tx: Tx) -> None:
            domains.add(tx, "home.example", 1)
            made = lists.add(tx, parse("team@home.example"), "", 1, **settings)
            members.add(tx, made.id, parse("member@far.example"), 1)

        await store.write(prepare)
        team = parse("team@home.example")
        expansion = await store.read(expand, team, Rules())
        facts = Facts(
            "mx", "192.0.2.1", sender=parse("x@far.example"), size=size, header=Header.parse(header + b"\r\n")
        )
        facts.recipients = [RecipientFacts(Recipient(team), expansion)]
        found = await judge(store, facts)
        assert [str(verdict.reply)[:9] for verdict in found.values()] == ([code] if code else [])
        facts.sender = None
        found = await judge(store, facts)
        assert [str(verdict.reply)[:9] for verdict in found.values()] == [
            "554 5.4.6" if code == "554 5.4.6" else "550 5.7.2"
        ]
        await store.close()

    run(main())


@pytest.mark.parametrize(
    ("purpose", "header", "held", "code"),
    [
        ("-owner", b"", 0, None),
        ("-owner", b"Delivered-To: team@home.example\r\nList-Id: <team.home.example>\r\n", 0, None),
        ("-owner", b"Delivered-To: Team-Owner@home.example\r\n", 0, "554 5.4.6"),
        ("", b"From: mallory@far.example\r\n", 2, None),
        ("", b"From: mallory@far.example\r\n", 3, "450 4.2.4"),
        ("", b"From: member@far.example\r\n", 3, None),
    ],
)
def test_circles_of_owners_end_and_nothing_is_taken_that_there_is_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str, header: bytes, held: int, code: str | None
) -> None:
    monkeypatch.setattr(lists, "MOST_HELD", 3)

    async def main() -> None:
        store = open_store(tmp_path)

        def prepare(tx: Tx) -> None:
            domains.add(tx, "home.example", 1)
            made = lists.add(tx, parse("team@home.example"), "", 1)
            members.add(tx, made.id, parse("member@far.example"), 1)
            rest = dict.fromkeys(("blob", "size", "journey", "smtputf8", "requiretls", "held_at"), 1)
            words = {"prologue": b"", "sender": None, "author": "", "subject": "", "reason": ""}
            for number in range(held):
                tx.run("list_held_insert", list=made.id, token=str(number), **rest, **words)

        await store.write(prepare)
        team = parse(f"team{purpose}@home.example")
        expansion = await store.read(expand, team, Rules())
        facts = Facts("mx", "192.0.2.1", sender=parse("x@far.example"), header=Header.parse(header + b"\r\n"))
        facts.recipients = [RecipientFacts(Recipient(team), expansion)]
        found = await judge(store, facts)
        assert [str(verdict.reply)[:9] for verdict in found.values()] == ([code] if code else [])
        await store.close()

    run(main())
