"""The Inbox's name."""

import pytest

from posthouse.terms.inbox import INBOX, at_top


@pytest.mark.parametrize("name", ["INBOX", "inbox", "InBoX"])
def test_in_any_case_of_letters(name: str) -> None:
    assert at_top(name) == INBOX


@pytest.mark.parametrize("name", ["", "INBO", "INBOXES", "ınbox", "INBOX ", "Archive"])
def test_no_other_name(name: str) -> None:
    assert at_top(name) == name
