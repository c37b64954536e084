"""Words of texts, and what a string says of the words of a text that contains it."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import vocabulary
from posthouse.mailbox.vocabulary import clues, containing, header_words, indexed, pack, words
from posthouse.message.text import fold
from posthouse.store.database import Tx
from tests.mailbox.support import Db

CHARACTERS = [chr(code) for code in range(1, 0x30000) if not 0xD800 <= code < 0xE000]
TEXTS = st.text(
    st.one_of(st.sampled_from("ab1 .,-_\t\n\"'駅馬車・ー가éß\u0301ﬁ×ªa"), st.characters(exclude_categories=["Cs"])),
    max_size=40,
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Db]:
    with Db(tmp_path_factory.mktemp("vocabulary")) as made:
        yield made


def tokens(tx: Tx, text: str) -> set[str]:
    """What the tokenizer of the index takes from a text."""
    tx.query("CREATE VIRTUAL TABLE IF NOT EXISTS temp.tokens USING fts5vocab(main, email_words, row)", ())
    tx.run("words_insert", rowid=1, body=text, head="")
    found = {row[0] for row in tx.query("SELECT term FROM tokens", ())}
    tx.run("words_delete", rowid=1)
    return found


def test_what_parts_words_parts_tokens(db: Db) -> None:
    parting = [one for one in CHARACTERS if re.fullmatch(f"[{vocabulary._PARTING}]", one)]
    assert len(parting) > 150
    assert db.write(tokens, " ".join([f"q{one}q" for one in parting])) == {"q"}


def test_what_counts_as_a_letter_is_part_of_tokens(db: Db) -> None:
    letters = [one for one in CHARACTERS if vocabulary.askable(one)]
    assert {"a", "1", "é", "я", "駅", "가", "ー"} <= set(letters)
    assert not {"-", "・", "→", " "} & set(letters)
    assert "q" not in db.write(tokens, " ".join([f"q{one}q" for one in letters]))


@given(text=TEXTS, ends=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_a_text_has_what_any_part_of_it_asks_for(db: Db, text: str, ends: tuple[int, int]) -> None:
    folded = fold(text)
    needle = folded[min(ends) : max(ends)].strip()
    found = clues(needle)
    for pattern in found.patterns:
        assert next(containing(pattern, pack(words(folded))), None) is not None
    for pattern in found.in_headers():
        assert pattern in pack(header_words(folded))
    alternatives = [sorted(containing(pattern, pack(words(folded)))) for pattern in found.patterns]
    if (alternatives or found.terms) and all(vocabulary.askable(word) for some in alternatives for word in some):
        match = vocabulary.match("body", alternatives, found.terms)
        assert match is not None
        assert db.write(_finds, indexed(folded), match)


def _finds(tx: Tx, text: str, match: str) -> bool:
    tx.run("words_insert", rowid=1, body=text, head="")
    found = tx.all("words_find", match=match, low=0, high=9, limit=9)
    tx.run("words_delete", rowid=1)
    return bool(found)


@given(st.text(st.characters(min_codepoint=1, max_codepoint=127)))
def test_ascii_need_not_be_folded(text: str) -> None:
    assert words(text) == words(fold(text))


@pytest.mark.parametrize(
    ("needle", "patterns", "terms"),
    [
        ("grey", ("grey",), ()),
        ("grey horse", ("grey\n", "\nhorse"), ()),
        ("(grey", ("\ngrey",), ()),
        ("a-b.c", ("a\n", "\nb\n", "\nc"), ()),
        ("馬車は", (), ("馬車", "車は")),
        ("駅", (), ()),
        ("pm馬車", ("pm\n",), ("馬車",)),
        ("ア・イ", (), ()),
        ("...", (), ()),
        ("größer", ("größer",), ()),
    ],
)
def test_clues(needle: str, patterns: tuple[str, ...], terms: tuple[str, ...]) -> None:
    found = clues(needle)
    assert (found.patterns, found.terms) == (patterns, terms)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("o", ["coach", "gone", "one", "toot"]),
        ("on", ["gone", "one"]),
        ("\non", ["one"]),
        ("ne\n", ["gone", "one"]),
        ("\none\n", ["one"]),
        ("one\n", ["gone", "one"]),
        ("x", []),
    ],
)
def test_words_containing(pattern: str, expected: list[str]) -> None:
    assert list(containing(pattern, pack({"toot", "one", "gone", "coach"}))) == expected


def test_an_alternative_without_words_finds_nothing() -> None:
    assert vocabulary.match("body", [["grey"], []], ["馬車"]) is None
    assert vocabulary.match("body", [["grey", "greyer"]], ["馬車"]) == 'body : (("grey" OR "greyer") AND ("馬車"))'


def test_a_match_is_of_one_column(db: Db) -> None:
    match = vocabulary.match("body", [["grey"]], [])
    other = vocabulary.match("head", [["grey"]], [])
    assert match is not None
    assert other is not None
    assert db.write(_finds, "grey horse", match)
    assert not db.write(_finds, "grey horse", other)


NEEDLES = st.one_of(st.text("ab1", min_size=1, max_size=3), st.text("駅馬車ー가ァ", min_size=2, max_size=2))


@given(text=TEXTS, needle=NEEDLES)
def test_a_text_with_a_word_that_contains_an_exact_needle_contains_it(db: Db, text: str, needle: str) -> None:
    folded = fold(text)
    found = clues(fold(needle))
    assert found.exact
    alternatives = [sorted(containing(pattern, pack(words(folded)))) for pattern in found.patterns]
    match = vocabulary.match("body", alternatives, found.terms)
    assert (match is not None and db.write(_finds, indexed(folded), match)) == (fold(needle) in folded)


def test_nothing_else_becomes_a_letter_of_ascii(db: Db) -> None:
    others = sorted({letter for one in CHARACTERS for letter in fold(one) if not letter.isascii()})
    assert len(others) > 100_000
    for start in range(0, len(others), 20_000):
        found = db.write(tokens, " ".join([f"q{one}z" for one in others[start : start + 20_000]]))
        assert {one for one in found if one.isascii()} <= {"q", "z"}


@pytest.mark.parametrize("needle", ["größer", "grey horse", "a-b", "駅", "駅馬車", "x駅馬", ""])
def test_others_are_looked_at_again(needle: str) -> None:
    assert not clues(needle).exact
