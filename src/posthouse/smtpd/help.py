"""HELP (RFC 5321 §4.1.1.8): for people, who sometimes type SMTP by hand."""

from collections.abc import Collection
from typing import Final

from posthouse.terms.reply import Reply

# In ASCII, as all replies to who did not ask for more (RFC 5321 §4.2).
_TOLD: Final = {
    "EHLO": "EHLO your.host.name: hello; what can be had here is listed behind it (RFC 5321 section 4.1.1.1)",
    "LHLO": "LHLO your.host.name: hello; what can be had here is listed behind it (RFC 2033 section 4.1)",
    "MAIL": "MAIL FROM:<address> [parameters]: whom errors go to; <> for nobody (RFC 5321 section 4.1.1.2)",
    "RCPT": "RCPT TO:<address> [parameters]: who is to get the message; once for each (RFC 5321 section 4.1.1.3)",
    "DATA": "DATA: the message follows, ended by a dot on a line of its own (RFC 5321 section 4.1.1.4)",
    "BDAT": "BDAT size [LAST]: so many octets of the message follow (RFC 3030)",
    "AUTH": "AUTH mechanism [initial response]: log in (RFC 4954)",
    "STARTTLS": "STARTTLS: go on encrypted (RFC 3207)",
    "ETRN": "ETRN domain: try now to send what waits for it (RFC 1985)",
}


def answer(text: str, verbs: Collection[str]) -> Reply:
    """RFC 5321 §4.2.3: 211 tells of the system, 214 what a command means. `verbs` are those to be had now."""
    verb = text.upper()
    if verb in verbs:
        return Reply(214, "2.0.0", _TOLD.get(verb, f"{verb}: RFC 5321 and its extensions tell"))
    if verb:
        return Reply(504, "5.5.4", "There is no help about that")
    return Reply(211, "2.0.0", f"This is posthouse\nCommands: {' '.join(verbs)}\nHELP command tells more")
