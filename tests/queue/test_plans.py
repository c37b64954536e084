"""How the queue's statements find their rows: with 200,000 waiting, none that runs by itself may walk along all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.store import sqlite_schema
from posthouse.store.sqlite_tx import connect
from posthouse.store.statements import load

# What a person asks for goes through everything, by pages; what waits for a site is asked once in a while.
WALKS = {"queue_count", "queue_newest", "queue_lanes", "sites_forget", "sites_abandon", "sites_call_back"}
# Of what is past the dot there is never much, and of a stretch so much as is asked for.
SHORT = {"lane_past_dot", "lane_clear_past_dot", "queue_under_way_to", "queue_walk"}
# Those that run with each look, claim and settlement find their rows in order.
IN_ORDER = {
    "lanes_due", "lanes_due_elsewhere", "lanes_due_urgent", "lanes_due_of_sender", "lanes_next_sender",
    "lanes_next_due", "lanes_next_lease_end", "queue_claim", "queue_walk", "queue_expired", "queue_next_expiry",
    "queue_delayed", "queue_next_overdue",
}  # fmt: skip


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[dict[str, list[str]]]:
    """The plan of every statement of the queue."""
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    connection = connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000)
    yield {
        name: [
            str(row[3])
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (None,) * len(statement.names))
        ]
        for name, statement in load("sqlite").items()
        if name.startswith(("queue_", "lane", "site"))
    }
    connection.close()


def test_no_statement_walks_along_everything(plans: dict[str, list[str]]) -> None:
    assert len(plans) > 50
    walking = {
        name
        for name, plan in plans.items()
        for line in plan
        # A JSON list, which is called j, is walked along; so is a list of one row.
        if line.startswith("SCAN ") and "json_each" not in line and not line.startswith(("SCAN j ", "SCAN CONSTANT"))
    }
    assert walking == WALKS | SHORT


def test_what_runs_often_sorts_nothing(plans: dict[str, list[str]]) -> None:
    assert {name for name in IN_ORDER if any("TEMP B-TREE" in line for line in plans[name])} == set()


def test_each_finds_its_rows_by_the_index_that_was_made_for_it(plans: dict[str, list[str]]) -> None:
    for name, index in (
        ("lanes_due", "lane_due"),
        ("lanes_due_urgent", "lane_urgent"),
        ("lanes_due_of_sender", "lane_sender"),
        ("queue_claim", "queued_recipient_lane (lane=? AND held=? AND"),
        ("queue_walk", "INTEGER PRIMARY KEY (rowid>?)"),
        ("queue_expired", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("queue_delayed", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("queue_overdue", "queued_recipient_by"),
        ("queue_next_expiry", "queued_recipient_brief"),
        ("queue_call_back", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("lanes_call_back", "lane_due (due_at>?)"),
        ("queue_waiting_of", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("site_wake_lanes", "lane_site"),
        ("queue_settle_final", "INTEGER PRIMARY KEY"),
        ("queue_settle_blobs", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ):
        assert any(index in line for line in plans[name]), (name, plans[name])
