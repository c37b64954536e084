"""Clients that are packages of other registries, put into a directory of the tests; by version and checksum."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import missing, require, required


def python_package(name: str, requirement: str, directory: Path) -> Any:
    """A module of a Python package without dependencies; `requirement` names the version and the wheel's checksum."""
    wanted, target = directory / "wanted.txt", directory / "packages"
    wanted.write_text(f"{requirement}\n")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    checked = ("--require-hashes", "--only-binary", ":all:", "--no-deps", "--retries", str(retries()))
    install([*pip, *checked, "--target", str(target), "--requirement", str(wanted)], directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        return importlib.import_module(name)


def node_packages(lock: Path, directory: Path) -> None:
    """What the package-lock.json in `lock` names, and the scripts there, in `directory`. Installing runs none of it."""
    shutil.copytree(lock, directory, dirs_exist_ok=True)
    install(
        [require("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", f"--fetch-retries={retries()}"], directory
    )


def retries() -> int:
    """How often an installer asks again: where the test must run, a registry that hesitates is no reason to fail."""
    return 5 if required() else 1


def install(argv: Sequence[str], directory: Path) -> None:
    """Run an installer; where it fails, for want of a registry perhaps, the test says that it was not run."""
    try:
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired as why:
        missing(str(why))
    if done.returncode:
        missing(f"{argv[0]} could not install what the test needs: {done.stdout[-500:]}{done.stderr[-1500:]}")
