"""Verifiers that nobody here wrote check our signatures, by records that they look up in DNS: dkimpy both of them, and
Perl's Mail::DKIM the one by RSA, for it is of the many that know no other.
"""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from posthouse.cli.dns import dkim_record
from posthouse.clock import SystemClock
from posthouse.directory.signing import DomainKey, State
from posthouse.trust.dkim import sign, take_apart
from posthouse.written import Endpoint
from tests.interop.clients import missing, require, run
from tests.interop.names import nameserver
from tests.trust.support import BOTH

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

DOMAIN = "example.test"
HEAD = (
    b"From: Alice <alice@example.test>\r\nTo: Bob <bob@there.test>\r\nSubject: Hello\r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
)
IDS = b"\r\n ".join(b"<%d.%d@example.test>" % (number, number) for number in range(60))
MESSAGES = {
    "plain": HEAD + b"\r\nHello Bob.\r\n",
    "8-bit": HEAD.replace(b"Hello", "Grüße, 驿站".encode()) + "\r\nGrüße aus der Post.\r\n".encode() * 50,
    "spaces": HEAD + b"\r\n  two  spaces \t and a tab\t\r\n\t\r\n \r\nend \r\n",
    "long lines": HEAD
    + b"X-Long: "
    + b"x" * 900
    + b"\r\nCc: "
    + b"carol@there.test, " * 50
    + b"d@there.test\r\n\r\nx\r\n",
    "folded": HEAD + b"References: " + IDS + b"\r\nIn-Reply-To:\r\n\t<1@there.test>\r\n\r\nHello.\r\n",
    "fields twice": HEAD + b"Cc: one@there.test\r\ncc: two@there.test\r\nSubject: again\r\n\r\nHello.\r\n",
    "list": HEAD + b"List-Id: <x.example.test>\r\nList-Unsubscribe: <https://example.test/>\r\n\r\nHello.\r\n",
    "empty": HEAD + b"\r\n",
    "only blank lines": HEAD + b"\r\n\r\n\r\n \r\n",
    "trailing blank lines": HEAD + b"\r\nHello.\r\n\r\n\r\n\r\n",
    "20 MB": HEAD + b"\r\n" + b"A line of text, with  two spaces, as long as most are.\r\n" * 380_000,
}

DKIMPY = """
import sys, dkim, dns.resolver
here = dns.resolver.Resolver(configure=False)
here.nameservers, here.port = [sys.argv[1]], int(sys.argv[2])
dns.resolver.default_resolver = here
verifier = dkim.DKIM(sys.stdin.buffer.read())
for place in range(2):
    print(verifier.verify(idx=place), verifier.signature_fields[b"a"].decode())
"""
MAIL_DKIM = """
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$ARGV[0]], port => $ARGV[1]));
my $verifier = Mail::DKIM::Verifier->new();
binmode STDIN;
while (read(STDIN, my $octets, 65536)) { $verifier->PRINT($octets); }
$verifier->CLOSE;
print join(" ", $_->result eq "pass" ? "True" : $_->result_detail, $_->algorithm), "\\n" for $verifier->signatures;
"""


DEBIAN = "/usr/bin/python3"


@cache
def dkimpy() -> list[str]:
    """How Debian's dkimpy is run; it needs PyNaCl for Ed25519."""
    try:
        run([DEBIAN, "-c", "import dkim, nacl, dns.resolver"])
    except (AssertionError, OSError):
        missing("dkimpy is not installed (apt-get install python3-dkim python3-nacl)")
    return [DEBIAN, "-c", DKIMPY]


@cache
def mail_dkim() -> list[str]:
    """How Mail::DKIM is run."""
    perl = require("perl")
    try:
        run([perl, "-MMail::DKIM::Verifier", "-e1"])
    except AssertionError:
        missing("Mail::DKIM is not installed (apt-get install libmail-dkim-perl)")
    return [perl, "-e", MAIL_DKIM]


@pytest.fixture(scope="module")
def names() -> Iterator[Endpoint]:
    """A name server that has the records just as `posthouse dns` prints them."""
    zone = {}
    for one in BOTH:
        key = DomainKey(DOMAIN, one.selector, one.key.algorithm, one.key.public, State.SIGNING, 0, 0)
        record = dkim_record(key)
        zone[record.name.removesuffix(".")] = {record.type: record.value}
    with nameserver(zone) as endpoint:
        yield endpoint


def judged(verifier: list[str], names: Endpoint, octets: bytes) -> list[str]:
    """What the verifier says of the signatures, from the top."""
    return run([*verifier, names.host, str(names.port)], octets=octets).decode().splitlines()


def signed(name: str) -> bytes:
    """A message with both signatures."""
    message = MESSAGES[name]
    return sign(take_apart(b"", message), DOMAIN, BOTH, SystemClock().now()) + message


@pytest.mark.parametrize("name", MESSAGES)
def test_dkimpy_finds_both_good(name: str, names: Endpoint) -> None:
    assert judged(dkimpy(), names, signed(name)) == ["True rsa-sha256", "True ed25519-sha256"]


@pytest.mark.parametrize("name", MESSAGES)
def test_mail_dkim_finds_the_one_that_it_knows_good(name: str, names: Endpoint) -> None:
    # The words for the other depend on its version.
    assert judged(mail_dkim(), names, signed(name))[0] == "True rsa-sha256"


@pytest.mark.parametrize("verifier", [dkimpy, mail_dkim])
def test_a_field_that_was_added_is_found(verifier: Callable[[], list[str]], names: Endpoint) -> None:
    said = judged(verifier(), names, b"Subject: forged\r\n" + signed("plain"))
    assert len(said) == 2
    assert "True" not in " ".join(said)
