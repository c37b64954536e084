from posthouse.cli.domain import every_domain
from posthouse.cli.installation import Installation
from posthouse.directory import domains
from posthouse.store.database import Tx
from tests.cli.support import Command


def test_add_list_remove(command: Command) -> None:
    assert command("domain", "add", "someschool.example") == "serving someschool.example\n"
    assert [one["name"] for one in command.json("domain", "list")] == ["example.org", "someschool.example"]
    assert command("domain", "remove", "someschool.example") == "someschool.example is not served any more\n"
    assert command("domain", "list") == "example.org\n"


def test_more_domains_than_a_batch_are_all_listed(command: Command) -> None:
    def add_many(tx: Tx) -> int:
        for number in range(1500):
            domains.add(tx, f"d{number}.example", 0)
        return len(every_domain(tx))

    assert Installation(command.configuration).write(add_many) == 1501


def test_rename_takes_addresses_along(command: Command) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    assert command("domain", "rename", "example.org", "example.net") == "serving example.net in place of example.org\n"
    assert [one["name"] for one in command.json("account", "list")] == ["alice@example.net"]


def test_catch_all(command: Command) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    shown = command("domain", "catch-all", "example.org", "alice@example.org")
    assert shown == "unknown addresses of example.org go to alice@example.org\n"
    assert command("domain", "list") == "example.org  (unknown addresses go to alice@example.org)\n"
    assert command("domain", "catch-all", "example.org") == "unknown addresses of example.org are refused\n"
    assert command.json("domain", "list")[0]["catch_all"] is None


def test_quota(command: Command) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    assert command("domain", "quota", "example.org", "50GB") == "the accounts of example.org may hold 50GB\n"
    assert command("domain", "list") == "example.org  0 B of 50GB\n"
    assert command.json("domain", "list")[0]["quota_octets"] == 50 << 30
    assert "its domain holds: 0 B of 50GB\n" in command("account", "show", "alice@example.org")
    shown = command.json("account", "show", "alice@example.org")
    assert (shown["domain_used_octets"], shown["domain_quota_octets"]) == (0, 50 << 30)
    assert command("domain", "quota", "example.org", "none") == "the accounts of example.org may hold any amount\n"
    assert "domain holds" not in command("account", "show", "alice@example.org")
    assert command.error("domain", "quota", "x.example", "1GB") == "domain x.example is not served here"
    assert command.result("domain", "quota", "example.org", "much").exit_code == 2


def test_errors_are_one_line(command: Command) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    assert command.error("domain", "add", "example.org") == "domain example.org is served already"
    assert "still has 1 addresses" in command.error("domain", "remove", "example.org")
    assert command.error("domain", "remove", "x.example") == "domain x.example is not served here"
    command.error("domain", "add", "not a domain")
