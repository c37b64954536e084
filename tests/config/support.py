"""Pieces of configuration files."""

import pytest

from posthouse.config import reading
from posthouse.config.errors import ConfigError

HOST = 'hostname = "mx.example.org"\n'
SMTP = "[[listener]]\nprotocol = 'smtp'\naddress = '192.0.2.1:25'\n"


def route(text: str, name: str = "office") -> str:
    return f'[[route]]\nname = "{name}"\n{text}\n'


def listener(protocol: str, address: str, more: str = "") -> str:
    return f'{HOST}[[listener]]\nprotocol = "{protocol}"\naddress = "{address}"\n{more}'


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        reading.parse(text)
    return str(caught.value)
