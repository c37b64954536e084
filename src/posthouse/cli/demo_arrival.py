"""The demo's story, second half: Bob reads the message, and Alice hears of the address that does not exist.

Promises: what Bob gets by IMAP and by POP3 is compared with what Alice sent, octet for octet; a file that came along is
taken out by Python's own mail library and compared too. True means that all of it is right.
"""

from collections.abc import Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage

from posthouse.cli import demo_talk
from posthouse.cli.demo_trip import PATIENCE, Trip, concerns
from posthouse.message.build import Attachment
from posthouse.message.header import Header
from posthouse.message.report import parse_report
from posthouse.observe import Step
from posthouse.written import rough_size


def read(trip: Trip) -> bool:
    """Bob reads it in both ways; True if both give what was sent."""
    teller, bob = trip.teller, trip.bob
    teller.part("Bob reads it with IMAP")
    teller.say(
        """With IMAP the mailbox stays on the server, and all of Bob's devices see the same. This client speaks TLS
        from the first octet on."""
    )
    by_imap = demo_talk.read_by_imap(bob.door("imaps"), teller, bob.person.user)
    teller.part("Bob reads it with POP3")
    teller.say("POP3 is older and simpler: it fetches messages, and knows nothing of folders.")
    by_pop3 = demo_talk.read_by_pop3(bob.door("pop3s"), teller, bob.person.user)
    teller.part("Is it the same message?")
    return _compare(trip, by_imap, by_pop3)


def _compare(trip: Trip, by_imap: bytes, by_pop3: bytes) -> bool:
    teller, sent = trip.teller, trip.message
    stamps = by_imap.removesuffix(sent)
    teller.say(
        "On its way each server has put a stamp on top, as a post office does. Read from below, they tell the way:"
    )
    for stamp in _fields(stamps):
        teller.quote(stamp)
    teller.gap()
    whole = by_imap.endswith(sent) and stamps.endswith(b"\r\n")
    teller.verdict(whole, f"below them stand the {len(sent)} octets that Alice sent, header and body, {_same(whole)}")
    alike = by_imap == by_pop3
    teller.verdict(alike, f"IMAP and POP3 give the same {len(by_imap)} octets" if alike else "IMAP and POP3 differ")
    return whole and alike and (trip.attachment is None or _compare_file(trip, trip.attachment, by_imap))


def _same(whole: bool) -> str:
    return "each as it was" if whole else "but not as they were"


def _fields(stamps: bytes) -> list[str]:
    """Header fields, each in one line."""
    header = Header.parse(stamps + b"\r\n")
    return [" ".join(stamps[field.start : field.end].decode("utf-8", "replace").split()) for field in header.fields]


def _compare_file(trip: Trip, attachment: Attachment, message: bytes) -> bool:
    """Take the file out of what was read, with a program that is not ours."""
    whole = message_from_bytes(message, EmailMessage, policy=policy.default)
    found = [part.get_payload(decode=True) for part in whole.iter_attachments()]
    same = found == [attachment.octets]
    named = f"{attachment.name} ({rough_size(len(attachment.octets))})"
    trip.teller.verdict(same, f"{named}, decoded, {'is octet for octet the file' if same else 'is another file'}")
    return same


# --- and if there is no such user -------------------------------------------------------------------------------------


def read_bounce(trip: Trip, steps: Sequence[Step]) -> bool:
    """The report in Alice's Inbox; True if it says what it should."""
    teller, alice = trip.teller, trip.alice
    failed = next((step for step in steps if step.kind == "recipient.failed"), None)
    if failed is None:
        teller.verdict(False, f"{trip.unknown} was not refused")
        return False
    teller.part("Alice is told that one address does not exist (the bounce)")
    teller.say(
        f"""{trip.bob.place.hostname} has refused {trip.unknown} with a 550. Alice's server, which had taken
        responsibility, writes a report about it and puts it into her Inbox. Programs can read it too (RFC 3464). It has
        a journey of its own."""
    )
    _follow_bounce(trip)
    teller.say("So Alice finds it among her mail:")
    report = parse_report(demo_talk.read_by_imap(alice.door("imaps"), teller, alice.person.user))
    told = [(one.final, one.action, one.status) for one in report.recipients] if report else []
    good = told == [(trip.unknown, "failed", "5.1.1")] and report is not None and report.message_id == trip.message_id
    teller.gap()
    teller.verdict(good, f"the report says: {', '.join(told[0]) if told else 'nothing'}")
    return good


def _follow_bounce(trip: Trip) -> None:
    """What her server does about the report, until it is in her Inbox."""
    for step in trip.alice.follow(PATIENCE, lambda step: step.kind == "bounce.sent"):
        code = str(step.facts.get("bounce", ""))
    trip.tell(trip.alice, step)
    for step in trip.alice.follow(PATIENCE, lambda step: concerns(step, code, "recipient.delivered")):
        if concerns(step, code):
            trip.tell(trip.alice, step)
