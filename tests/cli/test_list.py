import asyncio
from pathlib import Path

from posthouse.clock import SystemClock
from posthouse.directory import lists
from posthouse.store import blobs
from posthouse.store.blobs import in_row
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from tests.cli.support import Command

TEAM = "team@example.org"


def test_a_list_is_made_changed_shown_and_removed(command: Command) -> None:
    assert command("list", "add", TEAM, "--owner", "ann@far.example", "--title", "The team") == (
        "team@example.org is a list of ann@far.example\n"
    )
    command("list", "set", TEAM, "--posting", "anyone", "--message-size", "1MB", "--visible")
    told = command.json("list", "show", TEAM)
    assert (told["title"], told["posting"], told["message_size"], told["visible"]) == (
        "The team", "anyone", 1024 * 1024, True,
    )  # fmt: skip
    assert command("list", "list") == "team@example.org  The team\n"
    assert command("alias", "list") == ""
    command("list", "remove", TEAM, "--yes")
    assert command.json("list", "list") == []


def test_members_come_and_go(command: Command, tmp_path: Path) -> None:
    command("list", "add", TEAM, "--owner", "ann@far.example")
    many = tmp_path / "many"
    many.write_text("".join(f"u{n}@far.example\n" for n in range(1200)) + "ann@far.example\n\n")
    assert command("list", "member", "add", TEAM, "--from-file", str(many)) == f"1200 added to {TEAM}\n"
    command("list", "member", "set", TEAM, "u1@far.example", "--role", "moderator", "--delivery", "none")
    command("list", "member", "remove", TEAM, *(f"u{n}@far.example" for n in range(2, 1200)))
    assert command("list", "member", "list", TEAM).splitlines() == [
        "  ann@far.example  owner",
        "  u0@far.example",
        "  u1@far.example  moderator, gets nothing",
    ]
    assert [one["role"] for one in command.json("list", "member", "list", TEAM)] == ["owner", "member", "moderator"]


def test_digests_are_asked_for_and_scheduled(command: Command) -> None:
    command("list", "add", TEAM, "--owner", "ann@far.example", "--digest-posts", "20")
    command("list", "set", TEAM, "--digest-every", "7d", "--digest-size", "1MB")
    assert "digest every  7d\ndigest posts  20\ndigest size   1MB\n" in command("list", "show", TEAM)
    told = command.json("list", "show", TEAM)
    assert (told["digest_every"], told["digest_posts"], told["digest_size"]) == (7 * 86_400, 20, 1024 * 1024)
    command("list", "member", "add", TEAM, "bob@far.example", "--delivery", "digest")
    assert command("list", "member", "set", TEAM, "ann@far.example", "--delivery", "digest") == (
        f"ann@far.example is changed on {TEAM}\n"
    )
    assert command("list", "member", "list", TEAM).splitlines() == [
        "  ann@far.example  owner, gets digests",
        "  bob@far.example  gets digests",
    ]
    for wrong, range in (
        ("--digest-every=1m", "3600 to"),
        ("--digest-posts=0", "1 to"),
        ("--digest-size=1KB", "10240"),
    ):
        assert range in command.error("list", "set", TEAM, wrong)
    assert command.result("list", "set", TEAM, "--digest-every", "soon").exit_code == 2


def test_errors_are_one_line(command: Command, tmp_path: Path) -> None:
    assert command.error("list", "show", TEAM) == f"there is no list {TEAM}"
    assert "not served" in command.error("list", "add", "x@far.example", "--owner", "a@far.example")
    assert "ends like" in command.error("list", "add", "x-owner@example.org", "--owner", "a@far.example")
    command("list", "add", TEAM, "--owner", "a@far.example")
    assert "taken" in command.error("list", "add", TEAM, "--owner", "a@far.example")
    assert "not on the list" in command.error("list", "member", "remove", TEAM, "b@far.example")
    assert "one line" in command.error("list", "set", TEAM, "--title", "a\nb")
    assert "no alias" in command.error("alias", "remove", TEAM)
    bad = tmp_path / "bad"
    bad.write_text("a@b.example\nnobody\n")
    assert command.error("list", "member", "add", TEAM, "--from-file", str(bad)).startswith("line 2: ")
    bad.write_bytes(b"a@b.example\nj\xfcrgen@b.example\n")
    assert command.error("list", "member", "add", TEAM, "--from-file", str(bad)).startswith("line 2: ")
    for wrong in (["set", TEAM], ["member", "add", TEAM], ["set", TEAM, "--message-size", "much"]):
        assert command.result("list", *wrong).exit_code == 2


POST = b"From: m@far.example\r\nSubject: x\r\n\r\nBuy \xe4 \x1b[2J\r\n"


def hold(directory: Path, *subjects: str) -> None:
    """Let posts with these subjects wait for a moderator."""

    def write(tx: Tx) -> None:
        of = lists.find(tx, parse(TEAM)).id
        for number, subject in enumerate(subjects):
            tx.run(
                "list_held_insert", list=of, token=f"t{number}", blob=blobs.insert(tx, in_row(POST)), prologue=b"",
                size=len(POST), journey=1, sender="m@far.example", smtputf8=0, requiretls=0, author="m@far.example",
                subject=subject, reason="its author may not post", held_at=1_767_225_600_000,
            )  # fmt: skip

    async def main() -> None:
        store = SqliteStore.open(directory / "data" / "posthouse.db", clock=SystemClock())
        await store.write(write)
        await store.close()

    asyncio.run(main())


def test_what_waits_is_shown_let_out_and_dropped(command: Command, tmp_path: Path) -> None:
    command("list", "add", TEAM, "--owner", "ann@far.example")
    hold(tmp_path, "Hello\x1b]0;owned\x07", "More", "And more")
    shown = command("list", "held", "list", TEAM)
    assert "1  2026-01-01T00:00:00Z  m@far.example: Hello\\x1b]0;owned\\x07\n    its author may not post\n" in shown
    assert command("list", "held", "show", TEAM, "1").splitlines()[2:] == [
        "", "From: m@far.example", "Subject: x", "", "Buy \\xe4 \\x1b[2J",
    ]  # fmt: skip
    assert command.json("list", "held", "show", TEAM, "2")["message"].startswith("From: m@far.example\r\n")
    assert command("list", "held", "refuse", TEAM, "2", "3") == "2 dropped\n"
    assert command("list", "held", "approve", TEAM, "1") == "1 let out\n"
    assert [one["number"] for one in command.json("list", "held", "list", TEAM)] == [1]
    for verb in ("show", "approve", "refuse"):
        assert "waits" in command.error("list", "held", verb, TEAM, "3")
