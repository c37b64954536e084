"""The table of response codes, the source, the manual and the tests tell the same."""

import re
from pathlib import Path

import pytest

from posthouse.imapd.codes import CODES, Reason, markdown
from posthouse.wire.imap.response import Code
from tests.transcript import TRANSCRIPTS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "posthouse"
RESPONSE = SOURCE / "wire" / "imap" / "response.py"
SPEAKERS = "\n".join(
    path.read_text()
    for room in ("imapd", "wire/imap")
    for path in (SOURCE / room).glob("*.py")
    if path.name not in ("codes.py", RESPONSE.name)
)
# `return b"NAME …` of the functions that make codes; untagged responses begin with "* ".
WITH_ARGUMENTS = re.compile(r'(?:return |_BADCHARSET: Final = )b"([A-Z][A-Z-]+) ')


def said() -> set[str]:
    """The codes that the source says."""
    plain = {code.value.decode() for code in Code if f"Code.{code.name}" in SPEAKERS}
    return plain | set(WITH_ARGUMENTS.findall(RESPONSE.read_text() + SPEAKERS))


def test_what_is_said_has_a_reason_and_every_reason_is_said() -> None:
    reasons = [reason.code for reason in CODES]
    assert said() == set(reasons)
    assert reasons == sorted(set(reasons))


def test_no_code_is_kept_that_nobody_says() -> None:
    assert {code.value.decode() for code in Code} <= {reason.code for reason in CODES}


def test_the_manual_shows_the_table() -> None:
    assert markdown() in (ROOT / "docs" / "imap-codes.md").read_text()


def heard() -> str:
    """Everything in which a code may have been heard from the door."""
    files = [*TRANSCRIPTS.glob("imapd/*.txt"), *(ROOT / "tests" / "doors").glob("*.py")]
    files += [path for path in (ROOT / "tests" / "imapd").glob("*.py") if path.name != Path(__file__).name]
    files += [*TRANSCRIPTS.glob("imap/*.txt")]
    return "\n".join(path.read_text() for path in files)


HEARD = heard()


@pytest.mark.parametrize("reason", CODES, ids=lambda reason: reason.code)
def test_every_code_is_heard_in_a_test(reason: Reason) -> None:
    assert re.search(rf"\[{re.escape(reason.code)}[ \]]", HEARD), f"no test hears {reason.code}"
