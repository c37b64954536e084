"""What was removed comes back by the command, beside a store that others use."""

import asyncio
from pathlib import Path

import pytest

from posthouse.clock import SystemClock
from posthouse.directory import accounts
from posthouse.mailbox import append, mailboxes, placing
from posthouse.mailbox.summary import render
from posthouse.store.blobs import Staged
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from tests.cli.support import Command

ALICE = "alice@example.org"
DAY = 86_400_000
# 2026-03-01T12:00:00Z
NOON = 1_772_366_400_000


def message(subject: str) -> bytes:
    return f"From: Bob <bob@example.org>\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


def _removed(tx: Tx) -> None:
    """Removed: 1 and 2 from the Inbox, on two days; 3 with its mailbox Work/Old."""
    account = accounts.by_address(tx, ALICE).id
    inbox = mailboxes.by_role(tx, account, "inbox")
    work = mailboxes.create(tx, account, "Work/Old", NOON)
    for subject, mailbox in (("one", inbox), ("two", inbox), ("Grüße\x1b", work), ("kept", inbox)):
        octets = message(subject)
        rendered = render(octets)
        stored = append.store_message(tx, Staged(len(octets), bytes(32), octets, None), rendered)
        append.file_email(
            tx, account, stored, rendered, mailboxes=(mailbox,), received_at=NOON, thread_secret=bytes(32)
        )
    placing.expunge(tx, account, inbox, [1], NOON)
    placing.expunge(tx, account, inbox, [2], NOON + DAY)
    mailboxes.delete(tx, account, work, NOON + 2 * DAY)


@pytest.fixture
def removed(command: Command, tmp_path: Path) -> Command:
    command("account", "add", ALICE, "--password", "long enough for us")

    async def main() -> None:
        store = SqliteStore.open(next(tmp_path.rglob("posthouse.db")), clock=SystemClock())
        try:
            await store.write(_removed)
        finally:
            await store.close()

    asyncio.run(main())
    return command


def test_listing(removed: Command) -> None:
    listed = removed.json("undelete", ALICE)
    assert [(one["id"], one["mailbox"], one["mailbox_is_gone"]) for one in listed] == [
        (1, "INBOX", False),
        (2, "INBOX", False),
        (3, "Work/Old", True),
    ]
    assert listed[0] == {
        "id": 1,
        "mailbox": "INBOX",
        "mailbox_is_gone": False,
        "removed_at": "2026-03-01T12:00:00Z",
        "received_at": "2026-03-01T12:00:00Z",
        "size": len(message("one")),
        "from": "bob@example.org",
        "subject": "one",
    }
    text = removed("undelete", ALICE)
    assert "INBOX: 2 emails\n" in text
    assert "Work/Old (the mailbox is gone, too): 1 email\n" in text
    assert "bob@example.org  Grüße\\x1b" in text


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--mailbox", "INBOX"), [1, 2]),
        (("--mailbox", "Work/Old"), [3]),
        (("--since", "2026-03-02"), [2, 3]),
        (("--until", "2026-03-02T12:00:00Z"), [1]),
        (("--since", "2026-03-01T12:00", "--until", "2026-03-03"), [1, 2]),
        (("--until", "36000d"), []),
    ],
)
def test_which_are_listed(removed: Command, options: tuple[str, ...], ids: list[int]) -> None:
    assert [one["id"] for one in removed.json("undelete", ALICE, *options)] == ids


def test_restoring_by_id(removed: Command) -> None:
    assert removed.json("undelete", ALICE, "2") == {"restored": [{"id": 2, "email": 5, "mailbox": "INBOX"}]}
    assert removed.error("undelete", ALICE, "1", "2").startswith("nothing that is kept has the id 2")
    assert [one["id"] for one in removed.json("undelete", ALICE)] == [1, 3]


def test_restoring_by_mailbox_and_all(removed: Command) -> None:
    assert removed("undelete", ALICE, "--mailbox", "Work/Old", "--restore") == "1 email restored into Work/Old\n"
    assert removed.error("undelete", ALICE, "--restore").startswith("which?")
    assert removed("undelete", ALICE, "--restore", "--all") == "2 emails restored into INBOX\n"
    assert removed("undelete", ALICE, "--restore", "--all") == "Nothing that is kept fits.\n"
    assert removed("undelete", ALICE) == "Nothing that fits was removed in the last 14d.\n"


def test_what_does_not_fit_the_quota_stays_removed(removed: Command) -> None:
    removed("account", "quota", ALICE, "--emails", "2")
    assert "posthouse account quota" in removed.error("undelete", ALICE, "--restore", "--all")
    assert len(removed.json("undelete", ALICE)) == 3


def test_what_is_not_understood_is_told(removed: Command) -> None:
    assert removed.result("undelete", ALICE, "--since", "yesterday").exit_code == 2
    assert "nobody@example.org" in removed.error("undelete", "nobody@example.org")
