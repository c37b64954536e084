"""Running clients that nobody here wrote."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import NoReturn

import pytest


def missing(why: str) -> NoReturn:
    """Say that the test was not run, and why; in CI that is a failure."""
    if required():
        pytest.fail(why)
    pytest.skip(why)


def required() -> bool:
    """Whether all of these tests must run, as in CI."""
    return bool(os.environ.get("POSTHOUSE_REQUIRE_INTEROP"))


def require(program: str, package: str | None = None) -> str:
    """The path of a client; the test is not run, or fails in CI, where it is not installed."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed (apt-get install {package or program})")
    return path


def run(argv: Sequence[str], *, octets: bytes = b"", status: int = 0, **environment: str) -> bytes:
    """What a client writes to its standard output; AssertionError with its own words where it ends otherwise.

    `octets` are its standard input, `status` the exit status that is expected.
    """
    done = subprocess.run(
        argv, input=octets, capture_output=True, check=False, env={**os.environ, **environment}, timeout=240
    )
    said = f"{argv[0]} ended with {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    assert done.returncode == status, said
    return done.stdout
