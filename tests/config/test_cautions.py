"""What is allowed and deserves a second thought."""

import pytest

from posthouse.config import cautions, reading
from tests.config.support import HOST, listener, route


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (listener("smtp", "*:25", 'tls = "none"'), "listener[1].tls"),
        (listener("lmtp", "192.0.2.1:24"), "listener[1].address"),
        (HOST + "dns.resolver = '192.0.2.1'", "dns.resolver"),
        (HOST + "dns.resolver = '192.0.2.1'\ndns.trusted = true", "dns.trusted"),
        (HOST + "relay.tls = 'off'", "relay.tls"),
        (HOST + "relay.tls = 'verify'", "relay.tls"),
        (HOST + "queue.expire = '1h'", "queue.expire"),
        (HOST + "relay.trusted_networks = '0.0.0.0/0'", "relay.trusted_networks"),
        (HOST + route("to = 'smtp://a'\nusername = 'a'\npassword = 'b'\ntls = 'require'"), "route[1].tls"),
        (HOST + route("to = 'lmtp://lists.example:24'"), "route[1].tls"),
        (listener("imap", "127.0.0.1:143", 'clear_text_login = true\nproxy = "127.0.0.1"'), "listener[1].proxy"),
    ],
)
def test_what_deserves_a_second_thought(text: str, key: str) -> None:
    assert key in [caution.key for caution in cautions.check(reading.parse(text))]


def test_what_stays_on_this_machine_deserves_none() -> None:
    texts = ("to = 'lmtp://127.0.0.1:24'", "to = 'lmtp:/run/lists'", "to = 'lmtp://lists.example'\ntls = 'verify'")
    for text in texts:
        assert [one.key for one in cautions.check(reading.parse(HOST + route(text)))] == ["tls.certificate"]
