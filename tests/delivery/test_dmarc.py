"""What a domain wants done with mail in its name that fails DMARC."""

import pytest

from posthouse.delivery.dmarc import DmarcPolicies
from posthouse.net.dns import Answer, Bogus, DnsError, NoRecords, NoSuchDomain, TemporaryFailure
from tests.relay.support import Names
from tests.support import run

REJECT = b"v=DMARC1; p=reject"


class Zone(Names):
    """TXT records, or what is raised, by name; and what was asked for."""

    def __init__(self, records: dict[str, bytes | DnsError]) -> None:
        super().__init__()
        self.records = records

    async def txt(self, name: str) -> Answer[bytes]:
        self.asked.append(name)
        found = self.records.get(name, NoSuchDomain(name, "no such domain"))
        if isinstance(found, DnsError):
            raise found
        return Answer((found,), 60, False, name)


def strict(zone: Zone, domain: str) -> bool:
    async def main() -> bool:
        return await DmarcPolicies(zone).strict(domain)

    return run(main())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (REJECT, True),
        (b"v=DMARC1;p=Quarantine; rua=mailto:x@y", True),
        (b"v=DMARC1; p=none", False),
        (b"v=DMARC1; rua=mailto:x@y", False),
        (b"v=spf1 -all", False),
        (b"v=DMARC1; p", False),
        (NoRecords("x", ""), False),
        # What cannot be known is taken for strict.
        (TemporaryFailure("x", ""), True),
        (Bogus("x", ""), True),
    ],
)
def test_the_domains_own_policy(record: bytes | DnsError, expected: bool) -> None:
    assert strict(Zone({"_dmarc.far.example": record}), "far.example") is expected


def test_what_is_above_holds_for_those_below() -> None:
    for record, expected in ((REJECT, True), (REJECT + b"; sp=none", False), (b"v=DMARC1; p=none; sp=reject", True)):
        assert strict(Zone({"_dmarc.far.example": record}), "a.b.far.example") is expected
    zone = Zone({"_dmarc.far.example": REJECT, "_dmarc.a.far.example": b"v=DMARC1; p=none"})
    assert not strict(zone, "a.far.example")


def test_a_long_name_asks_few_questions() -> None:
    zone = Zone({"_dmarc.far.example": REJECT})
    assert strict(zone, "x." * 100 + "far.example")
    assert zone.asked[1:] == [f"_dmarc.{above}far.example" for above in ("x.x.x.", "x.x.", "x.", "")]


def test_hosts_without_a_name_have_no_policy() -> None:
    zone = Zone({})
    assert not strict(zone, "[192.0.2.1]")
    assert not strict(zone, "localhost")
    assert zone.asked == ["_dmarc.localhost"]
