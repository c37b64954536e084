"""Every reply that a client of SMTP, submission or LMTP may hear, and when (RFC 5321 §4.2, RFC 3463, RFC 5248).

Promises: no door says a code with an enhanced code that has no row here, and no row is never said; a test compares this
with the source, and the manual's table is made of it. Refuses: to hold the words; they stand where they are said.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a reply is given: `at` which command ("" any); `enhanced` None where RFC 2034 §4 has none."""

    code: int
    enhanced: str | None
    at: str
    why: str


REASONS: Final[tuple[Reason, ...]] = (
    Reason(211, "2.0.0", "HELP", "what this is, and which commands it knows"),
    Reason(214, "2.0.0", "HELP", "what a command means"),
    Reason(220, None, "connection, XCLIENT", "welcome"),
    Reason(220, "2.0.0", "STARTTLS", "begin TLS"),
    Reason(221, "2.0.0", "QUIT", "goodbye"),
    Reason(235, "2.7.0", "AUTH", "logged in"),
    Reason(250, None, "EHLO, HELO, LHLO", "hello; what is announced stands behind it"),
    Reason(250, "2.0.0", "the message, BDAT, RSET, NOOP, ETRN", "done; behind a message: it is ours now"),
    Reason(250, "2.1.0", "MAIL", "the sender is taken"),
    Reason(250, "2.1.5", "RCPT, VRFY, EXPN", "the recipient is taken; whom an address or a list stands for"),
    Reason(250, "2.3.6", "MAIL", "taken, with another priority than was asked for (RFC 6710)"),
    Reason(251, "2.1.5", "VRFY", "the address leads elsewhere"),
    Reason(252, "2.0.0", "VRFY, EXPN", "that is not told (RFC 5321 §7.3); send mail to it"),
    Reason(252, "2.6.8", "VRFY, EXPN", "the answer is beyond ASCII, which was not asked for (RFC 6531)"),
    Reason(334, None, "AUTH", "go on with the exchange"),
    Reason(354, None, "DATA", "send the message"),
    Reason(421, "4.3.0", "", "an error of ours; the connection ends"),
    Reason(421, "4.3.2", "connection, any", "too many connections, or we stop"),
    Reason(421, "4.4.2", "", "nothing was said for too long, or all too slowly"),
    Reason(421, "4.7.0", "connection, any", "too many or too often: connections, messages, commands, errors"),
    Reason(450, "4.2.4", "the message", "too many messages wait for the moderators of that list"),
    Reason(450, "4.7.1", "MAIL, RCPT", "too often: messages of a network or domain, recipients of an account"),
    Reason(451, "4.3.0", "", "the store is away, or judging took too long or failed; nothing is lost"),
    Reason(451, "4.3.5", "RCPT", "no domain was ever served: a new store, or the disk with the other is not there"),
    Reason(451, "4.4.2", "the message", "the client had hung up, and will send again (RFC 1047)"),
    Reason(452, "4.2.2", "RCPT, the message", "the mailbox is full"),
    Reason(452, "4.3.1", "MAIL, RCPT past the fiftieth, DATA, the message", "no room for unfinished mail just now"),
    Reason(452, "4.5.3", "RCPT", "one recipient more than a message may have; the others get another copy"),
    Reason(454, "4.7.0", "AUTH", "too many wrong logins, too many at once, or the store is away"),
    Reason(455, "4.3.1", "MAIL", "a parameter cannot be had now: no room to convert a binary message"),
    Reason(458, "4.3.0", "ETRN", "the queue cannot be reached"),
    Reason(459, "4.7.1", "ETRN", "no mail is relayed for that domain"),
    Reason(500, "5.5.1", "", "no command that anybody knows"),
    Reason(500, "5.5.2", "", "a line that is too long, or no text"),
    Reason(500, "5.5.6", "AUTH", "a line of the exchange that is too long"),
    Reason(501, "5.1.3", "RCPT, VRFY, EXPN", "no address"),
    Reason(501, "5.1.7", "MAIL", "no address"),
    Reason(501, "5.5.2", "AUTH", "no base64, or no part of such an exchange"),
    Reason(501, "5.5.4", "", "an argument or the value of a parameter that is none"),
    Reason(501, "5.7.0", "AUTH", "cancelled by the client"),
    Reason(502, "5.5.1", "", "a command that is not offered here"),
    Reason(503, "5.5.1", "", "a command out of order"),
    Reason(504, "5.5.4", "AUTH, HELP", "a mechanism that is not offered; help about what is no command"),
    Reason(521, "5.5.1", "", "HTTP at a mail server; the connection ends"),
    Reason(521, "5.5.2", "", "a bare CR or LF in a command; the connection ends"),
    Reason(521, "5.5.4", "BDAT", "a chunk of no size; the connection ends, for nobody knows what follows"),
    Reason(523, "5.7.10", "AUTH", "no logins without encryption, however strong the mechanism"),
    Reason(530, "5.7.0", "MAIL", "log in first, or say STARTTLS first"),
    Reason(534, "5.7.9", "AUTH", "the mechanism is too weak"),
    Reason(535, "5.7.8", "AUTH", "wrong login or password; disabled (to those who know the password)"),
    Reason(538, "5.7.11", "AUTH", "this mechanism shows the password, and there is no encryption"),
    Reason(550, "5.1.1", "RCPT, VRFY, EXPN", "no such address or list"),
    Reason(550, "5.1.2", "RCPT", "the domain that an account writes to does not exist"),
    Reason(550, "5.2.1", "MAIL, RCPT", "the account is disabled"),
    Reason(550, "5.2.4", "RCPT", "the alias leads to too many, or too deep"),
    Reason(550, "5.4.6", "RCPT", "the alias leads back to itself"),
    Reason(550, "5.5.3", "RCPT", "a bounce to a crowd"),
    Reason(550, "5.6.0", "the message", "a submitted header that cannot be read one way"),
    Reason(550, "5.7.1", "MAIL, RCPT, the message", "no relaying; not an address that the account may send as"),
    Reason(550, "5.7.2", "RCPT, the message", "this sender may not post to that list"),
    Reason(551, "5.7.1", "RCPT", "LMTP delivers, and sends nothing elsewhere"),
    Reason(552, "5.2.2", "RCPT", "larger than the mailbox may ever be"),
    Reason(552, "5.2.3", "the message", "larger than that list takes"),
    Reason(552, "5.3.4", "MAIL, the message", "larger than a message, or its header, may be"),
    Reason(553, "5.1.3", "RCPT", "a source route"),
    Reason(553, "5.1.7", "MAIL", "a source route"),
    Reason(553, "5.6.7", "MAIL, RCPT, VRFY, EXPN", "an address beyond ASCII without SMTPUTF8"),
    Reason(554, "5.4.6", "the message", "it goes round in a circle"),
    Reason(554, "5.5.1", "connection", "the client spoke before the greeting"),
    Reason(554, "5.6.0", "the message", "a bare CR or LF, or a line that is too long"),
    Reason(554, "5.6.2", "the message", "a binary message that is signed, so that it cannot be made text"),
    Reason(554, "5.6.3", "the message", "a binary message that cannot be made text"),
    Reason(554, "5.7.1", "connection, the message", "the network is blocked; a check says no and not why"),
    Reason(555, "5.5.4", "MAIL, RCPT", "a parameter that is not known here"),
    Reason(556, "5.1.10", "RCPT", "the domain that an account writes to takes no mail (RFC 7505)"),
)


def replies_markdown() -> str:
    """The table for the manual."""
    lines = ["| code | | at | why |", "|---|---|---|---|"]
    lines += [f"| {one.code} | {one.enhanced or ''} | {one.at or 'any command'} | {one.why} |" for one in REASONS]
    return "\n".join(lines) + "\n"
