"""What must fit together. What is refused and in which words: test_reading.py."""

from posthouse.config import cautions, reading
from posthouse.written import Rate
from tests.config.support import HOST, listener, refused


def test_a_unix_socket_is_for_lmtp() -> None:
    settings = reading.parse(listener("lmtp", "unix:/run/lmtp", 'socket_group = "postfix"'))
    assert settings.listeners[0].address[0].is_path
    assert [one.key for one in cautions.check(settings)] == ["tls.certificate"]
    assert 'found "unix:/run/smtp"; expected a Unix socket' in refused(listener("smtp", "unix:/run/smtp"))
    assert "a Unix socket" in refused(listener("lmtp", "unix:/run/lmtp", 'tls = "starttls"'))
    assert "listener[1].socket_group" in refused(listener("lmtp", "127.0.0.1:24", 'socket_group = "postfix"'))


def test_who_may_say_that_he_is_somebody_else() -> None:
    text = listener("smtp", "*:25", 'proxy = ["192.0.2.0/24", "2001:db8::1/128"]\nxclient_from = "198.51.100.7"')
    settings = reading.parse(text + '\n[[limits.domain]]\nname = "*"\nrecipient_rate = "5/1m"\n')
    assert settings.listeners[0].proxy == ("192.0.2.0/24", "2001:db8::1/128")
    assert settings.listeners[0].xclient_from == ("198.51.100.7/32",)
    assert settings.limits.domains[0].recipient_rate == Rate(5, 60)
    assert [one.key for one in cautions.check(settings)] == ["tls.certificate"]
    everybody = reading.parse(listener("smtp", "*:25", 'proxy = "0.0.0.0/0"\nxclient_from = "::/0"'))
    assert [one.key for one in cautions.check(everybody)] == [
        "tls.certificate",
        "listener[1].proxy",
        "listener[1].xclient_from",
    ]


def test_nobody_logs_in_in_clear_text_but_on_loopback() -> None:
    assert "true on 0.0.0.0:143" in refused(listener("imap", "0.0.0.0:143", "clear_text_login = true"))
    assert "true on *:143" in refused(listener("imap", "*:143", "clear_text_login = true"))
    assert "without TLS nobody may log in" in refused(listener("imap", "192.0.2.1:143", 'tls = "none"'))
    assert "clear_text_login = true beside it" in refused(listener("pop3", "127.0.0.1:110", 'tls = "none"'))
    assert "that is what imaps means" in refused(listener("imaps", "127.0.0.1:993", 'tls = "starttls"'))
    reading.parse(listener("imap", "[::1]:143", 'tls = "none"\nclear_text_login = true'))
    reading.parse(listener("smtp", "*:25", 'tls = "none"'))
    reading.parse(listener("lmtp", "127.0.0.1:24"))


def test_several_places_to_listen_at() -> None:
    smtp = "[[listener]]\nprotocol = 'smtp'\naddress = "
    reading.parse(HOST + smtp + "['127.0.0.1:0', '127.0.0.1:0', '0.0.0.0:25', '[::]:25', '192.0.2.1:26']")
    reading.parse(HOST + smtp + "'*:25'\n" + smtp + "'*:2525'")
