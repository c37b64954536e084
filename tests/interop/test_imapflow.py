"""imapflow, which speaks IMAP4rev2 with QRESYNC and COMPRESS by itself, reads, files and searches an account."""

import base64
import smtplib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from bench.posthouse_server import PosthouseServer
from tests.interop.imapflow import Client, Driver
from tests.interop.reading import connect, empty, fill, flags, messages, numbers

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

ALICE, BOB, CAROL = "alice@example.test", "bob@example.test", "carol@example.test"
NAME, WIRE_NAME = "Reisen & 東京/Märkte", "Reisen &- &Z3FOrA-/M&AOQ-rkte"  # modified UTF-7, RFC 3501 §5.1.3
ATTACHMENT = bytes(range(256)) * 20
BOUNDARY = "=_between"


def letter(subject: str, body: str = "Grüße\r\n.\r\n") -> bytes:
    """A message to Alice with 8-bit octets in header and body."""
    return (
        f"From: Bob Müller <{BOB}>\r\nTo: {ALICE}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '.')}@example.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        f"\r\n{body}"
    ).encode()


@pytest.fixture(scope="module")
def driver(server: PosthouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """imapflow, of which a test opens clients."""
    running = Driver(server, tmp_path_factory.mktemp("imapflow"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def alice(server: PosthouseServer, driver: Driver) -> Iterator[Client]:
    """Alice, with an empty INBOX open; imapflow must have had nothing to complain about."""
    empty(server, ALICE)
    client = driver.open("alice", ALICE, qresync=True)
    client.do("mailboxOpen", "INBOX")
    yield client
    client.do("logout")
    assert driver.complaints() == []


def received(server: PosthouseServer, client: Client, letters: Sequence[bytes], names: Sequence[str] = ("",)) -> None:
    """Put letters into Alice's INBOX, flags in turns, and have the client hear of them."""
    fill(server, ALICE, letters, names)
    client.do("noop")


def test_it_speaks_all_it_can(alice: Client) -> None:
    assert {"IMAP4rev2", "QRESYNC", "OBJECTID", "COMPRESS=DEFLATE", "QUOTA"} <= set(alice.capabilities)
    assert {"IMAP4REV2", "CONDSTORE", "QRESYNC"} <= {one.upper() for one in alice.do("enabled")}


def test_it_fetches_what_is_there(server: PosthouseServer, alice: Client) -> None:
    sent = [letter(f"Nr. {n}", f"Zeile {n}\r\n" * (n + 1)) for n in range(20)]
    received(server, alice, sent, ["", r"\Seen $Forwarded"])
    wanted = {"envelope": True, "flags": True, "size": True, "source": True, "internalDate": True, "threadId": True}
    found = alice.do("fetchAll", "1:*", {**wanted, "bodyStructure": True})
    assert [one["source"].encode("latin-1") for one in found] == sent
    assert [(one["uid"], one["size"]) for one in found] == numbers(server, ALICE)
    assert [one["envelope"]["subject"] for one in found] == [f"Nr. {n}" for n in range(20)]
    assert found[0]["envelope"]["from"] == [{"name": "Bob Müller", "address": BOB}]
    assert {tuple(sorted(one["flags"])) for one in found} == {(), ("$Forwarded", r"\Seen")}
    assert {(one["bodyStructure"]["type"], one["bodyStructure"]["encoding"]) for one in found} == {
        ("text/plain", "8bit")
    }
    assert len({one["emailId"] for one in found}) == 20
    assert len({one["threadId"] for one in found}) == 20


def test_it_downloads_an_attachment(server: PosthouseServer, driver: Driver, alice: Client) -> None:
    text = f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nSee there\r\n"
    encoded = base64.encodebytes(ATTACHMENT).decode().replace("\n", "\r\n")
    part = (
        f"--{BOUNDARY}\r\nContent-Type: application/octet-stream; name=a.bin\r\n"
        f"Content-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}"
    )
    head = f'Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{BOUNDARY}"\r\n\r\n'
    received(server, alice, [f"{head}{text}{part}--{BOUNDARY}--\r\n".encode()])
    found = alice.do("downloadMany", "1", ["1", "2"])
    assert found["1"]["content"] == "See there"
    assert found["2"]["content"].encode("latin-1") == ATTACHMENT
    assert found["2"]["meta"]["filename"] == "a.bin"


def test_it_appends(server: PosthouseServer, alice: Client) -> None:
    answer = alice.do("append", "INBOX", letter("appended").decode(), [r"\Seen", "$Important"])
    assert flags(server, ALICE) == {letter("appended"): {rb"\Seen", b"$Important"}}
    assert (answer["uid"], answer["seq"]) == (numbers(server, ALICE)[0][0], 1)


def test_it_marks_files_copies_and_deletes(server: PosthouseServer, alice: Client) -> None:
    first, second, third = sent = [letter(f"filed {n}") for n in range(3)]
    received(server, alice, sent)
    alice.do("messageFlagsAdd", "1:2", [r"\Flagged", "own-keyword"])
    alice.do("messageFlagsRemove", "2", [r"\Flagged"])
    alice.do("messageFlagsSet", {"subject": "filed 2"}, [r"\Answered"])
    assert flags(server, ALICE) == {
        first: {rb"\Flagged", b"own-keyword"},
        second: {b"own-keyword"},
        third: {rb"\Answered"},
    }
    alice.do("mailboxCreate", "Filed")
    moved = alice.do("messageMove", "1", "Filed")
    copied = alice.do("messageCopy", {"answered": True}, "Filed")
    assert (len(moved["uidMap"]), len(copied["uidMap"])) == (1, 1)
    assert alice.do("messageDelete", {"keyword": "own-keyword"}) is True
    assert messages(server, ALICE) == [third]
    with connect(server, ALICE) as client:
        client.select("Filed")
        shown = client.fetch("1:*", "(UID BODY.PEEK[])")[1]
    assert [part[1] for part in shown if isinstance(part, tuple)] == [first, third]
    uids = [int(part[0].split()[2]) for part in shown if isinstance(part, tuple)]
    assert uids == [*moved["uidMap"].values(), *copied["uidMap"].values()]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"subject": "kälte"}, [2]),
        ({"body": "東京"}, [3]),
        ({"or": [{"subject": "WÄRME"}, {"flagged": True}]}, [1, 2]),
        ({"not": {"from": "müller"}}, []),
        ({"seen": False, "larger": 300}, [1]),
        ({"header": {"Message-ID": "<Licht@example.test>"}}, [3]),
        ({"sentSince": "2026-11-21", "sentBefore": "2026-11-22"}, [1, 2, 3]),
        ({"modseq": 1}, [1, 2, 3]),
    ],
)
def test_the_server_searches(
    server: PosthouseServer, alice: Client, criteria: dict[str, Any], expected: list[int]
) -> None:
    sent = [letter("Wärme", "warm\r\n" * 40), letter("Kälte"), letter("Licht", "in 東京\r\n")]
    received(server, alice, sent, ["", r"\Flagged \Seen", r"\Seen"])
    assert alice.do("search", criteria) == expected


def test_folders(server: PosthouseServer, alice: Client) -> None:
    made = alice.do("mailboxCreate", NAME)
    assert made["created"] is True
    alice.do("mailboxSubscribe", NAME)
    alice.do("append", NAME, letter("far away").decode())
    with connect(server, ALICE) as client:
        assert client.select(f'"{WIRE_NAME}"') == ("OK", [b"1"])
    query = {"messages": True, "unseen": True, "size": True, "uidNext": True, "highestModseq": True}
    listed = {one["path"]: one for one in alice.do("list", {"statusQuery": query})}
    assert (listed[NAME]["subscribed"], listed[NAME]["delimiter"], listed[NAME]["name"]) == (True, "/", "Märkte")
    status = listed[NAME]["status"]
    assert (status["messages"], status["unseen"], status["size"]) == (1, 1, len(letter("far away")))
    assert alice.do("status", NAME, query) == status
    uses = {one["specialUse"]: one["path"] for one in listed.values() if "specialUse" in one}
    assert uses == {r"\Inbox": "INBOX"} | {rf"\{use}": use for use in ("Archive", "Drafts", "Junk", "Sent", "Trash")}

    alice.do("mailboxRename", NAME, "Später")
    alice.do("mailboxDelete", "Später")
    with connect(server, ALICE) as client:
        assert client.list(pattern='"Sp*"')[1] == [None]


def test_it_hears_of_what_happens_while_it_idles(server: PosthouseServer, driver: Driver, alice: Client) -> None:
    """What comes by SMTP, what another client marks, and what goes."""
    received(server, alice, [letter("to be removed")])
    idling = driver.open("idling", ALICE, qresync=True, autoIdleDelay=1)
    try:
        idling.do("mailboxOpen", "INBOX")
        with smtplib.SMTP(server.address, server.ports["smtp"], timeout=60) as stranger:
            stranger.sendmail(BOB, [ALICE], letter("by SMTP"))
        assert idling.hears("exists")["count"] == 2
        alice.do("noop")
        alice.do("messageFlagsAdd", "2", [r"\Flagged"])
        marked = idling.hears("flags")
        assert (marked["seq"], marked["flags"]) == (2, [r"\Flagged"])
        gone = numbers(server, ALICE)[0][0]
        alice.do("messageDelete", "1")
        assert idling.hears("expunge") == {"path": "INBOX", "uid": gone, "vanished": True, "earlier": False}
    finally:
        idling.do("logout")


def test_who_was_away_is_told_what_changed_and_what_went(
    server: PosthouseServer, driver: Driver, alice: Client
) -> None:
    """FETCH with CHANGEDSINCE and VANISHED, RFC 7162 §3.2.6."""
    received(server, alice, [letter(f"away {n}") for n in range(5)])
    known = alice.do("mailboxOpen", "INBOX")["highestModseq"]
    uids = [uid for uid, _ in numbers(server, ALICE)]
    with connect(server, ALICE) as other:
        other.store("2", "+FLAGS", r"(\Seen)")
        other.store("4", "+FLAGS", r"(\Deleted)")
        other.expunge()
    back = driver.open("back", ALICE, qresync=True)
    try:
        back.do("mailboxOpen", "INBOX")
        changed = back.do("fetchAll", "1:*", {"flags": True}, {"uid": True, "changedSince": known})
        assert [(one["uid"], one["flags"]) for one in changed] == [(uids[1], [r"\Seen"])]
        assert back.hears("expunge") == {"path": "INBOX", "uid": uids[3], "vanished": True, "earlier": True}
    finally:
        back.do("logout")


def test_quota_is_told(server: PosthouseServer, alice: Client) -> None:
    received(server, alice, [letter("heavy", "x" * 70 + "\r\n" * 2000)])
    server.command("account", "quota", ALICE, "10MB")
    try:
        told = alice.do("getQuota", "INBOX")
    finally:
        server.command("account", "quota", ALICE, "none")
    assert told["storage"]["limit"] == 10 * 1024 * 1024
    assert told["storage"]["usage"] > 0
