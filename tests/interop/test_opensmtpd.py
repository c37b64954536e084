"""A real OpenSMTPD on loopback sends to posthouse and receives from it, each with all that it announces: 8BITMIME,
SIZE, DSN and STARTTLS, a command at a time."""

from collections.abc import Callable

import pytest

from bench.peers.opensmtpd import OpenSmtpd
from bench.peers.waiting import wait_until
from tests.interop.contract import CONTRACT, FAILED, name
from tests.interop.pairs import (
    BOB,
    OUR_ADDRESS,
    SECONDS,
    THEIR_ADDRESS,
    THEIRS,
    Peers,
    Setting,
    pair_with,
    submit,
    wait_at,
    wait_for_report,
)

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


def opensmtpd(setting: Setting) -> OpenSmtpd:
    """Their side, which sends no mail to other hosts without TLS."""
    theirs = OpenSmtpd(
        domain=THEIRS,
        users=["bob"],
        address=THEIR_ADDRESS,
        port=setting.port,
        route=(OUR_ADDRESS, setting.port),
        warn="1s",
    )
    theirs.certificate(setting.certificate.certificate, setting.certificate.key)
    return theirs


pair = pair_with(opensmtpd)


@pytest.mark.parametrize("behaviour", CONTRACT, ids=name)
def test_contract(pair: Peers, behaviour: Callable[[Peers], None]) -> None:
    behaviour(pair)


def test_a_handshake_that_breaks_is_followed_by_clear_text(pair: Peers) -> None:
    """Debian 12's was made for OpenSSL 1.1 and breaks off each handshake as a server: mail goes all the same."""
    submit(pair.ours, BOB, "in clear text")
    received = wait_at(pair.theirs, b"Subject: in clear text").split(b"\nReceived: ")[1]
    assert b"(OpenSMTPD) with ESMTP id" in received

    def failures() -> list[str]:
        return [line for line in pair.ours.log.read_text().split("\n")[:-1] if '"relay.tls_failed"' in line]

    wait_until(lambda: bool(failures()), SECONDS, "word of it in the log")
    assert all("alert internal error" in line for line in failures())


def test_what_needs_utf8_comes_back(pair: Peers) -> None:
    """RFC 6531 §3.5: it does not announce SMTPUTF8."""
    submit(pair.ours, f"böb@{THEIRS}", "für Böb")
    report = wait_for_report(pair.ours, FAILED, rb"b\x{F6}b@")
    assert b"\r\nStatus: 5.6.7\r\n" in report
    assert f"\r\nFinal-Recipient: utf-8; b\\x{{F6}}b@{THEIRS}\r\n".encode() in report
