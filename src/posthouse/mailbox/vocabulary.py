"""Words, as a search by a part of a word needs them: which a text has, and which a text must have that contains a
string.

Promises: where a folded text contains a folded needle, the text's words contain each of the needle's `patterns`, and
the index of words (FTS5, unicode61 that keeps diacritics, over `indexed` text) has each of its `terms`. Words end where
that tokenizer ends a token for certain, so a word asked for as a phrase is found wherever it stands:
tests/mailbox/test_vocabulary.py asks the tokenizer itself.
Refuses: to be exact: what is found so is looked at again.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

# Scripts written without spaces: kana, ideographs (and their extensions), bopomofo, hangul.
_UNSPACED: Final = (
    "\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d"
    "\U00020000-\U0003ffff"
)
# What parts tokens, whatever the tokenizer thinks of the rest: ASCII, Latin-1, general and CJK punctuation.
_PARTING: Final = (
    r"\x00-/:-@\[-`{-\x7f\u00a0-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u2010-\u2027\u2030-\u205e\u3000-\u3004\u3008-\u3020"
)
_RUN: Final = re.compile(f"[{_UNSPACED}]+")
_WORD: Final = re.compile(f"[^{_PARTING}{_UNSPACED}]+")
_ASCII_WORD: Final = re.compile("[0-9a-z]+")
_PIECE: Final = re.compile(f"([{_UNSPACED}]+)|[^{_PARTING}{_UNSPACED}]+")

# Stands between words that are kept together, and at both ends: no word has it.
BETWEEN: Final = "\n"


def indexed(text: str) -> str:
    """Folded text as it goes into the index: runs of unspaced script as overlapping pairs of characters."""
    return text if text.isascii() else _RUN.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    text = run[0]
    if len(text) == 1:
        return f" {text} "
    return f" {' '.join([text[at : at + 2] for at in range(len(text) - 1)])} "


def words(text: str) -> set[str]:
    """The words of a text, in lower case where it is ASCII; else it has to be folded. Unspaced script has none."""
    return set(_ASCII_WORD.findall(text.lower()) if text.isascii() else _WORD.findall(text))


def header_words(text: str) -> set[str]:
    """The same, and the pairs of unspaced script: of headers no text is indexed."""
    found = words(text)
    if not text.isascii():
        for run in _RUN.finditer(text):
            found.update(map("".join, pairwise(run[0])))
    return found


def pack(words: Iterable[str]) -> str:
    """Words as they are kept: in order, each between two BETWEENs."""
    return BETWEEN.join(["", *sorted(words), ""])


def containing(pattern: str, packed: str) -> Iterator[str]:
    """Those packed words that contain a pattern."""
    # A pattern may have the BETWEEN in it: of those at the ends, one may be the next word's too.
    lead, tail = pattern.startswith(BETWEEN), pattern.endswith(BETWEEN)
    at = packed.find(pattern)
    while at >= 0:
        start = at if lead else packed.rfind(BETWEEN, 0, at)
        end = at + len(pattern)
        end = end - 1 if tail else packed.find(BETWEEN, end)
        yield packed[start + 1 : end]
        at = packed.find(pattern, end)


@dataclass(frozen=True, slots=True)
class Clues:
    """What the words of a text that contains a needle must be. `patterns`: each is in one of its words, or between
    BETWEENs at the end of one; `terms`: the index has each. `exact`: a text that has a word with the pattern, or the
    term, contains the needle."""

    patterns: tuple[str, ...]
    terms: tuple[str, ...]
    exact: bool = False

    def in_headers(self) -> tuple[str, ...]:
        """The same as patterns in `header_words`, which have pairs among them."""
        return (*self.patterns, *[f"{BETWEEN}{term}{BETWEEN}" for term in self.terms])


def clues(needle: str) -> Clues:
    """What a folded needle says of words; nothing, where it has none."""
    patterns: list[str] = []
    terms: list[str] = []
    for piece in _PIECE.finditer(needle):
        if piece[1]:
            terms += [first + second for first, second in pairwise(piece[1]) if _token(first) and _token(second)]
        else:
            # What stands beside a piece in the needle parts words; beyond the needle's ends a word may go on.
            before = BETWEEN if piece.start() else ""
            after = BETWEEN if piece.end() < len(needle) else ""
            patterns.append(f"{before}{piece[0]}{after}")
    # Of letters and digits of ASCII the tokenizer makes what they are, and nothing else becomes one of them.
    exact = _ASCII_WORD.fullmatch(needle) is not None or terms == [needle]
    return Clues(tuple(dict.fromkeys(patterns)), tuple(dict.fromkeys(terms)), exact)


def askable(word: str) -> bool:
    """Whether the index has a token of this word, for certain: else nothing can be asked."""
    return any(map(_token, word))


def _token(character: str) -> bool:
    """Whether the tokenizer takes this character into tokens. It knows Unicode 6.1; what was a letter in 3.2 and is one
    now was one then."""
    old = unicodedata.ucd_3_2_0.category(character)[0]
    return old in "LN" and unicodedata.category(character)[0] in "LN"


def match(where: str, alternatives: Sequence[Sequence[str]], terms: Sequence[str]) -> str | None:
    """The query of FTS5: in the column `where` one word of each of these, and each of these terms. None: nothing has
    them."""
    if not all(alternatives):
        return None
    parts = [" OR ".join([f'"{word}"' for word in words]) for words in alternatives]
    parts += [f'"{term}"' for term in terms]
    return f"{where} : ({' AND '.join([f'({part})' for part in parts])})"
