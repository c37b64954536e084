"""One message on its way in: from the go-ahead to its final dot.

Promises: what is gathered keeps to the budgets of unfinished mail, header included; the header is held until its end,
made right by whoever takes the message, and stored behind our Received field. What is wrong with a message is
remembered and said at its end, for before nobody listens; from then on nothing of it is kept.
Refuses: to judge, and to touch a body.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Final

from posthouse import limits, observe
from posthouse.directory.throttle import network_of
from posthouse.message import build
from posthouse.message.header import Header
from posthouse.policy.check import Facts
from posthouse.policy.networks import LOOPBACK, Networks
from posthouse.reception.refusals import Trail
from posthouse.store.blobs import Blobs, Spool, SpoolFull
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal, Reply

_MACHINE: Final = Networks(LOOPBACK, machine=True)
# A larger one is not kept apart while its message comes: its fields take three times its octets, which no budget knows
# of. It is read again at the end.
_KEPT: Final = 16 * limits.KB
NO_ROOM: Final = Reply(452, "4.3.1", "No room for more mail just now; try again later")

HeaderEdit = Callable[[bytes], bytes]
"""Makes a header right before it is stored: fields in, without the empty line, fields out. Raises Refusal."""


class Intake:
    """A message of this envelope. Written to until its end, then answered for (answer.py) or discarded.

    `protocol` is what the Received field says it came by (RFC 3848), `at` when it began, `most` the octets it may have.
    `header` is there from `end` on.
    """

    __slots__ = (
        "_blobs", "_edit", "_front", "_most", "_protocol", "_tail", "at", "envelope", "facts", "header", "hostname",
        "refusal", "size", "spool", "trail",
    )  # fmt: skip

    def __init__(
        self,
        blobs: Blobs,
        facts: Facts,
        envelope: Envelope,
        trail: Trail,
        *,
        hostname: str,
        protocol: str,
        edit: HeaderEdit | None,
        at: int,
        most: int,
    ) -> None:
        """Raises SpoolFull."""
        self.facts = facts
        self.envelope = envelope
        self.trail = trail
        self.hostname = hostname
        self.at = at
        self.size = 0
        self.spool: Spool = blobs.spool(owner_of(facts))
        self.header: Header | None = None
        self.refusal: Reply | None = None
        self._blobs = blobs
        self._protocol = protocol
        self._edit = edit
        self._most = most
        self._front = 0  # octets of ours in front of the header that is stored; 0: it has not ended
        self._tail = b""  # the last octets of a header that has not ended: its end may lie across two pieces

    def write(self, octets: bytes) -> None:
        """Take more of the message."""
        if self.refusal is not None:
            return
        self.size += len(octets)
        try:
            if self.size > self._most:
                # RFC 1870 §6.3
                raise Refusal(552, "5.3.4", too_long(self._most))
            if self._front:
                self.spool.write(octets)
            else:
                self._read_header(octets)
        except Refusal as refusal:
            self._refuse(refusal.reply)
        except SpoolFull:
            self._refuse(NO_ROOM)

    def end(self) -> None:
        """The message is complete. One may end in its header (RFC 5322 §3.5)."""
        if self.refusal is not None:
            return
        try:
            if not self._front:
                self._end_header(self._held(), b"")
            if self.header is None:
                self.header = self.trail.header = Header.parse(self.spool.buffer(), self._front)
        except Refusal as refusal:
            self._refuse(refusal.reply)
        except SpoolFull:
            self._refuse(NO_ROOM)

    def discard(self) -> None:
        """Let go of everything that is not stored. Safe to call twice."""
        self.spool.discard()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    # --- the header

    def _read_header(self, octets: bytes) -> None:
        """Hold the header as it came until all of it is here; most come in one piece."""
        joined = self._tail + octets
        before = self.spool.size - len(self._tail)
        end = _end_of_fields(joined, whole=before == 0)
        known = self.spool.size + len(octets) if end is None else before + end
        if known > limits.HEADER_SIZE:
            raise Refusal(552, "5.3.4", f"A header may have {limits.HEADER_SIZE} octets here")
        if end is None:
            self.spool.write(octets)
            self._tail = joined[-3:]
            return
        whole = self._held() + octets
        self._end_header(whole[: before + end], whole[before + end :])

    def _held(self) -> bytes:
        """What was held of the header; a new spool is begun for the message."""
        if not self.spool.size:
            return b""
        held = bytes(self.spool.buffer())
        self.spool.discard()
        self.spool = self._blobs.spool(owner_of(self.facts))
        return held

    def _end_header(self, head: bytes, rest: bytes) -> None:
        edited = head if self._edit is None else self._edit(head)
        header = Header.parse(edited)
        if header.count(b"return-path"):
            # RFC 5321 §4.4: only final delivery writes Return-Path, so that there is one. It may take others away.
            edited = build.edit_header(edited, remove=[b"return-path"])
            header = Header.parse(edited)
        received = self._received()
        self._front = len(received)
        if len(edited) <= _KEPT:
            self.header = self.trail.header = header
        else:
            self.trail.header = _found_by(header)
        self.spool.write(b"".join((received, edited, rest)))

    def _received(self) -> bytes:
        """RFC 5321 §4.4. Nobody is named in `for` where there are several: that would tell of hidden recipients."""
        facts, recipients = self.facts, self.facts.recipients
        return build.received_field(
            helo=facts.helo or "unknown",
            peer=facts.peer,
            peer_name=facts.peer_name,
            by=self.hostname,
            protocol=self._protocol,
            tls=facts.tls,
            id=observe.code(self.trail.id),
            recipient=recipients[0].recipient.address if len(recipients) == 1 else None,
            at=self.at,
        )

    def _refuse(self, reply: Reply) -> None:
        self.refusal = reply
        self.spool.discard()


def owner_of(facts: Facts) -> str | None:
    """Whose share of unfinished mail a session's messages are paid from: its network's; of this machine nobody's."""
    return None if _MACHINE.hold(facts.peer) else network_of(facts.peer)


def _end_of_fields(octets: bytes, *, whole: bool) -> int | None:
    """Where the empty line begins that ends a header; `whole`: these octets are its first."""
    if whole and octets.startswith(b"\r\n"):
        return 0
    found = octets.find(b"\r\n\r\n")
    return found + 2 if found >= 0 else None


def _found_by(header: Header) -> Header:
    """What the journey of a message tells of a large header, should it be refused before its end."""
    wanted = [header.octets(field) for field in header.fields if field.name in (b"message-id", b"subject")]
    return Header.parse(b"".join([octets for octets in wanted[:2] if len(octets) <= _KEPT // 4]))


def too_long(most: int) -> str:
    """What is said of a message with more octets than this."""
    return f"A message may have {most} octets here"
