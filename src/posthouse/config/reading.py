"""A TOML file becomes a `Config`.

Promises: what `load` returns is complete (every default filled in), typed and consistent. An error names the file, the
key, what was found there and what is expected. A key that does not exist is refused, with the nearest that does. Paths
are taken from the directory of the file.
Refuses: to bind, open or look up anything but that file.
"""

import difflib
import json
import re
import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from posthouse.config import consistent
from posthouse.config.errors import ConfigError, Misfit, Words
from posthouse.config.scalars import SCALARS, expects
from posthouse.config.values import Config


def load(path: Path) -> Config:
    """The configuration that the file holds. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), "", (error.strerror or str(error)).lower(), "a readable file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", f"an octet that is not UTF-8 at {error.start}", "UTF-8 text") from error
    return parse(text, file=str(path), base=path.absolute().parent)


def parse(text: str, *, file: str = "posthouse.toml", base: Path | None = None) -> Config:
    """The configuration that TOML text spells; relative paths are taken from `base`. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(file, "", str(error) or "tables nested too deep", "TOML (https://toml.io)") from error
    try:
        config = _Reader(base or Path.cwd()).struct(Config, table, "")
        assert isinstance(config, Config)
        consistent.check(config)
    except Misfit as error:
        raise ConfigError(file, error.key, error.found, error.expected) from error
    return config


class _Reader:
    """Fits TOML values to types, and says where one does not fit."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def struct(self, kind: type[Struct], value: object, key: str) -> Struct:
        """A table as the struct of this kind."""
        if not isinstance(value, dict):
            raise Misfit(key, value, f"a table [{key}]")
        known = {info.encode_name: info for info in fields(kind)}
        for name in value:
            if name not in known:
                raise Misfit(_below(key, name), Words("an unknown setting"), _nearest(name, list(known)))
        filled: dict[str, Any] = {}
        for name, info in known.items():
            if name in value:
                filled[info.name] = self.fit(info.type, value[name], _below(key, name))
            elif info.required:
                raise Misfit(_below(key, name), Words("nothing"), expects(info.type))
        return kind(**filled)

    def fit(self, kind: Any, value: object, key: str) -> Any:
        """The value as this type. TOML has no null: None is what a setting is when it is absent."""
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            (kind,) = (part for part in get_args(kind) if part is not NoneType)
            return self.fit(kind, value, key)
        if origin is tuple:
            return self.several(get_args(kind)[0], value, key)
        if origin is Literal:
            if value not in get_args(kind) or not isinstance(value, str):
                raise Misfit(key, value, expects(kind))
            return value
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.struct(kind, value, key)
        if kind is Path:
            return self._base / self.scalar(Path, value, key)
        return self.scalar(kind, value, key)

    def several(self, kind: Any, value: object, key: str) -> tuple[Any, ...]:
        """A list; where plain values are listed, one value may stand alone."""
        if not isinstance(value, list):
            if isinstance(kind, type) and issubclass(kind, Struct):
                raise Misfit(key, value, f"tables [[{key}]]")
            return (self.fit(kind, value, key),)
        return tuple(self.fit(kind, one, f"{key}[{n}]") for n, one in enumerate(value, 1))

    def scalar(self, kind: Any, value: object, key: str) -> Any:
        wanted, read = SCALARS[kind]
        try:
            return read(value)
        except ValueError as error:
            raise Misfit(key, value, wanted) from error


def _below(key: str, name: str) -> str:
    name = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    return f"{key}.{name}" if key else name


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f'"{near[0]}"?' if near else "one of " + ", ".join(sorted(known))
