"""For all tests: what the program logs in this process goes nowhere, so that pytest's own words are read.

Properties hold however long an example takes: a machine that stood still for a moment is no failure of theirs. The same
tree draws the same examples, so that the gate says the same of it twice; `--hypothesis-profile explore` draws others.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from posthouse import observe

settings.register_profile("gate", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("gate"), derandomize=False, max_examples=500)
settings.load_profile("gate")


def pytest_configure(config: pytest.Config) -> None:
    observe.configure(format="json", output=os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
