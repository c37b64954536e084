"""The journey of a message, told: a sentence for each kind of step, for people and for scripts.

Promises: nothing in it steers a terminal, whatever a stranger put into a fact; a kind without a sentence is shown with
its facts. Refuses: to read or write journeys (journey.py).
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from posthouse.journey import Journey
from posthouse.observe import Fact, Step


def as_text(journey: Journey) -> str:
    """The journey as people read it; times are UTC. Nothing in it steers a terminal."""
    lines = [f"Journey {journey.code}"]
    lines += [f"  {name:11} {_plain(text)}" for name, text in _heading(journey) if text]
    day = ""
    for step in sorted(journey.steps, key=lambda one: one.at):
        date, _, clock = _time(step.at).partition("T")
        if date != day:
            day = date
            lines += ["", day]
        lines.append(f"  {clock[:-1]}  {describe(step)}")
        lines += [f"                  {_plain(line)}" for line in _verbatim(step)]
    return "\n".join(lines) + "\n"


def as_json(journey: Journey) -> dict[str, object]:
    """The journey for scripts: facts as they were recorded, each step with its sentence too."""
    return {
        "id": journey.code,
        "message_id": journey.message_id,
        "sender": journey.sender,
        "recipients": list(journey.recipients),
        "subject": journey.subject,
        "steps": [
            {"at": _time(step.at), "kind": step.kind, "text": describe(step), "facts": dict(step.facts)}
            for step in sorted(journey.steps, key=lambda one: one.at)
        ],
    }


def _heading(journey: Journey) -> Iterator[tuple[str, str]]:
    yield "Message-ID", f"<{journey.message_id}>" if journey.message_id else ""
    yield "From", journey.sender or "<>"
    yield "To", ", ".join(journey.recipients)
    yield "Subject", journey.subject or ""


def _time(at: int) -> str:
    when = datetime.fromtimestamp(at // 1000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{at % 1000:03}Z"


def _verbatim(step: Step) -> tuple[str, ...]:
    lines = step.facts.get("lines")
    return lines if isinstance(lines, tuple) else ()


def _plain(text: str) -> str:
    """What a stranger wrote must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)


class _Facts:
    """A step's facts as words."""

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        self._facts = facts

    def __getattr__(self, name: str) -> str:
        fact = self._facts.get(name)
        if fact is None or fact is False:
            return ""
        return ", ".join(map(str, fact)) if isinstance(fact, tuple) else str(fact)

    def said(self, template: str, name: str) -> str:
        """The template with this fact in it; nothing where there is no such fact."""
        text = getattr(self, name)
        return template.format(text) if text else ""

    def time(self, name: str) -> str:
        fact = self._facts.get(name)
        return _time(fact)[:19].replace("T", " ") + " UTC" if isinstance(fact, int) and 0 < fact < 2**47 else ""

    def rest(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name in self._facts if getattr(self, name))


def _received(f: _Facts) -> str:
    peer = f"{f.helo} [{f.peer}]" if f.helo else f.peer or "ourselves"
    return (
        f"received from {peer}"
        + (f.said(" with {}", "tls") or " in clear text" * bool(f.peer))
        + f.said(" by {}", "door")
        + f.said(", logged in as {}", "login")
        + f.said(": {} octets", "size")
        + f.said(" for {}", "recipients")
        + f.said(" ({})", "reasons")
    )


def _refused(f: _Facts) -> str:
    peer = f"{f.helo} [{f.peer}]" if f.helo else f.peer
    return (
        "refused"
        + (f" to {peer}" if peer else "")
        + f.said(" for {}", "recipients")
        + f": {f.reply}"
        + f.said(" ({})", "reasons")
    )


def _deferred(f: _Facts) -> str:
    again = f.time("retry_at")
    return f"not yet delivered to {f.recipient}: {f.reply}" + (f"; next try at {again}" if again else "")


def _failed(f: _Facts) -> str:
    given_up = "given up for " if f.given_up else "failed for "
    return given_up + f.recipient + f.said(" at {}", "remote") + f": {f.reply}"


_MODES: Final = {
    "off": "clear text",
    "opportunistic": "TLS where it can be had",
    "require": "TLS",
    "verify": "TLS with a verified certificate",
}
_WISHES: Final = {"tls": "verified TLS on all of its way", "delivery": "it to arrive, with TLS or without"}


def _security(f: _Facts) -> str:
    how = _MODES.get(f.mode, f.mode)
    return (
        (f"{f.basis} of {f.host} asks for {how}" if f.basis else f"{f.host} is to be reached with {how}")
        + (f", or else {_MODES.get(f.fallback, f.fallback)}" if f.fallback else "")
        + (f"; the sender wants {_WISHES.get(f.wish, f.wish)}" if f.wish else "")
        + f.said("; {}", "problem")
        + f.said("; passed over: {}", "refusal")
    )


def _connected(f: _Facts) -> str:
    how = f.said(" with {}", "tls") or " in clear text"
    return f"reached {f.host} ({f.address}){how}" + ", verified" * bool(f.verified)


_SENTENCES: Final[dict[str, Callable[[_Facts], str]]] = {
    "mail.received": _received,
    "mail.refused": _refused,
    "mail.queued": lambda f: "queued for " + (f.recipients or f"{f.count} recipients"),
    "alias.broken": lambda f: f"{f.member} did not get it as a member of {f.alias}: {f.why}",
    "mail.not_forwarded": lambda f: f"not sent on from {f.original} to {f.recipient}: it is unwanted there",
    "delivery.filed": lambda f: f"filed in {f.mailbox.capitalize()} of {f.recipient}",
    "relay.route": lambda f: (
        f"looked up MX of {f.domain}: " + (f"none, so the domain's own address: {f.hosts}" if f.implicit else f.hosts)
    ),
    "relay.way": lambda f: f"took the route {f.name} to {f.hosts}",
    "relay.held": lambda f: f"held by the route {f.name}",
    "relay.no_route": lambda f: f"found no way to {f.domain}: {f.reply}",
    "relay.no_address": lambda f: f"found no address of {f.host}: {f.reply}",
    "relay.kept": lambda f: f"took the open connection to {f.host} ({f.address})",
    "relay.tries": lambda f: f"trying {f.host} at {f.address}",
    "relay.connected": _connected,
    "relay.signed": lambda f: f"signed by {f.domain} (DKIM, with {f.selectors})",
    "relay.security": _security,
    "relay.downgraded": lambda f: (
        f"{f.host} offers no TLS now, which {f.domain} always had; somebody on the way may have taken it out"
    ),
    "relay.tls_failed": lambda f: f"TLS with {f.host} ({f.address}) failed: {f.error}; trying with less",
    "relay.failed": lambda f: f"{f.host} ({f.address}) did not take it" + f.said(", at {}", "stage") + f": {f.reply}",
    "relay.alone": lambda f: f"{f.host} cannot bear what stands behind a message, at {f.stage}: {f.reply}",
    "relay.said": lambda f: f"the conversation with {f.host} ({f.address}):",
    "recipient.delivered": lambda f: f"delivered to {f.recipient}" + f.said(": {}", "reply"),
    "recipient.relayed": lambda f: f"{f.remote or 'the next server'} took it for {f.recipient}: {f.reply}",
    "recipient.deferred": _deferred,
    "recipient.failed": _failed,
    "recipient.rerouted": lambda f: (
        f"sent another way for {f.recipient}: {f.destination}" + f.said(" (was: {})", "before")
    ),
    "recipient.dropped": lambda f: f"dropped for {f.recipient}" + f.said(": {}", "reason"),
    "recipient.possible_duplicate": lambda f: (
        f"{f.recipient} may get it twice: the connection was lost after the message, before the answer"
    ),
    "bounce.sent": lambda f: f"wrote a report to {f.to}" + f.said(" (its journey: {})", "bounce"),
    "bounce.written": lambda f: f"written by ourselves to tell {f.recipient} what became of journey {f.about}",
    "report.received": lambda f: f"heard back of {f.recipient}: {f.action}" + f.said(" ({})", "cause") + f": {f.reply}",
    "bounce.none": lambda f: f"nobody is told that it failed for {f.recipients}: {f.reason}",
    "list.sent_out": lambda f: f"sent on to the members of {f.list}" + f.said(" (its journey: {})", "copy"),
    "list.sent": lambda f: f"made for the members of {f.list}" + f.said(" (what was posted: {})", "about"),
    "list.held": lambda f: f"waits for a moderator of {f.list}: {f.reason}",
    "list.dropped": lambda f: f"not sent to the members of {f.list}: {f.reason}",
    "list.approved": lambda f: f"let out by a moderator of {f.list}",
    "list.refused": lambda f: f"dropped by a moderator of {f.list}",
    "list.expired": lambda f: f"waited too long for a moderator of {f.list}, and was dropped",
    "list.gathered": lambda f: f"kept for the digest of {f.list}",
    "list.digested": lambda f: f"sent in a digest of {f.list} (its journey: {f.copy})",
    "list.digest": lambda f: f"made for the members of {f.list}: a digest of {f.posts}",
    "list.undigested": lambda f: f"in no digest of {f.list}: nobody takes one any more",
    "list.empty": lambda f: f"{f.list} has no members who get anything",
    "letter.written": lambda f: f"written by ourselves to {f.recipient}: {f.subject}",
    "journey.unreadable": lambda f: f"some steps cannot be read: {f.error}",
}  # fmt: skip


def describe(step: Step) -> str:
    """One sentence for people. A kind that has none yet is shown with its facts."""
    sentence = _SENTENCES.get(step.kind)
    facts = _Facts(step.facts)
    return _plain(sentence(facts) if sentence else f"{step.kind}: {facts.rest()}")
