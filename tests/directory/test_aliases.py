from pathlib import Path

import pytest

from posthouse.directory import aliases
from posthouse.directory.model import (
    AddressInUse,
    AddressTaken,
    BadAlias,
    NoSuchAddress,
    NoSuchAlias,
    NoSuchDomain,
)
from posthouse.limits import ALIAS_FANOUT
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.directory.support import add_account, alias, in_transaction


def test_what_an_alias_may_be(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        add_account(tx, "alice@example.org")
        with pytest.raises(BadAlias):
            alias(tx, "sales@example.org")
        with pytest.raises(NoSuchAddress):
            alias(tx, "sales1@example.org", "nobody@example.org")
        with pytest.raises(BadAlias):
            alias(tx, "sales2@example.org", "Sales2@example.org")
        with pytest.raises(AddressTaken):
            alias(tx, "alice@example.org", "x@elsewhere.example")
        with pytest.raises(NoSuchDomain):
            alias(tx, "sales@elsewhere.example", "alice@example.org")
        with pytest.raises(BadAlias):
            alias(tx, "crowd@example.org", *(f"{n}@elsewhere.example" for n in range(ALIAS_FANOUT + 1)))
        alias(tx, "sales3@example.org", "alice+x@example.org", "Alice+X@example.org", "postmaster@example.org")
        assert aliases.find_alias(tx, parse("sales3@example.org")).targets == (
            "Alice+X@example.org",
            "postmaster@example.org",
        )
        alias(tx, "top@example.org", "sales3@example.org")
        with pytest.raises(AddressInUse, match=r"top@example\.org"):
            aliases.remove_alias(tx, parse("sales3@example.org"))
        aliases.remove_alias(tx, parse("top@example.org"))
        aliases.remove_alias(tx, parse("sales3@example.org"))
        with pytest.raises(NoSuchAlias):
            aliases.remove_alias(tx, parse("sales3@example.org"))
        with pytest.raises(NoSuchAlias):
            aliases.find_alias(tx, parse("alice@example.org"))

    in_transaction(tmp_path, test)
