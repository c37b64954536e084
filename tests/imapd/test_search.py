"""Searches that take long, many results that are watched, named searches; the rest is in the transcripts."""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imapd import context, finding
from posthouse.limits import IMAP_CONTEXTS
from posthouse.mailbox import columns, filters, metadata, query, scan
from posthouse.store.database import StoreUnavailable
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.grammar import ParseError
from tests.doors.house import House, ImapClient, in_house, message


def test_whoever_waits_long_hears_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(query, "_TEXT", 2)

    async def test(house: House) -> None:
        for number in range(5):
            await house.file(message(number))
        client = await house.imap()
        *told, found = await client.ok("SEARCH BODY nine")
        assert told == [b'* OK [INPROGRESS ("t3" %d 5)] Searching' % done for done in (0, 2, 4)]
        assert found == b"* SEARCH 1 2 3 4 5"
        # RFC 9585 §4: a tag that would end the code is not told.
        await client.send(b"a]b SEARCH BODY nine\r\n")
        assert (await client.until(b"a]b "))[1] == b"* OK [INPROGRESS (NIL 2 5)] Searching"

    in_house(tmp_path, test)


def test_nobody_hears_of_a_search_that_is_quick(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        assert await client.ok("SEARCH BODY nine") == [b"* SEARCH 1"]

    in_house(tmp_path, test)


async def _keep(house: House, name: str, value: bytes | None) -> None:
    """What SETMETADATA does."""
    entries = [(filters.VALUES + name, value)]
    await house.store.write(metadata.put, house.alice.id, metadata.OF_ACCOUNT, entries, 1)


def test_filters(tmp_path: Path) -> None:
    """RFC 5466 §3.1: what is kept under the name stands in the place of FILTER."""

    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        kept = {"two": b'SUBJECT "coach 2"', "late": 'CHARSET UTF-8 TEXT "é"'.encode(), "red": b"KEYWORD red"}
        for name, value in kept.items():
            await _keep(house, name, value)
        await _keep(house, "round", b"FILTER round")
        await _keep(house, "broken", b"SUBJECT")
        client = await house.imap()
        assert await client.ok("SEARCH FILTER two") == [b"* SEARCH 2"]
        assert await client.ok("SEARCH NOT FILTER TWO") == [b"* SEARCH 1 3"]
        assert await client.ok("SEARCH FILTER late") == [b"* SEARCH"]
        await client.ok("STORE 3 +FLAGS.SILENT (red)")
        assert (await client.ok("SEARCH OR FILTER red FILTER two"))[-1] == b"* SEARCH 2 3"
        for name in ("none", "round", "broken"):
            assert (await client.tagged(f"SEARCH FILTER {name}")).startswith(
                b"NO [UNDEFINED-FILTER %b]" % name.encode()
            )
        await _keep(house, "two", None)
        assert (await client.tagged("SEARCH FILTER two")).startswith(b"NO [UNDEFINED-FILTER two]")

    in_house(tmp_path, test)


def test_what_filters_and_fuzzy_words_add_up_to_is_bounded(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        many = b" ".join([b"SEEN"] * 100)
        await _keep(house, "many", many)
        client = await house.imap()
        assert await client.ok("SEARCH " + " ".join(["FILTER many"] * 5)) == [b"* SEARCH"]
        assert (await client.tagged("SEARCH " + " ".join(["FILTER many"] * 6))).startswith(b"NO [LIMIT]")
        await _keep(house, "more", b" ".join([b"FILTER many"] * 3))
        assert await client.ok("SEARCH FILTER more") == [b"* SEARCH"]
        assert (await client.tagged("SEARCH FILTER more FILTER more")).startswith(b"NO [LIMIT]")
        await _keep(house, "others", b" ".join([b"FILTER f%d" % number for number in range(500)]))
        assert (await client.tagged("SEARCH FILTER others")).startswith(b"NO [LIMIT]")
        words = " ".join([f"w{number}" for number in range(200)])
        assert await client.ok(f'SEARCH FUZZY (TEXT "{words}" BODY "{words}")') == [b"* SEARCH"]
        three = " ".join([f'TEXT "{words}"'] * 3)
        assert (await client.tagged(f"SEARCH FUZZY ({three})")).startswith(b"NO [LIMIT]")

    in_house(tmp_path, test)


@given(st.binary() | st.text().map(str.encode))
def test_a_filter_of_anything_is_a_search_or_an_error(octets: bytes) -> None:
    with suppress(ParseError):
        keys.parse_criteria(octets)


_LIST = re.compile(rb"(REMOVEFROM|ADDTO) \((\d+) ([\d:,]+)\)")


class Watching:
    """A client that keeps its results by what it is told (RFC 5267 §4.3.3, §4.3.4)."""

    def __init__(self, client: ImapClient, told: list[int]) -> None:
        self.client = client
        self.told = told

    async def say(self, text: str) -> None:
        for line in await self.client.ok(text):
            for name, position, numbers in _LIST.findall(line):
                self.take(name, int(position), [number for one in numbers.split(b",") for number in _range(one)])

    def take(self, name: bytes, position: int, uids: list[int]) -> None:
        if name == b"ADDTO" and position:
            self.told[position - 1 : position - 1] = uids
        elif name == b"ADDTO":
            self.told = sorted([*self.told, *uids])
        elif position:
            assert self.told[position - 1 : position - 1 + len(uids)] == uids
            del self.told[position - 1 : position - 1 + len(uids)]
        else:
            assert set(uids) <= set(self.told)
            self.told = [uid for uid in self.told if uid not in uids]


def _range(octets: bytes) -> range:
    low, _, high = octets.partition(b":")
    return range(int(low), int(high or low) + 1)


@pytest.mark.parametrize("many", [0, 3, 200], ids=["told anew", "mixed", "one by one"])
@pytest.mark.parametrize("ordered", [False, True], ids=["search", "sort"])
def test_a_watched_result_is_what_a_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: bool, many: int
) -> None:
    monkeypatch.setattr(context, "_MANY", many)
    monkeypatch.setattr(query, "_ALONE", 0)
    monkeypatch.setattr(columns, "BLOCK", 3)
    monkeypatch.setattr(scan, "WINDOW", 4)
    random = Random(7)
    sort = "(SUBJECT REVERSE ARRIVAL) UTF-8 UNSEEN" if ordered else "UNSEEN"
    verb = "UID SORT" if ordered else "UID SEARCH"

    async def test(house: House) -> None:
        for number in range(8):
            await house.file(message(number * 37 % 11), received_at=1_767_258_000_000 + number * 13 % 5 * 1000)
        client, other = await house.imap(), await house.imap()
        found = await client.ok(f"{verb} RETURN (UPDATE ALL) {sort}")
        numbers = found[0].rpartition(b"ALL ")[2]
        watching = Watching(client, [uid for one in numbers.split(b",") for uid in _range(one)])
        for step in range(40):
            who: Callable[[str], Awaitable[object]] = watching.say if random.random() < 0.5 else other.ok
            await other.ok("NOOP")
            exists = int((await other.ok("STATUS INBOX (MESSAGES)"))[0].split()[-1].rstrip(b")"))
            some = f"{random.randint(1, exists)}:{random.randint(1, exists)}" if exists else "1:*"
            match random.randrange(5):
                case 0:
                    await house.file(message(random.randrange(50)), received_at=1_767_258_000_000 + step % 3 * 1000)
                case 1 if exists:
                    await watching.say("NOOP")
                    await who(f"STORE {some} +FLAGS (\\Seen)")
                case 2 if exists:
                    await watching.say("NOOP")
                    await who(f"STORE {some} -FLAGS.SILENT (\\Seen)")
                case 3 if exists > 3:
                    await other.ok(f"STORE {random.randint(1, exists)} +FLAGS (\\Deleted)")
                    await other.ok("EXPUNGE")
                case _:
                    await watching.say("UID SEARCH RETURN (COUNT) ALL")
            if step % 5 == 4:
                await watching.say("NOOP")
                await other.ok("NOOP")
                told = await other.ok(f"{verb} {sort}")
                truth = next(line for line in told if line.startswith((b"* SEARCH", b"* SORT")))
                assert watching.told == [int(number) for number in truth.split()[2:]], step

    in_house(tmp_path, test)


def test_a_watched_result_knows_keywords_that_are_new(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(3):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        await client.ok("UID SEARCH RETURN (UPDATE COUNT) KEYWORD red")
        await client.ok("UID SEARCH RETURN (UPDATE COUNT) UNKEYWORD red")
        await other.ok("STORE 2 +FLAGS (red)")
        told = await client.ok("NOOP")
        assert told[-2:] == [b'* ESEARCH (TAG "t3") UID ADDTO (0 2)', b'* ESEARCH (TAG "t4") UID REMOVEFROM (0 2)']

    in_house(tmp_path, test)


@pytest.mark.parametrize("uids", ["UIDAFTER 2", "UID 3:100", "NOT UIDBEFORE 3", "NOT UID 1:2"])
def test_a_watched_result_knows_uids_that_are_new(tmp_path: Path, uids: str) -> None:
    async def test(house: House) -> None:
        for number in range(2):
            await house.file(message(number))
        client = await house.imap()
        assert await client.ok(f"UID SEARCH RETURN (UPDATE ALL) {uids}") == [b'* ESEARCH (TAG "t3") UID']
        await house.file()
        assert await client.ok("NOOP") == [b"* 3 EXISTS", b'* ESEARCH (TAG "t3") UID ADDTO (0 3)']

    in_house(tmp_path, test)


def test_there_are_only_so_many_watched_results(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        for _ in range(IMAP_CONTEXTS):
            assert await client.ok("SEARCH RETURN (UPDATE COUNT) SEEN") == [
                b'* ESEARCH (TAG "t%d") COUNT 0' % client.tags
            ]
        refused = (await client.ok("SEARCH RETURN (UPDATE COUNT) SEEN"))[-1]
        assert refused == b'* NO [NOUPDATE "t%d"] These results are not watched' % client.tags
        await client.ok('CANCELUPDATE "t3" "t4"')
        assert len(await client.ok("SEARCH RETURN (UPDATE COUNT) SEEN")) == 1

    in_house(tmp_path, test)


def test_there_are_only_so_many_messages_in_watched_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "IMAP_CONTEXT_MESSAGES", 5)

    async def test(house: House) -> None:
        for number in range(3):
            await house.file(message(number))
        client = await house.imap()
        assert len(await client.ok("SEARCH RETURN (UPDATE COUNT) ALL")) == 1
        refused = (await client.ok("SEARCH RETURN (UPDATE COUNT) ALL"))[-1]
        assert refused.startswith(b"* NO [NOUPDATE ")
        assert len(await client.ok("SEARCH RETURN (UPDATE COUNT) UID 2:3")) == 1

    in_house(tmp_path, test)


def test_many_that_leave_ordered_results_are_told_by_their_places(tmp_path: Path) -> None:
    """RFC 5267 §4.3.4: before EXPUNGE, by the numbers that the client knows; of several results in turn."""

    async def test(house: House) -> None:
        for number in (2, 4, 1, 3, 5):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        for _ in range(2):
            await client.ok("SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 ALL")
        await other.ok(r"STORE 1,3,5 +FLAGS.SILENT (\Deleted)")
        await client.ok("NOOP")
        await other.ok("EXPUNGE")
        places = b"REMOVEFROM (5 5) REMOVEFROM (1 3,1)"
        assert await client.ok("NOOP") == [
            *[b'* ESEARCH (TAG "t%d") %b' % (tag, places) for tag in (3, 4)],
            b"* 5 EXPUNGE", b"* 3 EXPUNGE", b"* 1 EXPUNGE",
        ]  # fmt: skip

    in_house(tmp_path, test)


def test_a_search_that_fails_empties_what_was_saved(tmp_path: Path) -> None:
    """RFC 5182 §2.1."""

    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        await client.ok("SEARCH RETURN (SAVE) ALL")
        assert (await client.tagged("SEARCH RETURN (SAVE) FILTER none")).startswith(b"NO [UNDEFINED-FILTER none]")
        assert (await client.ok("SEARCH RETURN (COUNT) $"))[0].endswith(b"COUNT 0")

    in_house(tmp_path, test)


def test_news_of_results_wait_for_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked up now is told later; the command is done all the same."""

    async def fails(*_: object) -> list[int]:
        raise StoreUnavailable("the disk is gone")

    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        await client.ok("SEARCH RETURN (UPDATE COUNT) UNSEEN BODY nine")
        await house.file()
        with monkeypatch.context() as patch:
            patch.setattr(finding, "search", fails)
            assert await client.ok("NOOP") == [b"* 2 EXISTS"]
        assert await client.ok("NOOP") == [b'* ESEARCH (TAG "t3") ADDTO (0 2)']

    in_house(tmp_path, test)


def test_what_has_come_is_found_by_another_session_too(tmp_path: Path) -> None:
    """What a client is told of beside an answer, the answer knows; results that are watched are told no more twice."""

    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        assert await client.ok("UID SEARCH RETURN (UPDATE ALL) SUBJECT coach") == [b'* ESEARCH (TAG "t3") UID']
        for number in range(1, 4):
            await other.append(message(number), "INBOX")
            told = await client.ok("UID SEARCH SUBJECT coach")
            uids = b" ".join([b"%d" % uid for uid in range(1, number + 1)])
            assert told[:2] == [b"* %d EXISTS" % number, b"* SEARCH %b" % uids]
            assert told[2:] == [b'* ESEARCH (TAG "t3") UID ADDTO (0 %d)' % number]
            assert await client.ok("UID SEARCH SUBJECT coach") == [b"* SEARCH %b" % uids]

    in_house(tmp_path, test)


def test_a_mailbox_that_is_deleted_is_searched_once_more(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        await client.ok("ENABLE IMAP4rev2")
        await client.ok("CREATE Doomed")
        await house.file(mailbox="Doomed")
        await client.ok("SELECT Doomed")
        await other.ok("DELETE Doomed")
        told = await client.ok("UID SEARCH ALL")
        assert told[0].startswith(b"* ESEARCH ")
        assert told[1].startswith(b"* OK [CLOSED]")

    in_house(tmp_path, test)
