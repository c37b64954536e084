"""What sessions with other servers came to, counted a day and domain: what TLS reports are made of (RFC 8460 §4).

Promises: noting a session costs a dictionary's step and never waits; counts are added to the store's rows in batches,
so that no connection costs a commit. Memory is bounded.
Refuses: to write or send reports.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from posthouse import observe
from posthouse.clock import Clock
from posthouse.store.database import Tx

# RFC 8460 §4.2: what stood behind the session.
PolicyType = Literal["tlsa", "sts", "no-policy-found"]
# RFC 8460 §4.3.
Failure = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]

_DAY: Final = 86_400_000
# Different ones that wait to be written, and the lines of policies behind them: some MB.
_MOST_WAITING: Final = 20_000
_MOST_LINES: Final = 100_000
_LONGEST: Final = 1000
# Of a policy, for each of its domain's results: more than anybody honest writes.
_LINES_KEPT: Final = 100
# Reports are about yesterday; one that could not be sent is tried for a while.
KEPT_DAYS: Final = 8


@dataclass(frozen=True, slots=True)
class Basis:
    """What a domain says of security on the way to it: the kind, and the lines of it (RFC 8460 §4.2, policy-string)."""

    type: PolicyType = "no-policy-found"
    lines: tuple[str, ...] = ()


NO_POLICY: Final = Basis()


@dataclass(frozen=True, slots=True)
class Session:
    """What one session came to; `failure` None is success, and then no host is told of."""

    domain: str
    basis: Basis
    failure: Failure | None = None
    mx: str = ""
    address: str = ""
    reason: str = ""


class Tally:
    """Sessions that were noted and not yet written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: Counter[tuple[int, Session]] = Counter()
        self._lines = 0

    def note(self, session: Session) -> None:
        """Count it under today. Past what memory allows it is dropped, and that is counted (`tls_results_dropped`)."""
        key = (self._clock.now() // _DAY, session)
        if key not in self._counts:
            if len(self._counts) >= _MOST_WAITING or self._lines >= _MOST_LINES:
                observe.count("tls_results_dropped")
                return
            self._lines += len(session.basis.lines)
        self._counts[key] += 1

    def take(self) -> Mapping[tuple[int, Session], int]:
        """What waits, by day (since 1970, UTC) and session; from now on it waits no more."""
        counts, self._counts = self._counts, Counter()
        self._lines = 0
        return counts

    def give_back(self, counts: Mapping[tuple[int, Session], int]) -> None:
        """They could not be written: let them wait for the next time."""
        self._counts.update(counts)
        self._lines = sum(len(session.basis.lines) for _, session in self._counts)


def add(tx: Tx, counts: Mapping[tuple[int, Session], int]) -> None:
    """Add what was counted to the rows of their days."""
    for (day, session), count in counts.items():
        what = {
            "type": session.basis.type,
            "policy": "\n".join(session.basis.lines[:_LINES_KEPT]),
            "result": session.failure or "",
            "mx": session.mx,
            "address": session.address,
            "reason": session.reason[:_LONGEST],
        }
        hash = sha256("\0".join(what.values()).encode("utf-8", "backslashreplace")).digest()[:16]
        tx.put("tls_result_add", day=day, domain=session.domain, hash=hash, sessions=count, **what)


def expire(tx: Tx, now: int) -> None:
    """Remove days that no report will be about."""
    tx.run("tls_result_expire", before=now // _DAY - KEPT_DAYS)
