"""Patterns of mailbox names, as LIST has them (RFC 9051 §6.3.9): `*` is anything, `%` anything but the delimiter.

Promises: matching costs the length of the name, whatever the pattern: a client cannot write one that takes long.
Refuses: to know which mailboxes there are.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.terms.inbox import INBOX

_RUN: Final = re.compile(r"[*%]+")


def matcher(reference: str, patterns: Iterable[str]) -> Callable[[str], bool]:
    """Does a path match one of the patterns? The reference stands before each of them; INBOX matches in any case."""
    whole = [reference + pattern for pattern in patterns]
    if "*" in whole:
        return lambda _: True
    written = [Pattern(text) for text in whole]
    # RFC 9051 §5.1: also as the first level of a longer name.
    inbox = [Pattern(_capital(text)) for text in whole]

    def matches(path: str) -> bool:
        chosen = inbox if path == INBOX or path.startswith(INBOX + SEPARATOR) else written
        return any(pattern.matches(path) for pattern in chosen)

    return matches


def _capital(text: str) -> str:
    first = text[: len(INBOX)]
    return first.upper() + text[len(INBOX) :] if first.isascii() else text


class Pattern:
    """One pattern, as an automaton whose states are the bits of a number: bit n is set while what stands before place n
    of the pattern has been matched."""

    __slots__ = ("_anything", "_end", "_level", "_places")

    def __init__(self, text: str) -> None:
        # A run of wildcards means no more than its widest: with none beside another, one step skips them all.
        text = _RUN.sub(lambda run: "*" if "*" in run[0] else "%", text)
        places: dict[str, int] = {}
        anything = level = 0
        for place, character in enumerate(text):
            if character == "*":
                anything |= 1 << place
            elif character == "%":
                level |= 1 << place
            else:
                places[character] = places.get(character, 0) | 1 << place
        self._places = places
        self._anything = anything
        self._level = level
        self._end = 1 << len(text)

    def matches(self, path: str) -> bool:
        """Is this a name that the pattern means?"""
        states = self._skipped(1)
        for character in path:
            stays = self._anything if character == SEPARATOR else self._anything | self._level
            states = self._skipped((states & self._places.get(character, 0)) << 1 | states & stays)
            if not states:
                return False
        return bool(states & self._end)

    def _skipped(self, states: int) -> int:
        """With those that are reached because a wildcard may stand for nothing."""
        return states | (states & (self._anything | self._level)) << 1
