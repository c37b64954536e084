"""A backup comes back, and clients that saw what came after it notice."""

import errno
import fcntl
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from posthouse.cli.installation import CommandError, Installation
from posthouse.cli.restore import Progress
from posthouse.directory import accounts
from posthouse.mailbox import mailboxes
from posthouse.queue import queue
from posthouse.queue.queue import NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.store import backup, blobs
from posthouse.store import restore as restore_in_store
from posthouse.store.blobs import Blobs
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.cli.support import Command
from tests.doors.house import House, ImapClient, message, opened
from tests.support import run

LARGE = "A line that makes it long.\r\n" * 4000


@pytest.fixture
def lost(command: Command) -> Path:
    """The data directory of an installation that has lost it."""
    data = Installation(command.configuration).config.data
    data.rename(data.with_name("lost"))
    return data


def number(responses: list[bytes], name: str) -> int:
    found = re.search(rf"\[{name} (\d+)\]".encode(), b"\n".join(responses))
    assert found is not None, responses
    return int(found[1])


def numbers(responses: list[bytes]) -> tuple[int, int, int]:
    """UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ of a mailbox that was opened."""
    uidvalidity, uidnext, modseq = (number(responses, name) for name in ("UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"))
    return uidvalidity, uidnext, modseq


class Before:
    """What a client knew of the store that is lost: the last it saw, and email ids that were given after the backup."""

    uidvalidity = uidnext = modseq = epoch = 0
    emails: tuple[int, ...] = ()


def made(directory: Path, copy: Path) -> Before:
    """A store with three messages of which a backup is made; then two more come, one is flagged and one goes."""
    known = Before()

    async def main() -> None:
        async with opened(directory) as house:
            for n in range(1, 4):
                await house.file(message(n, LARGE if n == 3 else "Short."))
            await house.store.write(queue_one)
            await backup.backup(house.store, house.blobs, copy)
            client = await house.imap()
            await client.ok("STORE 1 +FLAGS (\\Flagged)")
            await client.ok("STORE 2 +FLAGS (\\Deleted)")
            await client.ok("EXPUNGE")
            await house.file(message(4))
            await house.file(message(5))
            await client.ok("NOOP")
            known.uidvalidity, known.uidnext, known.modseq = numbers(await client.ok("SELECT INBOX"))
            known.epoch = await house.store.read(epoch_of, house.alice.id)
            known.emails = await house.store.read(emails_of, house.alice.id)

    run(main())
    return known


def queue_one(tx: Tx) -> None:
    """Mail to another's server and to a mailbox here, waiting."""
    octets = message(9)
    mail = QueuedMail(1, blobs.insert(tx, blobs.in_row(octets)), len(octets), None, 0, 1 << 41)
    queue.accept(tx, mail, [NewRecipient(parse("bob@far.example")), NewRecipient(parse("alice@example.org"), LOCAL)])


def epoch_of(tx: Tx, account: int) -> int:
    return int(tx.value("account_states", account=account))


def emails_of(tx: Tx, account: int) -> tuple[int, ...]:
    return tuple(id for (id,) in tx.query("SELECT id FROM email WHERE account = ?", (account,)))


async def resynchronised(house: House, known: Before) -> tuple[list[bytes], ImapClient]:
    client = await house.imap(mailbox=None)
    await client.ok("ENABLE QRESYNC")
    return await client.ok(f"SELECT INBOX (QRESYNC ({known.uidvalidity} {known.modseq} 1:5))"), client


def test_clients_notice_and_nothing_is_given_again(command: Command, lost: Path, tmp_path: Path) -> None:
    known = made(tmp_path, tmp_path / "copy")
    assert command.json("restore", str(tmp_path / "copy")) == {
        "directory": str(tmp_path / "copy"),
        "accounts": 2,
        "held": 1,
    }

    async def main() -> None:
        async with opened(lost) as house:
            told, client = await resynchronised(house, known)
            uidvalidity, uidnext, modseq = numbers(told)
            # What the client has need not be fetched again, what is new is nothing that it has.
            assert (uidvalidity, uidnext > known.uidnext, modseq > known.modseq) == (known.uidvalidity, True, True)
            assert b"* VANISHED (EARLIER) 4:5" in told
            # The one it saw vanish is there, and the flag that it saw is not.
            assert [line.partition(b" MODSEQ")[0] for line in told if b" FETCH " in line] == [
                b"* %d FETCH (UID %d FLAGS ()" % (n, n) for n in (1, 2, 3)
            ]
            assert b"A line that makes it long." in b"".join(await client.ok("FETCH 3 BODY[]"))
            # A client with CONDSTORE alone sees the flags, too.
            assert len(await client.ok(f"FETCH 1:3 (FLAGS) (CHANGEDSINCE {known.modseq})")) == 3
            uid = await house.file(message(6))
            assert uid >= uidnext
            given = await house.store.read(emails_of, house.alice.id)
            assert max(given) > max(known.emails)
            assert await house.store.read(epoch_of, house.alice.id) > known.epoch
            inbox = await house.store.read(mailboxes.by_role, house.alice.id, "inbox")
            stands = await house.store.read(mailboxes.get, house.alice.id, inbox)
            assert (stands.messages, stands.highest_modseq > modseq) == (4, True)

    run(main())
    listed = {one["recipient"]: one["held"] for one in command.json("queue", "list")["recipients"]}
    assert listed == {"bob@far.example": True, "alice@example.org": False}


def test_what_it_says(command: Command, lost: Path, tmp_path: Path) -> None:
    made(tmp_path, tmp_path / "copy")
    assert command("restore", str(tmp_path / "copy")) == (
        f"{lost} holds the store again: 2 accounts\n"
        "1 recipient of mail to others held, for it may have been sent since the backup\n"
    )
    assert sorted(path.name for path in lost.iterdir()) == ["blobs", "posthouse.db", "serving"]


def test_where_nothing_can_be_restored(command: Command, lost: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert command.error("restore", str(copy)) == f"{copy} is no backup: there is no posthouse.db in it"
    made(tmp_path, copy)
    assert "in use" in command.error("restore", str(used(tmp_path)))
    (lost / "blobs" / "ab").mkdir(parents=True)
    (lost / "blobs" / "ab" / "c").write_bytes(b"somebody's mail")
    assert command.error("restore", str(copy)) == f"{lost / 'blobs'} holds messages already; move it away first"
    (lost / "blobs" / "ab" / "c").unlink()
    # No message.
    (lost / "blobs" / "sweep.lock").touch()
    with (lost / "serving").open("w") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        assert command.error("restore", str(copy)) == f"{lost} is served by another posthouse already"
    command("restore", str(copy))
    assert command.error("restore", str(copy)) == f"{lost} holds a store already; move it away first"
    assert [one["name"] for one in command.json("account", "list")] == ["alice@example.org", "bob@example.org"]


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_the_log_of_the_store_that_was_there_is_in_the_way(
    end: str, command: Command, lost: Path, tmp_path: Path
) -> None:
    """Whoever moved the database alone away, behind a server that was killed, got a store that was damaged at once."""
    copy = tmp_path / "copy"
    made(tmp_path, copy)
    left = lost / f"posthouse.db{end}"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"octets of another database")
    error = f"{left} is of the store that was there; move it away first, too"
    assert command.error("restore", str(copy)) == error
    left.unlink()
    command("restore", str(copy))
    assert [one["name"] for one in command.json("account", "list")] == ["alice@example.org", "bob@example.org"]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_bytes(b"less")], ids=["missing", "cut short"])
def test_a_backup_that_is_not_whole(
    spoil: Callable[[Path], object], command: Command, lost: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"

    async def main() -> None:
        async with opened(tmp_path, blobs=Blobs(tmp_path / "blobs", inline_limit=1000)) as house:
            client = await house.imap()
            await client.append(message(1, LARGE))
            await backup.backup(house.store, house.blobs, copy)

    run(main())
    (large,) = [path for path in (copy / "blobs").rglob("*") if path.is_file()]
    spoil(large)
    assert command.error("restore", str(copy)) == (
        f"{copy} is not whole: of 1 large message the file is missing or cut short; "
        "look for another copy of it, or restore what there is with --incomplete"
    )
    assert not (lost / "posthouse.db").exists()
    command("restore", "--incomplete", str(copy))
    assert Installation(command.configuration).read(accounts.count) == 2


def used(directory: Path) -> Path:
    """A directory that looks like a store somebody writes to."""
    there = directory / "used"
    there.mkdir()
    for name in ("posthouse.db", "posthouse.db-wal"):
        (there / name).write_bytes(b"")
    return there


def test_one_that_was_broken_off_begins_anew(command: Command, lost: Path, tmp_path: Path) -> None:
    made(tmp_path, tmp_path / "copy")
    broken = lost / "restoring" / "blobs"
    broken.mkdir(parents=True)
    (broken / "half").write_bytes(b"half of it")
    command("restore", str(tmp_path / "copy"))
    assert not any(path.name == "half" for path in lost.rglob("*"))
    assert Installation(command.configuration).read(accounts.count) == 2


def test_one_that_was_broken_off_between_its_moves_begins_anew(
    command: Command, lost: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    async def main() -> None:
        async with opened(tmp_path, blobs=Blobs(tmp_path / "blobs", inline_limit=1000)) as house:
            client = await house.imap()
            await client.append(message(1, LARGE))
            await backup.backup(house.store, house.blobs, first)
            await client.append(message(2, LARGE))
            await backup.backup(house.store, house.blobs, second)

    run(main())
    move = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name == "posthouse.db":
            raise OSError("the power has failed")
        return move(self, target)

    with monkeypatch.context() as there:
        there.setattr(Path, "rename", broken)
        assert "the power has failed" in command.error("restore", str(second))
        # And once more: what was left of it does not stand in its own way.
        assert "the power has failed" in command.error("restore", str(second))
    assert len(files(lost / "blobs")) == 2
    own = lost / "blobs" / "ab" / "mine"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"somebody's mail")
    assert command.error("restore", str(first)) == f"{lost / 'blobs'} holds messages already; move it away first"
    own.unlink()
    with monkeypatch.context() as there:
        there.setattr("posthouse.store.restore.shutil.rmtree", Mock(side_effect=OSError("the power has failed again")))
        assert "the power has failed again" in command.error("restore", str(first))
    own.parent.mkdir(parents=True)
    own.write_bytes(b"somebody's mail")
    assert command.error("restore", str(first)) == f"{lost / 'blobs'} holds messages already; move it away first"
    assert own.exists()
    own.unlink()
    command("restore", str(first))
    assert files(lost / "blobs") == files(first / "blobs")
    assert len(files(first / "blobs")) == 1
    assert sorted(path.name for path in lost.iterdir()) == ["blobs", "posthouse.db", "serving"]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_a_backup_that_is_no_database_is_told_and_leaves_nothing(command: Command, lost: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "posthouse.db").write_bytes(b"This is no database, whatever its name is." * 100)
    assert "not a database" in command.error("restore", str(copy))
    assert not (lost / "posthouse.db").exists()


def test_how_far_it_is_stands_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("posthouse.cli.restore.time.monotonic", lambda: now[0])
    monkeypatch.setattr("posthouse.cli.restore.sys.stderr.isatty", lambda: True)
    progress = Progress("files")
    for done in range(1, 11):
        now[0] += 0.125
        progress(done, 10)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "".join(f"\r{n} of 10 files" for n in (2, 4, 6, 8, 10)) + "\n")
    # What is soon done is not worth a word.
    Progress("accounts")(1, 1)
    assert capsys.readouterr().err == ""


def test_no_store_is_made_where_one_is_being_brought_back(
    command: Command, lost: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be replaced, with all that was written to it, and its log be taken for the other's."""
    copy = tmp_path / "copy"
    made(tmp_path, copy)
    said: list[str] = []
    real = restore_in_store.finish

    def finish(*args: Any) -> None:
        said.append(command.error("domain", "add", "example.net"))
        with pytest.raises(CommandError, match="is served by another posthouse already"):
            Installation(command.configuration).open_to_serve()
        assert not (lost / "posthouse.db").exists()
        real(*args)

    monkeypatch.setattr(restore_in_store, "finish", finish)
    command("restore", str(copy))
    assert said == [f"{lost} holds no store yet, and a restore or a server is about to put one there"]
    command("domain", "add", "example.net")


def test_a_disk_that_is_full_is_the_one_that_is_restored_to(
    command: Command, lost: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    made(tmp_path, copy)

    def copyfile(source: Path, destination: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(destination))

    monkeypatch.setattr("posthouse.store.restore.shutil.copyfile", copyfile)
    assert command.error("restore", str(copy)) == f"{lost}/restoring/posthouse.db: no space left on device"
