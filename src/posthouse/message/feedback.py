"""Complaints about mail, as large providers send them (ARF: RFC 5965, what the fields mean: RFC 6650).

Promises: `parse_feedback` reads what a multipart/report with a message/feedback-report says, and never raises.
Refuses: to believe it; who complains about what is the caller's to check.
"""

from dataclasses import dataclass
from typing import Final

from posthouse.limits import RECIPIENTS
from posthouse.message import mime
from posthouse.message.charset import undeclared
from posthouse.message.header import Buffer, Header
from posthouse.message.report import returned_id


@dataclass(frozen=True, slots=True)
class Feedback:
    """One complaint. `kind` is "abuse", "fraud", "virus", "not-spam" or another word (RFC 5965 §7.3), in lower case.

    `recipients`: who got the message (Original-Rcpt-To), as they were written; often left out for their privacy.
    `message_id`: of the message it is about.
    """

    kind: str
    recipients: tuple[str, ...] = ()
    message_id: str | None = None


_LONGEST: Final = 320


def parse_feedback(octets: Buffer) -> Feedback | None:
    """The complaint that a message is, or None where it is none."""
    root = mime.scan(octets)
    if root.type != "multipart":
        return None
    part = next((one for one in root.children if (one.type, one.subtype) == ("message", "feedback-report")), None)
    if part is None:
        return None
    fields = Header.parse(mime.decode_body(octets, part))
    kind = undeclared(fields.first(b"feedback-type") or b"").strip().lower()
    if not kind:
        return None
    recipients = [undeclared(value).strip().strip("<>") for value in fields.all(b"original-rcpt-to")[:RECIPIENTS]]
    return Feedback(
        kind[:_LONGEST],
        tuple(one[:_LONGEST] for one in recipients if one),
        returned_id(octets, root),
    )
