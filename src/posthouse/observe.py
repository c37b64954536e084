"""What happened, told once: from one call come the log line and the counter.

Promises: `emit` never raises, never blocks and costs a few microseconds: lines are gathered and written by a thread of
our own, some twenty times a second, to standard error. A reader that stalls makes us drop lines, which is counted and
said, but never holds up mail. On a terminal a line is for people, elsewhere it is one JSON object.
Refuses: to keep anything. What must last about a message is a journey (journey.py), made of the same steps.
"""

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Final, Literal

Fact = str | int | float | bool | tuple[str, ...] | None
Level = Literal[10, 20, 30, 40]

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40

_LEVEL_NAMES: Final[dict[int, str]] = {DEBUG: "debug", INFO: "info", WARNING: "warning", ERROR: "error"}
_LEVELS: Final[dict[str, int]] = {name: level for level, name in _LEVEL_NAMES.items()}

# Some seconds of a busy server; past it the reader of the log is stuck, and memory is worth more than lines.
_MOST_LINES_WAITING: Final = 20_000
_GATHER_SECONDS: Final = 0.05
_LONGEST_VALUE: Final = 2000

# Crockford's base 32 in lower case: no letter that is taken for a digit. 13 of them hold 63 bits.
_CODE_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_CODE_LENGTH: Final = 13
_CODE_VALUES: Final = {digit: n for n, digit in enumerate(_CODE_DIGITS)} | {"o": 0, "i": 1, "l": 1}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: its kind ("mail.accepted"), when (UTC milliseconds), to which message, what is known.

    `journey` is the id of the message's journey, None where no message is concerned.
    """

    kind: str
    at: int
    journey: int | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    level: Level = INFO


@lru_cache(maxsize=1024)
def code(journey: int) -> str:
    """A journey's id as people see it: in our 250, in the log, on the command line."""
    return "".join([_CODE_DIGITS[journey >> shift & 31] for shift in range(5 * (_CODE_LENGTH - 1), -1, -5)])


def parse_code(text: str) -> int | None:
    """The id that `code` made this text of; None where it is no such text. Case does not matter."""
    text = text.lower()
    if len(text) != _CODE_LENGTH or not all(digit in _CODE_VALUES for digit in text):
        return None
    journey = 0
    for digit in text:
        journey = journey << 5 | _CODE_VALUES[digit]
    return journey if journey < 1 << 63 else None


# --- counters ---------------------------------------------------------------------------------------------------------

Labels = tuple[tuple[str, str], ...]
_counters: dict[tuple[str, Labels], int] = {}
_counting = threading.Lock()


def count(name: str, amount: int = 1, **labels: str) -> None:
    """Add to the counter of this name and these labels. Whoever counts bounds the number of different labels."""
    key = (name, tuple(sorted(labels.items())))
    with _counting:
        _counters[key] = _counters.get(key, 0) + amount


def counters() -> dict[tuple[str, Labels], int]:
    """All counters of this process, as they stand."""
    with _counting:
        return dict(_counters)


# --- emitting ---------------------------------------------------------------------------------------------------------

Observer = Callable[[Step], None]
_observers: tuple[Observer, ...] = ()


def emit(step: Step) -> None:
    """Tell of the step: a log line, a counter, and whoever observes. Never raises; may be called in any thread."""
    _count_step(step.kind)
    if step.level >= _log.level:
        try:
            line = _log.render(step)
        except Exception as error:
            line = f"a step of kind {step.kind!r} could not be written: {type(error).__name__}"
        _log.add(line)
    for observer in _observers:
        try:
            observer(step)
        except Exception as error:
            _log.add(f"an observer raised {type(error).__name__} on {step.kind!r}")


def _count_step(kind: str) -> None:
    key = ("steps", (("kind", kind),))
    with _counting:
        _counters[key] = _counters.get(key, 0) + 1


def tell(kind: str, /, *, level: Level = INFO, **facts: Fact) -> None:
    """Emit a step that concerns no message, at the machine's time."""
    if level < _log.level and not _observers:
        _count_step(kind)
    else:
        emit(Step(kind, time.time_ns() // 1_000_000, None, facts, level))


def fault(kind: str, error: BaseException, /, *, journey: int | None = None, **facts: Fact) -> None:
    """Emit an error of ours, one that nobody expected, with its traceback."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    told: dict[str, Fact] = {**facts, "error": f"{type(error).__name__}: {error}", "traceback": trace}
    emit(Step(kind, time.time_ns() // 1_000_000, journey, told, ERROR))


def subscribe(observer: Observer) -> Callable[[], None]:
    """Hand every step, of whatever level, to `observer`, in the thread that emits it; what is returned ends it."""
    global _observers
    _observers = (*_observers, observer)

    def unsubscribe() -> None:
        global _observers
        _observers = tuple(one for one in _observers if one is not observer)

    return unsubscribe


# --- the log ----------------------------------------------------------------------------------------------------------


def configure(*, format: Literal["auto", "text", "json"] = "auto", level: str = "info", output: int = 2) -> None:
    """Say how the log reads, from which level on ("debug", "info", "warning", "error"), and into which descriptor.

    Messages of the standard library's `logging`, asyncio's among them, take the same way from now on.
    """
    text = os.isatty(output) if format == "auto" else format == "text"
    _log.flush()
    _log.render = _render_text if text else _render_json
    _log.level = _LEVELS[level]
    _log.output = output
    root = logging.getLogger()
    if not any(isinstance(handler, _Adopted) for handler in root.handlers):
        root.addHandler(_Adopted())
    root.setLevel(logging.WARNING if level != "debug" else logging.INFO)
    logging.captureWarnings(True)


def flush() -> None:
    """Write what has been gathered, now. May block."""
    _log.flush()


class _Log:
    """Lines on their way to a descriptor."""

    def __init__(self) -> None:
        self.level = INFO
        self.output = 2
        self.render: Callable[[Step], str] = _render_text if sys.stderr and sys.stderr.isatty() else _render_json
        self._lines: deque[str] = deque()
        self._waiting = threading.Event()
        self._writing = threading.Lock()
        self._dropped = 0
        self._process = 0

    def add(self, line: str) -> None:
        if len(self._lines) >= _MOST_LINES_WAITING:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._waiting.is_set():
            self._wake()

    def _wake(self) -> None:
        self._waiting.set()
        # A fork has our memory and not our threads.
        if self._process != os.getpid():
            self._process = os.getpid()
            self._writing = threading.Lock()
            threading.Thread(target=self._write_for_ever, name="log", daemon=True).start()

    def _write_for_ever(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(_GATHER_SECONDS)
            self._waiting.clear()
            self.flush()

    def flush(self) -> None:
        with self._writing:
            lines: list[str] = []
            while self._lines:
                lines.append(self._lines.popleft())
            if self._dropped:
                lines.append(f"log: {self._dropped} lines were dropped, because this output was not read")
                self._dropped = 0
            if lines:
                self._write("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n")

    def _write(self, octets: bytes) -> None:
        view = memoryview(octets)
        try:
            while view:
                view = view[os.write(self.output, view) :]
        except BlockingIOError:
            time.sleep(_GATHER_SECONDS)
            count("log_writes_refused")
        except OSError:
            # Nobody is left to tell but the counter.
            count("log_writes_failed")


class _Adopted(logging.Handler):
    """A message of the standard library's logging, as a step."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Fact] = {"logger": record.name}
        try:
            facts["text"] = record.getMessage()
        except Exception as error:
            facts["text"] = f"{record.msg} ({type(error).__name__} in its arguments)"
        if record.exc_info and record.exc_info[1] is not None:
            facts["traceback"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        level: Level = ERROR if record.levelno >= 40 else WARNING if record.levelno >= 30 else INFO
        emit(Step("library", int(record.created * 1000), None, facts, level))


def _render_json(step: Step) -> str:
    """One object: time (RFC 3339), level, kind, journey, then the facts, which have other names."""
    seconds, thousandths = divmod(step.at, 1000)
    parts = [
        f'{{"time":"{_day_and_time(seconds)}.{thousandths:03}Z","level":"{_LEVEL_NAMES[step.level]}"'
        f',"kind":{encode_basestring(step.kind)}'
    ]
    if step.journey is not None:
        parts.append(f'"journey":"{code(step.journey)}"')
    for key, value in step.facts.items():
        if value is not None:
            parts.append(f"{encode_basestring(key)}:{_json_value(value)}")
    return ",".join(parts) + "}"


def _json_value(value: object) -> str:
    if isinstance(value, str):
        return encode_basestring(value if len(value) <= _LONGEST_VALUE else _shorten(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else "null"
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_json_value, value))}]"
    return encode_basestring(str(value))


def _render_text(step: Step) -> str:
    """A line for people: time of day (UTC), a mark where it is bad, kind, facts, and the journey's code at the end."""
    seconds, thousandths = divmod(step.at, 1000)
    mark = "" if step.level <= INFO else f"{_LEVEL_NAMES[step.level]} "
    parts = [f"{_day_and_time(seconds)[11:]}.{thousandths:03} {mark}{step.kind}"]
    trace = ""
    for key, value in step.facts.items():
        if key == "traceback":
            trace = "".join(f"\n    {_printable(line)}" for line in str(value).split("\n"))
        elif value is not None:
            parts.append(f"{key}={_text_value(value)}")
    if step.journey is not None:
        parts.append(f"({code(step.journey)})")
    return " ".join(parts) + trace


def _text_value(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    if len(text) > _LONGEST_VALUE:
        text = _shorten(text)
    if not text.isprintable():
        # What a stranger wrote must not steer the terminal.
        return encode_basestring_ascii(text)
    if not text or " " in text or '"' in text:
        return encode_basestring(text)
    return text


def _shorten(text: str) -> str:
    """Tracebacks tell most at their end, replies at their start: keep both."""
    half = _LONGEST_VALUE // 2
    return f"{text[:half]} … {text[-half:]}"


def _printable(text: str) -> str:
    return text if text.isprintable() else encode_basestring_ascii(text)


_second_rendered: tuple[int, str] = (-1, "")


def _day_and_time(seconds: int) -> str:
    """ "2026-01-31T23:59:58"; steps of one second share the rendering."""
    global _second_rendered
    last = _second_rendered
    if last[0] != seconds:
        last = _second_rendered = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return last[1]


def adopt_loop(loop: asyncio.AbstractEventLoop) -> None:
    """What nobody caught on this event loop becomes an error in the log."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            fault("loop.error", error, text=str(context.get("message", "")))
        else:
            tell("loop.error", level=ERROR, text=str(context.get("message", "")))

    loop.set_exception_handler(handle)


_log = _Log()
atexit.register(_log.flush)
