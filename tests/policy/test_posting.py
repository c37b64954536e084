from pathlib import Path
from typing import Any

import pytest

from posthouse.directory import domains, lists, members
from posthouse.directory.addresses import Rules, expand
from posthouse.message.header import Header
from posthouse.policy.check import Facts, RecipientFacts
from posthouse.policy.posting import Posting
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import Recipient
from tests.store.support import open_store
from tests.support import run

REFUSES = {"others": "refuse"}


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
        found = await Posting(store).data(facts) or {}
        assert [str(verdict.reply)[:9] for verdict in found.values()] == ([code] if code else [])
        facts.sender = None
        found = await Posting(store).data(facts) or {}
        assert [str(verdict.reply)[:9] for verdict in found.values()] == [
            "554 5.4.6" if code == "554 5.4.6" else "550 5.7.2"
        ]
        await store.close()

    run(main())
