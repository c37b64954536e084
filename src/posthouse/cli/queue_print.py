"""How the queue reads: tables for people, plain values for scripts. Times are told as how long ago or ahead they
are.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from posthouse import journey, timeline
from posthouse.cli.plain import length, printable
from posthouse.journey import Journey
from posthouse.queue.control import Listed, ListedLane
from posthouse.queue.queue import QueuedMessage, write_id
from posthouse.terms.reply import Reply
from posthouse.written import rough_size

# Steps of the journey that `show` tells: some five attempts.
_STEPS_SHOWN: Final = 30


def described(one: Listed | ListedLane) -> dict[str, object]:
    """For scripts. Times are RFC 3339."""
    common: dict[str, object] = {
        "destination": one.destination,
        "sender": one.sender,
        "due_at": timestamp(one.due_at),
        "held": one.held,
        "in_flight": one.in_flight,
        "last_reply": str(one.last_reply) if one.last_reply else None,
        "last_remote": one.last_remote,
    }
    if isinstance(one, ListedLane):
        lane = {"site": one.site, "priority": one.priority}
        return {**common, **lane, "failures": one.failures, "recipients": one.recipients}
    return {
        "id": write_id(one.id),
        "journey": journey.code(one.journey),
        "recipient": one.address,
        "original_recipient": one.original,
        "size": one.size,
        "queued_at": timestamp(one.queued_at),
        "expires_at": timestamp(one.expires_at),
        "attempts": one.attempts,
        "scheduled": one.scheduled,
        "delayed_at": timestamp(one.delayed_at) if one.delayed_at is not None else None,
        **common,
    }


def table(recipients: Sequence[Listed], now: int) -> str:
    """A line for each, and one for the reply it got last."""
    rows = [("ID", "WAITS", "SIZE", "FROM", "TO", "TRIES", "NEXT TRY")]
    rows += [
        (
            write_id(one.id),
            length(now - one.queued_at),
            rough_size(one.size),
            one.sender or "<>",
            one.address,
            str(one.attempts),
            next_try(one, now),
        )
        for one in recipients
    ]
    return _with_replies(rows, recipients)


def lanes_table(lanes: Sequence[ListedLane], now: int) -> str:
    """A line for each lane, and one for the reply that made it back off."""
    rows = [("DESTINATION", "SENDER", "WAITING", "FAILURES", "NEXT TRY")]
    rows += [
        (one.destination, one.sender or "<>", str(one.recipients), str(one.failures), next_try(one, now))
        for one in lanes
    ]
    return _with_replies(rows, lanes)


def _with_replies(rows: Sequence[Sequence[str]], told_of: Sequence[Listed | ListedLane]) -> str:
    """A heading and a row for each, and below it the reply that made it wait."""
    lines = aligned(rows)
    told = [lines[0]]
    for one, line in zip(told_of, lines[1:], strict=True):
        told.append(line)
        if one.last_reply:
            told.append(f"    {said(one.last_reply, one.last_remote)}")
    return "".join(f"{line}\n" for line in told)


def in_full(message: QueuedMessage, recipients: Sequence[Listed], now: int) -> str:
    """A message with all who still wait for it."""
    mail = message.mail
    code = journey.code(mail.journey)
    facts = [
        ("From", str(mail.sender) if mail.sender else "<> (a report, which is never bounced)"),
        ("Size", f"{rough_size(mail.size)} ({mail.size} octets)"),
        ("Needs", mail.wishes.body + (", SMTPUTF8" if mail.wishes.smtputf8 else "")),
        ("Queued", f"{timestamp(mail.queued_at)}, {length(now - mail.queued_at)} ago"),
        ("Given up", f"{timestamp(mail.expires_at)}, {ahead(mail.expires_at, now)}"),
        ("Envelope id", mail.wishes.envid or ""),
        ("Returned", {"FULL": "the whole message", "HDRS": "the header"}.get(mail.wishes.ret or "", "")),
        ("Journey", f"{code} (`posthouse journey {code}` tells it all)"),
    ]
    told = [f"{name:12} {text}" for name, text in facts if text]
    for one in recipients:
        told += ["", *_recipient(one, now)]
    return "".join(f"{line}\n" for line in told)


def _recipient(one: Listed, now: int) -> list[str]:
    was = f" (sent to {one.original})" if one.original != one.address else ""
    told = [
        f"To {one.address}{was}, id {write_id(one.id)}",
        f"  waits for  {one.destination}",
        f"  attempts   {one.attempts}",
        f"  next try   {next_try(one, now)}" + ("" if one.held or one.in_flight else f", {timestamp(one.due_at)}"),
    ]
    if one.delayed_at is not None:
        told.append(f"  told       its sender, that it waits, {length(now - one.delayed_at)} ago")
    if one.last_reply:
        reply = one.last_reply.octets().decode("utf-8", "replace").splitlines()
        told.append(f"  last reply from {one.last_remote}:" if one.last_remote else "  last reply, from ourselves:")
        told += [f"    {printable(line)}" for line in reply]
    return told


def attempts(told: Journey) -> str:
    """The last attempts with what was said, as the journey has it."""
    steps = [step for step in told.steps if step.kind.startswith(("relay.", "recipient."))][-_STEPS_SHOWN:]
    if not steps:
        return ""
    lines = timeline.as_text(replace(told, steps=tuple(steps))).split("\n\n", 1)
    return f"\nAttempts\n\n{lines[1]}"


def said(reply: Reply, remote: str | None) -> str:
    """A reply in one line."""
    return f"{remote + ' said: ' if remote else ''}{printable(str(reply))}"


def next_try(one: Listed | ListedLane, now: int) -> str:
    """When it is tried."""
    if one.in_flight:
        return "under way"
    if one.held:
        return "held"
    return f"{ahead(one.due_at, now)}{', as its sender wants' if isinstance(one, Listed) and one.scheduled else ''}"


def ahead(at: int, now: int) -> str:
    """How far ahead a time is."""
    return f"in {length(at - now)}" if at > now else "now"


def timestamp(at: int) -> str:
    """RFC 3339, in UTC."""
    return f"{datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
