import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory import accounts, bulk, credentials
from posthouse.directory.bulk import BadRecord, Outcome, Record, parse_record
from posthouse.store.database import Store
from posthouse.terms.address import parse
from tests.directory.support import add_domain, with_store

VERIFIER = credentials.verifier_of("secret", iterations=4096)


def scram(**changes: Any) -> dict[str, Any]:
    return {
        "iterations": VERIFIER.iterations,
        "salt": base64.b64encode(VERIFIER.salt).decode(),
        "stored_key": base64.b64encode(VERIFIER.stored_key).decode(),
        "server_key": base64.b64encode(VERIFIER.server_key).decode(),
    } | changes


def test_a_record_has_all_there_is_to_say() -> None:
    line = json.dumps({"address": "Alice@example.org", "scram": scram(), "name": "Alice", "quota": 1000})
    assert parse_record(line) == Record(parse("Alice@example.org"), None, VERIFIER, "Alice", 1000)
    assert parse_record(b'{"address": "a@b.example", "password": "x"}') == Record(parse("a@b.example"), "x")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"address": 7}',
        '{"address": "a@b.example", "colour": "red"}',
        '{"address": "a@b.example", "quota": -1}',
        '{"address": "a@b.example", "quota": "1GB"}',
        '{"address": "a@b.example", "password": 7}',
        '{"address": "a@b.example", "password": "\\ud800 and more"}',
        '{"address": "a@b.example", "name": "\\udfff"}',
        '{"address": "a@b.example", "scram": "x"}',
        json.dumps({"address": "a@b.example", "scram": scram(iterations=10)}),
        json.dumps({"address": "a@b.example", "scram": scram(iterations=10**9)}),
        json.dumps({"address": "a@b.example", "scram": scram(salt="?")}),
        json.dumps({"address": "a@b.example", "scram": scram(salt=7)}),
        json.dumps({"address": "a@b.example", "scram": scram(stored_key="AAAA")}),
    ],
)
def test_what_is_no_record(line: str) -> None:
    with pytest.raises(BadRecord):
        parse_record(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["address", "scram", "salt", "quota", "x"]), inner),
)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_nothing_but_its_own_error(line: str | bytes) -> None:
    try:
        parse_record(line)
    except BadRecord:
        return


def test_thousands_are_created_and_the_bad_ones_told_of(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        records = [Record(parse(f"u{n}@example.org"), None, VERIFIER) for n in range(450)]
        records[7] = Record(parse("u6@example.org"))
        records[8] = Record(parse("a@elsewhere.example"))
        records[9] = Record(parse("b@example.org"), "with\x07bell")
        records[10] = Record(parse("c@example.org"), "clear")
        told: list[Outcome] = []
        created = await bulk.import_accounts(store, clock, records, told=told.append, iterations=4096)
        assert created == 447 == await store.read(accounts.count)
        assert [outcome.number for outcome in told] == list(range(1, 451))
        bad = {outcome.number: outcome.error for outcome in told if outcome.error}
        assert list(bad) == [8, 9, 10]
        assert bad[8] == "account u6@example.org exists already"
        assert bad[9] == "domain elsewhere.example is not served here"
        # Run again: what is there is told of, the rest goes on, with its domain.
        told.clear()
        records[9] = Record(parse("b@example.org"), "better")
        again = await bulk.import_accounts(
            store, clock, iter(records), told=told.append, iterations=4096, add_domains=True
        )
        assert again == 2
        assert await store.read(accounts.count) == 449

    with_store(tmp_path, main)
