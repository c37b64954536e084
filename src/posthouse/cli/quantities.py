"""Arguments of the command line that are amounts: sizes, rates, and the word for there being no limit."""

from enum import Enum
from typing import Any, Final

import click

from posthouse.written import Rate, parse_rate, parse_size


class SizeType(click.ParamType[int]):
    """A size such as 500MB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class NoneOrType(click.ParamType[Any]):
    """What another type reads, or the word for there being none, which becomes NONE."""

    def __init__(self, type: click.ParamType[Any], word: str) -> None:
        self._type = type
        self._word = word
        self.name = f"{type.name}|{word}"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        return NONE if value in (self._word, NONE) else self._type.convert(value, param, ctx)


# How many; and the number that something has, which the store holds in 64 bits.
COUNT: Final = click.IntRange(1, 2**31)
NUMBER: Final = click.IntRange(1, 2**63 - 1)


class RateType(click.ParamType[Rate]):
    """A rate such as 5000/1h."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Rate:
        try:
            return value if isinstance(value, Rate) else parse_rate(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Nothing(Enum):
    """In place of a limit: there is none of the account's own."""

    NONE = "none"


NONE: Final = Nothing.NONE
