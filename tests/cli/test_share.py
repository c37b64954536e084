from tests.cli.support import Command


def two_accounts(command: Command) -> None:
    for name in ("alice", "bob"):
        command("account", "add", f"{name}@example.org", "--password", "correct horse battery")


def test_grant_list_revoke(command: Command) -> None:
    two_accounts(command)
    said = command("share", "grant", "alice@example.org", "Archive", "bob@example.org", "read")
    assert said == "bob@example.org may use Archive of alice@example.org: lrs\n"
    assert command("share", "list", "alice@example.org") == "Archive → bob@example.org  lrs\n"
    command("share", "grant", "alice@example.org", "Archive", "bob@example.org", "wrl")
    command("share", "grant", "alice@example.org", "inbox", "bob@example.org", "all")
    assert command.json("share", "list", "alice@example.org") == [
        {"mailbox": "Archive", "account": "bob@example.org", "rights": "lrw"},
        {"mailbox": "INBOX", "account": "bob@example.org", "rights": "lrswipkxtea"},
    ]
    said = command("share", "revoke", "alice@example.org", "Archive", "bob@example.org")
    assert said == "nothing is granted or denied to bob@example.org in Archive of alice@example.org any more\n"
    assert command("share", "list", "alice@example.org") == "INBOX → bob@example.org  lrswipkxtea\n"


def test_errors_are_one_line(command: Command) -> None:
    two_accounts(command)
    alice, bob = "alice@example.org", "bob@example.org"
    assert command.error("share", "grant", alice, "Nowhere", bob, "read") == f"{alice} has no mailbox Nowhere"
    assert command.error("share", "grant", alice, "", bob, "read") == f"{alice} has no mailbox "
    assert command.error("share", "grant", alice, "Archive", alice, "read") == "an owner keeps all rights"
    assert command.error("share", "revoke", alice, "Archive", bob) == f"nothing is granted to {bob} there"
    assert "nobody@example.org" in command.error("share", "list", "nobody@example.org")
    assert command.result("share", "grant", alice, "Archive", bob, "lrq").exit_code == 2


def test_anyone_and_what_is_denied(command: Command) -> None:
    two_accounts(command)
    alice, bob = "alice@example.org", "bob@example.org"
    assert command("share", "grant", alice, "Archive", "anyone", "read").startswith("anyone may use Archive")
    said = command("share", "deny", alice, "Archive", bob, "s")
    assert said == f"{bob} may not use Archive of {alice} for: s\n"
    assert command("share", "list", alice) == f"Archive → -{bob}  s\nArchive → anyone  lrs\n"
    command("share", "revoke", alice, "Archive", bob)
    command("share", "revoke", alice, "Archive", "anyone")
    assert command.json("share", "list", alice) == []
    assert command.error("share", "revoke", alice, "Archive", "anyone") == "nothing is granted to anyone there"
