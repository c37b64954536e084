"""What a benchmark prints: a row a comparison, with the ratio of two medians taken in the same run."""

import json
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `posthouse` and `peer` are medians in `unit`; `ratio` is how many times better posthouse is."""

    row: str
    unit: str
    posthouse: float
    peer: float
    peer_name: str
    target: float | None
    lower_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Above 1: posthouse is better."""
        better, worse = (self.peer, self.posthouse) if self.lower_is_better else (self.posthouse, self.peer)
        return better / worse if worse else 0.0

    @property
    def met(self) -> bool:
        """The target is reached, or there is none."""
        return self.target is None or self.ratio >= self.target


@dataclass(slots=True)
class Report:
    """All rows of a run, the machine and the peers with their settings."""

    bench: str
    peers: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    # What was not measured, and why.
    skipped: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """One object, for scripts."""
        rows: list[dict[str, Any]] = [
            {
                "row": row.row,
                "unit": row.unit,
                "posthouse": round(row.posthouse, 3),
                "peer": round(row.peer, 3),
                "peer_name": row.peer_name,
                "ratio": round(row.ratio, 2),
                "target": row.target,
                "met": row.met,
            }
            for row in self.rows
        ]
        whole = {"bench": self.bench, "machine": machine(), "peers": self.peers, "rows": rows}
        return json.dumps(whole | ({"skipped": self.skipped} if self.skipped else {}), indent=2)

    def as_table(self) -> str:
        """Markdown, for people."""
        lines = [f"{self.bench}, on {machine()}", ""]
        lines += [f"- {name}: {settings}" for name, settings in self.peers.items()]
        lines += ["", "| row | unit | posthouse | peer | | ratio | target | |", "|---|---|---:|---:|---|---:|---:|---|"]
        for row in self.rows:
            target = f"{row.target:g}" if row.target is not None else ""
            verdict = "" if row.target is None else "met" if row.met else "MISSED"
            lines.append(
                f"| {row.row} | {row.unit} | {row.posthouse:.4g} | {row.peer:.4g} | {row.peer_name} "
                f"| {row.ratio:.2f} | {target} | {verdict} |"
            )
        lines += ["", *[f"- skipped: {reason}" for reason in self.skipped]] if self.skipped else []
        return "\n".join(lines)


def median(values: list[float]) -> float:
    """The median; of an empty list, 0."""
    return statistics.median(values) if values else 0.0


def machine() -> str:
    """Processor, cores and kernel in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    cores = sum(1 for line in _lines("/proc/cpuinfo") if line.startswith("processor"))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
