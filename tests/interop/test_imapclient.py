"""A script with Python's IMAPClient: what somebody automates with an account."""

import datetime
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.packages import python_package
from tests.interop.reading import connect, empty, fill, flags, messages, numbers, trusting

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

BOB = "bob@example.test"
REQUIREMENT = "IMAPClient==4.1.0 --hash=sha256:5fd62ab2a099494ed2a5a21e7bda03c1e99e3d55bdedb4e9c12c8176873a8fe4"
NAME, WIRE_NAME = "Gärten/東京", "G&AOQ-rten/&Z3FOrA-"  # modified UTF-7, RFC 3501 §5.1.3
DATES = ("Sat, 21 Nov 2026 12:00:00 +0000", "Fri, 20 Nov 2026 10:00:00 +0000", "Sat, 21 Nov 2026 10:00:00 +0000")


def letter(subject: str, *fields: str, date: str = DATES[0]) -> bytes:
    """A message with 8-bit octets in header and body."""
    head = ("From: Écrivain <writer@elsewhere.test>", f"To: {BOB}", f"Subject: {subject}", f"Date: {date}", *fields)
    return "\r\n".join([*head, "", f"Ärger mit {subject}", ".", "..two dots", ""]).encode()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package."""
    return python_package("imapclient", REQUIREMENT, tmp_path_factory.mktemp("imapclient"))


@pytest.fixture
def bob(server: PosthouseServer, module: Any) -> Iterator[Any]:
    """Bob's INBOX, empty and open. IMAPClient raises an error where a command is refused."""
    empty(server, BOB)
    client = module.IMAPClient(server.address, port=server.ports["imaps"], ssl_context=trusting(server), timeout=60)
    try:
        client.login(BOB, PASSWORD)
        assert client.enable("CONDSTORE") == [b"CONDSTORE"]
        client.select_folder("INBOX")
        yield client
        client.noop()
    finally:
        client.shutdown()


def received(server: PosthouseServer, client: Any, letters: Sequence[bytes], names: Sequence[str] = ("",)) -> None:
    """Put letters into Bob's INBOX, flags in turns, and have the client hear of them."""
    fill(server, BOB, letters, names)
    client.noop()


def test_folders(server: PosthouseServer, module: Any, bob: Any) -> None:
    bob.create_folder(NAME)
    bob.append(NAME, letter("far away"))
    with connect(server, BOB) as client:
        assert client.select(f'"{WIRE_NAME}"') == ("OK", [b"1"])
    assert [one for one in bob.list_folders("Gärten/") if one[2] == NAME] == [((rb"\HasNoChildren",), b"/", NAME)]
    bob.subscribe_folder(NAME)
    assert NAME in [one[2] for one in bob.list_sub_folders()]
    bob.unsubscribe_folder(NAME)
    assert NAME not in [one[2] for one in bob.list_sub_folders()]
    assert bob.folder_status(NAME, ["MESSAGES", "SIZE"]) == {b"MESSAGES": 1, b"SIZE": len(letter("far away"))}
    bob.rename_folder("Gärten", "Parks")
    assert bob.folder_exists("Parks/東京")
    bob.delete_folder("Parks/東京")
    bob.delete_folder("Parks")
    with connect(server, BOB) as client:
        assert client.list(pattern='"Parks*"')[1] == [None]
    assert bob.find_special_folder(module.imapclient.SENT) == "Sent"
    assert bob.namespace().personal == (("", "/"),)


def test_flags(server: PosthouseServer, bob: Any) -> None:
    first, second = letter("one"), letter("two")
    appended = re.search(rb"APPENDUID \d+ (\d+)", bob.append("INBOX", first, [rb"\Flagged"]))
    assert appended
    uid = int(appended[1])
    bob.append("INBOX", second, [b"$Forwarded"], datetime.datetime(2026, 11, 20, 10, tzinfo=datetime.UTC))
    assert bob.add_flags(uid, ["own-keyword", rb"\Seen"]) == {uid: (rb"\Seen", rb"\Flagged", b"own-keyword")}
    bob.remove_flags(uid, [rb"\Flagged"])
    assert flags(server, BOB) == {first: {rb"\Seen", b"own-keyword"}, second: {b"$Forwarded"}}
    assert bob.get_flags([uid]) == {uid: (rb"\Seen", b"own-keyword")}
    bob.set_flags(uid, [], silent=True)
    assert flags(server, BOB)[first] == frozenset()
    (dated,) = bob.search(["KEYWORD", "$Forwarded"])
    assert bob.fetch(dated, ["INTERNALDATE"])[dated][b"INTERNALDATE"].date() == datetime.date(2026, 11, 20)


def test_what_is_fetched(server: PosthouseServer, bob: Any) -> None:
    reply = letter("eins", "Message-ID: <1@a.test>", "In-Reply-To: <0@a.test>", "Cc: Group: a@b.test, c@d.test;")
    received(server, bob, [reply])
    (uid,) = bob.search()
    wanted = ["ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "BODY[]", "BODY[HEADER.FIELDS (SUBJECT)]", "FLAGS"]
    (shown,) = bob.fetch([uid], wanted).values()
    assert shown[b"BODY[]"] == messages(server, BOB)[0] == reply
    assert (shown[b"RFC822.SIZE"], shown[b"BODY[HEADER.FIELDS (SUBJECT)]"]) == (len(reply), b"Subject: eins\r\n\r\n")
    envelope = shown[b"ENVELOPE"]
    assert (envelope.subject, envelope.message_id, envelope.in_reply_to) == (b"eins", b"<1@a.test>", b"<0@a.test>")
    assert [(one.mailbox, one.host) for one in envelope.cc if one.host] == [(b"a", b"b.test"), (b"c", b"d.test")]
    assert shown[b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
    assert not shown[b"BODYSTRUCTURE"].is_multipart
    extended = bob.fetch(uid, ["PREVIEW", "EMAILID", "THREADID", "SAVEDATE", "BODY.PEEK[TEXT]<0.5>"])[uid]
    assert extended[b"PREVIEW"].decode() == "Ärger mit eins . ..two dots"
    assert extended[b"BODY[TEXT]<0>"] == "Ärge".encode()


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ([b"UNSEEN"], "b c"),
        (["SUBJECT", "wärme"], "a"),
        (["OR", "BODY", "東京", "FLAGGED"], "b c"),
        (["NOT", ["SEEN", "SINCE", datetime.date(2001, 11, 20)]], "b c"),
        (["SENTON", datetime.date(2026, 11, 20)], "b"),
    ],
)
def test_the_server_searches(server: PosthouseServer, bob: Any, criteria: list[Any], expected: str) -> None:
    sent = [letter(s, date=date) for s, date in zip(("Wärme", "Kälte", "東京"), DATES, strict=True)]
    received(server, bob, sent, [r"\Seen", r"\Flagged", ""])
    names = dict(zip((uid for uid, _ in numbers(server, BOB)), "abc", strict=True))
    assert " ".join(names[uid] for uid in bob.search(criteria, "UTF-8")) == expected


def test_the_server_sorts_and_threads(server: PosthouseServer, bob: Any) -> None:
    sent = [
        letter("Re: pears", "Message-ID: <3@a.test>", "References: <1@a.test> <2@a.test>", date=DATES[0]),
        letter("pears", "Message-ID: <1@a.test>", date=DATES[1]),
        letter("apples", "Message-ID: <9@a.test>", date=DATES[2]),
        letter("Re: pears", "Message-ID: <2@a.test>", "References: <1@a.test>", date=DATES[2]),
    ]
    received(server, bob, sent)
    names = dict(zip((uid for uid, _ in numbers(server, BOB)), "cape", strict=True))

    def named(found: Any) -> Any:
        return names[found] if isinstance(found, int) else tuple(named(one) for one in found)

    assert named(bob.sort(["SUBJECT", "REVERSE ARRIVAL"])) == ("p", "e", "a", "c")
    assert named(bob.sort("REVERSE DATE", ["SUBJECT", "pears"])) == ("c", "e", "a")
    assert named(bob.thread("REFERENCES")) == (("a", "e", "c"), ("p",))
    assert named(bob.thread("ORDEREDSUBJECT", ["SUBJECT", "pears"])) == (("a", ("e",), ("c",)),)


def test_only_what_changed_is_fetched(server: PosthouseServer, bob: Any) -> None:
    received(server, bob, [letter(str(n)) for n in range(5)])
    before = bob.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"]
    with connect(server, BOB) as other:
        other.store("4", "+FLAGS", r"(\Answered)")
    uid = numbers(server, BOB)[3][0]
    (changed,) = bob.fetch(bob.search(), ["FLAGS"], [f"CHANGEDSINCE {before}"]).items()
    assert (changed[0], changed[1][b"FLAGS"]) == (uid, (rb"\Answered",))
    assert changed[1][b"MODSEQ"] == (bob.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"],)
    assert bob.search(["MODSEQ", str(before + 1)]) == [uid]


def test_messages_are_moved_copied_and_removed(server: PosthouseServer, bob: Any) -> None:
    sent = [letter(str(n)) for n in range(5)]
    bob.multiappend("INBOX", sent)
    assert messages(server, BOB) == sent
    first, second, third, fourth, _ = bob.search()
    if not bob.folder_exists("Bob's"):
        bob.create_folder("Bob's")
    bob.move([first, second], "Bob's")
    bob.copy([third], "Bob's")
    bob.delete_messages([third, fourth])
    bob.uid_expunge([fourth])
    assert set(messages(server, BOB)) == {sent[2], sent[4]}
    bob.expunge()
    assert messages(server, BOB) == [sent[4]]
    bob.select_folder("Bob's", readonly=True)
    assert [one[b"BODY[]"] for one in bob.fetch(bob.search(), ["BODY.PEEK[]"]).values()] == sent[:3]
    bob.unselect_folder()
    bob.delete_folder("Bob's")


def test_news_are_heard_while_idling(server: PosthouseServer, bob: Any) -> None:
    bob.idle()
    heard: list[Any] = []

    def hears(kind: bytes) -> Any:
        while not (found := [one for one in heard if one[1] == kind]):
            told = bob.idle_check(timeout=60)
            assert told, f"nothing came but {heard}"
            heard.extend(told)
        return found[0]

    fill(server, BOB, [letter("news")])
    assert hears(b"EXISTS") == (1, b"EXISTS")
    with connect(server, BOB) as other:
        other.store("1", "+FLAGS", r"(\Flagged)")
        number, _, words = hears(b"FETCH")
        assert (number, dict(zip(words[::2], words[1::2], strict=True))[b"FLAGS"]) == (1, (rb"\Flagged",))
        other.store("1", "+FLAGS", r"(\Deleted)")
        other.expunge()
    assert hears(b"EXPUNGE") == (1, b"EXPUNGE")
    bob.idle_done()
    assert bob.search() == []


def test_quota_is_told(server: PosthouseServer, bob: Any) -> None:
    server.command("account", "quota", BOB, "10MB", "--emails", "7000")
    try:
        (root, limits) = bob.get_quota_root("INBOX")
    finally:
        server.command("account", "quota", BOB)
    assert root.mailbox == "INBOX"
    assert {(one.resource, one.limit) for one in limits} == {("STORAGE", 10 * 1024), ("MESSAGE", 7000)}
    assert {one.quota_root for one in limits} == set(root.quota_roots)
