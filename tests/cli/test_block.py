from posthouse.cli.installation import Installation
from posthouse.policy import blocks
from posthouse.policy.blocks import Block
from tests.cli.support import Command


def test_add_list_remove(command: Command) -> None:
    assert command("block", "add", "192.0.2.1", "--reason", "asked for it") == "192.0.2.1 is blocked\n"
    assert command("block", "add", "2001:db8::/64", "--for", "2h").startswith("2001:db8::/64 is blocked until 20")
    shown = command("block", "list").splitlines()
    assert shown[0] == "192.0.2.1  until it is removed  by hand  asked for it"
    assert shown[1].startswith("2001:db8::/64  until 20")
    told = command.json("block", "list")
    assert [(one["network"], one["by_hand"], one["in_force"]) for one in told] == [
        ("192.0.2.1", True, True),
        ("2001:db8::/64", True, True),
    ]
    assert told[1]["until"] - told[1]["since"] == 7_200_000
    assert command("block", "remove", "192.0.2.1") == "192.0.2.1 is not blocked any more\n"
    command("block", "remove", "2001:db8::/64")
    result = command.result("block", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing is blocked\n")


def test_what_was_blocked_by_itself_is_listed_and_remembered(command: Command) -> None:
    installation = Installation(command.configuration)
    now = installation.clock.now()
    made = [
        Block("192.0.2.9/32", now - 5000, now - 1, "guesses of passwords", 1),
        Block("198.51.100.4/32", now, now + 3_600_000, "attempts to relay\x1b[2J", 3),
    ]
    installation.write(blocks.record, made)
    (line,) = command("block", "list").splitlines()
    assert line.startswith("198.51.100.4  until 20")
    assert line.endswith("  3×  attempts to relay\\x1b[2J")
    assert [one["in_force"] for one in command.json("block", "list", "--all")] == [False, True]
    assert command("block", "list", "--all").splitlines()[0].endswith("1×  guesses of passwords  (ended)")


def test_whoever_lies_in_a_blocked_network_is_told_of_it(command: Command) -> None:
    command("block", "add", "192.0.2.0/24")
    assert command.error("block", "remove", "192.0.2.7") == (
        "192.0.2.7 itself is not blocked, but 192.0.2.0/24 is, which it lies in"
    )
    command("block", "add", "192.0.2.7")
    result = command.result("block", "remove", "192.0.2.7")
    assert result.stderr == "posthouse: but 192.0.2.0/24 is, which it lies in\n"
    assert command.error("block", "remove", "2001:db8::1") == "2001:db8::1 is not blocked"


def test_of_an_address_in_clothes_of_ipv6_the_one_it_stands_for_is_blocked(command: Command) -> None:
    assert command("block", "add", "::ffff:192.0.2.1") == "192.0.2.1 is blocked\n"
    assert command("block", "add", "::ffff:198.51.100.0/120") == "198.51.100.0/24 is blocked\n"
    assert command("block", "remove", "192.0.2.1") == "192.0.2.1 is not blocked any more\n"
    assert "the network is 192.0.2.0/24" in command.result("block", "add", "::ffff:192.0.2.1/120").stderr
    assert command.error("block", "add", "::ffff:127.0.0.1").endswith("this machine itself is never blocked")


def test_whoever_is_never_blocked_cannot_be(command: Command) -> None:
    configured = command.configuration.read_text()
    command.configuration.write_text(
        'limits.never_blocked = "2001:db8::/32"\nrelay.trusted_networks = "192.0.2.0/24"\n' + configured
    )
    assert command.error("block", "add", "2001:db8:1::/48") == (
        "2001:db8:1::/48 would be served all the same: limits.never_blocked holds 2001:db8::/32"
    )
    assert command.error("block", "add", "192.0.2.7") == (
        "192.0.2.7 would be served all the same: relay.trusted_networks holds 192.0.2.0/24"
    )
    command("block", "add", "192.0.0.0/16")


def test_who_is_told_of_when_a_network_is_taken_back(command: Command) -> None:
    installation = Installation(command.configuration)
    now = installation.clock.now()
    made = [
        Block("192.0.2.7/32", now, now + 3_600_000, "guesses of passwords", 1),
        Block("192.0.2.9/32", now - 5000, now - 1, "guesses of passwords", 1),
    ]
    installation.write(blocks.record, made)
    command("block", "add", "192.0.2.0/24")
    result = command.result("block", "remove", "192.0.2.0/24")
    assert result.stderr == "posthouse: but 192.0.2.7 is, which lies in it\n"
    # One that has ended holds nobody.
    installation.write(blocks.add, "192.0.2.0/24", now - 5000, now - 1, "")
    assert command.error("block", "remove", "192.0.2.8") == "192.0.2.8 is not blocked"


def test_what_cannot_be_blocked(command: Command) -> None:
    for near in ("127.0.0.1", "127.0.0.0/8", "::1"):
        assert command.error("block", "add", near).endswith("this machine itself is never blocked")
    for wrong in (
        ("192.0.2.0/33",),
        ("192.0.2.1/24",),
        ("mx.example.org",),
        ("192.0.2.1", "--for", "0s"),
        ("192.0.2.1", "--for", "x"),
    ):
        assert command.result("block", "add", *wrong).exit_code == 2
    assert "the network is 192.0.2.0/24" in command.result("block", "add", "192.0.2.1/24").stderr


def test_nobody_is_blocked_until_a_day_that_has_no_date(command: Command) -> None:
    """The list could not be shown any more."""
    result = command.result("block", "add", "192.0.2.1", "--for", "9999999d")
    assert (result.exit_code, result.stdout) == (2, "")
    assert command("block", "add", "192.0.2.1", "--for", "36525d").startswith("192.0.2.1 is blocked until 2")
    assert command("block", "list").startswith("192.0.2.1  until 2")
