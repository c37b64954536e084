"""For all tests: what the program logs in this process goes nowhere, so that pytest's own words are read."""

import os

import pytest

from posthouse import observe


def pytest_configure(config: pytest.Config) -> None:
    observe.configure(format="json", output=os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
