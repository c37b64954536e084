"""Security on the way to other servers: the courier against peers with right and wrong certificates, under DANE,
MTA-STS and REQUIRETLS, and what is remembered and counted of it.
"""

import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from posthouse.clock import SetClock
from posthouse.net.dns import Answer, Bogus, Mx, NoRecords, StubResolver, Tlsa
from posthouse.net.http import HttpError, Page
from posthouse.net.nameserver import Nameserver, Zone
from posthouse.net.tls import client_context
from posthouse.queue.outcome import Report
from posthouse.queue.queue import QueuedMail
from posthouse.relay.security import Downgrade, Security, expire, wish_of
from posthouse.relay.ways import Way
from posthouse.store.blobs import Blobs
from posthouse.store.database import StoreUnavailable
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from posthouse.terms.envelope import Wishes
from posthouse.trust.dane import public_key_of
from posthouse.trust.policies import Policies
from posthouse.trust.tlsrpt import Tally
from posthouse.trust.transport import Encryption, Target, TlsPolicy, Wish
from posthouse.written import Target as Written
from tests.relay.support import MESSAGE, Names, Peer, Rig, told
from tests.store.support import opened
from tests.support import run
from tests.trust.certificates import Issued, issue

HOST = "mx.there.example"
RELAYED = {1: ("relayed", 250, "recipient")}
WITH_TLS = "250-there\r\n250-PIPELINING\r\n250-REQUIRETLS\r\n250 STARTTLS"
WITHOUT_REQUIRETLS = "250-there\r\n250 STARTTLS"
CLEAR = "250-there\r\n250 PIPELINING"

# What OpenSSL verifies, it verifies by the machine's clock.
TODAY = datetime.now(UTC)
ROOT = issue("root", 1, ca=True, now=TODAY)
STRANGE_ROOT = issue("root of strangers", 2, ca=True, now=TODAY)
GOOD = issue(HOST, 3, ROOT, names=[HOST], now=TODAY)
MISNAMED = issue("other.example", 4, ROOT, names=["other.example"], now=TODAY)
EXPIRED = issue(HOST, 5, ROOT, names=[HOST], now=TODAY, days=(-3, -1))
STRANGE = issue(HOST, 6, STRANGE_ROOT, names=[HOST], now=TODAY)


@dataclass
class SecureNames(Names):
    """Names of a zone: `secure` ones are signed; `tlsa_records` by host, a string for an error; `record`: MTA-STS's."""

    secure: set[str] = field(default_factory=set)
    tlsa_records: dict[str, Sequence[Tlsa] | str] = field(default_factory=dict)
    record: str | None = None

    async def mx(self, domain: str) -> Answer[Mx]:
        return replace(await super().mx(domain), authentic=domain in self.secure)

    async def addresses(self, host: str, *, ipv6: bool = True) -> Answer[str]:
        return replace(await super().addresses(host, ipv6=ipv6), authentic=host in self.secure)

    async def txt(self, name: str) -> Answer[bytes]:
        if self.record is None or name != "_mta-sts.there.example":
            raise NoRecords(name, "no records")
        return Answer((f"v=STSv1; id={self.record}".encode(),), 60, False, name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        self.asked.append(f"tlsa {name}")
        found = self.tlsa_records.get(name.removeprefix("_25._tcp."), ())
        if found == "bogus":
            raise Bogus(name, "DNSSEC does not vouch for the answer")
        if not found:
            raise NoRecords(name, "no records")
        records = tuple(one for one in found if isinstance(one, Tlsa))
        return Answer(records, 60, "unsigned" not in self.secure, name)


@dataclass
class Stage:
    """A world with one domain, there.example, whose one host is the peer."""

    peer: Peer
    rig: Rig
    names: SecureNames
    security: Security
    store: SqliteStore
    clock: SetClock
    policy: Page | HttpError

    async def get(self, host: str, path: str, *, seconds: float, most: int) -> Page:
        """The policy host, as it is asked."""
        if isinstance(self.policy, HttpError):
            raise self.policy
        return self.policy

    def publish(self, mode: str, mx: str = HOST) -> None:
        """Have there.example announce an MTA-STS policy."""
        self.names.record = "1"
        self.policy = Page("text/plain", f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n".encode())

    def sign(self, *records: Tlsa | str) -> None:
        """Have the zone signed, with these TLSA records."""
        self.names.secure |= {"there.example", HOST}
        self.names.tlsa_records[HOST] = (
            str(records[0]) if isinstance(records[0], str) else [one for one in records if isinstance(one, Tlsa)]
        )

    async def counted(self) -> list[tuple[str, str, int]]:
        """Policy type, result and number of sessions, as the store has them."""
        await self.security.write()
        rows = await self.store.read(
            lambda tx: tx.query("SELECT type, result, sessions FROM tls_result ORDER BY type, result", ())
        )
        return [(type, result, sessions) for type, result, sessions in rows]


Scene = Callable[[Stage], Coroutine[Any, Any, None]]


def shows(issued: Issued, *others: Issued, directory: Path) -> ssl.SSLContext:
    """A server's context that shows this certificate, and those above it."""
    directory.mkdir(exist_ok=True)
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(issued.pem + b"".join(one.pem for one in others))
    key.write_bytes(issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


def play(
    tmp_path: Path,
    scene: Scene,
    *,
    shown: Sequence[Issued] = (GOOD, ROOT),
    ehlo: str = WITH_TLS,
    mode: Encryption = "opportunistic",
    downgrade: Downgrade = "report",
    ways: Sequence[Way] = (),
    starttls: str = "220 go ahead",
) -> None:
    """A scene with a peer that shows these certificates."""

    async def main() -> None:
        tls = shows(*shown, directory=tmp_path / "tls") if shown else None
        (tmp_path / "ca.pem").write_bytes(ROOT.pem)
        names = SecureNames({"there.example": [(10, HOST)]}, {HOST: ["127.0.0.1"]})
        clock = SetClock(int(TODAY.timestamp() * 1000))
        peer = Peer({"EHLO": (ehlo,), "STARTTLS": (starttls,)}, tls=tls)
        async with opened(tmp_path, clock) as store, peer:
            tally = Tally(clock)
            fetcher = _Fetcher()
            policies = Policies(names, fetcher, store, tally, clock)
            security = Security(names, store, clock, tally, policies, downgrade=downgrade)
            rig = Rig(
                Blobs(tmp_path / "blobs"), peer, names, mode=mode, ways=ways, clock=clock, security=security,
                verifying=client_context(verify=True, authorities=tmp_path / "ca.pem"),
            )  # fmt: skip
            stage = Stage(peer, rig, names, security, store, clock, HttpError("there is none"))
            fetcher.stage = stage
            try:
                await scene(stage)
            finally:
                await rig.courier.close()

    run(main())


class _Fetcher:
    """Asks the stage."""

    stage: Stage

    async def get(self, host: str, path: str, *, seconds: float, most: int) -> Page:
        return await self.stage.get(host, path, seconds=seconds, most=most)


def deferred(report: Report) -> str:
    """The enhanced code and text with which all of it was deferred."""
    assert [fate for fate, *_ in told(report).values()] == ["deferred"]
    return _reply(report)


def failed(report: Report) -> str:
    """The same, where it failed for good."""
    assert [fate for fate, *_ in told(report).values()] == ["failed"]
    return _reply(report)


def _reply(report: Report) -> str:
    reply = report.outcomes[0].reply
    return f"{reply.enhanced} {reply.text}"


def kinds(report: Report) -> list[str]:
    return [step.kind for step in report.steps]


def fact(report: Report, kind: str, name: str) -> object:
    return next(step.facts.get(name) for step in report.steps if step.kind == kind)


# --- MTA-STS ----------------------------------------------------------------------------------------------------------


def test_mta_sts_enforced_is_met(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert fact(report, "relay.connected", "verified") is True
        assert fact(report, "relay.security", "basis") == "MTA-STS"
        assert await stage.counted() == [("sts", "", 1)]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("shown", "result"),
    [
        ([MISNAMED, ROOT], "certificate-host-mismatch"),
        ([EXPIRED, ROOT], "certificate-expired"),
        ([STRANGE, STRANGE_ROOT], "certificate-not-trusted"),
    ],
)
def test_mta_sts_enforced_refuses_a_wrong_certificate(tmp_path: Path, shown: Sequence[Issued], result: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        report = await stage.rig.send()
        assert deferred(report).startswith("4.7.5 TLS handshake failed: certificate refused: ")
        assert stage.peer.messages == []
        assert await stage.counted() == [("sts", result, 1)]

    play(tmp_path, scene, shown=shown)


@pytest.mark.parametrize(
    ("ehlo", "starttls", "words"),
    [
        (CLEAR, "", "4.7.4 TLS is required, and not offered"),
        (WITH_TLS, "554 5.7.0 no", "4.7.4 TLS is required, and the server said: 554 5.7.0 no"),
    ],
)
def test_mta_sts_enforced_refuses_clear_text(tmp_path: Path, ehlo: str, starttls: str, words: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        assert deferred(await stage.rig.send()) == words
        assert stage.peer.messages == []
        assert await stage.counted() == [("sts", "starttls-not-supported", 1)]

    play(tmp_path, scene, ehlo=ehlo, starttls=starttls)


def test_octets_in_clear_text_behind_the_answer_to_starttls_are_a_failure_of_tls(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        report = await stage.rig.send()
        assert deferred(report) == "4.7.5 TLS cannot begin: octets between STARTTLS and the handshake"
        assert fact(report, "relay.failed", "stage") == "tls"
        assert stage.peer.messages == []
        assert ("sts", "validation-failure", 1) in await stage.counted()
        # Where nobody demands TLS, mail goes without, as where a handshake breaks.
        stage.names.mx_records["elsewhere.example"] = [(10, HOST)]
        report = await stage.rig.send("bob@elsewhere.example", domain="elsewhere.example")
        assert kinds(report).count("relay.tls_failed") == 1
        assert len(stage.peer.messages) == 1

    play(tmp_path, scene, starttls="220 go ahead\r\n250 whoever wrote this")


def test_what_a_domain_asks_for_is_no_outage_of_the_host_that_others_use_too(tmp_path: Path) -> None:
    """Else anybody could stop the mail to a provider by a policy of his own that leaves its hosts out."""

    async def scene(stage: Stage) -> None:
        stage.publish("enforce", mx="*.allowed.example")
        stage.names.mx_records["there.example"] = [(10, "mx.big.example")]
        stage.names.hosts["mx.big.example"] = ["127.0.0.1"]
        report = await stage.rig.send()
        assert told(report) == {1: ("deferred", 451, "destination")}
        assert stage.peer.said == []
        assert report.site is None

    play(tmp_path, scene)


def test_nor_is_a_certificate_that_only_its_policy_asks_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        report = await stage.rig.send()
        assert told(report) == {1: ("deferred", 451, "destination")}
        assert report.site is None

    play(tmp_path, scene, shown=(MISNAMED, ROOT))


def test_a_host_that_mta_sts_does_not_allow_is_passed_over(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce", mx="*.allowed.example")
        stage.names.mx_records["there.example"] = [(10, HOST), (20, "mx.allowed.example")]
        report = await stage.rig.send()
        assert deferred(report).startswith("4.7.5 mx.there.example is no host that the MTA-STS policy of there.example")
        assert stage.peer.said == []
        stage.names.hosts["mx.allowed.example"] = ["127.0.0.1"]
        report = await stage.rig.send()
        # It was connected to; that its certificate names another host is another matter.
        assert fact(report, "relay.failed", "host") == "mx.allowed.example"

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("shown", "ehlo", "result"),
    [
        ([MISNAMED, ROOT], WITH_TLS, "certificate-host-mismatch"),
        ([GOOD], CLEAR, "starttls-not-supported"),
        ([GOOD], WITH_TLS, ""),
    ],
)
def test_mta_sts_in_testing_delivers_and_counts(
    tmp_path: Path, shown: Sequence[Issued], ehlo: str, result: str
) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("testing")
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert fact(report, "relay.connected", "verified") is (result == "")
        assert (fact(report, "relay.connected", "tls") is None) is (ehlo == CLEAR)
        assert await stage.counted() == [("sts", result, 1)]

    play(tmp_path, scene, shown=shown, ehlo=ehlo)


def test_mta_sts_in_testing_delivers_to_a_host_it_does_not_allow(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("testing", mx="other.example")
        assert told(await stage.rig.send()) == RELAYED
        assert await stage.counted() == [("sts", "validation-failure", 1)]

    play(tmp_path, scene)


def test_a_policy_that_cannot_be_fetched_leaves_mail_as_it_is(tmp_path: Path) -> None:
    """RFC 8461 §3.3; and it is counted."""

    async def scene(stage: Stage) -> None:
        stage.names.record = "1"
        assert told(await stage.rig.send()) == RELAYED
        assert await stage.counted() == [("no-policy-found", "", 1), ("sts", "sts-policy-fetch-error", 1)]

    play(tmp_path, scene, shown=[MISNAMED])


def test_a_policy_survives_those_who_break_dns_and_https(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        assert deferred(await stage.rig.send())
        stage.names.record, stage.policy = None, HttpError("gone")
        assert deferred(await stage.rig.send())

    play(tmp_path, scene, shown=[STRANGE])


# --- DANE -------------------------------------------------------------------------------------------------------------


def end_entity(of: Issued) -> Tlsa:
    return Tlsa(3, 1, 1, sha256(public_key_of(of.der)).digest())


def anchor(of: Issued) -> Tlsa:
    return Tlsa(2, 0, 1, sha256(of.der).digest())


@pytest.mark.parametrize("shown", [[GOOD], [MISNAMED], [EXPIRED], [STRANGE]])
def test_dane_of_the_server_itself_is_met_by_its_key_alone(tmp_path: Path, shown: Sequence[Issued]) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(end_entity(shown[0]))
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert fact(report, "relay.connected", "verified") is True
        assert fact(report, "relay.security", "basis") == "DANE"
        assert await stage.counted() == [("tlsa", "", 1)]

    play(tmp_path, scene, shown=shown)


@pytest.mark.parametrize(
    ("shown", "result"),
    [
        ([STRANGE, STRANGE_ROOT], ""),
        ([GOOD, ROOT], "validation-failure"),
        ([STRANGE], "validation-failure"),
        ([issue(HOST, 7, STRANGE_ROOT, names=["x.example"], now=TODAY), STRANGE_ROOT], "certificate-host-mismatch"),
    ],
)
def test_dane_of_a_trust_anchor(tmp_path: Path, shown: Sequence[Issued], result: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(anchor(STRANGE_ROOT))
        report = await stage.rig.send()
        if result:
            assert deferred(report).startswith("4.7.5 The server is not the one that its TLSA records describe: ")
            assert stage.peer.messages == []
        else:
            assert told(report) == RELAYED
        assert await stage.counted() == [("tlsa", result, 1)]

    play(tmp_path, scene, shown=shown)


def test_dane_with_a_wrong_record_defers_whatever_mta_sts_says(tmp_path: Path) -> None:
    """RFC 8461 §2: MTA-STS must not override a DANE that fails."""

    async def scene(stage: Stage) -> None:
        stage.sign(end_entity(STRANGE))
        stage.publish("testing")
        assert deferred(await stage.rig.send())
        assert stage.peer.messages == []

    play(tmp_path, scene)


def test_dane_refuses_clear_text(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(end_entity(GOOD))
        assert deferred(await stage.rig.send()) == "4.7.4 TLS is required, and not offered"

    play(tmp_path, scene, ehlo=CLEAR)


def test_records_that_cannot_be_used_want_encryption_only(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(Tlsa(1, 1, 1, bytes(32)))
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert fact(report, "relay.security", "mode") == "require"
        assert await stage.counted() == [("tlsa", "tlsa-invalid", 1)]

    play(tmp_path, scene, shown=[STRANGE])


def test_a_bogus_answer_defers_that_host_and_the_next_is_tried(tmp_path: Path) -> None:
    """RFC 7672 §2.1.2."""

    async def scene(stage: Stage) -> None:
        stage.sign("bogus")
        assert deferred(await stage.rig.send()).startswith(f"4.7.5 DNS cannot say now how {HOST} is to be known: ")
        assert stage.peer.said == []
        stage.names.mx_records["there.example"] = [(10, HOST), (20, "mx2.there.example")]
        stage.names.hosts["mx2.there.example"] = ["127.0.0.1"]
        assert told(await stage.rig.send()) == RELAYED
        assert ("tlsa", "dnssec-invalid", 2) in await stage.counted()

    play(tmp_path, scene)


@pytest.mark.parametrize("unsigned", ["there.example", HOST])
def test_dane_is_not_asked_for_where_dnssec_does_not_reach(tmp_path: Path, unsigned: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(end_entity(STRANGE))
        stage.names.secure.remove(unsigned)
        assert told(await stage.rig.send()) == RELAYED
        assert not [one for one in stage.names.asked if one.startswith("tlsa")]

    play(tmp_path, scene)


def test_records_that_nobody_vouches_for_are_none(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.sign(end_entity(STRANGE))
        stage.names.secure.add("unsigned")
        assert told(await stage.rig.send()) == RELAYED

    play(tmp_path, scene)


def test_dane_holds_for_a_host_that_the_operator_named(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        port = stage.peer.port
        stage.names.secure.add(HOST)
        way = Way("smart", (Written("smtp", HOST, port),), TlsPolicy("opportunistic"))
        rig = replace(stage.rig, ways=[way])
        assert told(await rig.send()) == RELAYED
        assert stage.names.asked.count(f"tlsa _{port}._tcp.{HOST}") == 1
        assert await stage.counted() == []
        await rig.courier.close()

    play(tmp_path, scene)


@pytest.mark.parametrize("authentic", [True, False])
def test_the_ad_bit_of_a_resolver_on_loopback_is_what_dane_rests_on(tmp_path: Path, authentic: bool) -> None:
    async def scene(stage: Stage) -> None:
        zone = Zone.of(
            {
                "there.example": {"MX": f"10 {HOST}."},
                HOST: {"A": "127.0.0.1"},
                f"_25._tcp.{HOST}": {"TLSA": f"3 1 1 {end_entity(GOOD).data.hex()}"},
            }
        )
        server = Nameserver(zone, authentic=authentic)
        resolver = StubResolver([await server.start()], stage.clock, timeout=30)
        security = Security(resolver, stage.store, stage.clock, Tally(stage.clock), None)
        target = Target("there.example", HOST, vouched=(await resolver.mx("there.example")).authentic)
        found = await security.require(TlsPolicy(), target)
        assert found.policy.tlsa == ((end_entity(GOOD),) if authentic else ())
        if authentic:
            server.fail(f"_25._tcp.{HOST}", "bogus")
            resolver = StubResolver([server.endpoint], stage.clock, timeout=30)
            security = Security(resolver, stage.store, stage.clock, Tally(stage.clock), None)
            assert (await security.require(TlsPolicy(), target)).refusal
        await server.stop()

    play(tmp_path, scene)


def test_connections_are_shared_under_equal_policies_only(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.names.mx_records["other.example"] = [(10, HOST)]
        stage.publish("enforce")
        assert told(await stage.rig.send()) == RELAYED
        assert told(await stage.rig.send()) == RELAYED
        assert len(stage.peer.said) == 1
        report = await stage.rig.send("eve@other.example", domain="other.example")
        assert told(report) == RELAYED
        assert len(stage.peer.said) == 2
        assert fact(report, "relay.connected", "verified") is False

    play(tmp_path, scene)


# --- what is configured -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "good"), [([GOOD, ROOT], True), ([STRANGE], False)])
def test_all_hosts_can_be_asked_to_show_who_they_are(tmp_path: Path, shown: Sequence[Issued], good: bool) -> None:
    async def scene(stage: Stage) -> None:
        report = await stage.rig.send()
        assert told(report) == RELAYED if good else deferred(report)

    play(tmp_path, scene, shown=shown, mode="verify")


def test_off_is_off_whatever_the_domain_asks_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        stage.sign(end_entity(GOOD))
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert "STARTTLS" not in stage.peer.said[0]
        assert await stage.counted() == []

    play(tmp_path, scene, mode="off")


def test_a_policy_that_the_store_cannot_give_is_waited_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        class Away:
            async def read(self, *_: object) -> None:
                raise StoreUnavailable("disk")

        stage.publish("enforce")
        policies = Policies(stage.names, stage, Away(), Tally(stage.clock), stage.clock)  # type: ignore[arg-type]  # enough
        security = Security(stage.names, stage.store, stage.clock, Tally(stage.clock), policies)
        rig = replace(stage.rig, security=security)
        assert deferred(await rig.send()).startswith("4.3.0 ")
        assert stage.peer.said == []

    play(tmp_path, scene)


# --- what the sender wants (RFC 8689) ---------------------------------------------------------------------------------

REQUIRETLS = Wishes(requiretls=True)


def test_requiretls_is_carried_on(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("testing")
        assert told(await stage.rig.send(wishes=REQUIRETLS)) == RELAYED
        assert "MAIL FROM:<alice@home.example> REQUIRETLS" in stage.peer.said[0]

    play(tmp_path, scene)


def test_requiretls_is_returned_where_the_peer_does_not_promise_it(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce")
        assert failed(await stage.rig.send(wishes=REQUIRETLS)).startswith("5.7.30 ")
        assert stage.peer.messages == []

    play(tmp_path, scene, ehlo=WITHOUT_REQUIRETLS)


@pytest.mark.parametrize("shown", [[STRANGE], [GOOD, ROOT]])
@pytest.mark.parametrize("mode", [None, "testing"])
def test_requiretls_is_returned_where_nothing_is_verified(
    tmp_path: Path, shown: Sequence[Issued], mode: str | None
) -> None:
    async def scene(stage: Stage) -> None:
        if mode:
            stage.publish(mode)
        report = await stage.rig.send(wishes=REQUIRETLS)
        if mode and shown[0] is GOOD:
            assert told(report) == RELAYED
            return
        assert failed(report).startswith("5.7.10 ")
        assert stage.peer.messages == []

    play(tmp_path, scene, shown=shown)


def test_requiretls_waits_for_a_host_that_does_not_answer(tmp_path: Path) -> None:
    """What was not reached may do what is asked: only answers end the mail."""

    async def scene(stage: Stage) -> None:
        stage.publish("enforce", mx="*.there.example")
        stage.names.mx_records["there.example"] = [(10, HOST), (20, "away.there.example")]
        stage.names.hosts["away.there.example"] = "servfail"
        assert deferred(await stage.rig.send(wishes=REQUIRETLS))

    play(tmp_path, scene, ehlo=WITHOUT_REQUIRETLS)


@pytest.mark.parametrize("ehlo", [WITH_TLS, WITHOUT_REQUIRETLS, CLEAR])
def test_a_bounce_goes_without_requiretls_where_it_must(tmp_path: Path, ehlo: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("testing")
        assert told(await stage.rig.send(wishes=REQUIRETLS, sender=None)) == RELAYED
        said = any("REQUIRETLS" in line for line in stage.peer.said[-1])
        assert said is (ehlo == WITH_TLS)

    play(tmp_path, scene, ehlo=ehlo)


OPTIONAL = b"TLS-Required: No\r\n" + MESSAGE


@pytest.mark.parametrize("ehlo", [WITH_TLS, CLEAR])
def test_delivery_before_security_ignores_mta_sts_and_dane(tmp_path: Path, ehlo: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.publish("enforce", mx="elsewhere.example")
        assert deferred(await stage.rig.send())
        assert told(await stage.rig.send(octets=OPTIONAL)) == RELAYED
        stage.sign(end_entity(GOOD))
        assert deferred(await stage.rig.send())
        assert told(await stage.rig.send(octets=OPTIONAL)) == RELAYED
        stage.sign("bogus")
        assert told(await stage.rig.send(octets=OPTIONAL)) == RELAYED

    play(tmp_path, scene, shown=[STRANGE], ehlo=ehlo)


@pytest.mark.parametrize(
    ("octets", "wish"),
    [
        (OPTIONAL, Wish.DELIVERY),
        (b"Subject: x\r\ntls-required:no\r\n\r\n", Wish.DELIVERY),
        (b"Subject: x\r\nTLS-Required:\r\n NO \r\nTo: x\r\n\r\n", Wish.DELIVERY),
        (b"TLS-Required: Now\r\n\r\n", Wish.NONE),
        (b"TLS-Required: Yes\r\n\r\n", Wish.NONE),
        (b"TLS-Required:\r\nNo: x\r\n\r\n", Wish.NONE),
        (b"X-TLS-Required: No\r\n\r\n", Wish.NONE),
        (b"Subject: x\r\n\r\nTLS-Required: No\r\n", Wish.NONE),
        (b"", Wish.NONE),
    ],
)
def test_what_a_message_says_of_tls(octets: bytes, wish: Wish) -> None:
    mail = QueuedMail(1, 1, len(octets), parse("alice@home.example"), 0, 1)
    assert wish_of(mail, octets) is wish
    assert wish_of(mail, memoryview(octets)) is wish
    # RFC 8689 §4.1: the option of MAIL stands above the field.
    assert wish_of(replace(mail, wishes=REQUIRETLS), octets) is Wish.TLS
    assert wish_of(replace(mail, wishes=REQUIRETLS, sender=None), octets) is Wish.NONE


# --- what is remembered -----------------------------------------------------------------------------------------------


async def habit(stage: Stage) -> None:
    """Two days of encrypted mail."""
    for _ in range(3):
        assert told(await stage.rig.send()) == RELAYED
        await stage.rig.pool.close()
        stage.clock.advance(86_400)


def test_a_downgrade_is_told_and_the_mail_goes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await habit(stage)
        stage.peer.answers = {"EHLO": (CLEAR,)}
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert fact(report, "relay.downgraded", "domain") == "there.example"
        assert ("no-policy-found", "starttls-not-supported", 1) in await stage.counted()

    play(tmp_path, scene)


def test_a_downgrade_is_refused_for_a_day_where_that_is_wanted(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await habit(stage)
        stage.peer.answers = {"EHLO": (CLEAR,)}
        assert deferred(await stage.rig.send()).startswith(
            f"4.7.5 {HOST} offers no TLS, which there.example always had"
        )
        messages = len(stage.peer.messages)
        stage.clock.advance(86_400)
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert "relay.downgraded" not in kinds(report)
        assert len(stage.peer.messages) == messages + 1

    play(tmp_path, scene, downgrade="refuse")


def test_a_handshake_that_breaks_on_the_way_down_is_a_downgrade_too(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await habit(stage)
        stage.peer.answers = {"EHLO": (WITH_TLS,), "STARTTLS": ("220 go", "(drop)")}
        stage.peer.tls = None
        report = await stage.rig.send()
        assert told(report) == RELAYED
        assert "relay.downgraded" in kinds(report)
        assert ("no-policy-found", "validation-failure", 1) in await stage.counted()

    play(tmp_path, scene)


def test_a_domain_that_never_had_tls_is_served_as_ever(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            report = await stage.rig.send()
            assert told(report) == RELAYED
            assert "relay.downgraded" not in kinds(report)
            await stage.rig.pool.close()
            stage.clock.advance(86_400)

    play(tmp_path, scene, ehlo=CLEAR, downgrade="refuse")


def test_what_the_store_did_not_take_is_written_later(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.rig.send()

        async def away(*_: object) -> None:
            raise StoreUnavailable("disk")

        with pytest.MonkeyPatch.context() as disk:
            disk.setattr(stage.store, "write", away)
            await stage.security.write()
        assert await stage.counted() == [("no-policy-found", "", 1)]
        await stage.store.write(expire, stage.clock.now())
        assert await stage.counted() == [("no-policy-found", "", 1)]

    play(tmp_path, scene)


def test_a_failure_that_is_no_failure_of_tls_is_not_counted(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.peer.answers = {"": ("554 no",)}
        await stage.rig.send()
        assert await stage.counted() == []

    play(tmp_path, scene)
