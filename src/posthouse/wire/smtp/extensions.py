"""Every extension of SMTP that is spoken here, at which door and when, and whether our client uses it.

Promises: a door announces what stands in its column, in this order, and nothing else; the manual's table is made of
this one (docs/smtp-support.md). What is announced is done: a keyword without its behaviour has no row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from posthouse.wire.smtp.table import Kind


@dataclass(frozen=True, slots=True)
class Extension:
    """One keyword of EHLO. `doors`: by kind, when it is announced ("" always); a kind that is missing never does.

    `client`: what our client does with it at another server; "" nothing. `does`: what it is, in few words.
    """

    keyword: str
    rfc: str
    doors: Mapping[Kind, str]
    client: str
    does: str


_EVERYWHERE: Final[Mapping[Kind, str]] = {"mx": "", "msa": "", "lmtp": ""}
_SMTP: Final[Mapping[Kind, str]] = {"mx": "", "msa": ""}

# RFC 2920, 6152, 2034, 6531, 3030, 3461, 2852, 6710, 9422, 1870, 4865, 8689, 1985, 5321, 3207, 4954.
EXTENSIONS: Final[tuple[Extension, ...]] = (
    Extension("PIPELINING", "2920", _EVERYWHERE, "yes", "many commands in one packet"),
    Extension("8BITMIME", "6152", _EVERYWHERE, "yes", "bodies of 8-bit text"),
    Extension("ENHANCEDSTATUSCODES", "2034", _EVERYWHERE, "read", "the reason as a code of its own"),
    Extension("SMTPUTF8", "6531", _EVERYWHERE, "yes", "addresses and headers beyond ASCII"),
    Extension("CHUNKING", "3030", _EVERYWHERE, "yes", "BDAT: messages in chunks, without dots"),
    Extension("BINARYMIME", "3030", _EVERYWHERE, "yes", "any octets; stored in base64"),
    Extension("DSN", "3461", _EVERYWHERE, "yes", "reports of delivery: NOTIFY, RET, ENVID, ORCPT"),
    Extension("DELIVERBY", "2852", _EVERYWHERE, "yes", "BY: back, or told of, when it is late"),
    Extension("MT-PRIORITY", "6710", _EVERYWHERE, "yes", "-9 to 9; strangers cannot raise it"),
    Extension("LIMITS", "9422", _EVERYWHERE, "yes", "RCPTMAX, MAILMAX as they are enforced"),
    Extension("SIZE", "1870", _EVERYWHERE, "yes", "how large a message may be, and is"),
    Extension("FUTURERELEASE", "4865", {"msa": ""}, "", "HOLDFOR, HOLDUNTIL: sent later"),
    Extension("REQUIRETLS", "8689", {"mx": "in TLS", "msa": "in TLS"}, "yes", "verified TLS at every hop, or none"),
    Extension("ETRN", "1985", {"mx": "with `relay_domains`"}, "", "try now what waits for a domain"),
    Extension("EXPN", "5321", {"msa": ""}, "", "members of an alias, for who has logged in"),
    Extension("XCLIENT", "", {"mx": "to `xclient_from`"}, "", "who the client of a proxy is"),
    Extension("STARTTLS", "3207", {**_SMTP, "lmtp": "where configured"}, "yes", "encryption; gone once it has begun"),
    Extension("AUTH", "4954", {"msa": "in TLS"}, "to smarthosts", "SCRAM-SHA-256(-PLUS), PLAIN, LOGIN, EXTERNAL"),
)


def announce(kind: Kind, values: Mapping[str, str | None]) -> dict[str, str]:
    """What a door of this kind says behind EHLO, keyword → parameters, in the order of the table.

    `values` gives the parameters of those that have some, and None for those that are not to be had now; what it does
    not name has none.
    """
    offered = ((one.keyword, values.get(one.keyword, "")) for one in EXTENSIONS if kind in one.doors)
    return {keyword: value for keyword, value in offered if value is not None}


def extensions_markdown() -> str:
    """The table for the manual."""
    lines = ["| extension | RFC | port 25 | submission | LMTP | our client | |", "|---|---|---|---|---|---|---|"]
    for one in EXTENSIONS:
        doors = [one.doors[kind] or "yes" if kind in one.doors else "" for kind in ("mx", "msa", "lmtp")]
        lines.append(f"| `{one.keyword}` | {' | '.join([one.rfc, *doors, one.client, one.does])} |")
    return "\n".join(lines) + "\n"
