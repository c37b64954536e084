"""Values in few words, for the `A: saw ...` lines of transcripts."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any

from posthouse.wire.imap.sequence import SequenceSet


def shown(value: Any) -> str:
    """`Fetch(True, 1:*, (FLAGS, UID))` for a request; octets and text in quotes."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, SequenceSet):
        return value.octets().decode()
    if isinstance(value, bytes | str):
        return repr(value).removeprefix("b")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(shown, value))) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(shown, value)) + ")"
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(_shown_fields(value))})"
    return str(value)


def _shown_fields(value: Any) -> Iterator[str]:
    """Each field; those that are only by name, only where they say something."""
    for field in fields(value):
        content = getattr(value, field.name)
        if not field.kw_only:
            yield shown(content)
        elif content != field.default:
            yield f"{field.name}={shown(content)}"
