from pathlib import Path

import pytest
import trustme

from posthouse.cli import check
from posthouse.config.values import Route
from posthouse.written import Endpoint
from tests.cli.support import Command

CLEAR = """hostname = "mail.example.org"
data = "data"
[[listener]]
protocol = "imap"
address = "127.0.0.1:143"
tls = "none"
clear_text_login = true
"""


@pytest.fixture(autouse=True)
def _a_machine_that_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver and authorities of its own, whatever this one has."""
    monkeypatch.setattr(check, "system_servers", lambda: (Endpoint("127.0.0.1", 53),))
    monkeypatch.setattr(check, "has_authorities", lambda: True)


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


ROUTE = "[[route]]\nname = 'a'\nto = 'smtp://a'\nusername = 'a'\npassword_file = 'password'\n"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("data = 'password'", "data: {}/password: not a directory"),
        ("user = 'nobody-knows-him'", "user: getpwnam(): name not found: 'nobody-knows-him'"),
        ("group = 'nobody-knows-it'", "group: getgrnam(): name not found: 'nobody-knows-it'"),
        ("tls.certificate = 'chain.pem'\ntls.key = 'key.pem'", "tls: {}/chain.pem: no such file or directory"),
        ("tls.certificate = 'password'\ntls.key = 'password'", "tls: {0}/password with key {0}/password: "),
        ("tls.client_authorities = 'ca.pem'", "tls.client_authorities: {}/ca.pem: no such file or directory"),
        ("relay.authorities = 'password'", "relay.authorities: {}/password: "),
        (ROUTE.replace("'password'", "'none'"), "route[1].password_file: {}/none: no such file or directory"),
        (ROUTE, "route[1].password_file: {}/password: an octet that is not UTF-8 at 0"),
        (ROUTE.replace("'password'", "'empty'"), "route[1].password_file: {}/empty: its first line holds no password"),
    ],
)
def test_what_serve_could_not_use_cannot_be_used(tmp_path: Path, settings: str, told: str) -> None:
    (tmp_path / "password").write_bytes(b"\xff")
    (tmp_path / "empty").write_bytes(b"\nsecret\n")
    command = Command(tmp_path)
    text = f"{settings}\n{CLEAR}" if "[[" not in settings else CLEAR + settings
    command.configuration.write_text(text.replace('data = "data"\n', "") if "data" in settings else text)
    assert command.error("check-config").startswith(told.format(tmp_path))


def test_what_only_somebody_else_may_read_is_a_caution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(route: Route) -> str:
        raise PermissionError(13, "Permission denied", str(route.password_file))

    monkeypatch.setattr(check, "password_of", refused)
    command = Command(tmp_path)
    command.configuration.write_text(CLEAR + ROUTE)
    cautions = {one["key"]: one["text"] for one in command.json("check-config")["cautions"]}
    assert cautions["route[1].password_file"].startswith(f"{tmp_path}/password: permission denied; ")


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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("", True),
        ("dns.trusted = true", False),
        ("dns.resolver = '127.0.0.1'", False),
        ("relay.dane = false", False),
    ],
)
def test_a_machine_whose_resolver_is_elsewhere_has_no_dane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, told: bool
) -> None:
    monkeypatch.setattr(check, "system_servers", lambda: (Endpoint("192.0.2.53", 53),))
    command = Command(tmp_path)
    command.configuration.write_text(f"{settings}\n{CLEAR}")
    cautions = {one["key"]: one["text"] for one in command.json("check-config")["cautions"]}
    assert ("dns.resolver" in cautions) is told
    if told:
        assert "192.0.2.53:53, whose DNSSEC verdict can be forged on the way; DANE is off." in cautions["dns.resolver"]


@pytest.mark.parametrize("settings", ["", "relay.authorities = 'ca.pem'"])
def test_a_machine_without_authorities_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    monkeypatch.setattr(check, "has_authorities", lambda: False)
    command = Command(tmp_path)
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    command.configuration.write_text(f"{settings}\n{CLEAR}")
    keys = {one["key"] for one in command.json("check-config")["cautions"]}
    assert ("relay.authorities" in keys) is (settings == "")
