"""Names and passwords as an exchange carries them: UTF-8, prepared by SASLprep (RFC 4013).

Promises: nothing but SaslError is raised, whatever a stranger gives.
"""

import stringprep
import unicodedata
from typing import Final

# What a stranger may give as a name or a password, in octets.
MAX_TEXT: Final = 1024


class SaslError(Exception):
    """The exchange cannot go on; the message says why."""


def text_of(octets: bytes) -> str:
    """A name, a password or a whole message. Raises SaslError."""
    if len(octets) > MAX_TEXT:
        raise SaslError("a name or password is too long")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise SaslError("a name or password is no UTF-8") from None


_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """`text` prepared by RFC 4013. `stored` also refuses code points that Unicode 3.2 did not assign (RFC 3454 §7),
    whose preparation is not settled. Raises SaslError."""
    if text.isascii():
        if not text.isprintable():
            raise SaslError("a control character in a name or password")
        return text
    # RFC 4013 §2.1: other spaces become a space, what is commonly mapped to nothing goes; §2.2: NFKC.
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    # §2.3, §2.5
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise SaslError("a character that may not stand in a name or password")
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise SaslError("a character too new for a password")
    _check_directions(prepared)
    return prepared


def _check_directions(text: str) -> None:
    """RFC 3454 §6: text with right-to-left characters begins and ends with one and has no left-to-right ones."""
    rightward = [stringprep.in_table_d1(character) for character in text]
    if any(rightward) and (
        any(stringprep.in_table_d2(character) for character in text) or not (rightward[0] and rightward[-1])
    ):
        raise SaslError("right-to-left and left-to-right characters mixed")
