"""Mail from elsewhere, into an account: what comes, what comes twice, and what is said of the rest."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from posthouse.cli.installation import Installation
from posthouse.directory import accounts
from posthouse.mailbox import emails, mailboxes, placing
from posthouse.store.database import Tx
from posthouse.transfer import intake, mbox
from posthouse.transfer.source import Item
from tests.cli.support import Command
from tests.transfer.test_maildir import make
from tests.transfer.test_mbox import FROM

ALICE = "alice@example.org"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent / "src")}


@pytest.fixture
def alice(command: Command) -> Command:
    command("account", "add", ALICE, "--password", "long enough for us")
    return command


def held(command: Command) -> dict[str, list[tuple[str, set[str], bool, int]]]:
    """By mailbox, of each message: subject's line, keywords, \\Deleted, date; empty mailboxes left out."""

    def read(tx: Tx) -> dict[str, list[tuple[str, set[str], bool, int]]]:
        account = accounts.by_address(tx, ALICE).id
        names = emails.keyword_spellings(tx, account)
        found: dict[str, list[tuple[str, set[str], bool, int]]] = {}
        for one in mailboxes.list_mailboxes(tx, account):
            rows = tx.query(
                "SELECT email, deleted FROM placement WHERE account = ? AND mailbox = ? ORDER BY uid",
                (account, one.id),
            )
            for email, deleted in rows:
                row = emails.rows(tx, account, [email])[email]
                octets = emails.content(tx, account, email).blob.octets or b""
                words = {name for bit, name in names.items() if row.keywords & bit}
                first = octets.partition(b"\r\n")[0].decode()
                found.setdefault(one.path, []).append((first, words, bool(deleted), row.received_at))
        return found

    return Installation(command.configuration).read(read)


def subjects(command: Command) -> dict[str, list[str]]:
    return {path: [one[0] for one in rows] for path, rows in held(command).items()}


def message(name: str, *notes: str) -> bytes:
    return FROM + f"Subject: {name}\n".encode() + "".join(f"{note}\n" for note in notes).encode() + b"\ntext\n\n"


def test_an_mbox(alice: Command, tmp_path: Path) -> None:
    file = tmp_path / "Old mail.mbox"
    file.write_bytes(message("one", "Status: RO", "X-Keywords: Work") + message("two", "X-Status: D"))
    assert alice("import", ALICE, str(file)) == "2 imported, 0 were there\n"
    assert held(alice) == {
        "Old mail": [
            ("Subject: one", {"$seen", "Work"}, False, 1_767_258_000_000),
            ("Subject: two", set(), True, 1_767_258_000_000),
        ]
    }
    # It has grown meanwhile.
    with file.open("ab") as more:
        more.write(message("three"))
    assert alice.json("import", ALICE, str(file)) == {
        "imported": 1,
        "known": 2,
        "passed_over": 0,
        "keywords_dropped": [],
        "folders_left_out": [],
    }
    assert len(subjects(alice)["Old mail"]) == 3


def test_where_it_goes(alice: Command, tmp_path: Path) -> None:
    octets = message("one")
    for name in ("mbox", "x.mbox"):
        (tmp_path / name).write_bytes(octets)
    alice("import", ALICE, str(tmp_path / "mbox"))
    alice("import", ALICE, str(tmp_path / "x.mbox"), "--into", "A/B")
    alice("import", ALICE, "-", "--into", "Piped", stdin=octets)
    alice("import", ALICE, "-", stdin=octets)
    assert subjects(alice) == {name: ["Subject: one"] for name in ("INBOX", "A/B", "Piped")}
    # Another mailbox is another wish; and so is another go.
    assert alice("import", ALICE, "-", "--again", stdin=octets) == "1 imported, 0 were there\n"
    assert len(subjects(alice)["INBOX"]) == 2


def test_what_people_moved_or_removed_does_not_come_again(alice: Command, tmp_path: Path) -> None:
    (tmp_path / "mbox").write_bytes(message("one") + message("two"))
    alice("import", ALICE, str(tmp_path / "mbox"))

    def change(tx: Tx) -> None:
        account = accounts.by_address(tx, ALICE).id
        inbox = mailboxes.by_role(tx, account, "inbox")
        placing.expunge(tx, account, inbox, [1], 1)
        placing.move(tx, account, inbox, [2], mailboxes.by_role(tx, account, "archive"), 1)

    Installation(alice.configuration).write(change)
    assert alice("import", ALICE, str(tmp_path / "mbox")) == "0 imported, 2 were there\n"
    assert subjects(alice) == {"Archive": ["Subject: two"]}


def test_a_maildir(alice: Command, tmp_path: Path) -> None:
    root = make(tmp_path / "Maildir", "new/1.a", "cur/2.b:2,FSa")
    (root / "dovecot-keywords").write_text("0 work\n")
    make(root / ".Sent", "cur/1.a:2,S")
    make(root / ".Work.Old", "cur/1.a:2,T")
    make(root / ".bad\x07name", "cur/1.a:2,")
    for file in root.rglob("*:2,*"):
        os.utime(file, (1_767_258_000, 1_767_258_000))
    assert alice("import", ALICE, str(root)) == "5 imported, 0 were there\n"
    found = held(alice)
    assert found["INBOX"][1] == ("Subject: one", {"$flagged", "$seen", "work"}, False, 1_767_258_000_000)
    assert found["Sent"] == [("Subject: one", {"$seen"}, False, 1_767_258_000_000)]
    assert found["Work/Old"] == [("Subject: one", set(), True, 1_767_258_000_000)]
    assert found["bad_name"]
    (root / "cur" / "3.c:2,").symlink_to("/etc/passwd")
    (root / "cur" / "4.d:2,").write_bytes(b"")
    result = alice.result("import", ALICE, str(root))
    assert result.exit_code == 1
    assert result.stdout == "0 imported, 5 were there, 2 passed over\n"
    assert f"posthouse: passed over {root}/cur/3.c:2,: it is no file\n" in result.stderr
    assert f"posthouse: passed over {root}/cur/4.d:2,: it is empty\n" in result.stderr


def test_some_folders(alice: Command, tmp_path: Path) -> None:
    root = make(tmp_path / "Maildir", "cur/1.a:2,")
    make(root / ".Work", "cur/1.a:2,")
    alice("import", ALICE, str(root), "--folder", "Work", "--into", "Old")
    assert subjects(alice) == {"Old/Work": ["Subject: one"]}
    error = alice.error("import", ALICE, str(root), "--folder", "No")
    assert error == "there is no folder No; there are INBOX, Work"


def test_a_run_that_is_broken_off_goes_on(alice: Command, tmp_path: Path) -> None:
    file = tmp_path / "mbox"
    file.write_bytes(b"".join(message(str(number)) for number in range(25)))
    alice("account", "quota", ALICE, "--emails", "17")
    with mock.patch.object(intake, "BATCH", 5):
        error = alice.error("import", ALICE, str(file))
        assert error.startswith("alice@example.org may not hold more (posthouse account quota) (15 imported, ")
        alice("account", "quota", ALICE)
        assert alice("import", ALICE, str(file)) == "10 imported, 15 were there\n"
    assert subjects(alice)["INBOX"] == [f"Subject: {number}" for number in range(25)]


def test_keywords_that_an_account_has_no_room_for(alice: Command) -> None:
    words = " ".join(f"k{number}" for number in range(60))
    said = json.loads(alice("import", ALICE, "-", "--json", stdin=message("one", f"X-Keywords: {words} bad(one")))
    assert said["imported"] == 1
    assert "bad(one" in said["keywords_dropped"]
    assert len(said["keywords_dropped"]) == 15


def test_what_is_no_source_is_told(alice: Command, tmp_path: Path) -> None:
    assert "no such file" in alice.error("import", ALICE, str(tmp_path / "nothing"))
    assert "neither a Maildir nor" in alice.error("import", ALICE, str(tmp_path))
    assert "no account" in alice.error("import", "nobody@example.org", "-", stdin="")
    for url in ("imaps://host", "imaps://u@h/x", "imaps://u@h:port"):
        assert url in alice.error("import", ALICE, url, stdin="")
    assert "a password does not belong" in alice.error("import", ALICE, "imaps://u:p@h", stdin="")
    assert alice.result("import", ALICE, "-", stdin="Subject: no mbox\n\n").exit_code == 1


def test_large_messages_are_files_and_nothing_is_left_over(alice: Command, tmp_path: Path) -> None:
    (tmp_path / "mbox").write_bytes(FROM + b"Subject: large\n\n" + b"line\n" * 100_000 + b"\n" + message("small"))
    for expected in ("2 imported, 0 were there\n", "0 imported, 2 were there\n"):
        assert alice("import", ALICE, str(tmp_path / "mbox")) == expected
    (blobs,) = {path.parent for path in tmp_path.rglob("posthouse.db")}
    assert len([path for path in (blobs / "blobs").rglob("*") if path.is_file() and path.stat().st_size]) == 1


class _Endless(io.RawIOBase):
    """So many messages, made as they are read."""

    def __init__(self, count: int, size: int) -> None:
        self._parts = (
            part
            for number in range(count)
            for part in (FROM, b"Subject: %d\n\n" % number, b"x" * 70 + b"\n", b"y" * size, b"\n\n")
        )
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._held = part
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def test_memory_does_not_grow_with_the_file() -> None:
    """30 MB go by; what is held of them is a piece."""
    source = mbox.Mbox(io.BufferedReader(_Endless(300, 100_000), 1 << 20), ())
    count = 0
    # What Python holds, counted; how much memory the system gives out for it depends on what ran before.
    tracemalloc.start()
    try:
        for one in source.items(source.folders()[0], lambda keys: set()):
            if isinstance(one, Item):
                count += sum(len(piece) for piece in one.pieces) > 100_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 300
    assert most < 5_000_000


def test_a_disk_that_is_full_is_not_taken_for_a_large_message(alice: Command, tmp_path: Path) -> None:
    (tmp_path / "old.mbox").write_bytes(FROM + b"Subject: large\n\n" + b"text\n" * 100_000 + b"\n")
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch("posthouse.store.blobs._write_all", side_effect=full):
        error = alice.error("import", ALICE, str(tmp_path / "old.mbox"))
    assert error.startswith("a message cannot be held: no space left on device (0 imported, ")


def test_an_account_that_is_removed_meanwhile_takes_no_more(alice: Command, tmp_path: Path) -> None:
    """What it said to be imported would be gone with the account."""
    (tmp_path / "old.mbox").write_bytes(message("one") + message("two"))
    real = intake._gather
    installation = Installation(alice.configuration)

    def gather(*args: Any) -> Any:
        id = installation.read(accounts.by_address, ALICE).id
        installation.write(accounts.remove, id, installation.clock.now())
        return real(*args)

    with mock.patch.object(intake, "_gather", gather):
        error = alice.error("import", ALICE, str(tmp_path / "old.mbox"))
    assert error.startswith("the account is removed (0 imported, 0 were there")


@pytest.mark.timeout(300)
def test_ctrl_c_does_not_wait_for_a_source_that_says_nothing(alice: Command) -> None:
    # Whoever started us in the background may have had SIGINT ignored, and what we start would ignore it as well.
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from posthouse.cli import main; "
    )
    argv = [sys.executable, "-c", f"{heeding}main.main()", "-c", str(alice.configuration), "import", ALICE, "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            # More than a pipe holds: when all of it is written, it is being read.
            process.stdin.write(message("one") + b"text\n" * 100_000)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 1
        finally:
            process.kill()
        assert process.stderr.read().endswith(b"broken off (0 imported, 0 were there; run it again to go on)\n")


def test_a_message_with_many_keywords_holds_up_nobody(alice: Command, tmp_path: Path) -> None:
    """Each one that was looked for in the store took time in which nothing else could be written."""
    words = " ".join(f"w{n:05}" for n in range(100_000))
    octets = message("one", f"X-Keywords: {words}") + message("two", "X-Keywords: w00000 zebra")
    (tmp_path / "old.mbox").write_bytes(octets)
    with mock.patch.object(emails, "learn_keywords", wraps=emails.learn_keywords) as learned:
        told = alice.json("import", ALICE, str(tmp_path / "old.mbox"))
    assert learned.call_count <= 64
    assert (told["imported"], len(told["keywords_dropped"])) == (2, 1000)
    assert [words & {"w00000"} for _, words, _, _ in held(alice)["old"]] == [{"w00000"}] * 2
