"""What any mail server and posthouse do with each other: a suite that each peer's tests run whole."""

import time
from collections.abc import Callable
from typing import Final

from bench.peers.waiting import wait_until
from tests.interop.pairs import (
    ALICE,
    BOB,
    DELAY_SECONDS,
    OURS,
    SECONDS,
    THEIRS,
    Peers,
    Status,
    named,
    read_report,
    submit,
    wait_at,
    wait_for_report,
)
from tests.interop.reading import messages, wait_for_message

REPORT: Final = b"message/delivery-status"
# A slow machine is late enough for everybody to tell of a delay, too.
FAILED: Final = b"\nAction: failed"
DELAYED: Final = b"\nAction: delayed"
ENVELOPE_ID: Final = "QQ314159"


# --- mail


def they_send_over_tls(pair: Peers) -> None:
    """With octets above 127 and lines of dots."""
    sent = b"Subject: to Alice\r\nFrom: bob@theirs.test\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n..\r\n"
    pair.theirs.submit(BOB, [ALICE], sent, ["BODY=8BITMIME"])
    found = wait_for_message(pair.ours, ALICE, "to Alice")
    assert found.endswith(b"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n..\r\n")
    assert b"TLSv1.3" in found.partition(b"\r\nReceived: ")[2].partition(b"\r\nReceived: ")[0]


def we_send(pair: Peers) -> None:
    """With octets above 127 and lines of dots."""
    submit(pair.ours, BOB, "to Bob", body="Füße\r\n.\r\n..\r\n")
    found = wait_at(pair.theirs, b"Subject: to Bob")
    assert found.endswith("\n\nFüße\n.\n..\n".encode())


def ten_megabytes_go_both_ways(pair: Peers) -> None:
    body = ("." + "0123456789" * 7 + "\r\n") * (10_000_000 // 73)
    submit(pair.ours, BOB, "ten megabytes out", body=body)
    assert wait_at(pair.theirs, b"ten megabytes out").endswith(body.replace("\r\n", "\n").encode())
    pair.theirs.submit(BOB, [ALICE], b"From: a@b.test\r\nSubject: ten megabytes in\r\n\r\n" + body.encode())
    assert wait_for_message(pair.ours, ALICE, "ten megabytes in").endswith(body.encode())


def one_of_two_recipients_is_refused(pair: Peers) -> None:
    """The other has the message, and the sender hears of the one."""
    submit(pair.ours, [BOB, f"not-bob@{THEIRS}"], "to two of them")
    wait_at(pair.theirs, b"Subject: to two of them")
    of_recipient = read_report(wait_for_report(pair.ours, FAILED, f"not-bob@{THEIRS}".encode())).of_recipient
    assert named(of_recipient, "Final-Recipient") == f"not-bob@{THEIRS}"
    pair.theirs.submit(BOB, [ALICE, f"not-alice@{OURS}"], b"Subject: to two of us\r\n\r\nHello\r\n")
    wait_for_message(pair.ours, ALICE, "to two of us")
    of_recipient = read_report(
        wait_at(pair.theirs, REPORT, FAILED, f"not-alice@{OURS}".encode()), pair.theirs.reports
    ).of_recipient
    assert named(of_recipient, "Final-Recipient") == f"not-alice@{OURS}"


def a_row_of_ours_arrives_each_once(pair: Peers, subject: str = "in a row") -> None:
    """On few connections, one behind the other, also behind one that nobody there takes."""
    pair.ours.command("queue", "hold", "--destination", THEIRS)
    try:
        for number in range(12):
            to = f"nobody-of-the-row@{THEIRS}" if number == 5 else BOB
            submit(pair.ours, to, f"{subject}, number {number};", body="Hello\r\n.\r\n" * number)
    finally:
        pair.ours.command("queue", "release", "--destination", THEIRS)
    for number in {*range(12)} - {5}:
        found = wait_at(pair.theirs, f"Subject: {subject}, number {number};".encode())
        assert found.rstrip(b"\n").endswith((b"Hello\n.\n" * number).rstrip(b"\n"))
    wait_for_report(pair.ours, FAILED, f"{subject}, number 5;".encode())


def each_waits_for_the_other(pair: Peers) -> None:
    """And each tells a sender who wants to hear of it."""
    pair.theirs.halt()
    try:
        submit(pair.ours, BOB, "you were away", recipient_options=["NOTIFY=DELAY"])
        wait_until(lambda: "refused" in pair.ours.command("queue", "list"), SECONDS, "a first attempt in vain")
        _is_delayed(read_report(wait_for_report(pair.ours, DELAYED, b"you were away", seconds=DELAY_SECONDS)), BOB)
    finally:
        pair.theirs.start()
    wait_at(pair.theirs, b"Subject: you were away")
    pair.ours.terminate()
    sent = b"From: a@ours.test\r\nSubject: so were you\r\n\r\nHello\r\n"
    pair.theirs.submit(ALICE, [ALICE], sent, (), ["NOTIFY=DELAY"])

    def is_told() -> bool:
        return pair.theirs.holds(REPORT, b"so were you")

    def arrived() -> bool:
        return _have(pair, b"\r\nSubject: so were you", b"\r\n\r\nHello") and _have(pair, REPORT, b"so were you")

    # Without, Postfix takes up to a minute: mail that it finds locked by the attempt before is laid aside for so long.
    try:
        wait_until(is_told, SECONDS, "word of mail that waits", pause=0.2, meanwhile=_now_and_then(pair.theirs.hurry))
    finally:
        pair.ours.start()
    wait_until(arrived, SECONDS, "mail that waited, and word of it", pause=0.5, meanwhile=pair.theirs.hurry)
    _is_delayed(read_report(wait_for_report(pair.ours, DELAYED, b"so were you"), pair.theirs.reports), ALICE)


def _now_and_then(act: Callable[[], None], seconds: float = 4) -> Callable[[], None]:
    """Not more often: OpenSMTPD, when it is hurried, forgets that a way has failed, and so never tells of it."""
    due = 0.0

    def when_due() -> None:
        nonlocal due
        if time.monotonic() >= due:
            act()
            due = time.monotonic() + seconds

    return when_due


def _have(pair: Peers, *wanted: bytes) -> bool:
    return any(all(one in octets for one in wanted) for octets in messages(pair.ours, ALICE))


# --- reports (RFC 3464, RFC 3461)


def a_bounce_of_ours_is_read_there(pair: Peers) -> None:
    """They hand us mail that we accept and that then fails: an alias of ours to an unknown user of theirs."""
    pair.theirs.submit(BOB, [f"astray@{OURS}"], b"Subject: astray\r\n\r\nHello\r\n")
    of_message, of_recipient, _ = read_report(wait_at(pair.theirs, REPORT, FAILED, b"astray"))
    assert of_message["Reporting-MTA"] == f"dns; mail.{OURS}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"].startswith("5.")
    assert named(of_recipient, "Final-Recipient") == f"nobody-here@{THEIRS}"
    assert of_recipient["Remote-MTA"] == f"dns; mail.{THEIRS}"
    assert of_recipient["Diagnostic-Code"].startswith("smtp; 5")


def a_bounce_of_theirs_is_read_here(pair: Peers) -> None:
    """They take mail in Alice's name for somebody whom we then refuse."""
    pair.theirs.submit(ALICE, [f"unknown@{OURS}"], b"Subject: nobody there\r\n\r\nHello\r\n")
    bounce = wait_for_report(pair.ours, FAILED, f"unknown@{OURS}".encode())
    assert bounce.startswith(b"Return-Path: <>\r\n")
    of_message, of_recipient, _ = read_report(bounce, pair.theirs.reports)
    assert of_message["Reporting-MTA"] == f"dns; mail.{THEIRS}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"].startswith("5.")
    assert named(of_recipient, "Final-Recipient") == f"unknown@{OURS}"


def we_bounce_what_they_refuse(pair: Peers) -> None:
    submit(pair.ours, f"no-such-user@{THEIRS}", "to nobody")
    of_recipient = read_report(wait_for_report(pair.ours, FAILED, f"no-such-user@{THEIRS}".encode())).of_recipient
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"].startswith("5.")
    assert named(of_recipient, "Final-Recipient") == f"no-such-user@{THEIRS}"


def our_success_is_told_there(pair: Peers) -> None:
    """What we filed, with the envelope's id and the address as it was written, by what they carried of the wishes."""
    wishes = ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;First.Alice@{OURS}"]
    sent = b"Subject: tell me\r\n\r\nHello\r\n"
    pair.theirs.submit(BOB, [ALICE], sent, ["RET=HDRS", f"ENVID={ENVELOPE_ID}-in"], wishes)
    wait_for_message(pair.ours, ALICE, "tell me")
    status = read_report(wait_at(pair.theirs, f"{ENVELOPE_ID}-in".encode()))
    assert status.of_message["Reporting-MTA"] == f"dns; mail.{OURS}"
    assert status.of_recipient["Action"] == "delivered"
    assert status.of_recipient["Status"].startswith("2.")
    assert named(status.of_recipient, "Original-Recipient") == f"First.Alice@{OURS}"
    assert named(status.of_recipient, "Final-Recipient") == ALICE
    assert status.returned == "text/rfc822-headers"


def their_success_is_told_here(pair: Peers) -> None:
    wishes = ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;First.Bob@{THEIRS}"]
    submit(pair.ours, BOB, "tell Alice", "Hello\r\n", ["RET=HDRS", f"ENVID={ENVELOPE_ID}-out"], wishes)
    wait_at(pair.theirs, b"Subject: tell Alice")
    status = read_report(wait_for_report(pair.ours, b"Subject: tell Alice"), pair.theirs.reports)
    assert status.of_message["Reporting-MTA"] == f"dns; mail.{THEIRS}"
    assert status.of_recipient["Action"] == "delivered"
    assert status.of_recipient["Status"].startswith("2.")
    assert named(status.of_recipient, "Final-Recipient") == BOB
    if pair.theirs.echoes:
        assert status.of_message["Original-Envelope-Id"] == f"{ENVELOPE_ID}-out"
        assert named(status.of_recipient, "Original-Recipient") == f"First.Bob@{THEIRS}"


def our_delay_is_told_there(pair: Peers) -> None:
    """An alias of ours leads to a host that nobody reaches."""
    wishes = ["NOTIFY=DELAY"]
    pair.theirs.submit(BOB, [f"waiting@{OURS}"], b"Subject: be patient\r\n\r\nHello\r\n", (), wishes)
    status = read_report(wait_at(pair.theirs, REPORT, DELAYED, b"be patient", seconds=DELAY_SECONDS))
    _is_delayed(status, "somebody@dead.test")
    assert status.of_recipient["Will-Retry-Until"]


def nobody_is_told_who_does_not_want_to_hear(pair: Peers) -> None:
    """NOTIFY=NEVER holds through both: what is told of the next is told, and of this nothing."""
    for wish, name in (("NEVER", "silent"), ("FAILURE", "loud")):
        submit(pair.ours, f"{name}@{THEIRS}", f"a {name} one", recipient_options=[f"NOTIFY={wish}"])
        sent = f"Subject: a {name} one\r\n\r\nHello\r\n".encode()
        pair.theirs.submit(BOB, [f"{name}@{OURS}"], sent, (), [f"NOTIFY={wish}"])
    wait_for_report(pair.ours, f"loud@{THEIRS}".encode())
    wait_at(pair.theirs, REPORT, f"loud@{OURS}".encode())
    assert not _have(pair, REPORT, b"silent@")
    assert not any(b"silent@" in octets for octets in pair.theirs.mailbox("bob"))


def _is_delayed(status: Status, recipient: str) -> None:
    assert status.of_recipient["Action"] == "delayed"
    assert status.of_recipient["Status"].startswith("4.")
    assert named(status.of_recipient, "Final-Recipient") == recipient


CONTRACT: Final[tuple[Callable[[Peers], None], ...]] = (
    they_send_over_tls,
    we_send,
    ten_megabytes_go_both_ways,
    a_row_of_ours_arrives_each_once,
    one_of_two_recipients_is_refused,
    a_bounce_of_ours_is_read_there,
    a_bounce_of_theirs_is_read_here,
    we_bounce_what_they_refuse,
    our_success_is_told_there,
    their_success_is_told_here,
    our_delay_is_told_there,
    nobody_is_told_who_does_not_want_to_hear,
    each_waits_for_the_other,
)


def name(behaviour: Callable[[Peers], None]) -> str:
    """What a test is called by."""
    return behaviour.__name__
