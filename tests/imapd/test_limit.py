"""A limit on the messages of one command (RFC 9738) where it takes a client, much mail, or none; the rest is in the
transcripts `message_limit*`."""

import asyncio
import imaplib
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import limits
from posthouse.config import reading
from posthouse.config.errors import ConfigError
from posthouse.imapd import limit
from posthouse.imapd.session import Session
from posthouse.mailbox import conditions, ranges
from posthouse.mailbox.conditions import Condition
from posthouse.store.blobs import Blobs
from tests.doors.house import ALICE, BOB, MESSAGE, PASSWORD, House, ImapClient, in_house, message
from tests.harness import PASSWORD as HOME_PASSWORD
from tests.harness import house
from tests.support import run

_FETCHED = re.compile(rb"(?:\* )?\d+ (?:FETCH )?\(UID (\d+)")


def uid_of(line: bytes) -> int:
    """What a FETCH response is about."""
    found = _FETCHED.match(line)
    assert found is not None, line
    return int(found[1])


def session(most: int, uids: Sequence[int] = ()) -> Session:
    """As much of one as a limit looks at."""
    view = SimpleNamespace(uid=lambda seq: uids[seq - 1])
    return cast(Session, SimpleNamespace(around=SimpleNamespace(message_limit=most), open=SimpleNamespace(view=view)))


UIDS = st.lists(st.integers(1, 200), unique=True, max_size=60).map(sorted)


@given(UIDS, st.integers(0, 20), st.data())
def test_the_last_so_many_are_kept_and_the_lowest_is_told(uids: list[int], most: int, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(range(1, len(uids) + 1)), unique=True)) if uids else []
    kept, code = limit.last(session(most, uids), ranges.spans(asked))
    assert ranges.expand(kept) == sorted(asked)[-most:]
    if not most or len(asked) <= most:
        assert code == b""
    else:
        assert code == b"MESSAGELIMIT %d %d" % (most, uids[sorted(asked)[-most] - 1])
    assert limit.last_uids(session(most), uids)[0] == uids[-most:]


_BOUNDS = st.lists(st.integers(1, 200), max_size=40).map(lambda found: conditions.Uids(tuple(ranges.spans(found))))
_CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    _BOUNDS | st.just(conditions.Deleted()) | _BOUNDS.map(conditions.Not),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: conditions.And(tuple(parts))),
    max_leaves=4,
)


@given(UIDS, st.integers(0, 20), _CONDITIONS)
def test_a_search_begins_where_so_many_are_left_to_look_through(
    uids: list[int], most: int, condition: Condition
) -> None:
    first, code = limit.last_searched(session(most), condition, uids)
    looked = [uid for uid in uids if _may_hold(condition, uid)]
    left = [uid for uid in looked if bisect_left(uids, uid) >= first]
    assert left == looked[-most:]
    assert code == (b"MESSAGELIMIT %d %d" % (most, left[0]) if most and len(looked) > most else b"")


def _may_hold(condition: Condition, uid: int) -> bool:
    """By what it says of uids at its top."""
    match condition:
        case conditions.Uids(found):
            return any(low <= uid <= high for low, high in found)
        case conditions.And(parts):
            return all(_may_hold(part, uid) for part in parts)
        case _:
            return True


def test_an_append_takes_no_more_than_the_writer_holds() -> None:
    assert limit.appends(session(0)) == (limits.IMAP_APPENDS, b"LIMIT")
    assert limit.appends(session(3)) == (3, b"MESSAGELIMIT 3")
    assert limit.appends(session(10_000)) == (limits.IMAP_APPENDS, b"MESSAGELIMIT %d" % limits.IMAP_APPENDS)


def test_without_a_limit_nothing_is_told_of_one(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        for number in range(1, 6):
            await house.file(message(number))
        said = await client.ok("CAPABILITY")
        for command in ("FETCH 1:* UID", "UID SEARCH ALL", "STORE 1:* +FLAGS.SILENT (\\Deleted)", "COPY 1:* Archive"):
            said += await client.say(command)
        said += await client.say("UID EXPUNGE 1:*")
        assert b"* SEARCH 1 2 3 4 5" in said
        assert not any(b"LIMIT" in line.replace(b"APPENDLIMIT", b"") for line in said)

    in_house(tmp_path, test)


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[Callable[[int], None], int, int], None]:
    """Lets a client use a mailbox of so many messages, by so many at once."""

    def play(use: Callable[[int], None], count: int, most: int) -> None:
        async def test(house: House) -> None:
            for number in range(1, count + 1):
                await house.file(message(number))
            await asyncio.to_thread(use, house.imap_port)

        in_house(tmp_path, test, message_limit=most)

    return play


def cut(client: imaplib.IMAP4) -> tuple[int, int] | None:
    """What the last command's answer said of the limit."""
    (said,) = client.response("MESSAGELIMIT")[1]
    if said is None:
        return None
    most, lowest = said.split()
    return int(most), int(lowest)


Filled = Callable[[Callable[[int], None], int, int], None]


def test_imaplib_pages_through_a_mailbox(filled: Filled) -> None:
    """A client that goes on below what it was told sees every message once, and each page from the top."""

    def use(port: int) -> None:
        with imaplib.IMAP4("127.0.0.1", port, timeout=20) as client:
            client.login(ALICE, PASSWORD)
            announced = client.capability()[1][0].split()
            most = next(int(word.partition(b"=")[2]) for word in announced if word.startswith(b"MESSAGELIMIT="))
            client.select("INBOX")
            pages: list[list[int]] = []
            below = 0
            while True:
                lines = client.uid("FETCH", f"1:{below - 1 or '*'}" if below else "1:*", "(FLAGS)")[1]
                pages.append([uid_of(line) for line in lines])
                found = cut(client)
                if found is None:
                    break
                below = found[1]
                assert (most, pages[-1][-1]) == found
            assert [len(page) for page in pages] == [10, 10, 3]
            assert pages[0] == list(range(23, 13, -1))
            assert sorted(chain(*pages)) == list(range(1, 24))

    filled(use, 23, 10)


def test_imaplib_searches_flags_and_moves_all_of_a_mailbox(filled: Filled) -> None:
    def use(port: int) -> None:
        with imaplib.IMAP4("127.0.0.1", port, timeout=20) as client:
            client.login(ALICE, PASSWORD)
            client.select("INBOX")
            found: list[bytes] = []
            key, stored = "ALL", "1:*"
            while True:
                found += client.uid("SEARCH", key)[1][0].split()
                told = cut(client)
                if told is None:
                    break
                key = f"UIDBEFORE {told[1]}"
            assert sorted(map(int, found)) == list(range(1, 24))

            rounds = 0
            while True:
                client.uid("STORE", stored, "+FLAGS.SILENT", r"(\Deleted)")
                rounds += 1
                told = cut(client)
                if told is None:
                    break
                stored = f"1:{told[1] - 1}"
            assert rounds == 3

            # RFC 9738 §3.1: these are said again as they were, until nothing is cut.
            for command, rounds in ((("EXPUNGE", "21:*"), 1), (("MOVE", "1:*", "Archive"), 2)):
                assert client.uid(*command)[0] == "OK"
                for _ in range(rounds - 1):
                    assert cut(client) is not None
                    assert client.uid(*command)[0] == "OK"
                assert cut(client) is None
            assert client.status("INBOX", "(MESSAGES)")[1] == [b'"INBOX" (MESSAGES 0)']
            assert client.status("Archive", "(MESSAGES DELETED)")[1] == [b'"Archive" (MESSAGES 20 DELETED 20)']

    filled(use, 23, 10)


def test_pages_that_are_read_in_several_lots_go_down_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where numbers are apart, content is asked for, and another has expunged some."""
    monkeypatch.setattr("posthouse.imapd.portions.LOT", 3)

    async def test(house: House) -> None:
        for number in range(1, 21):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        asked = "1,3,5:9,11:20"
        items = ("(UID)", "(UID ENVELOPE)", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "(UID BODY.PEEK[])")
        for gone in ("", "7,12,13"):
            if gone:
                await other.ok(f"UID STORE {gone} +FLAGS.SILENT (\\Deleted)")
                await other.ok("EXPUNGE")
            for item in items:
                *lines, tagged = await client.say(f"FETCH {asked} {item}")
                uids = [uid_of(line) for line in lines]
                assert uids == [*range(20, 10, -1), 9, 8]
                if item != "(UID)":
                    assert all(b"Coach %d" % uid in line for uid, line in zip(uids, lines, strict=True))
                assert tagged.startswith(b"OK [MESSAGELIMIT 12 8] ")

    in_house(tmp_path, test, message_limit=12)


def test_what_the_store_has_lost_does_not_hide_how_far_it_came(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        large = b"Subject: large\r\n\r\n" + b"x" * 400_000
        client = await house.imap()
        assert (await client.append(large)).startswith(b"OK")
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.unlink()
        *_, warning, tagged = await client.say("FETCH 1:* BODY.PEEK[]")
        assert warning.startswith(b"* NO [MESSAGELIMIT 2 3] ")
        assert tagged.startswith(b"NO [CORRUPTION] ")
        # Nor is it said of the next command.
        assert await client.say("NOOP") == [b"OK Still here"]

    in_house(tmp_path, test, message_limit=2, blobs=Blobs(tmp_path / "blobs"))


def test_copies_to_another_account_and_from_it(tmp_path: Path) -> None:
    """RFC 9738 §3.1 with RFC 4314: the same limit on another's mail."""

    async def test(house: House) -> None:
        for number in range(1, 6):
            await house.file(message(number))
        alice, bob = await house.imap(), await house.imap(BOB, None)
        await alice.ok(f"SETACL INBOX {BOB} lrswite")
        there = f"Other Users/{ALICE}/INBOX"
        await bob.ok(f'SELECT "{there}"')
        assert (await bob.tagged("UID COPY 1:* INBOX")).startswith(b"NO [MESSAGELIMIT 2 4] ")
        assert (await bob.tagged("UID MOVE 1:* INBOX")).startswith(b"OK [MESSAGELIMIT 2 4] ")
        assert (await bob.tagged("UID MOVE 1:* INBOX")).startswith(b"OK [MESSAGELIMIT 2 2] ")
        assert (await bob.tagged("UID MOVE 1:* INBOX")) == b"OK Moved"
        assert await bob.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 5)']
        assert (await alice.ok("STATUS INBOX (MESSAGES)"))[0] == b'* STATUS "INBOX" (MESSAGES 0)'

    in_house(tmp_path, test, message_limit=2)


def test_a_mailbox_of_several_is_searched_whole_where_they_hold_no_more(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(MESSAGE)
        await house.file(MESSAGE, mailbox="Archive")
        client = await house.imap()
        found = await client.ok("ESEARCH IN (personal) RETURN (COUNT) ALL")
        assert [line.rpartition(b" ")[2] for line in found] == [b"1", b"1"]
        await house.file(MESSAGE, mailbox="Archive")
        assert (await client.tagged("ESEARCH IN (personal) RETURN (COUNT) ALL")).startswith(b"NO [MESSAGELIMIT 2] ")

    in_house(tmp_path, test, message_limit=2)


def test_flags_of_many_are_told_once_each(tmp_path: Path) -> None:
    """More than a view remembers one by one."""

    async def test(house: House) -> None:
        client = await house.imap()
        one = b" {%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        for count in (100, 20):
            await client.ok(b"APPEND INBOX" + one * count)
        *lines, tagged = await client.say("STORE 1:* +FLAGS (\\Seen)")
        assert [int(line.split()[1]) for line in lines] == list(range(120, 20, -1))
        assert tagged.startswith(b"OK [MESSAGELIMIT 100 21] ")
        *lines, tagged = await client.say("UID STORE 1:* +FLAGS.SILENT (\\Flagged)")
        assert (lines, tagged[:24]) == ([], b"OK [MESSAGELIMIT 100 21]")

    in_house(tmp_path, test, message_limit=100)


@pytest.mark.parametrize("configured", [0, 1000, 5000])
def test_what_is_configured_is_announced(tmp_path: Path, configured: int) -> None:
    async def main() -> None:
        settings = f"imap.message_limit = {configured}" if configured else ""
        async with house(tmp_path, listeners={"imap": "none"}, settings=settings) as home:
            await home.people("bob@home.example")
            client = await ImapClient.connect(home.ports["imap"])
            try:
                await client.ok(f'LOGIN bob@home.example "{HOME_PASSWORD}"')
                (said,) = await client.ok("CAPABILITY")
            finally:
                await client.close()
        assert [word for word in said.split() if b"MESSAGELIMIT" in word] == (
            [b"MESSAGELIMIT=%d" % configured] if configured else []
        )

    run(main())


@pytest.mark.parametrize("written", ["-1", "1", "999", "4294967296"])
def test_a_limit_too_low_for_clients_is_refused(written: str) -> None:
    """RFC 9738 §3."""
    with pytest.raises(ConfigError, match=r"imap\.message_limit.*1000 or more"):
        reading.parse(f'hostname = "mx.example.org"\nimap.message_limit = {written}\n')
