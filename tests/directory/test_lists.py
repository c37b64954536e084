"""Lists and their members, as the directory keeps them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, addresses, domains, lists, members
from posthouse.directory.model import BadList, MembersHidden, NoSuchMember
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, parse
from tests.directory.support import with_store

TEAM = parse("team@home.example")


def on_store(path: Path, work: Callable[[Tx], None]) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        def prepared(tx: Tx) -> None:
            domains.add(tx, "home.example", 1)
            work(tx)

        await store.write(prepared)

    with_store(path, main)


@pytest.mark.parametrize(
    "local", ["team+x", "a b", "te\u00e4m", "t" * (lists.LONGEST_NAME + 1), "team-owner", "team-bounces", "a..b"]
)
def test_a_name_that_addresses_beside_it_could_not_be_made_of_is_refused(tmp_path: Path, local: str) -> None:
    def work(tx: Tx) -> None:
        with pytest.raises(BadList):
            lists.add(tx, Address(local, "home.example"), "", 1)

    on_store(tmp_path, work)


def test_addresses_beside_the_longest_name_are_addresses(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        made = lists.add(tx, Address("t" * lists.LONGEST_NAME, "home.example"), "", 1)
        for purpose in addresses.PURPOSES:
            beside = made.beside(f"{purpose}{'x' * 16 if purpose.endswith('+') else ''}")
            assert parse(str(beside)) == beside

    on_store(tmp_path, work)


def test_a_domain_that_gets_another_name_takes_its_lists_and_members_along(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        domains.add(tx, "other.example", 1)
        made, other = lists.add(tx, TEAM, "", 1), lists.add(tx, parse("other@other.example"), "", 1)
        for one in (made, other):
            for who in ("Alice@home.example", "alice@new.example", "bob@home.example", "ann@far.example"):
                members.add(tx, one.id, parse(who), 1)
        domains.rename(tx, "home.example", "new.example")
        for address in ("team@new.example", "other@other.example"):
            found = lists.find(tx, parse(address))
            names = [str(one.address) for one in members.every(tx, found.id)]
            assert names == ["alice@new.example", "ann@far.example", "bob@new.example"]
        reached = addresses.expand(tx, parse("team-owner@new.example"), addresses.Rules()).lists
        assert [(one.id, one.purpose) for one in reached] == [(made.id, "owner")]

    on_store(tmp_path, work)


@pytest.mark.parametrize(
    ("visible", "role", "told"),
    [(False, "member", False), (True, "member", True), (False, "moderator", True), (True, None, False)],
)
def test_who_may_see_the_members(tmp_path: Path, visible: bool, role: members.Role | None, told: bool) -> None:
    def work(tx: Tx) -> None:
        account = accounts.create_account(tx, parse("alice@home.example"), now=1).id
        made = lists.add(tx, TEAM, "", 1, visible=visible)
        members.add(tx, made.id, parse("ann@far.example"), 1)
        if role is not None:
            members.add(tx, made.id, parse("ALICE@home.example"), 1, role=role)
        try:
            found = lists.members_for(tx, TEAM, account)
        except MembersHidden:
            found = ()
        assert found == (("ALICE@home.example", "ann@far.example") if told else ())

    on_store(tmp_path, work)


def test_too_many_members_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST_TOLD", 2)

    def work(tx: Tx) -> None:
        account = accounts.create_account(tx, parse("alice@home.example"), now=1).id
        made = lists.add(tx, TEAM, "", 1)
        for number in range(3):
            members.add(tx, made.id, parse(f"{number}@home.example"), 1)
        members.add(tx, made.id, parse("alice@home.example"), 1, role="owner")
        with pytest.raises(MembersHidden):
            lists.members_for(tx, TEAM, account)

    on_store(tmp_path, work)


def test_a_number_is_nobody_elses_and_ends_with_the_membership(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        made, other = lists.add(tx, TEAM, "", 1), lists.add(tx, parse("other@home.example"), "", 1)
        ann = parse("ann@far.example")
        first = members.add(tx, made.id, ann, 1)
        second = members.add(tx, other.id, ann, 1)
        assert first.number != second.number
        assert members.numbered(tx, made.id, first.number) == first
        assert members.numbered(tx, made.id, second.number) is None
        members.remove(tx, made.id, ann)
        again = members.add(tx, made.id, ann, 1)
        assert again.number not in (first.number, second.number)
        assert members.numbered(tx, made.id, first.number) is None
        with pytest.raises(NoSuchMember):
            members.remove(tx, made.id, parse("nobody@far.example"))

    on_store(tmp_path, work)


def test_batches_of_a_list_hold_each_member_once_and_who_joins_meanwhile(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        made = lists.add(tx, TEAM, "", 1)
        assert members.ranges(tx, made.id, 3, "each", 1) == []
        for number in range(10):
            members.add(tx, made.id, parse(f"u{number}@far.example"), 1)
        members.change(tx, made.id, parse("u4@far.example"), delivery="none")
        ranges = members.ranges(tx, made.id, 3, "each", 1)
        assert len(ranges) == 3
        members.add(tx, made.id, parse("z\U0010fffe@far.example"), 1)
        found = [
            one.address.local for range in ranges for one in members.between(tx, made.id, *range, form="each", period=9)
        ]
        assert found == ["u0", "u1", "u2", "u3", "u5", "u6", "u7", "u8", "u9", "z\U0010fffe"]

    on_store(tmp_path, work)
