"""A network of many domains behind a signed zone: Knot answers, unbound verifies, and posthouse, Postfix and Exim find
each other by MX records. Exim plays many hosts, each at an address of its own; those that lie are sockets."""

import json
import smtplib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from bench.peers.dnssec import SignedNames
from bench.peers.exim import Exim
from bench.peers.postfix import Postfix
from bench.peers.private_root import Unavailable
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import ENCRYPTED, PosthouseServer
from tests.interop.authority import Authority, Pair
from tests.interop.clients import missing
from tests.interop.conftest import SETTINGS
from tests.interop.liars import POINTS, Liar, fall_silent, liar, wait_a_little
from tests.interop.pairs import SECONDS, read_report, submit, wait_at, wait_for_report
from tests.interop.policies import policy_server
from tests.interop.reading import wait_for_message

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

ALICE, CAROL, BOB = "alice@ours.test", "alice@school.test", "bob@third.test"
OURS, SCHOOL, THIRD = "127.1.0.1", "127.1.0.2", "127.0.0.1"
POLICIES: Final = "127.1.0.3"
# Nobody listens there.
DEAD: Final = "127.1.0.4"

# What Exim plays: the address of each host.
HOSTS: Final[Mapping[str, str]] = {
    name: f"127.1.1.{number}"
    for number, name in enumerate(
        (
            *("mx.exim.test", "second.fallback.test", "first.preferred.test", "second.preferred.test", "implicit.test"),
            *("mx.kept.test", "mx.stranger.test", "mx.elsewhere.test", "mx.tried.test", "mx.unfetched.test"),
            *("mx.right.test", "mx.wrong.test", "mx.old.insecure.test", "mx.forged.bogus.test", "mx.grey.test"),
        ),
        1,
    )
}
DOMAINS: Final = (
    *("fallback.test", "preferred.test", "implicit.test", "kept.test", "stranger.test", "elsewhere.test", "tried.test"),
    *("unfetched.test", "right.test", "wrong.test", "old.insecure.test", "forged.bogus.test", "grey.test"),
)
# Domains with an MTA-STS policy: what it says. unfetched.test's is served with a certificate for others.
STS: Final[Mapping[str, str]] = {
    "kept.test": "version: STSv1\r\nmode: enforce\r\nmx: mx.kept.test\r\nmax_age: 86400\r\n",
    "stranger.test": "version: STSv1\r\nmode: enforce\r\nmx: *.stranger.test\r\nmax_age: 86400\r\n",
    "elsewhere.test": "version: STSv1\r\nmode: enforce\r\nmx: mx.another.test\r\nmax_age: 86400\r\n",
    "tried.test": "version: STSv1\r\nmode: testing\r\nmx: mx.tried.test\r\nmax_age: 86400\r\n",
    "unfetched.test": "version: STSv1\r\nmode: enforce\r\nmx: mx.another.test\r\nmax_age: 86400\r\n",
}
GREYLISTING = """\
  defer domains = grey.test
    message = 4.7.1 Greylisted, come again
    !seen = -1s / key=${sender_host_address}_${sender_address}_$local_part@$domain
"""


class Liars(NamedTuple):
    """Names of the hosts that lie, and where they are."""

    domain: str
    address: str


LIARS: Final = {
    name: Liars(f"{name}.test", f"127.1.2.{number}")
    for number, name in enumerate((*(f"breaks-at-{point.lower()}" for point in POINTS), "silent", "grumpy"), 1)
}


class Network(NamedTuple):
    """Everybody, running. All listen for mail at `port`."""

    port: int
    ours: PosthouseServer
    school: PosthouseServer
    third: Postfix
    exim: Exim


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    # Whoever shows a certificate, and whose.
    pairs = {host: (stranger if "stranger" in host or "tried" in host else authority).pair(host) for host in HOSTS}
    pairs |= {host: authority.pair(host) for host in ("mx.ours.test", "mx.school.test", "mx.third.test")}
    port = free_port(*HOSTS.values(), OURS, SCHOOL, THIRD, *(one.address for one in LIARS.values()))
    with ExitStack() as stack:
        served = {f"mta-sts.{domain}": policy for domain, policy in STS.items()}
        context = authority.pair(*(name for name in served if "unfetched" not in name)).context()
        https = stack.enter_context(policy_server(POLICIES, served, context))
        try:
            names = SignedNames(records(port, pairs))
            stack.callback(names.stop)
            names.start()
            exim = hosts(port, pairs)
            stack.callback(exim.stop)
            third = postfix(port, names.address, pairs["mx.third.test"])
            stack.callback(third.stop)
        except Unavailable as why:
            missing(str(why))
        ours = posthouse("ours", OURS, port, names.address, https, authority.certificate, pairs["mx.ours.test"])
        stack.callback(ours.stop)
        for domain in ("null.test", "nowhere.test"):
            ours.command("alias", "add", f"to-{domain}@ours.test", f"bob@{domain}")
        school = posthouse("school", SCHOOL, port, names.address, https, authority.certificate, pairs["mx.school.test"])
        stack.callback(school.stop)
        for server in (exim, third, ours, school):
            server.start()
        yield Network(port, ours, school, third, exim)
        assert ours.errors() == school.errors() == []


def records(port: int, pairs: Mapping[str, Pair]) -> dict[str, dict[str, list[str]]]:
    """What DNS says of everybody."""
    found: dict[str, dict[str, list[str]]] = {}

    def add(name: str, kind: str, *values: str) -> None:
        found.setdefault(name, {})[kind] = list(values)

    for name, address in {**HOSTS, "mx.ours.test": OURS, "mx.school.test": SCHOOL, "mx.third.test": THIRD}.items():
        add(name, "A", address)
        if name.startswith("mx."):
            add(name.removeprefix("mx."), "MX", f"10 {name}.")
    for one in LIARS.values():
        add(one.domain, "MX", f"10 mx.{one.domain}.")
        add(f"mx.{one.domain}", "A", one.address)
    add("dead.test", "A", DEAD)
    add("fallback.test", "MX", "20 second.fallback.test.", "10 dead.test.")
    add("preferred.test", "MX", "20 second.preferred.test.", "10 first.preferred.test.")
    add("null.test", "MX", "0 .")
    add("null.test", "A", DEAD)
    for domain in STS:
        add(f"_mta-sts.{domain}", "TXT", '"v=STSv1; id=20240101;"')
        add(f"mta-sts.{domain}", "A", POLICIES)
    for host in ("mx.right.test", "mx.ours.test", "mx.school.test"):
        add(f"_{port}._tcp.{host}", "TLSA", pairs[host].tlsa())
    # The key is another's.
    for host in ("mx.wrong.test", "mx.old.insecure.test"):
        add(f"_{port}._tcp.{host}", "TLSA", pairs["mx.right.test"].tlsa())
    return found


def hosts(port: int, pairs: Mapping[str, Pair]) -> Exim:
    first, *others = HOSTS.values()
    exim = Exim(
        domain="exim.test", users=["bob"], address=first, port=port, addresses=others, domains=DOMAINS, rcpt=GREYLISTING
    )
    for host, address in HOSTS.items():
        exim.certificate(pairs[host].certificate, pairs[host].key, address)
    return exim


def postfix(port: int, resolver: str, pair: Pair) -> Postfix:
    """It verifies by DANE where it can (RFC 7672)."""
    settings = {
        "smtp_tcp_port": str(port),
        "smtp_dns_support_level": "dnssec",
        "smtp_tls_security_level": "dane",
        "smtp_tls_loglevel": "1",
        **dict.fromkeys(("minimal_backoff_time", "maximal_backoff_time", "queue_run_delay"), "1s"),
    }
    server = Postfix(domain="third.test", users=["bob"], address=THIRD, port=port, settings=settings)
    server.set(server.certificate(pair.certificate, pair.key))
    server.resolve_at(resolver)
    return server


def posthouse(
    name: str, address: str, port: int, resolver: str, https: int, authorities: Path, pair: Pair
) -> PosthouseServer:
    settings = f"""
{SETTINGS}
[log]
level = "debug"
[tls]
certificate = "{pair.certificate}"
key = "{pair.key}"
[dns]
resolver = "{resolver}"
[relay]
port = {port}
source = "{address}"
authorities = "{authorities}"
https_dial = ":{https}"
[queue]
schedule = ["1s"]
messages_per_connection = 1
"""
    return PosthouseServer(
        domain=f"{name}.test",
        users=["alice"],
        listeners=ENCRYPTED,
        settings=settings,
        address=address,
        ports={"smtp": port},
        authority=authorities,
    )


# --- what happened


def steps(server: PosthouseServer, recipient: str, kind: str) -> list[dict[str, Any]]:
    """The steps of this kind of the mail for a recipient, from the log, where they stand a moment later."""
    return [step for step in journey(server, recipient) if step["kind"] == kind]


def journey(server: PosthouseServer, recipient: str) -> list[dict[str, Any]]:
    """All of them."""
    # What stands behind the last line's end is being written.
    lines = [json.loads(line) for line in server.log.read_text().split("\n")[:-1]]
    journeys = {
        line["journey"] for line in lines if line["kind"] == "mail.queued" and recipient in line.get("recipients", ())
    }
    return [line for line in lines if line.get("journey") in journeys]


def wait_for_step(server: PosthouseServer, recipient: str, kind: str) -> dict[str, Any]:
    """The first of them, as soon as it is there; all that came before it is there too."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = steps(server, recipient, kind)
        return bool(found)

    try:
        wait_until(is_there, SECONDS, f"{kind} of {recipient}", pause=0.05)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *map(str, journey(server, recipient)[-20:])])) from error
    return found[0]


def gets_it(network: Network, peer: Liar, recipient: str) -> None:
    """Wait until the one that lies has taken a message, and ours knows it."""
    wait_for_step(network.ours, recipient, "recipient.relayed")
    assert len(peer.kept) == 1


def send(network: Network, domain: str) -> str:
    """Alice writes to bob there; bob."""
    bob = f"bob@{domain}"
    submit(network.ours, bob, f"to {domain}")
    return bob


def arrives(network: Network, domain: str) -> None:
    """And ours knows it."""
    wait_at(network.exim, f"\nSubject: to {domain}\n".encode())
    wait_for_step(network.ours, f"bob@{domain}", "recipient.relayed")


def arrived(network: Network, domain: str) -> bool:
    return any(f"\nSubject: to {domain}\n".encode() in octets for octets in network.exim.mailbox("bob"))


# --- three servers


@pytest.mark.parametrize("recipient", [CAROL, BOB])
def test_posthouse_finds_the_others_by_mx_and_knows_them_by_dane(network: Network, recipient: str) -> None:
    submit(network.ours, recipient, f"found {recipient}")
    if recipient == CAROL:
        assert b"TLSv1.3" in wait_for_message(network.school, CAROL, f"found {recipient}")
    else:
        wait_at(network.third, f"Subject: found {recipient}".encode())
    connected = wait_for_step(network.ours, recipient, "relay.connected")
    # Only school.test's host has a TLSA record.
    assert connected["verified"] is (recipient == CAROL)


def test_postfix_knows_posthouse_by_dane(network: Network) -> None:
    network.third.submit(BOB, [ALICE], b"Subject: verified by Postfix\r\n\r\nHello\r\n")
    wait_for_message(network.ours, ALICE, "verified by Postfix")
    network.third.wait_for_log(r"Verified TLS connection established to mx\.ours\.test")


def test_postfix_carries_between_the_two(network: Network) -> None:
    """And a bounce that it writes for one, of what the other refused."""
    network.third.submit(ALICE, [CAROL], b"From: alice@ours.test\r\nSubject: carried\r\n\r\nHello\r\n")
    wait_for_message(network.school, CAROL, "carried")
    network.third.submit(ALICE, ["nobody@school.test"], b"From: alice@ours.test\r\nSubject: back\r\n\r\nHello\r\n")
    of_recipient = read_report(wait_for_report(network.ours, b"nobody@school.test")).of_recipient
    assert of_recipient["Remote-MTA"] == "dns; mx.school.test"
    assert of_recipient["Status"] == "5.1.1"


# --- routes


def test_where_the_first_host_is_dead_the_next_gets_it(network: Network) -> None:
    bob = send(network, "fallback.test")
    arrives(network, "fallback.test")
    assert [step["host"] for step in steps(network.ours, bob, "relay.tries")] == ["dead.test", "second.fallback.test"]


def test_the_preferred_host_gets_it(network: Network) -> None:
    bob = send(network, "preferred.test")
    arrives(network, "preferred.test")
    assert [step["host"] for step in steps(network.ours, bob, "relay.tries")] == ["first.preferred.test"]


def test_without_mx_the_domain_is_its_own_host(network: Network) -> None:
    bob = send(network, "implicit.test")
    arrives(network, "implicit.test")
    (route,) = steps(network.ours, bob, "relay.route")
    assert route["implicit"] is True


@pytest.mark.parametrize(("domain", "code", "status"), [("null.test", 556, "5.1.10"), ("nowhere.test", 550, "5.1.2")])
def test_a_domain_that_takes_no_mail(network: Network, domain: str, code: int, status: str) -> None:
    """RFC 7505: a null MX, though there is an address; and a domain that does not exist. Alice is told at once, Bob,
    who writes to an alias of ours, by a report."""
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(network, domain)
    assert refused.value.recipients[f"bob@{domain}"][0] == code
    network.third.submit(BOB, [f"to-{domain}@ours.test"], b"Subject: hello\r\n\r\nHello\r\n")
    of_recipient = read_report(wait_at(network.third, b"delivery-status", f"bob@{domain}".encode())).of_recipient
    assert of_recipient["Status"] == status
    assert steps(network.ours, f"bob@{domain}", "relay.tries") == []


def test_forged_dns_is_not_believed(network: Network) -> None:
    """A bogus answer defers (RFC 7672 §2.1.1): the route may be an attacker's."""
    bob = send(network, "forged.bogus.test")
    deferred = wait_for_step(network.ours, bob, "recipient.deferred")
    assert deferred["reply"].startswith("451 4.4.3 ")
    assert steps(network.ours, bob, "relay.tries") == []


# --- MTA-STS


def test_a_policy_that_is_kept(network: Network) -> None:
    bob = send(network, "kept.test")
    arrives(network, "kept.test")
    (security,) = steps(network.ours, bob, "relay.security")
    assert (security["basis"], security["mode"]) == ("MTA-STS", "verify")
    (connected,) = steps(network.ours, bob, "relay.connected")
    assert connected["verified"] is True


def test_a_certificate_of_strangers_is_refused_where_a_policy_is_enforced(network: Network) -> None:
    bob = send(network, "stranger.test")
    deferred = wait_for_step(network.ours, bob, "recipient.deferred")
    assert "certificate" in deferred["reply"]
    assert not arrived(network, "stranger.test")


def test_a_host_that_the_policy_does_not_name_is_not_tried(network: Network) -> None:
    bob = send(network, "elsewhere.test")
    wait_for_step(network.ours, bob, "recipient.deferred")
    assert steps(network.ours, bob, "relay.connected") == []
    assert not arrived(network, "elsewhere.test")


def test_a_policy_in_testing_lets_mail_pass(network: Network) -> None:
    bob = send(network, "tried.test")
    arrives(network, "tried.test")
    assert steps(network.ours, bob, "relay.connected")[-1]["verified"] is False


def test_a_policy_of_an_untrusted_server_is_none(network: Network) -> None:
    """RFC 8461 §3.3."""
    send(network, "unfetched.test")
    arrives(network, "unfetched.test")


# --- DANE


def test_the_right_key(network: Network) -> None:
    bob = send(network, "right.test")
    arrives(network, "right.test")
    (security,) = steps(network.ours, bob, "relay.security")
    assert security["basis"] == "DANE"
    (connected,) = steps(network.ours, bob, "relay.connected")
    assert connected["verified"] is True


def test_the_wrong_key_is_refused(network: Network) -> None:
    bob = send(network, "wrong.test")
    deferred = wait_for_step(network.ours, bob, "recipient.deferred")
    assert deferred["reply"].startswith("451 4.7.5 ")
    assert not arrived(network, "wrong.test")


def test_a_record_that_nobody_signed_does_not_count(network: Network) -> None:
    """RFC 7672 §2.2: the wrong key, in a zone without signatures."""
    bob = send(network, "old.insecure.test")
    arrives(network, "old.insecure.test")
    assert steps(network.ours, bob, "relay.security") == []


# --- difficult peers


def test_a_greylisting_peer_gets_it_at_the_second_attempt(network: Network) -> None:
    bob = send(network, "grey.test")
    arrives(network, "grey.test")
    assert "Greylisted" in steps(network.ours, bob, "recipient.deferred")[0]["reply"]


@pytest.mark.parametrize("point", POINTS)
def test_a_peer_that_breaks_off(network: Network, point: str) -> None:
    """It gets the message when it listens, once, and nobody is troubled by a report."""
    broken = LIARS[f"breaks-at-{point.lower()}"]
    with liar(broken.address, network.port, point) as peer:
        bob = send(network, broken.domain)
        gets_it(network, peer, bob)
        assert peer.reached.wait(SECONDS)
        assert f"Subject: to {broken.domain}\r\n".encode() in peer.kept[0]
        # At QUIT it had it already, and what hangs up before MAIL was never offered it.
        assert peer.offers == (1 if point in ("connect", "EHLO", "QUIT") else 2)
        # Within the message it may have left us whole, or not yet.
        if point != "content":
            assert len(steps(network.ours, bob, "recipient.possible_duplicate")) == (point == "dot")


def test_a_peer_that_falls_silent_behind_the_message_holds_nobody_up(network: Network) -> None:
    with liar(LIARS["silent"].address, network.port, "dot", fall_silent) as peer:
        bob = send(network, LIARS["silent"].domain)
        assert peer.reached.wait(SECONDS)
        submit(network.ours, CAROL, "while somebody is silent")
        wait_for_message(network.school, CAROL, "while somebody is silent")
        assert steps(network.ours, bob, "recipient.relayed") == []
        peer.released.set()
        gets_it(network, peer, bob)
        assert steps(network.ours, bob, "recipient.deferred")[0]["reply"].startswith("4")


def test_a_peer_that_grumbles_instead_of_a_greeting(network: Network) -> None:
    with liar(LIARS["grumpy"].address, network.port, "connect", wait_a_little) as peer:
        bob = send(network, LIARS["grumpy"].domain)
        gets_it(network, peer, bob)
        assert "come again" in steps(network.ours, bob, "recipient.deferred")[0]["reply"]
