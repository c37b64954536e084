"""Searching: every condition by example, and random trees of them against a plain evaluation."""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import compress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.limits import SEARCH_KEYS, SEARCH_TEXT
from posthouse.mailbox import append, columns, compiler, emails, flagging, placing, query, scan, verify
from posthouse.mailbox import search as words
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.compiler import Known, Row, Sql
from posthouse.mailbox.conditions import (
    EVERYTHING,
    NOTHING,
    Address,
    And,
    Body,
    Condition,
    Deleted,
    Header,
    Keywords,
    Leaf,
    Modseq,
    Not,
    OfEmail,
    OfThread,
    Or,
    Received,
    Saved,
    Sent,
    Size,
    Subject,
    Text,
    Uids,
)
from posthouse.mailbox.emails import Content
from posthouse.mailbox.query import search
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import load
from posthouse.mailbox.summary import render
from posthouse.message.text import fold
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.keywords import FLAGGED, SEEN
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message

DAY = 86_400_000

# Shorter when it is folded: what was cut must be known all the same.
LONG = "filler  \r\n" * (SEARCH_TEXT // 10 + 10) + "needle in the tail"
ENCODED = "=?utf-8?B?5pel5pys6Kqe44Gu5Lu25ZCN?="
MAIL = [
    message("Stagecoach at nine", "Bring the grey\r\n\tHorse.", message_id="one@example.org"),
    message("Re: Stagecoach at nine", "100% of it_all", references=["one@example.org"], fields="X-TUID: abc123\r\n"),
    message(ENCODED, "駅馬車は九時に出ます。", fields="Cc: =?utf-8?Q?J=C3=BCrgen?= <j@example.net>\r\n"),
    message("Long", LONG),
    b"From: nobody@example.org\r\n\r\nno subject, no date; Stagecoach\r\n",
    b"Subject: zone\r\nDate: Thu, 1 Jan 2026 23:30:00 -0800\r\nFrom: bob@example.org\r\n\r\n",
]


def file_staged(tx: Tx, account: int, stored: Staged, octets: bytes) -> None:
    rendered = render(octets)
    id = append.store_message(tx, stored, rendered)
    append.file_email(
        tx, account, id, rendered, mailboxes=[INBOX], received_at=NOW, thread_secret=b"secret" * 4
    )  # fmt: skip


class Case:
    def __init__(self, directory: Path) -> None:
        self.db = Db(directory)
        self.account = self.db.write(make_account)
        for number, octets in enumerate(MAIL):
            self.db.write(
                file, self.account, octets, keywords=SEEN if number % 2 else FLAGGED,
                at=NOW + number * DAY, prologue=b"Return-Path: <envelope@example.com>\r\n",
            )  # fmt: skip
        self.db.write(flagging.store_flags, self.account, INBOX, [3], now=NOW, deleted=True)
        self.uids = list(range(1, len(MAIL) + 1))
        self.columns = Columns(self.db.store)

    def __call__(self, condition: Condition, uids: list[int] | None = None) -> list[int]:
        known = self.uids if uids is None else uids
        sight = Sight(self.db.read(load, self.account, INBOX), self.columns)
        marks = self.db.runner.run(search(self.db.store, self.db.blobs, sight, condition, known))
        assert len(marks) == len(known)
        return list(compress(known, marks))


@pytest.fixture(
    scope="module",
    params=[0, "too many", 2, 4, "columns", "everything"],
    ids=["scanned", "too many words", "all words kept", "some words kept", "by columns", "by columns and words"],
)
def case(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Case]:
    """The same mail, of which the words are not kept, are kept two emails at a time, or of the first four only; of
    which all that can be is looked up in columns, three emails at a time; or of which the words are too many."""
    made = Case(tmp_path_factory.mktemp("query"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "_ALONE", 0)
        if request.param in ("columns", "everything"):
            patch.setattr(scan, "WINDOW", 3)
            patch.setattr(columns, "BLOCK", 2)
        else:
            # By the snapshot alone.
            patch.setattr(columns, "MOST", -1)
        if request.param == "everything":
            patch.setattr(query, "FEW", 0)
            patch.setattr(words, "TOGETHER", 2)
            keep_words(made.db, made.account)
        elif request.param == "columns":
            pass
        elif request.param == "too many":
            patch.setattr(query, "FEW", 0)
            patch.setattr(words, "TOGETHER", 2)
            patch.setattr(words, "_MOST_KEPT", 60)
            keep_words(made.db, made.account)
        elif request.param:
            patch.setattr(query, "FEW", 0)
            patch.setattr(words, "TOGETHER", request.param)
            keep_words(made.db, made.account)
        yield made
    made.db.close()


def keep_words(db: Db, account: int) -> None:
    """What the worker does."""
    db.write(words.want_words, account)
    while db.write(words.index_pending).moved:
        pass
    db.runner.run(words.keep_words(db.store, None))


def test_as_many_keys_as_a_client_may_give(case: Case) -> None:
    scattered = Uids(tuple((2 * n, 2 * n) for n in range(1, 9)))
    for leaves in (
        [Keywords(SEEN)] * SEARCH_KEYS,
        [scattered] * SEARCH_KEYS,
        [Not(Text(f"unheard of {n}")) for n in range(SEARCH_KEYS)],
        [Not(Body(f"unheard of {n}")) for n in range(SEARCH_KEYS)],
    ):
        assert case(And(tuple(leaves))) == case(And((leaves[0],)))
        assert case(Or(tuple(leaves))) == case(Or((leaves[0],)))


EXAMPLES: list[tuple[Condition, list[int]]] = [
    (EVERYTHING, [1, 2, 3, 4, 5, 6]),
    (NOTHING, []),
    (Uids(((2, 3), (6, 9))), [2, 3, 6]),
    (Uids(tuple((n, n) for n in range(2, 100, 2))), [2, 4, 6]),
    (Keywords(SEEN), [2, 4, 6]),
    (Not(Keywords(SEEN)), [1, 3, 5]),
    (Deleted(), [3]),
    (Received(since=NOW + DAY, before=NOW + 3 * DAY), [2, 3]),
    (Received(before=NOW + 1), [1]),
    (Size(above=SEARCH_TEXT), [4]),
    (Size(below=200), [5, 6]),
    (Modseq(8), [3]),
    (OfEmail(4), [4]),
    (OfEmail(99), []),
    (OfThread(1), [1, 2]),
    (OfThread(2), []),
    (Saved(since=NOW + 3 * DAY), [4, 5, 6]),
    (Saved(before=NOW + DAY), [1]),
    (Subject("STAGECOACH"), [1, 2]),
    (Subject("bob@example"), []),
    (Subject("語の件"), [3]),
    (Address("from", "alice"), [1, 2, 3, 4]),
    (Address("from", "Alice Liddell <alice@"), [1, 2, 3, 4]),
    (Address("to", "alice"), []),
    (Address("to", "bob"), [1, 2, 3, 4]),
    (Address("cc", "jürgen"), [3]),
    (Header("x-tuid", "ABC"), [2]),
    (Header("X-Tuid", ""), [2]),
    (Header("X-Tuid", "bc1"), [2]),
    (Header("To", "omeschool"), [1, 2, 3, 4]),
    (Header("Message-ID", "<one@example.org>"), [1]),
    (Header("references", "one@"), [2]),
    (Header("Return-Path", "envelope"), [1, 2, 3, 4, 5, 6]),
    (Body("grey horse"), [1]),
    (Body("horse bring"), []),
    (Body("ng THE gr"), [1]),
    (Body("hors"), [1]),
    (Body("100% of it_"), [2]),
    (Body("九時"), [3]),
    (Body("needle in the tail"), [4]),
    (Not(Body("needle in the tail")), [1, 2, 3, 5, 6]),
    (Body("stagecoach"), [5]),
    (Text("stagecoach"), [1, 2, 5]),
    (Text("x-tuid: abc"), [2]),
    (Not(Text("stagecoach")), [3, 4, 6]),
    (Sent(since=NOW, before=NOW + DAY), [1, 2, 3, 4, 6]),
    (Sent(since=NOW + DAY), []),
    (Not(Sent(since=NOW)), [5]),
    (And((Keywords(FLAGGED), Subject("nine"))), [1]),
    (Or((Deleted(), And((Not(Keywords(FLAGGED)), Not(Text("stagecoach")))))), [3, 4, 6]),
    (Subject(""), [1, 2, 3, 4, 6]),
]


@pytest.mark.parametrize(("condition", "expected"), EXAMPLES, ids=lambda value: str(value)[:60])
def test_examples(case: Case, condition: Condition, expected: list[int]) -> None:
    assert case(condition) == expected


LEAVES = st.sampled_from([condition for condition, _ in EXAMPLES if not isinstance(condition, And | Or | Not)])
ANSWERS = {condition: set(expected) for condition, expected in EXAMPLES}
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


def plain(condition: Condition, everything: set[int]) -> set[int]:
    match condition:
        case Not(part):
            return everything - plain(part, everything)
        case And(parts):
            return everything.intersection(*[plain(part, everything) for part in parts])
        case Or(parts):
            return set().union(*[plain(part, everything) for part in parts])
        case leaf:
            return ANSWERS[leaf]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(condition=TREES)
def test_trees_are_what_their_leaves_make_them(case: Case, condition: Condition) -> None:
    assert case(condition) == sorted(plain(condition, set(case.uids)))


def test_only_a_sessions_own_uids_are_answered(case: Case) -> None:
    assert case(EVERYTHING, []) == []
    assert case(EVERYTHING, [2, 4, 99]) == [2, 4]


def test_only_emails_with_the_words_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "FEW", 0)
    monkeypatch.setattr(query, "_ALONE", 0)
    monkeypatch.setattr(columns, "MOST", -1)
    monkeypatch.setattr(words, "TOGETHER", 2)
    looked: list[str] = []
    narrow = compiler.narrow

    def listening(tx: Tx, account: int, mailbox: int, condition: Condition, uids: str) -> list[tuple[Row, bool]]:
        looked.append(uids)
        return narrow(tx, account, mailbox, condition, uids)

    monkeypatch.setattr(compiler, "narrow", listening)
    case = Case(tmp_path)
    keep_words(case.db, case.account)
    long = "[4,4]"  # of which only the beginning is in the index
    examples: list[tuple[Condition, list[str]]] = [
        (Body("rey hors"), [f"[[1,1],{long}]"]),
        (Subject("agecoac"), ["[[1,2]]"]),
        (Body("九時"), [f"[{long}]"]),
        (Header("X-Tuid", "abc"), ["[[1,2]]"]),
        (And((Subject("coach"), Body("grey"))), ["[[1,1]]"]),
        (Or((Subject("re:"), Body("grey"))), ["[[2,2],[4,4]]"]),
        (Not(Body("grey")), [f"[{long}]"]),
        (And((Keywords(FLAGGED), Not(Body("grey h")))), ["[[1,1]]"]),
        (Or((Body("grey"), Keywords(SEEN))), []),
        (Body("..."), ["[[1,6]]"]),
    ]
    for condition, expected in examples:
        looked.clear()
        case(condition)
        assert looked == expected, condition
    case.db.close()


def test_the_more_is_asked_the_fewer_are_looked_at_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "_TEXT", 8)
    monkeypatch.setattr(query, "_NARROW", 8)
    monkeypatch.setattr(compiler, "AT_ONCE", 4)
    looked: list[tuple[int, int]] = []
    narrowed: list[str] = []
    said, narrow = compiler.said, compiler.narrow

    def listening(tx: Tx, asked: Sequence[Leaf], messages: Collection[int], where: Sql = ALL) -> dict[int, Known]:
        looked.append((len(asked), len(messages)))
        return said(tx, asked, messages, where)

    def listening_too(tx: Tx, account: int, mailbox: int, condition: Condition, uids: str) -> list[tuple[Row, bool]]:
        narrowed.append(uids)
        return narrow(tx, account, mailbox, condition, uids)

    monkeypatch.setattr(compiler, "said", listening)
    monkeypatch.setattr(compiler, "narrow", listening_too)
    case = Case(tmp_path)
    grey, whole = Body("grey horse"), Body("100% of it_")
    texts = (grey, whole, Body("九時"), Sent(since=NOW + DAY), Body("needle in the tail"))
    assert case(Or((*texts, *[Body(f"unheard of {n}") for n in range(5)]))) == [1, 2, 3, 4]
    # Ten leaves: four, four and two of them, for two messages each time.
    assert looked == [(4, 2), (4, 2), (2, 2)] * 3
    assert narrowed == ["[[1,2]]", "[[3,4]]", "[[5,6]]"]
    looked.clear()
    assert case(And((Not(grey), Not(whole), Not(Deleted())))) == [4, 5, 6]
    assert looked == [(3, 4), (3, 1)]
    case.db.close()


def test_so_many_octets_are_looked_through_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[list[int]] = []
    contents = emails.contents

    def listening(tx: Tx, account: int, asked: Sequence[int]) -> dict[int, Content]:
        loads.append(list(asked))
        return contents(tx, account, asked)

    monkeypatch.setattr(emails, "contents", listening)
    monkeypatch.setattr(query, "_OCTETS", 3)
    monkeypatch.setattr(query, "_MUCH", 3 * SEARCH_TEXT)
    case = Case(tmp_path)
    for _ in range(3):
        case.db.write(file, case.account, message("Long", LONG))
    for _ in range(2):
        case.db.write(file, case.account, message("Phrase", "the needle, in the tail"))
    case.uids = list(range(1, 12))
    assert case(Body("needle in the tail")) == [4, 7, 8, 9]
    assert loads == [[4, 7], [8, 9, 10], [11]]
    case.db.close()


ALL = Sql("1")
ZONES = [
    (b"Mon, 1 Jan 2024 23:00:00 -0500", 2024),
    (b"Mon, 1 Jan 2024 23:00:00 EST", 2024),
    (b"Mon Jan  1 23:00:00 PST 2024", 2024),
    (b"2024-01-01T23:00:00-05:00", 2024),
    (b"Mon, 1 Jan 2024 00:30:00 +1:00", 2024),
    # Of zones that cannot be nothing is made.
    (b"Mon, 1 Jan 2024 23:00:00 -2500", 2024),
    # What has no clock of its own writes the beginning of all time by that of its place.
    (b"Thu, 1 Jan 1970 01:00:00 +0100", 1970),
    (b"Thu, 1 Jan 1970 00:30:00 +0100", 1970),
    (b"Wed, 31 Dec 1969 19:00:00 -0500", 1969),
    (b"yesterday", 0),
]


@pytest.mark.parametrize("most", [-1, columns.MOST], ids=["by rows", "by columns"])
def test_days_are_those_of_the_senders_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """RFC 9051 §6.4.4: SENTON and the others take no account of time and zone."""
    monkeypatch.setattr(columns, "MOST", most)
    case = Case(tmp_path)
    sent = {case.db.write(file, case.account, b"Date: " + date + b"\r\n\r\n").uids[INBOX]: year for date, year in ZONES}
    case.uids = list(sent)

    def of(*years: int) -> list[int]:
        return [uid for uid, year in sent.items() if year in years]

    new_year_2024 = 1_704_067_200_000
    assert case(Sent(since=new_year_2024, before=new_year_2024 + DAY)) == of(2024)
    assert case(Sent(since=0, before=DAY)) == of(1970)
    assert case(Sent(since=-DAY, before=0)) == of(1969)
    assert case(Sent(since=0)) == of(1970, 2024)
    assert case(Not(Sent(before=0))) == of(1970, 2024, 0)
    case.db.close()


def test_a_search_that_scans_asks_for_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "FEW", 0)
    case = Case(tmp_path)
    marks = "SELECT words_mark FROM account_state"
    assert case.db.rows(marks) == [(None,)]

    async def fails(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(case.db.store, "write", fails)
        assert case(Body("grey")) == [1]
    assert case.db.rows(marks) == [(None,)]
    assert case(Body("grey")) == [1]
    assert case.db.rows(marks) == [(0,)]
    assert case(Body("grey")) == [1]
    case.db.close()


def test_what_comes_and_goes_is_found_by_columns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_ALONE", 0)
    case = Case(tmp_path)
    assert case(Subject("coach")) == [1, 2]
    case.db.write(placing.expunge, case.account, INBOX, [1], NOW)
    for number in range(7, 10):
        case.db.write(file, case.account, message(f"Coach {number}"))
    case.uids = [2, 3, 4, 5, 6, 7, 8, 9]
    assert case(Subject("coach")) == [2, 7, 8, 9]
    assert case(And((Not(Subject("coach")), Size(below=400)))) == [3, 5, 6]
    # A session that has not heard of the last ones, and still believes in the first.
    assert case(Subject("coach"), [1, 2, 3, 7]) == [2, 7]
    case.db.close()


def test_a_message_without_octets_is_looked_through(tmp_path: Path) -> None:
    case = Case(tmp_path)
    uid = case.db.write(file, case.account, b"").uids[INBOX]
    assert case(Text("coach"), [uid]) == []
    assert case(Header("subject", ""), [uid]) == []
    keep_words(case.db, case.account)
    assert case(Not(Text("coach")), [1, uid]) == [uid]
    case.db.close()


def test_a_message_whose_octets_are_lost_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """As after a restore of what there is (posthouse restore --incomplete)."""
    with Db(tmp_path) as db:
        account = db.write(make_account)
        for number in (1, 2):
            octets = message(f"Long {number}", LONG)
            blobs = Blobs(tmp_path / "blobs", inline_limit=1)
            stored = db.runner.run(blobs.stage(octets))
            db.write(file_staged, account, stored, octets)
            if number == 1:
                assert stored.name is not None
                (tmp_path / "blobs" / stored.name).unlink()
            blobs.close()
        sight = Sight(db.read(load, account, INBOX), Columns(db.store))
        found = db.runner.run(search(db.store, db.blobs, sight, Body("needle in the tail"), [1, 2]))
        assert found == b"\0\1"


def test_texts_in_files_are_found_beside_kept_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the smallest messages lie in the database (store.inline), the index has no texts of the others."""
    monkeypatch.setattr(query, "FEW", 0)
    monkeypatch.setattr(query, "_ALONE", 0)
    monkeypatch.setattr(words, "TOGETHER", 2)
    with Db(tmp_path) as db:
        account = db.write(make_account)
        octets = [message("One", "a grey horse"), message("Größe", "a grey mare"), message("Small", "a horse")]
        with closing(Blobs(tmp_path / "blobs", inline_limit=len(octets[2]))) as blobs:
            for one in [*octets, message("Another", "neither")]:
                db.write(file_staged, account, db.runner.run(blobs.stage(one)), one)
        assert db.rows("SELECT place FROM blob") == [(1,), (1,), (0,), (1,)]
        sight = Sight(db.read(load, account, INBOX), Columns(db.store))

        def found(condition: Condition) -> bytes:
            return db.runner.run(search(db.store, db.blobs, sight, condition, [1, 2, 3, 4]))

        for _ in range(2):
            assert found(Body("horse")) == b"\1\0\1\0"
            assert found(Not(Text("grey"))) == b"\0\0\1\1"
            assert found(Text("größe")) == b"\0\1\0\0"
            keep_words(db, account)


def test_a_mailbox_that_is_too_large_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_ALONE", 0)
    monkeypatch.setattr(columns, "MOST", 5)
    case = Case(tmp_path)
    assert case(Subject("coach")) == [1, 2]
    assert case(And((Keywords(SEEN), Not(Deleted()), Received(since=NOW + 2 * DAY)))) == [4, 6]
    case.db.close()


def test_octets_are_looked_through_in_a_thread(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    def noting(text: str, longest: int) -> Iterator[str]:
        threads.add(threading.get_ident())
        yield fold(text)

    monkeypatch.setattr(verify, "folded", noting)
    assert case(Body("needle in the tail")) == [4]
    assert threads
    assert threading.get_ident() not in threads


CLUSTERS = st.lists(
    st.sampled_from(["a", "B", " ", "\r\n", "\t", "é", "e\u0301", "日", "ｶﾞ", "が", "\u0397\u0345", "ß", "ﬁ"])
)


@given(clusters=CLUSTERS, ends=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_what_is_in_a_text_is_in_one_of_its_windows(clusters: list[str], ends: tuple[int, int]) -> None:
    text = "".join(clusters)
    whole = fold(text)
    needle = whole[min(ends) : min(max(ends), min(ends) + 12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "_WINDOW", 8)
        patch.setattr(verify, "_NEAR_END", 6)
        windows = list(verify.folded(text, 12))
    if needle:
        assert any(needle in window for window in windows), (needle, windows)
    assert all(window in whole for window in windows), (whole, windows)
