"""A real Postfix on loopback sends to posthouse and receives from it, each with all that it announces: TLS, PIPELINING,
CHUNKING, SMTPUTF8, DSN; and by LMTP."""

from collections.abc import Callable

import pytest

from bench.peers.postfix import Postfix
from tests.interop.contract import CONTRACT, FAILED, REPORT, a_row_of_ours_arrives_each_once, name
from tests.interop.pairs import (
    ALICE,
    BOB,
    OUR_ADDRESS,
    OURS,
    THEIR_ADDRESS,
    THEIRS,
    Peers,
    Setting,
    named,
    pair_with,
    read_report,
    submit,
    wait_at,
    wait_for_report,
    wait_for_words,
)
from tests.interop.reading import wait_for_message

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


def postfix(setting: Setting) -> Postfix:
    """Their side, which sends no mail to other hosts without TLS, and is impatient."""
    settings = {
        "relayhost": f"[{OUR_ADDRESS}]:{setting.port}",
        "transport_maps": f"inline:{{local.test=lmtp:inet:{OUR_ADDRESS}:{setting.ours.ports['lmtp']}}}",
        "smtp_tls_security_level": "encrypt",
        "smtpd_tls_received_header": "yes",
        "smtputf8_enable": "yes",
        "delay_warning_time": "1s",
        **dict.fromkeys(("minimal_backoff_time", "maximal_backoff_time", "queue_run_delay"), "1s"),
    }
    theirs = Postfix(domain=THEIRS, users=["bob", "böb"], address=THEIR_ADDRESS, port=setting.port, settings=settings)
    theirs.set(theirs.certificate(setting.certificate.certificate, setting.certificate.key))
    return theirs


pair = pair_with(postfix)


@pytest.mark.parametrize("behaviour", CONTRACT, ids=name)
def test_contract(pair: Peers, behaviour: Callable[[Peers], None]) -> None:
    behaviour(pair)


def test_we_encrypt(pair: Peers) -> None:
    submit(pair.ours, BOB, "encrypted")
    assert b"using TLSv1.3" in wait_at(pair.theirs, b"Subject: encrypted").partition(b"\n\n")[0]
    # The journey tells what Postfix said.
    wait_for_words(pair.ours, BOB, "bytes queued as")


def test_our_chunks_and_pipelines(pair: Peers) -> None:
    """RFC 3030, RFC 2920: Postfix takes chunks, and counts commands; it sends none."""
    submit(pair.ours, BOB, "in chunks", body="Hello\r\n" * 100_000)
    assert wait_at(pair.theirs, b"Subject: in chunks").endswith(b"\n\n" + b"Hello\n" * 100_000)
    wait_for_words(pair.ours, BOB, "C: BDAT ")


def test_without_chunks_an_envelope_leaves_behind_the_message_before_it(pair: Peers) -> None:
    """RFC 2920 §3.1, to one that answers each command as it comes."""
    _announce_without(pair, "chunking, silent-discard")
    try:
        a_row_of_ours_arrives_each_once(pair, "without chunks")
        wait_for_words(pair.ours, BOB, "C: DATA")
    finally:
        _announce_without(pair, "")


def _announce_without(pair: Peers, keywords: str) -> None:
    """Begun anew, for connections that are kept know what was announced before."""
    assert isinstance(pair.theirs, Postfix)
    pair.theirs.halt()
    pair.theirs.set({"smtpd_discard_ehlo_keywords": keywords})
    pair.theirs.start()


def test_addresses_in_utf8_go_both_ways(pair: Peers) -> None:
    """RFC 6531."""
    sent = "Subject: an die 驿站\r\n\r\nHallo\r\n".encode()
    pair.theirs.submit(f"böb@{THEIRS}", [f"驿站@{OURS}"], sent, ["SMTPUTF8", "BODY=8BITMIME"])
    assert f"Return-Path: <böb@{THEIRS}>\r\n".encode() in wait_for_message(pair.ours, ALICE, "an die 驿站")
    submit(pair.ours, f"böb@{THEIRS}", "für Böb")
    wait_at(pair.theirs, "Subject: für Böb".encode(), user="böb")


def test_postfix_delivers_by_lmtp_and_each_recipient_has_its_answer(pair: Peers) -> None:
    recipients = ["crew@local.test", "stranger@local.test"]
    pair.theirs.submit(BOB, recipients, b"From: bob@theirs.test\r\nSubject: by LMTP\r\n\r\nHello\r\n")
    assert b"with LMTP" in wait_for_message(pair.ours, ALICE, "by LMTP")
    bounce = wait_at(pair.theirs, REPORT, FAILED, b"stranger@local.test")
    assert named(read_report(bounce).of_recipient, "Final-Recipient") == "stranger@local.test"


def test_reports_tell_each_other_s_words(pair: Peers) -> None:
    """Status codes go through both."""
    submit(pair.ours, f"no-such-one@{THEIRS}", "to no such one")
    of_recipient = read_report(wait_for_report(pair.ours, FAILED, f"no-such-one@{THEIRS}".encode())).of_recipient
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ")
    pair.theirs.submit(BOB, [f"no-such-one@{OURS}"], b"Subject: to no such one\r\n\r\nHello\r\n")
    of_recipient = read_report(wait_at(pair.theirs, REPORT, FAILED, f"no-such-one@{OURS}".encode())).of_recipient
    assert of_recipient["Status"] == "5.1.1"
    assert "550 5.1.1" in of_recipient["Diagnostic-Code"]
