import re

from hypothesis import given
from hypothesis import strategies as st

from posthouse.imapd.pattern import Pattern, matcher


def test_wildcards() -> None:
    assert Pattern("*").matches("a/b")
    assert Pattern("%").matches("ab")
    assert not Pattern("%").matches("a/b")
    assert Pattern("a%/b*").matches("abc/bcd/e")
    assert Pattern("").matches("")
    assert not Pattern("").matches("a")
    assert Pattern("%%*%x").matches("a/b/x")


def test_a_reference_stands_before_each_pattern() -> None:
    matches = matcher("a/", ("b", "c%"))
    assert [path for path in ("b", "a/b", "a/c", "a/cd", "a/cd/e") if matches(path)] == ["a/b", "a/c", "a/cd"]


def test_the_inbox_matches_in_any_case_and_others_do_not() -> None:
    matches = matcher("", ("iNbOx*",))
    assert [path for path in ("INBOX", "INBOX/x", "Inbox2", "INBOX2") if matches(path)] == ["INBOX", "INBOX/x"]
    assert not matcher("", ("archive",))("Archive")
    # No letters but these are the Inbox's.
    assert not matcher("", ("ınbox",))("INBOX")


def test_a_pattern_of_many_wildcards_costs_no_more_than_the_name_is_long() -> None:
    """A backtracking matcher would take longer than anybody lives."""
    assert not Pattern("*a" * 200 + "b").matches("a" * 5000)
    assert Pattern("%a" * 50 + "%").matches("a" * 300)
    # A run of wildcards is one: else each name would cost the length of the run, squared.
    assert all(matcher("", ["%*" * 30_000])(f"mailbox {number}/a") for number in range(1000))


_TEXT = st.text(alphabet="ab/", max_size=8)


@given(st.text(alphabet="ab/*%", max_size=7), _TEXT)
def test_it_means_what_the_expression_means(pattern: str, path: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
    assert Pattern(pattern).matches(path) is bool(re.fullmatch(expression, path))
