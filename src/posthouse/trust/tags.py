"""Lists of tag=value pairs, as DKIM writes its signatures and key records (RFC 6376 §3.2).

Promises: nothing but BadTags is raised, whatever the octets; a name that stands twice makes the whole list invalid, so
that no two readers take different ones.
Refuses: to know the tags.
"""

import re
from typing import Final

from posthouse.limits import KB

# What a record in DNS or a header field of this kind comes to is well below; RSA keys of 4096 bits make 750.
_LONGEST: Final = 64 * KB
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_SPACE: Final = " \t\r\n"


class BadTags(ValueError):
    """The octets are no list of tags; the message says why, in few words."""


def parse_tags(octets: bytes) -> dict[str, str]:
    """The values by name, in order, without the white space around them. Raises BadTags."""
    if len(octets) > _LONGEST:
        raise BadTags("too long")
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise BadTags("neither ASCII nor UTF-8") from error
    found: dict[str, str] = {}
    pieces = text.split(";")
    if not pieces[-1].strip(_SPACE):
        pieces.pop()  # RFC 6376 §3.2: the last tag may end with a semicolon too.
    for piece in pieces:
        name, equals, value = piece.partition("=")
        name = name.strip(_SPACE)
        if not equals or not _NAME.match(name):
            raise BadTags(f"{piece.strip()[:40]!r} is no tag")
        if name in found:
            raise BadTags(f"the tag {name} stands twice")
        found[name] = value.strip(_SPACE)
    return found
