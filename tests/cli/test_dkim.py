from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.cli.installation import Installation
from posthouse.directory import signing
from posthouse.trust.keys import PrivateKey
from tests.cli.support import Command
from tests.interop.names import nameserver

PEM, PKCS8, OPEN = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
OLD = [("rsa", "signing"), ("ed25519", "signing")]


def keys(command: Command, domain: str = "example.org") -> list[tuple[str, str]]:
    """Algorithm and state of each."""
    return [(one["algorithm"], one["state"]) for one in command.json("dkim", "list", domain)]


def selectors(command: Command) -> list[str]:
    """Of all keys of example.org."""
    return [one["selector"] for one in command.json("dkim", "list", "example.org")]


def published(command: Command, **changed: str) -> dict[str, dict[str, str]]:
    """A zone with all keys of example.org; `changed` by selector, "" for one that is missing."""
    zone = {}
    for one in command.json("dkim", "list"):
        value = changed.get(f"s{one['selector']}", one["record"]["value"])
        if value:
            zone[one["record"]["name"].rstrip(".")] = {"TXT": value}
    return zone or {"other.example": {"TXT": '"x"'}}


@contextmanager
def serving(command: Command, zone: Mapping[str, Mapping[str, Sequence[str] | str]]) -> Iterator[None]:
    """A name server with these records, which the installation asks."""
    before = command.configuration.read_text()
    with nameserver(zone) as endpoint:
        settings = f'[dns]\nresolver = "{endpoint}"\nattempts = 1\ntimeout = "30s"\n'
        command.configuration.write_text(f"{before}\n{settings}")
        yield
    command.configuration.write_text(before)


def test_a_domain_has_keys_from_the_start(command: Command) -> None:
    assert keys(command) == OLD
    command("domain", "add", "someschool.example")
    assert keys(command, "someschool.example") == OLD
    lines = command("dkim", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["example.org"] * 2 + ["someschool.example"] * 2
    assert len({one["record"]["value"] for one in command.json("dkim", "list")}) == 4


def test_no_private_key_is_shown(command: Command) -> None:
    command("dkim", "add", "example.org")
    kept = Installation(command.configuration).read(signing.signing, "example.org")[1]
    shown = command("dkim", "list") + str(command.json("dkim", "list")) + command("dns") + str(command.json("dns"))
    for _, private in kept:
        for line in PrivateKey.of(private).octets().hex(), repr(private):
            assert line not in shown
    assert "PRIVATE" not in shown


def test_records_are_printed_in_strings_that_dns_can_carry(command: Command) -> None:
    found = [one for one in command.json("dns", "example.org") if "_domainkey" in one["name"]]
    assert [one["name"] for one in found] == [f"{one}._domainkey.example.org." for one in selectors(command)]
    strings = [value.strip('"') for one in found for value in one["value"].split('" "')]
    assert len(strings) == 3
    assert max(map(len, strings)) == 255
    assert strings[0].startswith("v=DKIM1; k=rsa; p=MII")
    assert strings[2].startswith("v=DKIM1; k=ed25519; p=")
    assert "_domainkey" in command("dns")
    assert "_domainkey" not in command("dns", "far.example")


def test_rotation_waits_for_dns(command: Command) -> None:
    old = selectors(command)
    shown = command("dkim", "rotate", "example.org")
    assert shown.endswith("Once they are published: posthouse dkim rotate example.org\n")
    new = [one for one in selectors(command) if one not in old]
    assert [one in shown for one in (*old, *new)] == [False, False, True, True]
    assert keys(command) == [*OLD, ("rsa", "waiting"), ("ed25519", "waiting")]

    with serving(command, published(command, **{f"s{new[1]}": ""})):
        error = command.error("dkim", "rotate", "example.org")
        assert error == f"not yet, the records of the new keys cannot be used: {new[1]}: not published"
        assert keys(command)[:2] == OLD
    with serving(command, published(command)):
        command("dkim", "rotate", "example.org")
    assert keys(command) == [("rsa", "retired"), ("ed25519", "retired"), *OLD]
    # What has signed until now is still listed, until somebody removes it.
    assert old[0] in command("dns")
    assert f"{old[0]}._domainkey.example.org out of DNS" in command("dkim", "remove", "example.org", old[0])
    assert old[0] not in command("dns")


def test_rotation_without_a_look(command: Command) -> None:
    command("dkim", "rotate", "example.org")
    assert command("dkim", "rotate", "example.org", "--unchecked").count("signing") == 2


def test_check_compares_what_is_published(command: Command) -> None:
    rsa, ed25519 = selectors(command)
    with serving(command, published(command)):
        shown = command("dkim", "check", "example.org")
        assert shown == (
            f"{rsa}._domainkey.example.org  rsa  signing: published\n"
            f"{ed25519}._domainkey.example.org  ed25519  signing: published\n"
        )
        assert [one["published"] for one in command.json("dkim", "check", "example.org")] == [True, True]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "not published"),
        ('"v=DKIM1; k=ed25519; p="', "published as revoked"),
        ('"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="', "another key is published"),
        ('"v=DKIM1; k=rsa; p=AQID"', "another key is published"),
        ('"something"', "what is published cannot be used: 'something' is no tag"),
    ],
)
def test_check_says_what_is_wrong(command: Command, value: str, said: str) -> None:
    selector = selectors(command)[1]
    with serving(command, published(command, **{f"s{selector}": value})):
        result = command.result("dkim", "check", "example.org")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[1] == f"{selector}._domainkey.example.org  ed25519  signing: {said}"


def test_check_finds_two_records_of_one_name(command: Command) -> None:
    name, value = f"{selectors(command)[1]}._domainkey.example.org", '"v=DKIM1; k=ed25519; p="'
    zone = published(command)
    with serving(command, {**zone, name: {"TXT": [zone[name]["TXT"], value]}}):
        shown = command.result("dkim", "check", "example.org").stdout
    assert "signing: 2 TXT records stand at its name, of which verifiers take any" in shown


def test_check_where_dns_does_not_answer(command: Command) -> None:
    text = command.configuration.read_text()
    command.configuration.write_text(f'{text}\n[dns]\nresolver = "127.0.0.1:1"\nattempts = 1\ntimeout = "1s"\n')
    result = command.result("dkim", "check", "example.org")
    assert result.exit_code == 1
    assert result.stdout.count("cannot be looked up now") == 2


def test_check_minds_only_keys_that_sign(command: Command) -> None:
    zone = published(command)
    command("dkim", "add", "example.org", "--algorithm", "ed25519")
    with serving(command, zone):
        assert "waiting: not published" in command("dkim", "check", "example.org")
    for one in selectors(command):
        command("dkim", "remove", "example.org", one, "--force")
    assert command("dkim", "check", "example.org") == (
        "example.org has no keys; `posthouse dkim add example.org` makes them\n"
    )


def test_a_key_of_another_server_is_taken_with_its_selector(command: Command, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "old.pem"
    file.write_bytes(key.private_bytes(PEM, PKCS8, OPEN))
    shown = command("dkim", "add", "example.org", "--key", str(file), "--selector", "Mail")
    assert "mail._domainkey.example.org." in shown
    assert keys(command)[2] == ("rsa", "waiting")
    assert command.error("dkim", "add", "example.org", "--key", str(file), "--algorithm", "ed25519") == (
        "old.pem: this key is of the kind rsa, not ed25519"
    )
    file.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, OPEN))
    assert command.error("dkim", "add", "example.org", "--key", str(file)) == (
        "old.pem: DKIM signs with RSA and Ed25519 only"
    )


def test_a_selector_is_not_given_twice(command: Command) -> None:
    """Its record is cached everywhere: another key under its name would be looked up in vain."""
    taken = selectors(command)
    command("dkim", "remove", "example.org", taken[-1], "--force")
    command("dkim", "add", "example.org", "--algorithm", "ed25519")
    assert selectors(command)[-1] not in taken
    taken += selectors(command)
    command("domain", "remove", "example.org")
    command("domain", "add", "example.org")
    assert not set(selectors(command)) & set(taken)


def test_errors_are_one_line(command: Command) -> None:
    selector = selectors(command)[0]
    assert command.error("dkim", "list", "far.example") == "domain far.example is not served here"
    for verb in ("add", "rotate", "check"):
        assert command.error("dkim", verb, "far.example") == "domain far.example is not served here"
    assert "say --algorithm or --key" in command.error("dkim", "add", "example.org", "--selector", "x")
    error = command.error("dkim", "add", "example.org", "--algorithm", "rsa", "--selector", selector)
    assert error == f"example.org has a key {selector} already"
    assert "cannot be a selector" in command.error(
        "dkim", "add", "example.org", "--algorithm", "rsa", "--selector", "-"
    )
    assert "--force removes it all the same" in command.error("dkim", "remove", "example.org", selector)
    assert command.error("dkim", "remove", "example.org", "x") == "example.org has no key x"


def test_init_prints_the_records_and_keeps_the_keys_that_are_there(tmp_path: Path) -> None:
    command = Command(tmp_path)
    options = ("init", "--domain", "example.org", "--hostname", "mail.example.org")
    first = command(*options)
    assert first.count("._domainkey.example.org.") == 2
    assert command(*options, "--force") == first
