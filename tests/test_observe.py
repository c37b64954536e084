"""The log line and the counter that one call makes."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import observe
from posthouse.observe import Step

NOW = 1_767_225_600_123


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log"
    path.touch()
    yield path
    opened = observe._log.output
    observe.configure(output=2)
    os.close(opened)
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if handler.__class__.__module__ != observe.__name__]


def into(path: Path, format: str, level: str = "info") -> None:
    assert format in ("text", "json")
    observe.configure(format="text" if format == "text" else "json", level=level, output=os.open(path, os.O_WRONLY))


def lines(path: Path) -> list[str]:
    observe.flush()
    return path.read_text().splitlines()


def test_a_line_of_json_has_time_level_kind_journey_and_facts(output: Path) -> None:
    into(output, "json")
    observe.emit(Step("mail.received", NOW, 5 << 50, {"peer": "192.0.2.1", "size": 7, "to": ("a", "b"), "no": None}))
    (line,) = lines(output)
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.123Z",
        "level": "info",
        "kind": "mail.received",
        "journey": observe.code(5 << 50),
        "peer": "192.0.2.1",
        "size": 7,
        "to": ["a", "b"],
    }


def test_a_line_for_people(output: Path) -> None:
    into(output, "text")
    facts: dict[str, observe.Fact] = {"tls": "TLSv1.3 AES", "helo": "\x1b[31mred", "empty": "", "size": 7, "ok": True}
    observe.emit(Step("mail.received", NOW, 5, facts, observe.WARNING))
    assert lines(output) == [
        '00:00:00.123 warning mail.received tls="TLSv1.3 AES" helo="\\u001b[31mred" empty="" size=7 ok=True'
        " (0000000000005)"
    ]


def test_what_is_below_the_level_is_counted_only(output: Path) -> None:
    into(output, "text", "warning")
    before = observe.counters().get(("steps", (("kind", "quiet"),)), 0)
    observe.tell("quiet")
    assert lines(output) == []
    assert observe.counters()[("steps", (("kind", "quiet"),))] == before + 1


def test_a_fault_brings_its_traceback(output: Path) -> None:
    into(output, "json")
    try:
        raise ValueError("broken")
    except ValueError as error:
        observe.fault("session.failed", error, peer="192.0.2.1")
    line = json.loads(lines(output)[0])
    assert line["level"] == "error"
    assert line["error"] == "ValueError: broken"
    assert "test_a_fault_brings_its_traceback" in line["traceback"]


def test_logging_of_libraries_takes_the_same_way(output: Path) -> None:
    into(output, "json")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    wrong = {"name": "asyncio", "levelno": 40, "msg": "wrong %s %s", "args": ("arguments",)}
    observe._Adopted().handle(logging.makeLogRecord(wrong))
    told = [json.loads(line) for line in lines(output)]
    assert told[0]["text"] == "slow callback"
    assert told[0]["logger"] == "asyncio"
    assert "TypeError in its arguments" in told[1]["text"]


def test_observers_see_every_step_and_cannot_break_anything(output: Path) -> None:
    into(output, "text", "error")
    seen: list[Step] = []

    def break_(step: Step) -> None:
        raise RuntimeError(step.kind)

    ends = [observe.subscribe(break_), observe.subscribe(seen.append)]
    observe.emit(Step("one", NOW, level=observe.DEBUG))
    for end in ends:
        end()
    observe.emit(Step("two", NOW))
    assert [step.kind for step in seen] == ["one"]
    assert lines(output) == ["an observer raised RuntimeError on 'one'"]


def test_a_reader_that_stalls_makes_us_drop_lines_and_say_so(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into(output, "text")
    monkeypatch.setattr(observe, "_MOST_LINES_WAITING", 3)
    observe.tell("line")
    assert len(lines(output)) == 1
    # Its thread waits until what is written before is written.
    with observe._log._writing:
        for n in range(5):
            observe.tell("line", n=n)
    told = lines(output)
    assert len(told) == 5
    assert told[-1] == "log: 2 lines were dropped, because this output was not read"


def test_an_output_that_is_gone_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    observe.configure(format="text", output=writing)
    before = observe.counters().get(("log_writes_failed", ()), 0)
    observe.tell("nobody.reads")
    observe.flush()
    assert observe.counters()[("log_writes_failed", ())] > before
    observe.configure(output=2)
    os.close(writing)


@given(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(
            st.none(),
            st.text(st.characters(exclude_categories=()), max_size=20),
            st.integers(),
            st.floats(),
            st.lists(st.text(max_size=5)).map(tuple),
        ),
        max_size=4,
    ),
)
def test_a_line_is_one_line_and_json_is_json(kind: str, facts: dict[str, observe.Fact]) -> None:
    own = {"time", "level", "kind", "journey", "traceback"}  # facts have other names than the line's own
    step = Step(kind, NOW, None, {key: fact for key, fact in facts.items() if key not in own})
    rendered = observe._render_json(step)
    assert "\n" not in rendered
    assert json.loads(rendered)["kind"] == kind
    shown = observe._render_text(Step("kind", NOW, None, {f"k{n}": fact for n, fact in enumerate(facts.values())}))
    assert shown.isprintable()
