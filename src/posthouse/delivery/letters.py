"""Mail that the server writes to people, other than reports: queued in the transaction that has a reason for it.

Promises: it has the null reverse-path and says that it is automatic, so nothing answers it (RFC 3834); a letter has a
journey of its own. Refuses: to know why it is written.
"""

import base64
from dataclasses import dataclass
from random import Random
from typing import Final

from posthouse import journey
from posthouse.message import build
from posthouse.message.addresses import Mailbox
from posthouse.message.build import Attachment
from posthouse.observe import Step
from posthouse.queue import queue
from posthouse.queue.queue import NewRecipient, QueuedMail
from posthouse.store import blobs
from posthouse.store.database import Tx
from posthouse.terms.address import Address
from posthouse.terms.envelope import Wishes

_AUTOMATIC: Final = b"Auto-Submitted: auto-generated\r\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """`hostname` signs what we write; `expire`: seconds until that is given up; `secret` keys journeys and tags."""

    hostname: str
    expire: float
    secret: bytes

    def letters(self, now: int, random: Random) -> "Letters":
        """What is written now."""
        return Letters(self.hostname, self.expire, self.secret, now, random)


@dataclass(frozen=True, slots=True)
class Letters:
    """Who writes, and when. `hostname` is for message-ids, `secret` for journeys; `expire`: seconds until given up.

    `random` is one that nobody can predict: tokens are all that stands between a stranger and what they confirm.
    """

    hostname: str
    expire: float
    secret: bytes
    now: int
    random: Random

    def token(self) -> str:
        """Something that nobody guesses, in letters whose case does not matter."""
        return base64.b32encode(self.random.getrandbits(80).to_bytes(10, "big")).decode().lower()

    def write(
        self,
        tx: Tx,
        sender: Mailbox,
        to: Address,
        subject: str,
        text: str,
        *,
        reply_to: Address | None = None,
        attachments: tuple[Attachment, ...] = (),
    ) -> int:
        """Queue a letter; its journey."""
        own = journey.new_id(self.now, self.random.getrandbits(21))
        message_id = build.message_id(self.hostname, f"letter.{journey.code(own)}")
        fields = [_AUTOMATIC]
        if reply_to is not None:
            fields.append(build.address_field("Reply-To", [Mailbox("", reply_to.local, reply_to.domain)]))
        octets = build.compose(
            sender=sender,
            to=[Mailbox("", to.local, to.domain)],
            subject=subject,
            text=text,
            at=self.now,
            message_id=message_id,
            fields=fields,
            attachments=attachments,
        )
        mail = QueuedMail(
            journey=own,
            blob=blobs.insert(tx, blobs.in_row(octets)),
            size=len(octets),
            sender=None,
            queued_at=self.now,
            expires_at=self.now + int(self.expire * 1000),
            wishes=Wishes(body="7BIT" if octets.isascii() else "8BITMIME", smtputf8=not to.ascii),
        )
        queue.accept(tx, mail, [NewRecipient(to, queue.destination_of(tx, to), notify=frozenset({"NEVER"}))])
        step = Step("letter.written", self.now, own, {"recipient": str(to), "subject": subject})
        journey.open(
            tx, own, message_id=message_id, sender=None, recipients=[str(to)], subject=subject, secret=self.secret,
            steps=[step],
        )  # fmt: skip
        return own
