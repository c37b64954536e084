"""Encoded-words: text in any script inside a header field (RFC 2047).

Promises: never raises; what is no encoded-word stays as it is. Lenient where mail is: spaces inside the text, words
that touch, characters cut in two between words.
"""

import binascii
import re

from posthouse.message.charset import decode, undeclared
from posthouse.message.octets import from_base64

# RFC 2047 §2, with RFC 2231 §5's language.
_WORD = re.compile(rb"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([BbQq])\?([^?]*)\?=")
_BREAKS = re.compile(r"[\r\n\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")


def decode_words(raw: bytes) -> str:
    """The text of an unstructured field or a phrase: encoded-words decoded (RFC 2047), 8-bit octets read as UTF-8.

    Adjacent words of one charset are decoded together, because many senders cut a character in two. The text is one
    line: encoded line endings and NUL become spaces.
    """
    text = undeclared(raw) if raw.find(b"=?") < 0 else _decoded(raw)
    return text if text.isprintable() else _BREAKS.sub(" ", text)


def _decoded(raw: bytes) -> str:
    text: list[str] = []
    charset, held, at = b"", b"", 0
    for word in _WORD.finditer(raw):
        between = raw[at : word.start()]
        apart = bool(between.strip()) or not at
        if apart or word[1].lower() != charset:
            if held:
                text.append(decode(held, charset.decode("latin-1")))
                held = b""
            if apart:  # RFC 2047 §6.2: white space between two encoded-words is not shown.
                text.append(undeclared(between))
            charset = word[1].lower()
        held += _word_octets(word[2], word[3])
        at = word.end()
    if held:
        text.append(decode(held, charset.decode("latin-1")))
    text.append(undeclared(raw[at:]))
    return "".join(text)


def _word_octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"bB":
        return from_base64(text)
    return binascii.a2b_qp(text, header=True)
