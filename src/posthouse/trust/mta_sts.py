"""MTA-STS (RFC 8461): the record that announces a policy, and the policy, as values.

Promises: `read_record` never raises, `parse_policy` nothing but BadPolicy, whatever a stranger sent; a policy is
written so that it parses again to the same value, for our own domains as for the store.
Refuses: to look anything up, to fetch, and to keep (policies.py does). A policy that breaks the grammar is none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from posthouse.terms.address import MAX_DOMAIN, BadAddress, parse_domain

Mode = Literal["enforce", "testing", "none"]

# RFC 8461 §3.3 wants a limit to what is fetched, and names this one.
LARGEST_POLICY: Final = 64 * 1024
# RFC 8461 §3.2: one year. A longer promise is taken for that.
LONGEST_AGE: Final = 31_557_600
# Hosts that a policy may name. Large providers name five, or a wildcard; each is held in memory and told in reports.
MOST_HOSTS: Final = 500

_BEGINS: Final = re.compile(rb"v=STSv1[ \t]*;")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
_RECORD_FIELD: Final = re.compile(rf"({_NAME})=([!-:<>-~]+)")
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_POLICY_FIELD: Final = re.compile(
    rf"({_NAME}):[ \t]*([^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?)[ \t]*"
)
_AGE: Final = re.compile(r"[0-9]{1,10}")
_MODES: Final[dict[str, Mode]] = {"enforce": "enforce", "testing": "testing", "none": "none"}


class BadPolicy(ValueError):
    """The text is no policy; the message says why, in few words."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain asks of those who send to it: `mx` are patterns in lower case, `max_age` is in seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def allows(self, host: str) -> bool:
        """Whether this MX host is one of the policy's (RFC 8461 §4.1): "*." stands for exactly one label."""
        host = host.lower().removesuffix(".")
        first, dot, rest = host.partition(".")
        return host in self.mx or bool(first and dot and f"*.{rest}" in self.mx)

    def __str__(self) -> str:
        """As it is served (RFC 8461 §3.2)."""
        lines = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {one}" for one in self.mx), f"max_age: {self.max_age}"]
        return "".join(f"{line}\r\n" for line in lines)


def record_name(domain: str) -> str:
    """Where the record of a domain stands (RFC 8461 §3.1)."""
    return f"_mta-sts.{domain}"


def policy_host(domain: str) -> str:
    """The host that serves a domain's policy (RFC 8461 §3.3)."""
    return f"mta-sts.{domain}"


POLICY_PATH: Final = "/.well-known/mta-sts.txt"


def read_record(texts: Sequence[bytes]) -> str | None:
    """The id that the TXT records announce; None where they announce no policy.

    RFC 8461 §3.1: others do not count, and two, or one that breaks the grammar, are none.
    """
    ours = [text for text in texts if _BEGINS.match(text)]
    if len(ours) != 1 or not ours[0].isascii():
        return None
    _, *fields = ours[0].decode("ascii").split(";")
    if not fields[-1].strip(" \t"):
        fields.pop()
    matches = [_RECORD_FIELD.fullmatch(one.strip(" \t")) for one in fields]
    found = [match.groups() for match in matches if match]
    ids = [value for name, value in found if name == "id"]
    if len(found) != len(fields) or len(ids) != 1 or not _ID.fullmatch(ids[0]):
        return None
    return ids[0]


def parse_policy(octets: bytes) -> Policy:
    """The policy that these octets spell (RFC 8461 §3.2). Raises BadPolicy."""
    if len(octets) > LARGEST_POLICY:
        raise BadPolicy(f"more than {LARGEST_POLICY} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPolicy("not UTF-8") from error
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip(" \t"):
            continue
        match = _POLICY_FIELD.fullmatch(line)
        if match is None:
            raise BadPolicy("a line that is no field")
        name, value = match.groups()
        if name == "mx":
            patterns.append(_pattern(value))
            if len(patterns) > MOST_HOSTS:
                raise BadPolicy(f"more than {MOST_HOSTS} hosts")
        else:
            # RFC 8461 §3.2: of a field that stands twice the first counts.
            fields.setdefault(name, value)
    policy = _policy(fields, tuple(dict.fromkeys(patterns)))
    if len(str(policy)) > LARGEST_POLICY:
        # Written without a space behind each colon it is shorter than as we write it, and it has to be read again.
        raise BadPolicy(f"more than {LARGEST_POLICY} octets")
    return policy


def _policy(fields: dict[str, str], patterns: tuple[str, ...]) -> Policy:
    if fields.get("version") != "STSv1":
        raise BadPolicy("the version is not STSv1")
    mode = _MODES.get(fields.get("mode", ""))
    if mode is None:
        raise BadPolicy("no mode, or an unknown one")
    age = fields.get("max_age", "")
    if not _AGE.fullmatch(age):
        raise BadPolicy("no max_age, or one that is no number")
    if not patterns and mode != "none":
        raise BadPolicy("no mx")
    return Policy(mode, patterns, min(int(age), LONGEST_AGE))


def _pattern(text: str) -> str:
    """A domain, or "*." and a domain; in lower case."""
    star, domain = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        if len(domain) > MAX_DOMAIN or not domain.isascii() or domain.startswith("["):
            raise BadAddress
        return star + parse_domain(domain)
    except BadAddress as error:
        raise BadPolicy("an mx that is no host name") from error
