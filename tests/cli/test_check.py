from pathlib import Path

from tests.cli.support import Command

CLEAR = """hostname = "mail.example.org"
data = "data"
[[listener]]
protocol = "imap"
address = "127.0.0.1:143"
tls = "none"
clear_text_login = true
"""


def test_a_good_configuration_with_cautions(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.configuration.write_text(CLEAR)
    shown = command("check-config").splitlines()
    assert shown[0].startswith("caution: listener[1].clear_text_login: passwords travel in clear text")
    assert shown[-1] == f"{command.configuration} can be used"
    told = command.json("check-config")
    assert told["file"] == str(command.configuration)
    assert {one["key"] for one in told["cautions"]} == {"listener[1].clear_text_login", "tls.certificate"}
    assert not (tmp_path / "data").exists(), "nothing is changed"


def test_a_bad_one_says_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.configuration.write_text(CLEAR.replace('"127.0.0.1:143"', '"anywhere"'))
    error = command.error("check-config")
    assert error.startswith(f"{command.configuration}: listener[1].address")
    assert 'found "anywhere"; expected' in error


def test_no_toml(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.configuration.write_text("= =")
    assert "expected TOML" in command.error("check-config")
