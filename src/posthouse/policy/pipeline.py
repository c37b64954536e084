"""One configured list of checks, run by stage and per recipient.

Promises: checks run in the order of the list. A refusal ends a stage, for nothing beats it; so what exempts from a
check stands before it. A check that raises defers (451 4.3.0) and is told of with its traceback: mail is neither lost
nor let through because of it. Junk said early stays said: each recipient's verdict at data holds what all stages found.
A stage that no check is interested in costs next to nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from posthouse import observe
from posthouse.policy.check import (
    ACCEPT,
    Action,
    Answer,
    Check,
    Facts,
    RecipientFacts,
    Stage,
    Verdict,
    WaitingDataAnswer,
    combine,
    defer,
)


class _Entry(NamedTuple):
    """A check as one stage sees it; `exempt_as` is "" for one that nobody is exempt from."""

    exempt_as: str
    name: str
    judge: Callable[..., Any]


class Pipeline:
    """The configured checks. Which stages each is interested in is worked out once, here."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._connect = _interested(checks, "connect")
        self._helo = _interested(checks, "helo")
        self._mail = _interested(checks, "mail")
        self._rcpt = _interested(checks, "rcpt")
        self._data = _interested(checks, "data")

    async def connect(self, facts: Facts) -> Verdict:
        """Judge a connection."""
        facts.connect_verdict = verdict = await _run(self._connect, "connect", facts)
        return verdict

    async def helo(self, facts: Facts) -> Verdict:
        """Judge a greeting."""
        facts.helo_verdict = verdict = await _run(self._helo, "helo", facts)
        return verdict

    async def mail(self, facts: Facts) -> Verdict:
        """Judge a sender; `facts.begin` was called."""
        facts.mail_verdict = verdict = await _run(self._mail, "mail", facts)
        return verdict

    async def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict:
        """Judge a recipient. Where the verdict lets it pass, the caller appends it to `facts.recipients`."""
        recipient.verdict = verdict = await _run(self._rcpt, "rcpt", facts, recipient)
        return verdict

    async def data(self, facts: Facts) -> list[Verdict]:
        """Judge a message: the verdict for each of `facts.recipients`, what earlier stages found included."""
        common = _carried(facts.connect_verdict, facts.helo_verdict, facts.mail_verdict)
        verdicts = [_carried(common, recipient.verdict) for recipient in facts.recipients]
        for entry in self._data:
            if entry.exempt_as and _exempt(entry, facts):
                continue
            try:
                answer: WaitingDataAnswer = entry.judge(facts)
                found = answer if answer is None or isinstance(answer, Verdict | Mapping) else await answer
            except Exception as error:
                found = _failed(entry.name, "data", error)
            if found is not None:
                _apply(entry, found, facts, verdicts)
                if all(verdict.action is Action.REFUSE for verdict in verdicts):
                    break
        return verdicts


def _interested(checks: Sequence[Check], stage: Stage) -> tuple[_Entry, ...]:
    """The checks that say something at this stage: those whose method is not the empty one of Check."""
    silent = getattr(Check, stage)
    return tuple(
        _Entry(check.name if check.exemptible else "", check.name, getattr(check, stage))
        for check in checks
        if getattr(type(check), stage, silent) is not silent
    )


async def _run(
    entries: tuple[_Entry, ...], stage: Stage, facts: Facts, recipient: RecipientFacts | None = None
) -> Verdict:
    verdict = ACCEPT
    for entry in entries:
        if entry.exempt_as and _exempt(entry, facts, recipient):
            continue
        try:
            answer: Answer = entry.judge(facts) if recipient is None else entry.judge(facts, recipient)
            found = answer if answer is None or isinstance(answer, Verdict) else await answer
        except Exception as error:
            found = _failed(entry.name, stage, error)
        if found is not None:
            verdict = combine(verdict, found)
            if verdict.action is Action.REFUSE:
                break
    return verdict


def _exempt(entry: _Entry, facts: Facts, recipient: RecipientFacts | None = None) -> bool:
    """Asked before each check that somebody may be exempt from, for the one before it may just have exempted him."""
    name = entry.exempt_as
    return name in facts.exempt or name in facts.envelope_exempt or (recipient is not None and name in recipient.exempt)


def _apply(
    entry: _Entry,
    found: Verdict | Mapping[int, Verdict],
    facts: Facts,
    verdicts: list[Verdict],
) -> None:
    for index, recipient in enumerate(facts.recipients):
        one = found if isinstance(found, Verdict) else found.get(index)
        if one is not None and not (entry.exempt_as and _exempt(entry, facts, recipient)):
            verdicts[index] = combine(verdicts[index], one)


def _carried(*verdicts: Verdict) -> Verdict:
    """What an earlier stage found and the conversation went on with: junk. The rest has been answered."""
    together = ACCEPT
    for verdict in verdicts:
        if verdict.action is Action.JUNK:
            together = combine(together, verdict)
    return together


def _failed(name: str, stage: Stage, error: Exception) -> Verdict:
    observe.fault("check.failed", error, check=name, stage=stage)
    # In public what the peer needs; in the log what we know.
    return defer(name, 451, "4.3.0", "This message cannot be judged now; try again later", f"raised {error!r}")
