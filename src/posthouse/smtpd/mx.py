"""The door for strangers: SMTP on port 25, and LMTP for those who deliver to us.

Promises: whoever comes is judged, and nobody logs in. LMTP answers for each recipient (RFC 2033); it believes whoever
reaches it, which is why it belongs on loopback.
"""

from collections.abc import Awaitable, Mapping
from typing import Final, Literal

from posthouse.config import Limits
from posthouse.net.stream import Stream
from posthouse.policy.check import Door
from posthouse.reception.intake import HeaderEdit
from posthouse.smtpd.server import converse
from posthouse.smtpd.session import MailSession, Surroundings
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import Auth, AuthResponse, Mail
from posthouse.wire.smtp.table import Kind

# RFC 2920, 6152, 2034, 6531: what every door of ours can do.
COMMON: Final[Mapping[str, str]] = {"PIPELINING": "", "8BITMIME": "", "ENHANCEDSTATUSCODES": "", "SMTPUTF8": ""}


def announced(limits: Limits, *, starttls: bool) -> dict[str, str]:
    """The extensions that both doors announce."""
    found = {**COMMON, "SIZE": str(limits.message_size)}
    if starttls:
        found["STARTTLS"] = ""
    return found


class Mx:
    """One listener of SMTP or LMTP for strangers."""

    def __init__(self, around: Surroundings, *, kind: Literal["mx", "lmtp"], starttls: bool) -> None:
        self.kind: Kind = kind
        self.door: Door = kind
        self.greeting = f"{around.hostname} {'LMTP' if kind == 'lmtp' else 'ESMTP'} posthouse"
        self._around = around
        self._starttls = starttls

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        stream.timeout = self._around.limits.smtp_timeout
        session = MailSession(stream, self, self._around)
        await converse(stream, session.engine, session)

    def extensions(self, secured: bool) -> Mapping[str, str]:
        """What EHLO announces."""
        return announced(self._around.limits, starttls=self._starttls and not secured)

    def mail(self, session: MailSession, mail: Mail) -> Awaitable[None] | None:
        """Anybody may come; the pipeline judges."""
        return None

    def header_edit(self, session: MailSession) -> HeaderEdit | None:
        """A stranger's header stays as it is."""
        return None

    def authenticate(self, session: MailSession, event: Auth | AuthResponse) -> Awaitable[Reply]:
        """AUTH is not announced here, so the engine never hands it out."""
        raise AssertionError("AUTH at a door that does not announce it")
