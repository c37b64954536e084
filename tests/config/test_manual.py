"""The manual names every setting, with its default."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from posthouse.config import reading
from posthouse.config.values import Config, Pause
from posthouse.written import Dial, Duration, Endpoint, Size, format_duration, format_size

MANUAL = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def settings(kind: type[Struct] = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting, with its default as the manual writes it."""
    for info in fields(kind):
        key = prefix + info.encode_name
        inner = get_args(info.type)[0] if get_origin(info.type) is tuple else info.type
        if isinstance(inner, type) and issubclass(inner, Struct):
            yield from settings(inner, key + ".")
        else:
            yield key, "required" if info.required else shown(key, info.type, info.default)


def shown(key: str, kind: Any, value: object) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple) and not isinstance(value, Endpoint | Dial):
        return ", ".join(shown(key, get_args(kind)[0], one) for one in value)
    if kind in (Duration, Pause):
        assert isinstance(value, int | float)
        return format_duration(value)
    if kind is Size:
        assert isinstance(value, int)
        return format_size(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_manual_has_a_heading_and_the_default_of_every_setting() -> None:
    manual = MANUAL.read_text()
    told = dict(re.findall(r"^### `([^`]+)`\n\nDefault: (.+)\.$", manual, re.MULTILINE))
    assert told == dict(settings())


def test_the_example_in_the_manual_is_good() -> None:
    example = re.search(r"```toml\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    assert example is not None
    assert reading.parse(example[1]).hostname == "mx.example.org"
