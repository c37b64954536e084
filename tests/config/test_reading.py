"""What is read from a file, what is refused and in which words."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from posthouse.config import cautions, reading
from posthouse.config.errors import ConfigError
from posthouse.config.values import Config
from posthouse.written import Dial, Endpoint, Rate
from tests.config.support import HOST, SMTP, refused, route


def test_a_host_name_is_all_that_is_needed() -> None:
    settings = reading.parse(HOST)
    assert settings.hostname == "mx.example.org"
    assert settings.data == Path("/var/lib/posthouse")
    shown = {listener.protocol: (str(listener.address[0]), listener.tls) for listener in settings.listeners}
    assert shown == {
        "smtp": ("*:25", "starttls"),
        "submission": ("*:587", "starttls"),
        "submissions": ("*:465", "implicit"),
        "imap": ("*:143", "starttls"),
        "imaps": ("*:993", "implicit"),
        "pop3": ("*:110", "starttls"),
        "pop3s": ("*:995", "implicit"),
    }
    assert [caution.key for caution in cautions.check(settings)] == ["tls.certificate"]


def test_everything_at_once(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.toml"
    file.write_text(
        HOST
        + """
        data = "store"
        user = "posthouse"

        [[listener]]
        protocol = "smtp"
        address = ["0.0.0.0:25", "[::]:25"]

        [[listener]]
        protocol = "imap"
        address = "127.0.0.1:0"
        tls = "none"
        clear_text_login = true

        [tls]
        certificate = "tls/chain.pem"
        key = "/etc/key.pem"
        [[tls.further]]
        certificate = "other.pem"
        key = "other.key"

        [dns]
        resolver = ["127.0.0.1:5353", "[::1]", "192.0.2.53"]

        [relay]
        dial = ":2525"
        source = "192.0.2.1"
        [queue]
        schedule = ["1s", "2s"]
        [limits]
        message_size = "25MB"
        unfinished_memory = 1000000
        message_rate = "60/1m"
        [log]
        format = "json"
        """
    )
    settings = reading.load(file)
    assert settings.data == tmp_path / "store"
    assert settings.listeners[0].address == (Endpoint("0.0.0.0", 25), Endpoint("::", 25))
    assert settings.listeners[1].clear_text_login
    assert [str(pair.certificate) for pair in settings.tls.pairs] == [
        str(tmp_path / "tls/chain.pem"),
        str(tmp_path / "other.pem"),
    ]
    assert settings.dns.resolver == (Endpoint("127.0.0.1", 5353), Endpoint("::1", 53), Endpoint("192.0.2.53", 53))
    assert settings.relay.dial == Dial(None, 2525)
    assert settings.relay.source == ("192.0.2.1",)
    assert list(settings.queue.schedule) == [1.0, 2.0]
    assert settings.limits.message_size == 25 * 1024 * 1024
    assert settings.limits.unfinished_memory == 1_000_000
    assert settings.limits.message_rate == Rate(60, 60)
    assert [caution.key for caution in cautions.check(settings)] == [
        "listener[2].clear_text_login",
        "dns.resolver",
        "relay.dial",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "posthouse.toml: hostname: found nothing; expected text in quotes"),
        ('hostname = "localhost"', 'hostname: found "localhost"; expected a full host name'),
        (HOST + "[limts]", 'limts: found an unknown setting; expected "limits"?'),
        (HOST + "[queue]\nexpires = '5d'", 'queue.expires: found an unknown setting; expected "expire"?'),
        (HOST + "zzz = 1", "zzz: found an unknown setting; expected one of data, delivery"),
        (HOST + "queue.expire = 5", 'queue.expire: found 5; expected a duration such as "90s"'),
        (HOST + "queue.expire = '0s'", 'queue.expire: found "0s"; expected a duration'),
        (HOST + "queue.schedule = ['1m', 'soon']", 'queue.schedule[2]: found "soon"; expected a duration'),
        (HOST + "queue.schedule = []", "queue.schedule: found []; expected at least one duration"),
        (HOST + route("to = 'nowhere'"), 'route[1].to: found "nowhere"; expected "mx", "hold", "smtp://host:587"'),
        (HOST + route("to = ['mx', 'smtp://a']"), 'route[1].to: found ["mx", "smtp://a:25"]; expected "mx" or "hold"'),
        (HOST + route("to = []"), "route[1].to: found []; expected"),
        (HOST + route("to = 'mx'\nusername = 'a'\npassword = 'b'"), 'route[1].username: found "a"; expected nothing'),
        (HOST + route("to = 'hold'\ntls = 'off'"), 'route[1].tls: found "off"; expected nothing'),
        (HOST + route("to = 'smtp://a'\nusername = 'a'"), "route[1]: found username, password or password_file;"),
        (HOST + route("to = 'smtps://a'\ntls = 'off'"), 'route[1].tls: found "off"; expected "require" or "verify"'),
        (HOST + route("to = 'mx'", "Office"), 'route[1].name: found "Office"; expected lower case'),
        (HOST + route("to = 'mx'") + route("to = 'hold'"), 'route: found "office"; expected each name once'),
        (HOST + route("to = 'mx'\nrecipient = '*'"), 'route[1].recipient: found "*"; expected a domain such as'),
        (HOST + "relay.trusted_networks = '10.0.0.1/8'", 'relay.trusted_networks: found "10.0.0.1/8"; expected a'),
        (HOST + "queue.concurrency = true", "queue.concurrency: found true; expected a whole number, 1 or more"),
        (HOST + "limits = 5", "limits: found 5; expected a table [limits]"),
        (HOST + "limits.message_size = '25 megs'", 'found "25 megs"; expected a size such as'),
        (HOST + "relay.tls = 'of'", 'relay.tls: found "of"; expected one of "opportunistic", "require", "verify",'),
        (HOST + "relay.port = 0", "relay.port: found 0; expected a port, 1 to 65535"),
        (HOST + "relay.source = ['mx']", 'relay.source[1]: found "mx"; expected an IP address'),
        (HOST + "dns.resolver = '*:53'", 'dns.resolver: found "*:53"; expected an IP address'),
        (HOST + "dns.trusted = 'yes'", 'dns.trusted: found "yes"; expected true or false'),
        (HOST + "listener = []", "listener: found []; expected at least one [[listener]]"),
        (HOST + "[listener]\nprotocol='smtp'", "listener: found"),
        (HOST + "[[listener]]\nprotocol = 'smtp'", "listener[1].address: found nothing; expected a list"),
        (HOST + "[[listener]]\nprotocol = 'smtp'\naddress = []", "listener[1].address: found []"),
        (HOST + "[[listener]]\nprotocol = 'http'\naddress = '*:80'", 'listener[1].protocol: found "http"'),
        (HOST + "tls.key = 'a'", "tls: found one of certificate and key; expected both or neither"),
        (HOST + "delivery.separator = '@'", 'delivery.separator: found "@"'),
        (HOST + "user = \"a\\u0000b\"", "user: found"),
        (HOST + "data = 5", "data: found 5; expected a path"),
        (HOST + "limits.never_blocked = '192.0.2.1/24'", 'found "192.0.2.1/24"; expected a network such as'),
        (HOST + "limits.greeting_delay = 'never'", 'found "never"; expected a duration such as "3s", or'),
        (HOST + "[[limits.domain]]\nname = 'a b'", 'limits.domain[1].name: found "a b"; expected a domain such as'),
        (HOST + "[[limits.domain]]\nsender_rate = '1/1h'", "limits.domain[1].name: found nothing"),
        (HOST + "[[listener]]\nprotocol='imap'\naddress='*:143'\nxclient_from='::1'", "listener[1].xclient_from"),
        ('hostname = "[192.0.2.1]"', 'hostname: found "[192.0.2.1]"; expected a full host name'),
        (f"hostname = '{'.'.join(['a' * 63] * 4)}'", "expected a full host name"),
        ('hostname = "192.0.2.1"', 'hostname: found "192.0.2.1"; expected a full host name'),
        (HOST + 2 * SMTP, "listener[2].address: found 192.0.2.1:25; expected a place that listener[1] does not"),
        (HOST + SMTP + SMTP.replace("192.0.2.1", "*"), "listener[2].address: found *:25; expected a place that"),
        (HOST + SMTP.replace("'192.0.2.1:25'", "['*:25', '[::1]:25']"), "found [::1]:25; expected a place that"),
        (HOST + "listener = [{protocol='lmtp', address='unix:/l', proxy='::1'}]", "listener[1].proxy: found unix:/l;"),
        (HOST + SMTP + "clear_text_login=true", "listener[1].clear_text_login: found true; expected nothing: nobody"),
        (HOST + 2 * "[[limits.domain]]\nname = 'a.example'\n", 'limits.domain: found "a.example"; expected each name'),
        (HOST + "limits.message_size = 0", "limits.message_size: found 0B; expected 64KB or more, as RFC 5321 asks"),
        (HOST + "delivery.separator = 'a'", 'delivery.separator: found "a"'),
        ("hostname = ", "expected TOML"),
    ],
)  # fmt: skip
def test_an_error_names_file_key_found_and_expected(text: str, expected: str) -> None:
    assert expected in refused(text)
    assert refused(text).startswith("posthouse.toml: ")


def test_an_address_of_ipv4_is_one_however_it_is_written() -> None:
    settings = reading.parse(HOST + 'limits.never_blocked = ["::ffff:192.0.2.0/120", "2001:db8::/32"]')
    assert settings.limits.never_blocked == ("192.0.2.0/24", "2001:db8::/32")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: found no such file or directory; expected a readable file"):
        reading.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"hostname = '\xff'")
    with pytest.raises(ConfigError, match=r"an octet that is not UTF-8 at 12; expected UTF-8 text"):
        reading.load(tmp_path / "bad.toml")


keys = st.sampled_from(
    [setting for setting, _ in [*((name, 0) for name in ("hostname", "data", "listener", "tls", "x"))]]
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 5), st.text("ab01:.[]*@smhd/", max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return str(value)


names = [info.encode_name for info in fields(Config)]


@given(st.dictionaries(st.sampled_from(names), values, max_size=5))
def test_any_table_is_read_or_refused(table: dict[str, Any]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
    with contextlib.suppress(ConfigError):
        assert isinstance(cautions.check(reading.parse(text)), list)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert reading.parse(text).hostname
