"""XCLIENT: somebody whom we believe tells who the client is that he speaks for (Postfix's XCLIENT_README).

Promises: what is told replaces what we knew of the client, what is not told stays; `[UNAVAILABLE]` and `[TEMPUNAVAIL]`
are nothing. Refuses: to say who may be believed; that is the listener's.
"""

import ipaddress
from typing import Final

from posthouse.policy.check import Facts
from posthouse.wire.smtp.command import Xclient

# PORT, DESTPORT and REVERSE_NAME are taken and mean nothing here.
ATTRIBUTES: Final = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"
_NOTHING: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


def told(event: Xclient, name: str) -> str | None:
    """The value of an attribute; None where it was not told, or is not known."""
    value = event.attributes.get(name)
    return None if value is None or value.upper() in _NOTHING else value


def introduced(facts: Facts, event: Xclient) -> Facts:
    """A session's facts with the client that was told of; nothing of what was said before. Raises ValueError."""
    address, protocol = told(event, "ADDR"), told(event, "PROTO")
    if protocol is not None and protocol.upper() not in ("SMTP", "ESMTP"):
        raise ValueError(protocol)
    return Facts(
        facts.door,
        facts.peer if address is None else _address(address),
        peer_name=facts.peer_name if "NAME" not in event.attributes else told(event, "NAME"),
        tls=facts.tls,
        helo=told(event, "HELO"),
        esmtp=protocol is not None and protocol.upper() == "ESMTP",
        commands=facts.commands,
        errors=facts.errors,
        messages=facts.messages,
    )


def local_told(event: Xclient) -> str | None:
    """The address of ours that the client has connected to. Raises ValueError."""
    address = told(event, "DESTADDR")
    return None if address is None else _address(address)


def _address(text: str) -> str:
    written = text[5:] if text[:5].upper() == "IPV6:" else text
    return str(ipaddress.ip_address(written))
