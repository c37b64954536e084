from pathlib import Path

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
    for wrong in (["set", TEAM], ["member", "add", TEAM], ["set", TEAM, "--message-size", "much"]):
        assert command.result("list", *wrong).exit_code == 2
