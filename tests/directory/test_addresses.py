from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory import accounts, addresses, aliases, domains
from posthouse.directory.addresses import Expansion, Rules, Standing
from posthouse.limits import ALIAS_DEPTH, ALIAS_FANOUT
from posthouse.store.database import Row, Store, Topic, Tx, Value
from posthouse.terms.address import Address, parse
from tests.directory.support import NOW, add_account, add_domain, alias, in_transaction, with_store

RULES = Rules()


def expand(tx: Tx, address: str, rules: Rules = RULES) -> Expansion:
    return addresses.expand(tx, parse(address), rules)


def reached(tx: Tx, address: str, rules: Rules = RULES) -> list[int]:
    return [local.account for local in expand(tx, address, rules).local]


def test_plain_addresses(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        assert reached(tx, "ALICE@Example.ORG") == [alice]
        assert expand(tx, "bob@example.org").standing is Standing.UNKNOWN
        elsewhere = expand(tx, "Bob@elsewhere.example")
        assert elsewhere.standing is Standing.RELAY
        assert elsewhere.remote == (Address("Bob", "elsewhere.example"),)
        accounts.set_enabled(tx, alice, False)
        assert expand(tx, "alice@example.org").standing is Standing.DISABLED

    in_transaction(tmp_path, test)


def test_tags(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        other = add_account(tx, "alice+other@example.org").id
        assert [(local.account, local.tag) for local in expand(tx, "Alice+Shop@example.org").local] == [(alice, "shop")]
        assert [(local.account, local.tag) for local in expand(tx, "alice+a+b@example.org").local] == [(alice, "a+b")]
        # The address as it stands comes first.
        assert reached(tx, "alice+other@example.org") == [other]
        assert expand(tx, "+alice@example.org").standing is Standing.UNKNOWN
        assert expand(tx, "alice-x@example.org").standing is Standing.UNKNOWN
        assert reached(tx, "alice-x@example.org", Rules(separator="-")) == [alice]
        assert expand(tx, "alice+x@example.org", Rules(separator="")).standing is Standing.UNKNOWN
        # The tag of the address that an alias names reaches the account.
        alias(tx, "shop@example.org", "alice+orders@example.org")
        assert [local.tag for local in expand(tx, "shop@example.org").local] == ["orders"]

    in_transaction(tmp_path, test)


def test_aliases_nest_and_each_account_is_reached_once(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice, bob = add_account(tx, "alice@example.org").id, add_account(tx, "bob@example.org").id
        alias(tx, "sales@example.org", "alice@example.org", "bob@example.org", "carol@elsewhere.example")
        alias(tx, "all@example.org", "sales@example.org", "alice@example.org", "bob+x@example.org")
        found = expand(tx, "all@example.org")
        assert sorted(local.account for local in found.local) == sorted([alice, bob])
        assert found.remote == (parse("carol@elsewhere.example"),)
        assert found.standing is Standing.KNOWN
        assert found.broken == ()

    in_transaction(tmp_path, test)


def test_a_member_that_leads_nowhere_is_told_of(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice, bob = add_account(tx, "alice@example.org").id, add_account(tx, "bob@example.org").id
        alias(tx, "sales@example.org", "alice@example.org", "bob@example.org")
        accounts.set_enabled(tx, bob, False)
        found = expand(tx, "sales@example.org")
        assert [local.account for local in found.local] == [alice]
        assert found.broken == (("bob@example.org", Standing.DISABLED),)
        accounts.set_enabled(tx, alice, False)
        assert expand(tx, "sales@example.org").standing is Standing.DISABLED

    in_transaction(tmp_path, test)


def test_loops_end(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        alias(tx, "a@example.org", "alice@example.org")
        alias(tx, "b@example.org", "a@example.org")
        aliases.set_targets(tx, parse("a@example.org"), [parse("b@example.org")])
        assert expand(tx, "a@example.org").standing is Standing.LOOP
        assert expand(tx, "b+tag@example.org").standing is Standing.LOOP
        aliases.set_targets(tx, parse("a@example.org"), [parse("b@example.org"), parse("alice@example.org")])
        assert reached(tx, "b@example.org") == [alice]

    in_transaction(tmp_path, test)


def test_depth_and_fanout_are_bounded(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        alias(tx, "level0@example.org", "alice@example.org")
        for level in range(1, ALIAS_DEPTH + 1):
            alias(tx, f"level{level}@example.org", f"level{level - 1}@example.org")
        assert reached(tx, f"level{ALIAS_DEPTH - 1}@example.org") == [alice]
        assert expand(tx, f"level{ALIAS_DEPTH}@example.org").standing is Standing.TOO_DEEP

        alias(tx, "wide0@example.org", *(f"{n}@elsewhere.example" for n in range(ALIAS_FANOUT)))
        assert len(expand(tx, "wide0@example.org").remote) == ALIAS_FANOUT
        alias(tx, "wide1@example.org", "wide0@example.org", "x@elsewhere.example", "y@elsewhere.example")
        found = expand(tx, "wide1@example.org")
        assert len(found.remote) <= ALIAS_FANOUT
        assert Standing.TOO_MANY in {why for _, why in found.broken}

    in_transaction(tmp_path, test)


def test_catch_all(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        domains.set_catch_all(tx, "example.org", parse("alice@example.org"))
        assert reached(tx, "anybody@example.org") == [alice]
        domains.set_catch_all(tx, "example.org", parse("carol@elsewhere.example"))
        assert expand(tx, "anybody@example.org").remote == (parse("carol@elsewhere.example"),)
        domains.set_catch_all(tx, "example.org", parse("nobody@example.org"))
        assert expand(tx, "anybody@example.org").standing is Standing.LOOP

    in_transaction(tmp_path, test)


def test_postmaster_always_leads_to_somebody(tmp_path: Path) -> None:
    # RFC 5321 §4.5.1
    def test(tx: Tx) -> None:
        domains.add(tx, "other.example", NOW)
        bare = Address("Postmaster", "")
        assert addresses.expand(tx, bare, RULES).standing is Standing.UNKNOWN
        first = add_account(tx, "alice@example.org").id
        other = add_account(tx, "zoe@other.example").id
        assert [local.account for local in addresses.expand(tx, bare, RULES).local] == [first]
        assert reached(tx, "PostMaster@other.example") == [other]
        assert reached(tx, "postmaster@mx.example.org", Rules(hosts=frozenset({"mx.example.org"}))) == [first]
        assert expand(tx, "alice@mx.example.org", Rules(hosts=frozenset({"mx.example.org"}))).standing is (
            Standing.UNKNOWN
        )
        domains.set_catch_all(tx, "other.example", parse("alice@example.org"))
        assert reached(tx, "postmaster@other.example") == [first]
        assert reached(tx, "postmaster@other.example", Rules(postmaster=parse("zoe@other.example"))) == [other]
        # A configured postmaster that does not exist leads on to somebody else, not back to itself.
        own = Rules(postmaster=parse("postmaster@example.org"))
        assert reached(tx, "postmaster@other.example", own) == [first]
        alias(tx, "postmaster@other.example", "zoe@other.example")
        assert reached(tx, "postmaster@other.example", own) == [other]

    in_transaction(tmp_path, test)


def test_resolution_merges_and_keeps_the_first_way(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        alice = add_account(tx, "alice@example.org").id
        alias(tx, "sales@example.org", "alice@example.org", "x@elsewhere.example")
        given_addresses = [
            parse(text)
            for text in ("Alice+a@example.org", "sales@example.org", "nobody@example.org", "x@elsewhere.example")
        ]
        found = addresses.resolve(tx, given_addresses, RULES)
        assert [(local.account, str(local.original), local.tag) for local in found.local] == [
            (alice, "Alice+a@example.org", "a")
        ]
        assert [(str(remote.address), str(remote.original)) for remote in found.remote] == [
            ("x@elsewhere.example", "sales@example.org")
        ]
        assert found.failed == ((parse("nobody@example.org"), Standing.UNKNOWN),)
        assert addresses.current(tx, found, given_addresses, RULES) is found
        accounts.remove(tx, add_account(tx, "bob@example.org").id, NOW)
        again = addresses.current(tx, found, given_addresses, RULES)
        assert again is not found
        assert again.local == found.local

    in_transaction(tmp_path, test)


# --- properties -------------------------------------------------------------------------------------------------------


class Graph:
    """A Tx that knows the statements of a resolution, answered from a picture of the directory."""

    def __init__(self, accounts: dict[str, int], aliases: dict[str, list[str]]) -> None:
        self.accounts = accounts
        self.aliases = aliases
        self.looks = 0

    def one(self, statement: str, **parameters: Value) -> Row | None:
        assert statement == "domain_find"
        return ("ours.example", None, 0) if parameters["name"] == "ours.example" else None

    def all(self, statement: str, **parameters: Value) -> list[Row]:
        assert statement == "address_look"
        self.looks += 1
        key = str(parameters["key"])
        if key in self.accounts:
            return [(self.accounts[key], 1, 0, None, None)]
        return [(None, None, 0, target, None) for target in sorted(self.aliases.get(key, []))]

    def value(self, statement: str, **parameters: Value) -> int:
        assert statement == "directory_version"
        return 1

    def run(self, statement: str, **parameters: Value) -> int:
        raise AssertionError(statement)

    def put(self, statement: str, **parameters: Value) -> None:
        raise AssertionError(statement)

    def many(self, statement: str, rows: object) -> None:
        raise AssertionError(statement)

    def number(self, series: str) -> int:
        raise AssertionError(series)

    def query(self, sql: str, parameters: object) -> list[Row]:
        raise AssertionError(sql)

    def ring(self, topic: Topic, id: int = 0) -> None:
        raise AssertionError(topic)


NAMES = [f"n{n}@ours.example" for n in range(12)]
GONE = ["gone@ours.example"]
FAR = [f"far{n}@elsewhere.example" for n in range(3)]
PEOPLE = {f"u{n}@ours.example": n + 1 for n in range(5)}
TARGETS = st.lists(st.sampled_from(NAMES + GONE + FAR + list(PEOPLE)), max_size=6, unique=True)


def reference(aliases: dict[str, list[str]], start: str) -> set[str]:
    """Everything reachable within the depth, by levels."""
    seen, level = {start}, {start}
    for _ in range(ALIAS_DEPTH):
        level = {target for address in level for target in aliases.get(address, [])} - seen
        seen |= level
    return seen


@given(st.dictionaries(st.sampled_from(NAMES), TARGETS), st.sampled_from(NAMES))
@settings(max_examples=300)
def test_any_graph_of_aliases_ends_and_reaches_what_can_be_reached(aliases: dict[str, list[str]], start: str) -> None:
    graph = Graph(PEOPLE, {name: targets for name, targets in aliases.items() if targets})
    found = addresses.expand(graph, parse(start), RULES)
    expected = reference(graph.aliases, start)
    assert sorted(local.account for local in found.local) == sorted(
        PEOPLE[address] for address in expected & PEOPLE.keys()
    )
    assert {str(address) for address in found.remote} == expected & set(FAR)
    assert (found.standing is Standing.KNOWN) == bool(found.local or found.remote)
    # Each address was visited once.
    assert graph.looks <= len(NAMES) + len(PEOPLE) + len(GONE)


@given(
    st.dictionaries(st.sampled_from(NAMES), TARGETS),
    st.lists(st.sampled_from(NAMES + FAR + list(PEOPLE)), max_size=8),
)
@settings(max_examples=200)
def test_a_resolution_never_names_anybody_twice(aliases: dict[str, list[str]], starts: list[str]) -> None:
    graph = Graph(PEOPLE, {name: targets for name, targets in aliases.items() if targets})
    given_addresses = [parse(start) for start in starts]
    found = addresses.resolve(graph, given_addresses, RULES)
    accounts_reached = [local.account for local in found.local]
    remotes = [remote.address for remote in found.remote]
    assert len(accounts_reached) == len(set(accounts_reached))
    assert len(remotes) == len(set(remotes))
    one_by_one = [addresses.expand(graph, address, RULES) for address in given_addresses]
    assert set(accounts_reached) == {local.account for one in one_by_one for local in one.local}
    assert {address for address, _ in found.failed} == {
        address for address, one in zip(given_addresses, one_by_one, strict=True) if not one.local and not one.remote
    }
    assert {local.original for local in found.local} <= set(given_addresses)


@given(st.text(alphabet="ab+", min_size=1, max_size=8))
def test_a_tag_is_what_the_separator_parts(local: str) -> None:
    user, tag = addresses.split_tag(local, "+")
    assert user
    assert "+" not in user or not tag
    assert local == (f"{user}+{tag}" if tag else user)


@given(st.lists(st.tuples(st.sampled_from(NAMES), TARGETS), max_size=5))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_database_agrees_with_the_picture(tmp_path: Path, changes: list[tuple[str, list[str]]]) -> None:
    wanted = {
        name: [target for target in targets if target != name and target not in GONE] for name, targets in changes
    }
    wanted = {name: targets for name, targets in wanted.items() if targets}

    def write(tx: Tx) -> None:
        add_domain(tx, "ours.example")
        ids = {address: add_account(tx, address).id for address in PEOPLE}
        for name in NAMES:
            alias(tx, name, "placeholder@elsewhere.example")
        for name in NAMES:
            targets = wanted.get(name, ["placeholder@elsewhere.example"])
            aliases.set_targets(tx, parse(name), [parse(target) for target in targets])
        graph = Graph(ids, {name: wanted.get(name, ["placeholder@elsewhere.example"]) for name in NAMES})
        for name in NAMES:
            real, pictured = expand(tx, name), addresses.expand(graph, parse(name), RULES)
            assert set(real.local) == set(pictured.local)
            assert set(real.remote) == set(pictured.remote)
        raise Undone

    async def main(store: Store, clock: SetClock) -> None:
        with pytest.raises(Undone):
            await store.write(write)

    with_store(tmp_path, main)


class Undone(Exception):
    """So that the next example finds an empty directory."""
