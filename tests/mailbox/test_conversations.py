"""THREAD's algorithms, by example and against what must hold of any tree."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imapd.forest import packed
from posthouse.mailbox import conversations
from posthouse.mailbox.conversations import Member, Node, below, by_ancestors, by_references, by_subject


def member(
    number: int, id: int = 0, ancestors: Sequence[int] = (), *, subject: bytes = b"", sent: int = 0, reply: bool = False
) -> Member:
    return Member(number, sent or number, subject, reply, id, ancestors)


def shown(roots: Sequence[Node]) -> str:
    trees = packed(roots)
    return (trees.form % tuple(trees.order)).decode()


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], ""),
        ([member(1, 1), member(2, 2)], "(1)(2)"),
        ([member(1, 1), member(2, 2, [1]), member(3, 3, [1, 2])], "(1 2 3)"),
        ([member(1, 1), member(2, 2, [1]), member(3, 3, [1])], "(1 (2)(3))"),
        # The reply comes first.
        ([member(1, 2, [1]), member(2, 1)], "(2 1)"),
        # What is not there holds its children together where there are several (3), and is passed over where not.
        ([member(1, 1, [9]), member(2, 2, [9])], "((1)(2))"),
        ([member(1, 1, [9])], "(1)"),
        ([member(1, 1), member(2, 2, [1, 8]), member(3, 3, [1, 8, 9])], "(1 (2)(3))"),
        ([member(1, 1, [7, 8, 9]), member(2, 2, [7])], "((1)(2))"),
        # Circles are not closed.
        ([member(1, 1, [1])], "(1)"),
        ([member(1, 1, [2]), member(2, 2, [1])], "(2 1)"),
        ([member(1, 1, [2, 3]), member(2, 2, [3, 1]), member(3, 3, [1, 2])], "(2 3 1)"),
        # What it says of itself counts more than what others say of it.
        ([member(1, 5, [1, 2, 3]), member(2, 3, [1]), member(3, 1), member(4, 2)], "(3 2 1)(4)"),
        # Without references it has no parent, whatever others say.
        ([member(1, 5, [1, 2, 3]), member(2, 3)], "(2 1)"),
        # The same id twice.
        ([member(1, 1), member(2, 1), member(3, 3, [1])], "(1 3)(2)"),
        # By when they were sent, on each level; by number where that is the same.
        (
            [member(1, 1, sent=9), member(2, 2, [1], sent=8), member(3, 3, [1], sent=7), member(4, 4, sent=1)],
            "(4)(1 (3)(2))",
        ),
        ([member(1, 1, [9], sent=9), member(2, 2, sent=5), member(3, 3, [9], sent=2)], "((3)(1))(2)"),
        ([member(2, 1, sent=5), member(3, 2, sent=5), member(1, 3, sent=5)], "(1)(2)(3)"),
        # (5): a reply goes below, two messages stand side by side, what holds others takes all.
        ([member(1, subject=b"A"), member(2, subject=b"A", reply=True)], "(1 2)"),
        ([member(1, subject=b"A", reply=True), member(2, subject=b"A")], "(2 1)"),
        ([member(1, subject=b"A"), member(2, subject=b"A")], "((1)(2))"),
        ([member(1, subject=b"A"), member(2, subject=b"A"), member(3, subject=b"A", reply=True)], "((1)(2)(3))"),
        ([member(1, subject=b"A", reply=True), member(2, subject=b"A", reply=True)], "((1)(2))"),
        ([member(1, subject=b""), member(2, subject=b"")], "(1)(2)"),
        (
            [
                *[member(number, number, [9], subject=b"A") for number in (1, 2)],
                member(3, subject=b"A"),
                *[member(number, number, [8], subject=b"A") for number in (4, 5)],
            ],
            "((1)(2)(3)(4)(5))",
        ),
    ],
)  # fmt: skip
def test_references(members: list[Member], expected: str) -> None:
    assert shown(by_references(members)) == expected


def test_ordered_subject() -> None:
    """RFC 5256 §3: the first of a subject has all others below it; threads by their first message."""
    members = [
        member(1, subject=b"B", sent=5),
        member(2, subject=b"A", sent=4),
        member(3, subject=b"B", sent=1),
        member(4, subject=b"B", sent=6),
        member(5, subject=b"", sent=2),
        member(6, subject=b"", sent=3),
    ]
    assert shown(by_subject(members)) == "(3 (1)(4))(5 6)(2)"


def test_refs_looks_at_no_subject_and_at_the_newest_message() -> None:
    members = [member(1, 1, subject=b"A"), member(2, 2, subject=b"A"), member(3, 3, [1], subject=b"B")]
    assert shown(by_ancestors(members)) == "(2)(1 3)"


MAIL = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.lists(st.integers(1, 9), max_size=4),
        st.sampled_from([b"", b"A", b"B"]),
        st.booleans(),
        st.integers(0, 3),
    ),
    max_size=14,
)


@given(MAIL)
def test_every_message_stands_in_one_place(mail: list[tuple[int, list[int], bytes, bool, int]]) -> None:
    members = [
        Member(number, sent, subject, reply, id, ancestors)
        for number, (id, ancestors, subject, reply, sent) in enumerate(mail, 1)
    ]
    for algorithm in (by_references, by_ancestors, by_subject):
        roots = algorithm(members)
        nodes = [node for root in roots for node in below(root)]
        assert sorted(node.number for node in nodes if node.number) == list(range(1, len(mail) + 1))
        assert all(root.parent is None for root in roots)
        # Only at the top something is held together by what is not there, and then more than one.
        assert all(node.number or (node.parent is None and len(node.children) > 1) for node in nodes)
        for node in nodes:
            assert all(child.parent is node for child in node.children)
            dates = [(child.sent, child.number) for child in node.children if child.number]
            assert dates == sorted(dates)
        trees = packed(roots)
        assert trees.form.count(b"(") == trees.form.count(b")")
        assert trees.form.count(b"%d") == len(trees.order) == len(mail)


def _climbs(count: int) -> list[Member]:
    """A long chain, and as many messages that hang somewhere in it and then say that they belong to its end."""
    chain = [member(n, n, [n - 1] if n > 1 else []) for n in range(1, count)]
    moved = [member(count + n, 2 * count + n, [1, 4 * count + n]) for n in range(count)]
    again = [member(2 * count + n, 4 * count + n, [count - 1]) for n in range(count)]
    return [*chain, *moved, *again]


def test_hostile_trees_take_no_recursion_and_not_their_square() -> None:
    count = 3000
    forward = [member(n, n, [n - 1] if n > 1 else []) for n in range(1, count + 1)]
    backward = [member(n, count + 1 - n, [count - n]) for n in range(1, count + 1)]
    mixed = [member(n, id, [id - 1]) for n, id in enumerate(Random(1).sample(range(1, count + 1), count), 1)]
    fan = [member(n, n, [count + 1, *range(count + 2, count + 90)]) for n in range(1, 300)]
    for members in (forward, backward, mixed, fan, _climbs(count)):
        roots = by_references(members)
        assert sum(node.number > 0 for root in roots for node in below(root)) == len(members)
        assert len(packed(roots).order) == len(members)
    assert len(by_references(forward)) == 1


def test_hostile_references_make_only_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named beyond that is passed over; messages that are there are still put together."""
    monkeypatch.setattr(conversations, "_PLACES", 1)
    monkeypatch.setattr(conversations, "_PLACES_EACH", 1)
    made = [member(n, n, [1, *range(1000 * n, 1000 * n + 100)], sent=n) for n in range(1, 50)]
    links = conversations._Links(made)
    assert len(links.nodes) <= 2 * len(made) + 1
    assert shown(by_ancestors(made)) == "(1 " + "".join([f"({n})" for n in range(2, 50)]) + ")"
