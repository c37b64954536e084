"""What a configuration file is refused for: the file, the key, what was found there and what is expected."""

import json


class Words(str):
    """Found: told in words, not shown as a value."""


class Misfit(Exception):
    """A setting that cannot stand: its key, what was found (a value, or Words), and what is expected."""

    def __init__(self, key: str, found: object, expected: str) -> None:
        self.key, self.expected = key, expected
        self.found = found if isinstance(found, Words) else _show(found)
        super().__init__(f"{key}: found {self.found}; expected {expected}")


class ConfigError(Exception):
    """The file cannot be used. `str()` is one line for the person who wrote it."""

    def __init__(self, file: str, key: str, found: str, expected: str) -> None:
        self.file, self.key, self.found, self.expected = file, key, found, expected
        where = f"{file}: {key}" if key else file
        super().__init__(f"{where}: found {found}; expected {expected}")


def _show(value: object) -> str:
    """A value as TOML spells it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    shown = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, str | dict | list) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
