from pathlib import Path

import pytest

from posthouse.directory import addresses, aliases, identities, lists
from posthouse.directory.addresses import Rules
from posthouse.directory.model import (
    NoSuchAccount,
    NoSuchAddress,
    NoSuchGrant,
)
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.directory.support import add_account, alias, in_transaction


def test_what_belongs_to_anothers_address_is_no_tag(tmp_path: Path) -> None:
    """With "-" as the separator x-y-owner@ would be a subaddress of x@; but it is an address of the list x-y@."""

    def test(tx: Tx) -> None:
        account = add_account(tx, "x@example.org").id
        lists.add(tx, parse("x-y@example.org"), "", 1)
        found = identities.find_identities(tx, account, Rules(separator="-"))
        expected = {"x": True, "x-z": True, "x-y": False, "x-y-owner": False, "x-ya-b": True}
        assert {local: found.owns(parse(f"{local}@example.org")) for local in expected} == expected

    in_transaction(tmp_path, test)


def test_an_address_of_anothers_may_be_granted(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice, bob = (add_account(tx, f"{name}@example.org").id for name in ("alice", "bob"))
        alias(tx, "team@example.org", "bob@example.org")
        identities.grant(tx, alice, parse("Team@example.org"))
        identities.grant(tx, alice, parse("team@example.org"))
        assert identities.granted(tx, alice) == ["team@example.org"]
        assert identities.find_identities(tx, alice, Rules()).owns(parse("team+x@example.org"))
        assert not identities.find_identities(tx, bob, Rules()).owns(parse("team@example.org"))
        # To send as it is not to receive at it.
        reached = addresses.expand(tx, parse("team@example.org"), Rules()).local
        assert [local.account for local in reached] == [bob]
        with pytest.raises(NoSuchAddress):
            identities.grant(tx, alice, parse("nobody@example.org"))
        with pytest.raises(NoSuchAccount):
            identities.grant(tx, 99, parse("team@example.org"))
        identities.revoke(tx, alice, parse("team@example.org"))
        with pytest.raises(NoSuchGrant):
            identities.revoke(tx, alice, parse("team@example.org"))
        # What goes is granted to nobody.
        identities.grant(tx, alice, parse("team@example.org"))
        aliases.remove_alias(tx, parse("team@example.org"))
        assert identities.granted(tx, alice) == []

    in_transaction(tmp_path, test)
