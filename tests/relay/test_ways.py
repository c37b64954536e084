"""Which way mail goes, by recipient, sender and account; and that couriers go it."""

import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from posthouse.config.reading import parse
from posthouse.config.values import Route
from posthouse.queue import control
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Report
from posthouse.queue.queue import QueuedMail
from posthouse.relay.connections import Login
from posthouse.relay.ways import Way, Ways, configured, fits
from posthouse.store.blobs import Blobs
from posthouse.terms import address
from posthouse.trust.transport import OPPORTUNISTIC, TlsPolicy
from posthouse.written import Target, parse_target
from tests.queue.support import DAY, World
from tests.relay.support import EHLO, Names, Peer, Rig, by_mx, told
from tests.support import run

RELAYED = ("relayed", 250, "recipient")
Scene = Callable[[Peer, Rig], Coroutine[Any, Any, None]]


def mail(sender: str | None = "alice@home.example", account: int | None = None) -> QueuedMail:
    return QueuedMail(1, 1, 1, address.parse(sender) if sender else None, 0, 0, account)


def way(name: str, **conditions: Any) -> Way:
    given: dict[str, Any] = {kind: frozenset(values) for kind, values in conditions.items()}
    return Way(name, (Target("hold"),), OPPORTUNISTIC, **given)


async def name_account(account: int) -> str | None:
    return "alice@home.example" if account == 7 else None


def find(ways: list[Way], domain: str, of: QueuedMail) -> str:
    return run(Ways(by_mx(), ways, name_account).find(domain, of)).name


def test_the_first_way_that_fits_is_taken() -> None:
    ways = [
        way("both", recipients=["there.example"], senders=["home.example"]),
        way("there", recipients=["there.example", "*.there.example"]),
        way("bounces", senders=["<>"]),
        way("alice", accounts=["alice@home.example"]),
    ]
    assert find(ways, "there.example", mail()) == "both"
    assert find(ways, "there.example", mail("bob@other.example")) == "there"
    assert find(ways, "mx.there.example", mail()) == "there"
    assert find(ways, "notthere.example", mail()) == "mx"
    assert find(ways, "elsewhere.example", mail(None)) == "bounces"
    assert find(ways, "elsewhere.example", mail(account=7)) == "alice"
    assert find(ways, "elsewhere.example", mail(account=8)) == "mx"
    assert find([*ways, way("rest")], "elsewhere.example", mail()) == "rest"


LABELS = st.sampled_from(["a", "b", "example"])
DOMAINS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(DOMAINS, DOMAINS)
def test_a_star_stands_for_what_lies_below_and_for_nothing_else(domain: str, parent: str) -> None:
    assert fits(domain, frozenset([f"*.{parent}"])) == domain.endswith(f".{parent}")
    assert fits(domain, frozenset([parent])) == (domain == parent)


def routes(text: str, base: Path | None = None) -> tuple[Route, ...]:
    return parse(f'hostname = "mx.home.example"\n{text}', base=base).routes


def test_what_is_configured(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\n")
    text = """
        [[route]]
        name = "smart"
        to = ["smtp://smart.example:587", "smtps://smart2.example"]
        username = "me"
        password_file = "secret"
        source = "192.0.2.1"
        recipient = ["Example.ORG", "*.example.net"]
        sender = ["<>"]
        account = "Alice@home.example"
        [[route]]
        name = "inside"
        to = "lmtp:/run/other"
        [[route]]
        name = "plain"
        to = "smtp://127.0.0.1"
        [[route]]
        name = "strict"
        to = "mx"
        tls = "require"
    """
    smart, inside, plain, strict = configured(routes(text, tmp_path), OPPORTUNISTIC)
    assert smart.login == Login("me", "pass word")
    assert "pass word" not in repr(smart)
    assert (smart.policy.mode, inside.policy.mode, plain.policy.mode) == ("verify", "off", "opportunistic")
    assert strict.policy == TlsPolicy("require")
    assert strict.by_mx
    assert (smart.recipients, smart.senders) == (frozenset(["example.org", "*.example.net"]), frozenset(["<>"]))
    assert smart.accounts == frozenset(["alice@home.example"])
    hops = [smart.hop(target) for target in smart.to]
    assert [(hop.name, hop.port, hop.implicit) for hop in hops] == [
        ("smart.example", 587, False),
        ("smart2.example", 465, True),
    ]
    assert inside.hop(inside.to[0]).lmtp
    with pytest.raises(OSError, match="absent"):
        configured(routes(text.replace("secret", "absent"), tmp_path), OPPORTUNISTIC)


@pytest.mark.parametrize(
    "text", ["mx", "hold", "smtp://a.example:25", "smtps://[::1]:465", "lmtp://[::1]:24", "lmtp:/a"]
)
def test_where_a_route_leads_is_printed_as_it_is_read(text: str) -> None:
    assert str(parse_target(text)) == text


@given(st.text(alphabet="lmtpsx:/[]0123456789.a-") | st.text())
def test_what_leads_nowhere_is_refused_and_nothing_else_is_raised(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert parse_target(str(target)) == target


# --- couriers on their way --------------------------------------------------------------------------------------------


def play(tmp_path: Path, peer: Peer, ways: Callable[[Peer], list[Way]], scene: Scene, **rig: Any) -> None:
    async def main() -> None:
        async with peer:
            stage = Rig(Blobs(tmp_path / "blobs"), peer, ways=ways(peer), **rig)
            try:
                await scene(peer, stage)
            finally:
                await stage.courier.close()

    run(main())


def to_peer(scheme: str = "smtp", host: str = "127.0.0.1", **more: Any) -> Callable[[Peer], list[Way]]:
    def ways(peer: Peer) -> list[Way]:
        target = parse_target(f"{scheme}://{host}:{peer.port}")
        return [Way("smart", (target,), **({"policy": TlsPolicy("off")} | more))]

    return ways


def kinds(report: Report) -> list[str]:
    return [step.kind for step in report.steps]


def test_a_smarthost_takes_mail_for_everybody_and_no_name_is_asked_for(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("bob@nowhere.example", domain="nowhere.example")
        assert told(report) == {1: RELAYED}
        assert rig.names.asked == []
        assert kinds(report) == ["relay.way", "relay.tries", "relay.connected", "relay.said"]
        assert report.site == "route:smart"
        assert told(await rig.send("c@far.example", domain="far.example")) == {1: RELAYED}
        assert len(peer.said) == 1

    play(tmp_path, Peer(), to_peer(), scene)


def test_hosts_of_a_way_are_tried_in_order(tmp_path: Path) -> None:
    def ways(peer: Peer) -> list[Way]:
        hosts = tuple(parse_target(f"smtp://{host}:{peer.port}") for host in ("gone.example", "127.0.0.2", "127.0.0.1"))
        return [Way("smart", hosts, TlsPolicy("off"))]

    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: RELAYED}

    play(tmp_path, Peer(), ways, scene)


WITH_AUTH = "250-there\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN"


def test_who_we_are_is_told_before_mail_is_offered(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert told(report) == {1: RELAYED}
        assert peer.said[0][1].startswith("AUTH PLAIN ")
        assert "secret" not in repr(report.steps)
        assert "C: AUTH PLAIN ****" in str(report.steps[-1].facts["lines"])

    play(tmp_path, Peer({"EHLO": (WITH_AUTH,)}), to_peer(login=Login("me", "secret")), scene)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"EHLO": (WITH_AUTH,), "AUTH": ("535 5.7.8 who?",)}, 535),
        ({"EHLO": (WITH_AUTH,), "AUTH": ("454 4.7.0 later",)}, 454),
        ({"EHLO": (WITH_AUTH,), "AUTH": ("(drop)",)}, 421),
        ({"EHLO": (EHLO,)}, 454),
        ({"EHLO": ("250-there\r\n250 AUTH X-ODD",)}, 454),
    ],
)
def test_a_login_that_fails_makes_mail_wait(tmp_path: Path, answers: dict[str, tuple[str, ...]], code: int) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: ("deferred", code, "destination")}
        assert not any(line.startswith("MAIL") for line in peer.said[0])

    play(tmp_path, Peer(answers), to_peer(login=Login("me", "secret")), scene)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize(("name", "fate"), [("smart.example", "relayed"), ("other.example", "deferred")])
def test_a_host_that_is_verified_shows_a_certificate_of_its_name(
    tmp_path: Path, authority: trustme.CA, scheme: str, name: str, fate: str
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert [fate for fate, *_ in told(report).values()] == [fate]
        assert bool(peer.messages) == (fate == "relayed")
        assert any(line.startswith("AUTH") for said in peer.said for line in said) == (fate == "relayed")

    implicit = scheme == "smtps"
    offered = WITH_AUTH if implicit else WITH_AUTH.replace("250-PIPELINING", "250-STARTTLS")
    peer = Peer({"EHLO": (offered,)}, tls=server_context(authority, name), implicit=implicit)
    way = to_peer(scheme, "smart.example", policy=TlsPolicy("verify"), login=Login("me", "secret"))
    names = Names({}, {"smart.example": ["127.0.0.1"]})
    play(tmp_path, peer, way, scene, verifying=trusting(authority), names=names)


@pytest.mark.parametrize("unix", [False, True])
def test_an_lmtp_server_answers_for_each_recipient(tmp_path: Path, unix: bool) -> None:
    """RFC 2033 §4.2"""

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("a@there.example", "b@there.example", "c@there.example", "d@there.example")
        assert told(report) == {
            1: RELAYED,
            2: ("failed", 550, "recipient"),
            3: ("deferred", 452, "recipient"),
            4: ("failed", 554, "recipient"),
        }
        assert peer.said[0][0] == "LHLO mx.home.example"
        assert rig.past_dot == [[1, 3, 4]]
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    def ways(peer: Peer) -> list[Way]:
        target = Target("lmtp", path=peer.path) if peer.path else parse_target(f"lmtp://127.0.0.1:{peer.port}")
        return [Way("inside", (target,), TlsPolicy("off"))]

    answers = {
        "RCPT": ("250 ok", "550 5.1.1 nobody", "250 ok"),
        ".": ("250 filed", "452 4.2.2 full", "554 5.6.0 no", "250 filed"),
    }
    path = tmp_path / "lmtp" if unix else None
    play(tmp_path, Peer(answers, lmtp=True, path=path), ways, scene)


def test_an_lmtp_server_that_goes_in_the_middle_of_its_answers(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("a@there.example", "b@there.example")
        assert told(report) == {1: RELAYED, 2: ("deferred", 421, "message")}

    play(tmp_path, Peer({".": ("250 filed", "(drop)")}, lmtp=True), to_peer("lmtp"), scene)


def test_a_named_route_is_taken_whatever_it_says_of_whom_it_is_for(tmp_path: Path) -> None:
    def ways(peer: Peer) -> list[Way]:
        return [way("bounces", senders=["<>"]), *to_peer(recipients=frozenset(["other.example"]))(peer)]

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("bob@there.example", "c@far.example", destination="route:smart")
        assert told(report) == {1: RELAYED, 2: RELAYED}
        assert len(peer.messages) == 1

    play(tmp_path, Peer(), ways, scene)


def test_a_named_route_by_mx_goes_to_each_domain(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(
            "a@there.example", "b@gone.example", "c@there.example", "d@ill.example", destination="route:direct"
        )
        assert told(report) == {
            1: RELAYED,
            2: ("failed", 550, "recipient"),
            3: RELAYED,
            4: ("deferred", 451, "recipient"),
        }
        assert len(peer.messages) == 1

    names = Names({"gone.example": "nxdomain", "ill.example": "servfail"}, {"there.example": ["127.0.0.1"]})
    ways = [Way("direct", (Target("mx"),), TlsPolicy("off"))]
    play(tmp_path, Peer(), lambda _: ways, scene, names=names)


def test_a_route_that_is_not_configured_any_more_makes_mail_wait(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(destination="route:gone")
        assert told(report) == {1: ("deferred", 451, "destination")}
        assert report.outcomes[0].reply.enhanced == "4.3.5"

    play(tmp_path, Peer(), lambda _: [], scene)


def test_a_way_that_holds_keeps_mail_until_it_is_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        async with Peer() as peer:
            rig = Rig(world.blobs, peer, ways=[way("quarantine", senders=["home.example"])])
            runner = world.runner(rig.courier)
            await world.send("a@there.example", "b@there.example")
            await world.settle(runner)
            rows = await world.select("SELECT held, last_reply FROM queued_recipient")
            assert rows == [(1, "451 4.3.0 Held by the route quarantine until released")] * 2
            # Time that passes changes nothing: what is held is not tried, and does not expire.
            await world.live(runner, 6 * DAY, step=DAY)
            assert await world.rows() == 2
            assert peer.said == []
            await runner.stop()
            # A configuration without that route, and somebody who lets it go.
            rig = Rig(world.blobs, peer)
            runner = world.runner(rig.courier)
            await control.each(world.store, control.release, Selection(), world.clock.now())
            await world.settle(runner)
            assert await world.rows() == 0
            assert len(peer.messages) == 1
            await rig.courier.close()
        await world.store.close()

    run(main())
