"""Mail of an account, as files; and back again."""

from pathlib import Path

import pytest

from posthouse.cli.installation import Installation
from posthouse.directory import accounts
from posthouse.mailbox import emails, flagging, mailboxes
from posthouse.store.database import Tx
from posthouse.terms.keywords import FLAGGED, SEEN
from tests.cli.support import Command
from tests.cli.test_import import ALICE, held
from tests.mailbox.support import every_uid, file, message

BOB = "bob@example.org"
AT = 1_767_258_000_000
ODD = b"Subject: odd\r\nStatus: mine\r\n\r\nFrom here\r\n>From there\r\n\r\nFrom a@b Thu Jan 1 09:00:00 2026\r\nX:\r\n"


def _fill(tx: Tx) -> None:
    account = accounts.by_address(tx, ALICE).id
    work = emails.learn_keywords(tx, account, ["Work"])
    below = mailboxes.create(tx, account, "Work/a.b", AT)
    inbox = mailboxes.by_role(tx, account, "inbox")
    file(tx, account, ODD, keywords=SEEN | work, at=AT, prologue=b"Return-Path: <bob@example.org>\r\n")
    file(tx, account, message("two"), boxes=(inbox, below), keywords=FLAGGED, at=AT + 60_000)
    file(tx, account, message("three"), boxes=(below,), deleted=True, at=AT)


@pytest.fixture
def filled(command: Command) -> Command:
    for address in (ALICE, BOB):
        command("account", "add", address, "--password", "long enough for us")
    Installation(command.configuration).write(_fill)
    return command


def whole(command: Command, address: str) -> dict[str, list[bytes]]:
    """The octets of everything."""

    def read(tx: Tx) -> dict[str, list[bytes]]:
        account = accounts.by_address(tx, address).id
        found: dict[str, list[bytes]] = {}
        for one in mailboxes.list_mailboxes(tx, account):
            for uid in every_uid(tx, account, one.id):
                content = emails.content(tx, account, emails.at(tx, account, one.id, uid) or 0)
                found.setdefault(one.path, []).append(content.prologue + (content.blob.octets or b""))
        return found

    return Installation(command.configuration).read(read)


@pytest.mark.parametrize("shape", ["maildir", "mbox"])
def test_what_is_exported_can_be_imported(filled: Command, tmp_path: Path, shape: str) -> None:
    out = tmp_path / "out"
    assert filled("export", ALICE, str(out), "--format", shape).startswith("4 written, of ")
    assert filled("import", BOB, str(out)) == "4 imported, 0 were there\n"
    expected = whole(filled, ALICE)
    if shape == "mbox":
        # What it said of its own state cannot be told from what we say.
        expected["INBOX"][0] = expected["INBOX"][0].replace(b"Status: mine\r\n", b"")
    found = whole(filled, BOB)
    if shape == "maildir":
        # Names begin with the time, and are the order.
        found, expected = ({path: sorted(texts) for path, texts in one.items()} for one in (found, expected))
    assert found == expected
    filled("account", "remove", ALICE, "--yes")
    filled("account", "address", BOB, ALICE)
    again = held(filled)
    assert [one[1:] for one in again["INBOX"]] == [({"$seen", "Work"}, False, AT), ({"$flagged"}, False, AT + 60_000)]
    assert {one[2:] for one in again["Work/a.b"]} == {(False, AT + 60_000), (True, AT)}


def test_a_maildir_is_written_again(filled: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert filled.json("export", ALICE, str(out))["written"]["INBOX"] == 2

    def change(tx: Tx) -> None:
        account = accounts.by_address(tx, ALICE).id
        inbox = mailboxes.by_role(tx, account, "inbox")
        flagging.store_flags(tx, account, inbox, [1], now=AT, add=FLAGGED, remove=SEEN)
        file(tx, account, message("new"), at=AT)

    Installation(filled.configuration).write(change)
    assert filled.json("export", ALICE, str(out), "--mailbox", "INBOX")["written"] == {"INBOX": 1}
    names = sorted(path.name for path in (out / "cur").iterdir())
    assert len(names) == 3
    assert [name.partition(":2,")[2] for name in names if "U1." in name] == ["Fa"]


def test_an_mbox_that_is_there_stays(filled: Command, tmp_path: Path) -> None:
    (tmp_path / "INBOX.mbox").write_bytes(b"mine")
    error = filled.error("export", ALICE, str(tmp_path), "--format", "mbox")
    assert error == f"{tmp_path}/INBOX.mbox: is there already"
    assert (tmp_path / "INBOX.mbox").read_bytes() == b"mine"
    assert filled.error("export", ALICE, str(tmp_path), "--mailbox", "No") == "there is no mailbox No"


def test_what_the_store_has_lost_is_told_of(filled: Command, tmp_path: Path) -> None:
    large = b"Subject: large\r\n\r\n" + b"x" * 400_000 + b"\r\n"
    filled("import", ALICE, "-", stdin=b"From - Thu Jan 01 09:00:00 2026\n" + large + b"\n")
    (data,) = {path.parent for path in tmp_path.rglob("posthouse.db")}
    for path in (data / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size > 400_000:
            path.unlink()
    result = filled.result("export", ALICE, str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "posthouse: passed over INBOX, uid 3: " in result.stderr
    assert result.stdout.startswith("4 written")
