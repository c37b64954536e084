"""A real Exim on loopback sends to posthouse and receives from it, each with all that it announces: TLS, PIPELINING,
CHUNKING, SMTPUTF8, DSN."""

import re
from collections.abc import Callable

import pytest

from bench.peers.exim import Exim
from tests.interop.contract import CONTRACT, name
from tests.interop.pairs import (
    ALICE,
    BOB,
    OUR_ADDRESS,
    OURS,
    THEIR_ADDRESS,
    THEIRS,
    Peers,
    Setting,
    pair_with,
    submit,
    wait_at,
)
from tests.interop.reading import wait_for_message

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


def exim(setting: Setting) -> Exim:
    """Their side, which sends no mail to other hosts without TLS, and is impatient."""
    theirs = Exim(
        domain=THEIRS,
        users=["bob", "böb"],
        address=THEIR_ADDRESS,
        port=setting.port,
        route=(OUR_ADDRESS, setting.port),
        settings={"delay_warning": "1s:1h"},
    )
    theirs.certificate(setting.certificate.certificate, setting.certificate.key)
    return theirs


pair = pair_with(exim)


@pytest.mark.parametrize("behaviour", CONTRACT, ids=name)
def test_contract(pair: Peers, behaviour: Callable[[Peers], None]) -> None:
    behaviour(pair)


def test_we_encrypt(pair: Peers) -> None:
    submit(pair.ours, BOB, "encrypted")
    assert b"(TLS1.3)" in wait_at(pair.theirs, b"Subject: encrypted").partition(b"\n\n")[0]


def test_chunks_and_pipelines_both_ways(pair: Peers) -> None:
    """RFC 3030, RFC 2920: in its log " K " stands for BDAT, " L" for a pipeline ("L." adds what nobody else speaks)."""
    submit(pair.ours, BOB, "in chunks out", body="Hello\r\n" * 100_000)
    wait_at(pair.theirs, b"Subject: in chunks out")
    pair.theirs.wait_for_log(r"<= alice@ours.test .* L\. .* K S=\d{6} ")
    pair.theirs.submit(BOB, [ALICE], b"Subject: in chunks in\r\n\r\n" + b"Hello\r\n" * 100_000)
    taken = wait_for_message(pair.ours, ALICE, "in chunks in")
    assert taken.endswith(b"\r\n\r\n" + b"Hello\r\n" * 100_000)
    (id_of_ours,) = re.findall(rb"\(posthouse\) with \S+ \(.*\) id (\w+)", taken)
    pair.theirs.wait_for_log(rf'=> {ALICE} .* L K C="250 2.0.0 Taken as {id_of_ours.decode()}"')


def test_addresses_in_utf8_go_both_ways(pair: Peers) -> None:
    """RFC 6531."""
    sent = "Subject: an die 驿站\r\n\r\nHallo\r\n".encode()
    pair.theirs.submit(f"böb@{THEIRS}", [f"驿站@{OURS}"], sent, ["SMTPUTF8", "BODY=8BITMIME"])
    assert f"Return-Path: <böb@{THEIRS}>\r\n".encode() in wait_for_message(pair.ours, ALICE, "an die 驿站")
    submit(pair.ours, f"böb@{THEIRS}", "für Böb")
    wait_at(pair.theirs, "Subject: für Böb".encode(), user="böb")
