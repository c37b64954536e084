import json
from pathlib import Path

from tests.cli.support import Command

PASSWORD = "long enough for us"


def add(command: Command, address: str, *options: str) -> None:
    command("account", "add", address, "--password", PASSWORD, *options)


def test_add_and_list(command: Command) -> None:
    add(command, "alice@example.org", "--name", "Alice", "--quota", "2GB")
    command("account", "add", "Bob@example.org", stdin=f"{PASSWORD}\n")
    alice, bob = command.json("account", "list")
    assert (alice["name"], alice["full_name"], alice["quota_octets"]) == ("alice@example.org", "Alice", 2 << 30)
    assert (bob["name"], bob["addresses"], bob["emails"]) == ("bob@example.org", ["Bob@example.org"], 0)
    assert "alice@example.org  0 emails, 0B of 2GB" in command("account", "list")


def test_a_bad_password_is_told(command: Command) -> None:
    assert "password" in command.error("account", "add", "a@example.org", "--password", "").lower()


def test_what_cannot_be_an_account_is_told(command: Command) -> None:
    add(command, "alice@example.org")
    assert "alice@example.org" in command.error("account", "add", "alice@example.org", "--password", PASSWORD)
    error = command.error("account", "add", "a@other.example", "--password", PASSWORD)
    assert error == "domain other.example is not served here"
    assert command.result("account", "add", "nobody", "--password", PASSWORD).exit_code == 2
    assert command.result("account", "add", "a@example.org", "--quota", "much").exit_code == 2


def test_passwords(command: Command) -> None:
    add(command, "alice@example.org")
    assert command("account", "password", "alice@example.org", "--password", "another long one").startswith("alice@")
    command("account", "password", "alice@example.org", "--label", "phone", stdin="for the telephone\n")
    again = command.error("account", "password", "alice@example.org", "--label", "phone", "--password", PASSWORD)
    assert "phone" in again
    assert command("account", "revoke", "alice@example.org", "phone") == "the password for phone is no more\n"
    assert "phone" in command.error("account", "revoke", "alice@example.org", "phone")


def test_addresses(command: Command) -> None:
    add(command, "alice@example.org")
    command("account", "address", "alice@example.org", "al@example.org")
    assert "also al@example.org" in command("account", "list")
    assert command("account", "address", "al@example.org", "al@example.org", "--remove").startswith(
        "al@example.org is no"
    )
    assert command.json("account", "list")[0]["addresses"] == ["alice@example.org"]


def test_quota(command: Command) -> None:
    add(command, "alice@example.org")
    assert command("account", "quota", "alice@example.org", "500MB") == "alice@example.org may hold 500MB\n"
    assert command.json("account", "list")[0]["quota_octets"] == 500 << 20
    assert command("account", "quota", "alice@example.org", "--emails", "7") == (
        "alice@example.org may hold 500MB, 7 emails at most\n"
    )
    # What is not named stays.
    command("account", "quota", "alice@example.org", "2GB")
    assert quotas(command) == (2 << 30, 7)
    command("account", "quota", "alice@example.org", "none")
    assert quotas(command) == (None, 7)
    command("account", "quota", "alice@example.org", "1GB", "--emails", "none")
    assert quotas(command) == (1 << 30, None)
    command("account", "quota", "alice@example.org", "--emails", "7")
    assert command("account", "quota", "alice@example.org") == "alice@example.org may hold any amount\n"
    assert quotas(command) == (None, None)
    assert command.result("account", "quota", "alice@example.org", "--emails", "0").exit_code == 2


def quotas(command: Command) -> tuple[int | None, int | None]:
    shown = command.json("account", "show", "alice@example.org")
    return shown["quota_octets"], shown["quota_emails"]


def test_limits_of_an_accounts_own(command: Command) -> None:
    add(command, "alice@example.org", "--name", "Alice")
    assert command("account", "show", "alice@example.org") == (
        "account: alice@example.org\n"
        "name: Alice\n"
        "addresses: alice@example.org\n"
        "holds: 0B of any amount, 0 emails of any number\n"
        "may write to: 1000 recipients in 1h (as configured)\n"
        "in one message: 500 recipients (as configured)\n"
        "copies to Sent: no\n"
    )
    command("account", "set", "alice@example.org", "--submission-rate", "20/1d")
    command("account", "set", "alice@example.org", "--submission-recipients", "5")
    shown = command("account", "show", "alice@example.org")
    assert "may write to: 20 recipients in 1d\nin one message: 5 recipients\n" in shown
    described = command.json("account", "show", "alice@example.org")
    assert (described["submission_rate"], described["submission_recipients"]) == ("20/1d", 5)
    command("account", "set", "alice@example.org", "--submission-rate", "default")
    described = command.json("account", "show", "alice@example.org")
    assert (described["submission_rate"], described["submission_recipients"]) == (None, 5)
    assert command.result("account", "set", "alice@example.org", "--submission-rate", "often").exit_code == 2
    assert command.error("account", "show", "bob@example.org") == "there is no account bob@example.org"


def test_disable_and_enable(command: Command) -> None:
    add(command, "alice@example.org")
    command("account", "disable", "alice@example.org")
    assert "disabled" in command("account", "list")
    command("account", "enable", "alice@example.org")
    assert command.json("account", "list")[0]["enabled"] is True
    assert command.error("account", "disable", "x@example.org") == "there is no account x@example.org"


def test_an_address_of_another_is_granted_and_taken_back(command: Command) -> None:
    add(command, "alice@example.org")
    add(command, "info@example.org")
    assert command("account", "grant-send-as", "alice@example.org", "info@example.org") == (
        "alice@example.org may send as info@example.org\n"
    )
    assert command.json("account", "list")[0]["sends_as"] == ["info@example.org"]
    assert "sends as info@example.org" in command("account", "list")
    assert command.error("account", "grant-send-as", "alice@example.org", "x@example.org") == (
        "there is no address x@example.org"
    )
    command("account", "revoke-send-as", "alice@example.org", "info@example.org")
    assert command.json("account", "list")[0]["sends_as"] == []
    assert command.error("account", "revoke-send-as", "alice@example.org", "info@example.org") == (
        "info@example.org was not granted"
    )


def test_a_copy_to_sent_is_a_setting(command: Command) -> None:
    add(command, "alice@example.org")
    command("account", "set", "alice@example.org", "--copy-to-sent", "on", "--name", "Alice")
    (alice,) = command.json("account", "list")
    assert (alice["copy_to_sent"], alice["full_name"]) == (True, "Alice")
    assert "copies to Sent" in command("account", "list")
    command("account", "set", "alice@example.org", "--copy-to-sent", "off")
    assert command.json("account", "list")[0]["copy_to_sent"] is False
    assert command.error("account", "set", "alice@example.org") == "nothing to set"


def test_an_account_can_be_named_by_another_of_its_addresses(command: Command) -> None:
    add(command, "alice@example.org")
    command("account", "address", "alice@example.org", "a.liddell@example.org")
    assert "as its name" in command.error("account", "address", "--remove", "alice@example.org", "alice@example.org")
    assert "bob" in command.error("account", "set", "alice@example.org", "--address", "bob@example.org")
    command("account", "set", "alice@example.org", "--address", "a.liddell@example.org")
    command("account", "address", "--remove", "a.liddell@example.org", "alice@example.org")
    (alice,) = command.json("account", "list")
    assert alice["name"] == "a.liddell@example.org"


def test_remove_asks_first(command: Command) -> None:
    add(command, "alice@example.org")
    result = command.result("account", "remove", "alice@example.org", stdin="n\n")
    assert result.exit_code == 1
    assert len(command.json("account", "list")) == 1
    assert command("account", "remove", "alice@example.org", "--yes") == "removed alice@example.org\n"
    assert command.json("account", "list") == []


def test_import(command: Command, tmp_path: Path) -> None:
    good = [{"address": f"user{n}@example.org", "password": PASSWORD, "quota": 1000} for n in range(3)]
    lines = [json.dumps(good[0]), "", "no json", json.dumps(good[1]), json.dumps({"address": "x@new.example"})]
    file = tmp_path / "accounts.jsonl"
    file.write_text("\n".join([*lines, json.dumps(good[2])]))
    result = command.result("account", "import", str(file))
    assert result.exit_code == 1
    assert result.stdout == "created 3 accounts, refused 2 lines\n"
    assert result.stderr == "line 3: this is no JSON\nline 5: x@new.example: domain new.example is not served here\n"
    again = command.result("account", "import", str(file), "--add-domains", "--json")
    told = json.loads(again.stdout)
    assert told["created"] == 1
    assert [one["line"] for one in told["refused"]] == [1, 3, 4, 6]
    assert [one["name"] for one in command.json("account", "list")][-1] == "x@new.example"


def test_import_from_standard_input(command: Command) -> None:
    line = json.dumps({"address": "alice@example.org", "password": PASSWORD})
    assert command("account", "import", "-", stdin=line) == "created 1 accounts\n"


def test_an_app_password_has_a_name(command: Command) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    result = command.result("account", "password", "alice@example.org", "--label", "", "--password", "another one")
    assert (result.exit_code, result.stdout) == (2, "")
