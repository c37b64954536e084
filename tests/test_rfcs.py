"""docs/rfcs.toml and the source speak of the same standards: each one that is cited has its table there, and each file
that a table names cites it.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "posthouse"
STATUSES = {"yes", "partial", "no"}
KEYS = {"title", "status", "where", "part_of", "remark"}

# "RFC 5321 §4.4", and lists: "RFC 2920, 6152, 2034", "RFC 8446 and 5246", "RFC 5322, 2045-2049, 3464".
_FURTHER = r"(?:, | and |-)(\d{3,5})\b(?: §[\w.]+)?"
_CITATION = re.compile(rf"\bRFC\s+(?:# )?(\d{{3,5}})\b(?: §[\w.]+)?((?:{_FURTHER})*)")


def cited_in(text: str) -> set[int]:
    """The numbers of the RFCs that a text cites."""
    found = set()
    for match in _CITATION.finditer(text):
        found |= {int(match[1]), *(int(number) for number in re.findall(_FURTHER, match[2]))}
    return found


def citations() -> dict[int, set[str]]:
    """By RFC, the files of src/posthouse that cite it."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*"):
        if path.suffix in (".py", ".sql"):
            for number in cited_in(path.read_text()):
                found[number].add(path.relative_to(SOURCE).as_posix())
    return found


LISTED: Mapping[str, dict[str, Any]] = tomllib.loads((ROOT / "docs" / "rfcs.toml").read_text())


def test_citations_are_found() -> None:
    assert cited_in("(RFC 5322, 2045, 2047, 5321 §4.4) and RFC 8446 and 5246 set no time") == {
        *(5322, 2045, 2047, 5321),
        *(8446, 5246),
    }
    assert cited_in("RFC 2045 §5.2, RFC 2231 §4.1: 1000 octets; RFC 2045-2049. RFC822.SIZE") == {2045, 2231, 2049}


def test_every_rfc_that_the_source_cites_is_listed() -> None:
    missing = {number: sorted(files) for number, files in citations().items() if str(number) not in LISTED}
    assert not missing, "cited in src/ and not in docs/rfcs.toml"


@pytest.mark.parametrize("number", LISTED)
def test_an_entry_is_well_formed(number: str) -> None:
    entry = LISTED[number]
    assert entry.keys() <= KEYS
    assert entry["title"]
    assert entry["status"] in STATUSES
    assert entry["where"], "what no file carries is not listed"
    if entry["status"] != "yes":
        assert entry.get("remark"), "a remark says what is there, or what is missing"


@pytest.mark.parametrize("number", LISTED)
def test_the_files_of_an_entry_cite_it(number: str) -> None:
    entry = LISTED[number]
    cited = int(entry.get("part_of", number))
    for name in entry["where"]:
        path = SOURCE / name
        assert path.is_file(), f"RFC {number}: {name} is not there"
        assert cited in cited_in(path.read_text()), f"RFC {number}: {name} does not cite RFC {cited}"


def test_what_is_part_of_another_is_listed_with_it() -> None:
    for number, entry in LISTED.items():
        assert str(entry.get("part_of", number)) in LISTED


def test_entries_stand_in_order() -> None:
    assert list(map(int, LISTED)) == sorted(map(int, LISTED))
