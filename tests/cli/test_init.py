import os
import pwd
import re
from pathlib import Path

import pytest

from tests.cli.support import Command


def test_it_writes_a_configuration_that_can_be_used_and_prints_dns_records(tmp_path: Path) -> None:
    command = Command(tmp_path)
    shown = command("init", "--domain", "Example.ORG", "--hostname", "mail.example.org")
    assert re.search(r"^example\.org\. +IN MX   10 mail\.example\.org\.", shown, re.MULTILINE)
    assert '"v=spf1 mx -all"' in shown
    assert "an A (and AAAA) record" in shown
    assert command("check-config").endswith("posthouse.toml can be used\n")
    assert command("domain", "list") == "example.org\n"
    assert (tmp_path / "data" / "posthouse.db").exists()


def test_it_asks_for_what_is_not_given(tmp_path: Path) -> None:
    command = Command(tmp_path)
    shown = command("init", stdin="bücher.example\n\n")
    assert "Domain to serve" in shown
    assert 'hostname = "mail.xn--bcher-kva.example"' in command.configuration.read_text()


def test_options_go_into_the_configuration(tmp_path: Path) -> None:
    command = Command(tmp_path)
    place, user = tmp_path / "elsewhere", pwd.getpwuid(os.geteuid()).pw_name
    command("init", "--domain", "a.example", "--hostname", "mx.a.example", "--data", str(place), "--user", user)
    text = command.configuration.read_text()
    assert f'data = "{place}"' in text
    assert f'user = "{user}"' in text


def test_it_replaces_nothing_unasked(command: Command) -> None:
    assert (
        command.error("init", "--domain", "b.example")
        == f"{command.configuration} is there already; --force replaces it"
    )
    command("init", "--domain", "b.example", "--hostname", "mail.b.example", "--force")
    assert command("domain", "list") == "b.example\nexample.org\n"
    command("init", "--domain", "b.example", "--hostname", "mail.b.example", "--force")


def test_what_is_no_domain_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    command = Command(tmp_path)
    assert command.error("init", "--domain", "no domain", "--hostname", "mail.example.org").startswith("no domain: ")
    assert command.error("init", "--domain", "example.org", "--hostname", "mail..org").startswith("mail..org: ")
    assert not command.configuration.exists()


def test_where_it_cannot_write_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = Command(tmp_path / "file" / "below")
    error = command.error("init", "--domain", "example.org", "--hostname", "mail.example.org")
    assert str(command.configuration) in error


def test_a_directory_of_any_name_is_taken_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    Command(there)("init", "--domain", "a.example", "--hostname", "mx.a.example", "--data", 'a\\b"c')
    assert (here / 'a\\b"c' / "posthouse.db").exists()
    Command(here)("init", "--domain", "a.example", "--hostname", "mx.a.example", "--data", "mail")
    assert 'data = "mail"' in (here / "posthouse.toml").read_text()
    assert (here / "mail" / "posthouse.db").exists()


def test_where_no_store_can_be_made_it_says_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = Command(tmp_path)
    argv = ("init", "--domain", "a.example", "--hostname", "mx.a.example", "--data")
    error = command.error(*argv, str(tmp_path / "file" / "below"))
    assert error.endswith(f"; {command.configuration} is written, and init --force replaces it")
    command(*argv, str(tmp_path / "data"), "--force")
