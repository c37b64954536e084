from pathlib import Path

import pytest

from posthouse.directory import accounts, addresses, aliases, domains, identities
from posthouse.directory.model import DomainExists, DomainInUse, NoSuchDomain
from posthouse.store.database import Tx
from posthouse.terms.address import BadAddress, parse
from tests.directory.support import NOW, add_account, in_transaction


def test_names_are_normal_and_unique(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        assert domains.add(tx, "Bücher.Example", NOW).name == "xn--bcher-kva.example"
        with pytest.raises(DomainExists):
            domains.add(tx, "bücher.example", NOW)
        with pytest.raises(BadAddress):
            domains.add(tx, "not a domain", NOW)
        assert [domain.name for domain in domains.list_domains(tx)] == ["example.org", "xn--bcher-kva.example"]
        assert [domain.name for domain in domains.list_domains(tx, after="example.org")] == ["xn--bcher-kva.example"]

    in_transaction(tmp_path, test)


def test_a_domain_with_addresses_stays(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        account = add_account(tx, "alice@example.org")
        with pytest.raises(DomainInUse, match="1 addresses"):
            domains.remove(tx, "example.org")
        accounts.remove(tx, account.id, NOW)
        domains.remove(tx, "EXAMPLE.org")
        with pytest.raises(NoSuchDomain):
            domains.find(tx, "example.org")

    in_transaction(tmp_path, test)


def test_renaming_takes_everything_along(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        domains.add(tx, "other.example", NOW)
        account = add_account(tx, "Alice@example.org")
        aliases.add_alias(tx, parse("sales@example.org"), [parse("alice@example.org"), parse("bob@far.example")])
        aliases.add_alias(tx, parse("all@other.example"), [parse("sales@example.org"), parse("Alice+x@example.org")])
        domains.set_catch_all(tx, "other.example", parse("alice@example.org"))
        domains.set_catch_all(tx, "example.org", parse("sales@example.org"))

        other = add_account(tx, "bob@other.example")
        identities.grant(tx, other.id, parse("sales@example.org"))

        domains.rename(tx, "example.org", "example.net")

        assert identities.granted(tx, other.id) == ["sales@example.net"]
        with pytest.raises(NoSuchDomain):
            domains.find(tx, "example.org")
        assert accounts.find(tx, account.id).name == "alice@example.net"
        assert identities.addresses_of(tx, account.id) == ["Alice@example.net"]
        assert domains.find(tx, "other.example").catch_all == "alice@example.net"
        assert domains.find(tx, "example.net").catch_all == "sales@example.net"
        assert aliases.find_alias(tx, parse("sales@example.net")).targets == ("alice@example.net", "bob@far.example")
        assert aliases.find_alias(tx, parse("all@other.example")).targets == (
            "Alice+x@example.net",
            "sales@example.net",
        )
        reached = addresses.expand(tx, parse("all@other.example"), addresses.Rules())
        assert [local.account for local in reached.local] == [account.id]

    in_transaction(tmp_path, test)


def test_renaming_merges_a_target_that_stands_there_already(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        domains.add(tx, "other.example", NOW)
        add_account(tx, "alice@example.org")
        # example.net is not ours yet: any address may stand there.
        aliases.add_alias(tx, parse("all@other.example"), [parse("alice@example.org"), parse("alice@example.net")])
        domains.rename(tx, "example.org", "example.net")
        assert aliases.find_alias(tx, parse("all@other.example")).targets == ("alice@example.net",)
        with pytest.raises(DomainExists):
            domains.rename(tx, "example.net", "other.example")

    in_transaction(tmp_path, test)
