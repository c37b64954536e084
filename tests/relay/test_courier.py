"""The relay courier against peers that answer, refuse, hang and hang up at every point."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posthouse.message.addresses import Mailbox
from posthouse.message.convert import convert
from posthouse.message.report import RecipientReport, delivery_report
from posthouse.queue.attempt import Held, LeaseLost
from posthouse.queue.outcome import Fate
from posthouse.queue.queue import QueuedRecipient
from posthouse.relay.connections import Timeouts
from posthouse.relay.signing import Signed
from posthouse.relay.transaction import batch
from posthouse.store.blobs import Blobs, Buffer
from posthouse.store.database import StoreUnavailable
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import DeliverBy, Wishes
from tests.relay.support import DROP, EHLO, HANG, MESSAGE, PATIENT, SOON, Names, Peer, Rig, told
from tests.support import run

RELAYED = ("relayed", 250, "recipient")
Scene = Callable[[Peer, Rig], Coroutine[Any, Any, None]]


def play(tmp_path: Path, peer: Peer, scene: Scene, **rig: Any) -> None:
    """A scene with this peer at 127.0.0.1 for there.example."""

    async def main() -> None:
        async with peer:
            stage = Rig(Blobs(tmp_path / "blobs"), peer, **rig)
            try:
                await scene(peer, stage)
            finally:
                await stage.courier.close()

    run(main())


def test_a_message_is_handed_over_in_one_transaction(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("bob@there.example", "carol@there.example", prologue=b"X-First: 1\r\n")
        assert told(report) == {1: RELAYED, 2: RELAYED}
        assert {one.remote for one in report.outcomes} == {"there.example"}
        assert report.outcomes[0].reply.text == "taken as 42"
        size = len(b"X-First: 1\r\n" + MESSAGE)
        assert peer.said[0] == [
            "EHLO mx.home.example",
            "MAIL FROM:<alice@home.example>",
            "RCPT TO:<bob@there.example>",
            "RCPT TO:<carol@there.example>",
            "DATA",
        ]
        assert peer.messages == [(b"X-First: 1\r\n" + MESSAGE).replace(b"\r\n.", b"\r\n..")]
        assert size
        assert rig.past_dot == [[1, 2]]
        assert report.site == "there.example"

    play(tmp_path, Peer(), scene)


def test_the_journey_holds_route_address_tls_and_the_lines_verbatim(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        kinds = [step.kind for step in report.steps]
        assert kinds == ["relay.route", "relay.tries", "relay.connected", "relay.said"]
        lines = report.steps[-1].facts["lines"]
        assert isinstance(lines, tuple)
        assert "S: 250 2.0.0 taken as 42" in lines
        assert "C: RCPT TO:<bob@there.example>" in lines

    play(tmp_path, Peer(), scene)


def test_a_peer_that_says_much_does_not_fill_the_journey(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert told(report) == {1: RELAYED}
        lines = report.steps[-1].facts["lines"]
        assert isinstance(lines, tuple)
        assert max(map(len, map(str, lines))) < 1100

    play(tmp_path, Peer({"MAIL": ("250 " + "x" * 12_000,)}), scene)


def test_each_recipient_has_the_answer_that_was_given_to_it(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("a@there.example", "b@there.example", "c@there.example")
        assert told(report) == {1: RELAYED, 2: ("failed", 550, "recipient"), 3: ("deferred", 450, "recipient")}
        assert rig.past_dot == [[1]]

    answers = {"RCPT": ("250 ok", "550 5.1.1 nobody", "450 4.2.0 greylisted")}
    play(tmp_path, Peer(answers), scene)


@pytest.mark.parametrize("extensions", [EHLO, "250 there"])
def test_nobody_accepted_leaves_a_clean_connection(tmp_path: Path, extensions: str) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: ("failed", 550, "recipient")}
        assert rig.past_dot == []
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    answers = {"EHLO": (extensions,), "RCPT": ("550 5.1.1 nobody", "250 ok"), "DATA": ("503 no", "354 go")}
    if extensions != EHLO:
        answers["DATA"] = ("354 go",)
    play(tmp_path, Peer(answers), scene)


def test_a_pipelined_data_that_is_taken_with_nobody_left_gets_an_empty_message(tmp_path: Path) -> None:
    """RFC 2920 §3.1: the client cannot know that no RCPT was taken before it has said DATA."""

    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: ("failed", 550, "recipient")}
        assert rig.past_dot == []

        assert peer.messages == [b""]
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    answers = {"RCPT": ("550 5.1.1 nobody", "250 ok"), ".": ("554 no recipients", "250 taken")}
    play(tmp_path, Peer(answers), scene)


@pytest.mark.parametrize(
    ("verb", "reply", "expected"),
    [
        ("MAIL", "550 5.7.1 not you", ("failed", 550, "message")),
        ("MAIL", "451 4.3.0 later", ("deferred", 451, "message")),
        ("DATA", "554 5.7.1 no", ("failed", 554, "message")),
        ("DATA", "451 4.3.0 later", ("deferred", 451, "message")),
        ("DATA", "250 whatever", ("deferred", 250, "message")),
        (".", "554 5.6.0 spam", ("failed", 554, "message")),
        (".", "452 4.3.1 full", ("deferred", 452, "message")),
        (".", "354 what", ("deferred", 354, "message")),
        ("", "554 5.7.1 go away", ("failed", 554, "destination")),
        ("", "450 later", ("deferred", 450, "destination")),
        ("EHLO", "550 no", ("failed", 550, "destination")),
    ],
)
@pytest.mark.parametrize("extensions", [EHLO, "250 there"])
def test_a_refusal_dooms_what_it_is_about(
    tmp_path: Path, verb: str, reply: str, expected: tuple[str, int, str], extensions: str
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send("a@there.example", "b@there.example")) == {1: expected, 2: expected}

    play(tmp_path, Peer({"EHLO": (extensions,), verb: (reply,)}), scene)


# By the verb that is not answered: nothing else is waited for so shortly.
HASTE: dict[str, Timeouts] = {
    "": replace(PATIENT, greeting=SOON),
    "EHLO": replace(PATIENT, hello=SOON),
    "MAIL": replace(PATIENT, mail=SOON),
    "RCPT": replace(PATIENT, rcpt=SOON, data=SOON),
    "DATA": replace(PATIENT, rcpt=SOON, data=SOON),
    ".": replace(PATIENT, dot=SOON),
}


@pytest.mark.parametrize("verb", ["", "EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("end", [DROP, HANG, "421 4.3.2 shutting down", "250-a\r\n251 b", "nonsense", "+OK"])
def test_a_conversation_that_breaks_anywhere_defers(tmp_path: Path, verb: str, end: str) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        dooms = "message" if verb == "." and not end.startswith("421") else "destination"
        report = await rig.send()
        assert told(report) == {1: ("deferred", 421, dooms)}
        assert rig.past_dot == ([[1]] if verb == "." else [])
        unsure = [step for step in report.steps if step.kind == "recipient.possible_duplicate"]
        assert len(unsure) == (verb == "." and not end.startswith("421"))

    play(tmp_path, Peer({verb: (end,)}), scene, timeouts=HASTE[verb] if end == HANG else PATIENT)


def test_a_host_that_refuses_connections_gives_way_to_the_next(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        # Nothing listens on 127.0.0.2 at this port.
        assert told(await rig.send()) == {1: RELAYED}

    names = Names(
        {"there.example": [(10, "a.there.example"), (20, "b.there.example")]},
        {"a.there.example": ["127.0.0.2"], "b.there.example": ["127.0.0.1"]},
    )
    play(tmp_path, Peer(), scene, names=names)


def test_who_was_answered_is_not_offered_to_the_next_host(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send("a@there.example", "b@there.example")
        assert told(report) == {1: ("failed", 550, "recipient"), 2: RELAYED}
        assert [line for line in peer.said[1] if line.startswith("RCPT")] == ["RCPT TO:<b@there.example>"]

    names = Names(
        {"there.example": [(10, "a.there.example"), (20, "b.there.example")]},
        {"a.there.example": ["127.0.0.1"], "b.there.example": ["127.0.0.1"]},
    )
    play(tmp_path, Peer({"RCPT": ("550 5.1.1 nobody", "421 4.3.2 bye", "250 ok")}), scene, names=names)


def test_a_destination_none_of_whose_hosts_answers_is_down(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert told(report) == {1: ("deferred", 421, "destination")}
        assert report.outcomes[0].remote is None
        assert report.outcomes[0].reply.enhanced == "4.4.1"

    play(tmp_path, Peer(), scene, names=Names({}, {"there.example": ["127.0.0.2", "127.0.0.3"]}))


@pytest.mark.parametrize(
    ("mx", "hosts", "expected"),
    [
        ("nxdomain", (), ("failed", 550, "destination")),
        ("servfail", (), ("deferred", 451, "destination")),
        ([(0, "")], (), ("failed", 556, "destination")),
        ([(10, "mx.home.example")], (), ("failed", 554, "destination")),
        ((), "servfail", ("deferred", 451, "destination")),
        ((), (), ("failed", 550, "destination")),
    ],
)
def test_where_no_route_leads(tmp_path: Path, mx: Any, hosts: Any, expected: tuple[str, int, str]) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: expected}

    play(tmp_path, Peer(), scene, names=Names({"there.example": mx}, {"there.example": hosts}))


def test_not_all_of_a_thousand_hosts_are_asked_for(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        rig.names.mx_records["there.example"] = [(n, f"mx{n}.there.example") for n in range(1000)]
        report = await rig.send()
        assert told(report) == {1: ("failed", 550, "destination")}
        assert len(rig.names.asked) == 1 + 20
        rig.names.hosts |= {f"mx{n}.there.example": ["127.0.0.1"] for n in range(1000)}
        rig.names.asked.clear()
        report = await rig.send()
        assert told(report) == {1: ("deferred", 421, "destination")}
        assert len(rig.names.asked) == 1 + 5

    play(tmp_path, Peer({"": ("421 not now",)}), scene)


def test_too_many_recipients_go_on_in_the_next_transaction(tmp_path: Path) -> None:
    """RFC 5321 §4.5.3.1.10"""

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(*[f"u{n}@there.example" for n in range(5)])
        assert set(told(report).values()) == {RELAYED}
        assert rig.past_dot == [[1, 2], [3, 4], [5]]
        assert len(peer.said) == 1

    limited = ("250 ok", "250 ok", "452 too many", "452 too many", "452 too many", "250 ok", "250 ok", "552 too many")
    play(tmp_path, Peer({"RCPT": (*limited, "250 ok")}), scene)


def test_what_was_relayed_stays_so_though_the_rest_breaks_off(tmp_path: Path) -> None:
    """Forgotten with the error, it would be sent a second time."""

    async def scene(peer: Peer, rig: Rig) -> None:
        rig.store_away_after = 1
        report = await rig.send(*[f"u{n}@there.example" for n in range(4)])
        later = ("deferred", 451, "recipient")
        assert told(report) == {1: RELAYED, 2: RELAYED, 3: later, 4: later}
        assert len(peer.messages) == 1
        rig.store_away_after = 0
        with pytest.raises(StoreUnavailable):
            await rig.send()

    limited = ("250 ok", "250 ok", "452 too many", "452 too many", "250 ok")
    play(tmp_path, Peer({"RCPT": limited}), scene)


@pytest.mark.parametrize("hello", ["250 there", "250-there\r\n250-PIPELINING\r\n250 CHUNKING"])
def test_what_is_held_before_it_is_sent_is_not_sent_and_what_was_taken_before_stays_so(
    tmp_path: Path, hello: str
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        rig.held_after = 1
        report = await rig.send(*[f"u{n}@there.example" for n in range(103)])
        assert told(report) == dict.fromkeys(range(1, 101), RELAYED)
        with pytest.raises(Held):
            await rig.send()
        await peer.left()
        assert len(peer.messages) == 1

    play(tmp_path, Peer({"EHLO": (hello,)}), scene)


def test_more_than_a_hundred_recipients_go_in_several_transactions(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(*[f"u{n}@there.example" for n in range(230)])
        assert len(told(report)) == 230
        assert [len(some) for some in rig.past_dot] == [100, 100, 30]

    play(tmp_path, Peer(), scene)


# --- what the peer cannot carry ---------------------------------------------------------------------------------------


def enhanced(report: Any) -> list[str | None]:
    return [one.reply.enhanced for one in report.outcomes]


def test_eight_bit_mail_is_said_to_be_so_and_is_not_sent_where_it_cannot_be(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        eight_bit = b"Received: by home.example; now\r\n" + MESSAGE + "Grüße\r\n".encode()
        assert told(await rig.send(octets=eight_bit)) == {1: RELAYED}
        assert "MAIL FROM:<alice@home.example> BODY=8BITMIME" in peer.said[0]
        await rig.courier.close()
        peer.answers = {"EHLO": ("250 there",)}
        report = await rig.send(octets=eight_bit)
        # Nobody who only forwards it may change it.
        assert (told(report), enhanced(report)) == ({1: ("failed", 554, "message")}, ["5.6.2"])
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.messages) == 2

    play(tmp_path, Peer(), scene)


def test_mail_that_needs_smtputf8_is_not_sent_where_that_lacks(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send("jürgen@there.example", smtputf8=True)) == {1: RELAYED}
        assert "MAIL FROM:<alice@home.example> SMTPUTF8" in peer.said[0]
        await rig.courier.close()
        peer.answers = {"EHLO": ("250-there\r\n250 8BITMIME",)}
        report = await rig.send("jürgen@there.example", smtputf8=True)
        assert (told(report), enhanced(report)) == ({1: ("failed", 553, "message")}, ["5.6.7"])
        # An alias or a list may lead there, and whoever wrote did not know.
        assert enhanced(await rig.send("jürgen@there.example")) == ["5.6.7"]
        # RFC 6531 §3.4: asked for, but not needed.
        assert told(await rig.send(smtputf8=True)) == {1: RELAYED}
        header = "Subject: Grüße\r\n\r\nHello.\r\n".encode()
        assert enhanced(await rig.send(smtputf8=True, octets=header)) == ["5.6.7"]

    play(tmp_path, Peer(), scene)


def test_a_message_longer_than_the_peer_takes_is_not_offered(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert (told(report), enhanced(report)) == ({1: ("failed", 552, "message")}, ["5.3.4"])
        assert not any(line.startswith("MAIL") for line in peer.said[0])

    play(tmp_path, Peer({"EHLO": ("250-there\r\n250 SIZE 10",)}), scene)


def test_a_bare_line_feed_never_leaves(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(octets=MESSAGE + b"one\ntwo\r\n")
        assert (told(report), enhanced(report)) == ({1: ("failed", 554, "message")}, ["5.6.0"])
        assert peer.messages == []

    play(tmp_path, Peer(), scene)


def test_helo_is_said_where_ehlo_is_not_known(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: RELAYED}
        assert peer.said[0][:2] == ["EHLO mx.home.example", "HELO mx.home.example"]

    play(tmp_path, Peer({"EHLO": ("502 5.5.1 what?",)}), scene)


# --- the dot ----------------------------------------------------------------------------------------------------------


def test_without_the_lease_the_dot_is_not_sent(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        rig.lease_lost = True
        with pytest.raises(LeaseLost):
            await rig.send()
        await peer.left()
        assert peer.messages == []

    play(tmp_path, Peer(), scene)


def test_a_cancelled_attempt_ends_its_connection(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        task = asyncio.create_task(rig.send())
        while not (peer.said and "DATA" in peer.said[0]):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.past_dot == []

    play(tmp_path, Peer({"DATA": (HANG,)}), scene)


# --- kept connections -------------------------------------------------------------------------------------------------


def test_the_next_message_goes_on_the_same_connection(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        for _ in range(3):
            assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1
        assert len(peer.messages) == 3

    play(tmp_path, Peer(), scene)


def test_a_connection_serves_so_many_messages_and_no_more(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        for _ in range(5):
            await rig.send()
        # Whoever has served enough hears goodbye behind our back.
        await rig.pool.close()
        assert [sum(line.startswith("MAIL") for line in said) for said in peer.said] == [2, 2, 1]
        assert peer.said[0][-1] == "QUIT"

    play(tmp_path, Peer(), scene, messages=2)


def test_a_kept_connection_that_died_meanwhile_is_replaced_without_a_word(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        await rig.send()
        peer.writers[0].close()
        report = await rig.send()
        assert told(report) == {1: RELAYED}
        # One that says 421 only when it is asked again.
        peer.answers = {"MAIL": ("421 4.4.2 you were idle", "250 ok")}
        peer.used.clear()
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 3

    play(tmp_path, Peer(), scene)


def test_an_idle_connection_says_goodbye(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        await rig.send()
        while peer.said[0][-1] != "QUIT":
            await asyncio.sleep(0.005)

    play(tmp_path, Peer(), scene, timeouts=replace(PATIENT, idle=0.02))


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.there.example").configure_cert(context)
    return context


WITH_TLS = "250-there\r\n250-PIPELINING\r\n250 STARTTLS"


def test_tls_is_used_where_it_is_offered_whoever_signed(tmp_path: Path, server_context: ssl.SSLContext) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert told(report) == {1: RELAYED}
        connected = next(step for step in report.steps if step.kind == "relay.connected")
        assert str(connected.facts["tls"]).startswith("TLSv1.3")
        assert peer.said[0][:3] == ["EHLO mx.home.example", "STARTTLS", "EHLO mx.home.example"]

    play(tmp_path, Peer({"EHLO": (WITH_TLS,)}, tls=server_context), scene)


def test_a_broken_handshake_is_followed_by_an_attempt_in_plain(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert told(report) == {1: RELAYED}
        assert "relay.tls_failed" in [step.kind for step in report.steps]
        assert "STARTTLS" not in peer.said[1]

    # It says 220 and then cannot do it.
    play(tmp_path, Peer({"EHLO": (WITH_TLS,), "STARTTLS": ("220 go", DROP)}), scene)


def test_starttls_refused_goes_on_in_plain(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    play(tmp_path, Peer({"EHLO": (WITH_TLS,), "STARTTLS": ("454 4.7.0 not now",)}), scene)


@pytest.mark.parametrize("answers", [{}, {"EHLO": (WITH_TLS,), "STARTTLS": ("454 4.7.0 not now",)}])
def test_required_tls_is_waited_for(tmp_path: Path, answers: dict[str, tuple[str, ...]]) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send()
        assert [fate for fate, *_ in told(report).values()] == ["deferred"]
        assert peer.messages == []

    play(tmp_path, Peer(answers), scene, mode="require")


# --- one packet -------------------------------------------------------------------------------------------------------

CHUNKING = "250-there\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING"


def test_a_small_message_leaves_with_its_envelope(tmp_path: Path) -> None:
    """RFC 3030 §4.2; the queue has noted before that it may be taken."""

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(prologue=b"X: y\r\n", octets=MESSAGE[:-2])
        assert told(report) == {1: RELAYED}
        # Not stuffed, and with the end that its last line lacked.
        assert peer.messages == [b"X: y\r\n" + MESSAGE]
        assert peer.said[0][-1] == f"BDAT {len(MESSAGE) + 6} LAST"
        assert rig.past_dot == [[1]]
        for _ in range(3):
            assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    play(tmp_path, Peer({"EHLO": (CHUNKING,)}), scene)


def test_a_large_message_follows_the_answers(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        large = MESSAGE + b"line\r\n" * 20_000
        assert told(await rig.send("a@there.example", "b@there.example", octets=large)) == {
            1: ("failed", 550, "recipient"),
            2: RELAYED,
        }
        assert peer.messages == [large]
        assert rig.past_dot == [[2]]
        # Nobody is left to take this one, so it is not sent.
        assert told(await rig.send(octets=large)) == {1: ("failed", 550, "recipient")}
        assert len(peer.messages) == 1
        assert peer.said[0][-1] == "RSET"

    play(tmp_path, Peer({"EHLO": (CHUNKING,), "RCPT": ("550 5.1.1 nobody", "250 ok", "550 5.1.1 nobody")}), scene)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"MAIL": ("550 5.7.1 no",)}, ("failed", 550, "message")),
        ({"MAIL": ("451 4.3.0 later",)}, ("deferred", 451, "message")),
        ({"RCPT": ("550 5.1.1 nobody",)}, ("failed", 550, "recipient")),
        ({".": ("554 5.6.0 spam",)}, ("failed", 554, "message")),
        ({".": ("452 4.3.1 full",)}, ("deferred", 452, "message")),
        ({"MAIL": ("550 no",), "RCPT": ("503 no",), ".": ("250 what?",)}, ("failed", 550, "message")),
    ],
)
def test_a_refusal_of_the_packet_leaves_a_clean_connection(
    tmp_path: Path, answers: dict[str, tuple[str, ...]], expected: tuple[str, int, str]
) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: expected}
        assert peer.said[0][-1] == "RSET"
        peer.answers = {"EHLO": (CHUNKING,)}
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 1

    play(tmp_path, Peer({"EHLO": (CHUNKING,), **answers}), scene)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "."])
@pytest.mark.parametrize("end", [DROP, HANG, "nonsense"])
def test_who_is_lost_behind_the_packet_may_have_taken_it(tmp_path: Path, verb: str, end: str) -> None:
    """RFC 1047: trying the next host at once would make the duplicate certain."""

    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: ("deferred", 421, "message")}
        assert rig.past_dot == [[1]]

    # Behind MAIL's answer all is waited for as the end of a message is.
    times = HASTE["MAIL" if verb == "MAIL" else "."] if end == HANG else PATIENT
    play(tmp_path, Peer({"EHLO": (CHUNKING,), verb: (end,)}), scene, timeouts=times)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "."])
def test_who_says_421_to_the_packet_has_not_taken_it(tmp_path: Path, verb: str) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send()) == {1: ("deferred", 421, "destination")}

    play(tmp_path, Peer({"EHLO": (CHUNKING,), verb: ("421 4.3.2 bye",)}), scene)


def test_a_kept_connection_that_ends_without_a_word_has_taken_nothing(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        await rig.send()
        peer.answers = {"EHLO": (CHUNKING,), "MAIL": (DROP, "250 ok")}
        peer.used.clear()
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 2
        # One that is silent may have.
        rig.wait(HASTE["MAIL"])
        peer.answers = {"EHLO": (CHUNKING,), "MAIL": (HANG,)}
        assert told(await rig.send()) == {1: ("deferred", 421, "message")}
        assert len(peer.said) == 2

    play(tmp_path, Peer({"EHLO": (CHUNKING,)}), scene)


def test_a_packet_without_the_lease_is_not_sent(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        rig.lease_lost = True
        with pytest.raises(LeaseLost):
            await rig.send()
        await peer.left()
        assert peer.said == [["EHLO mx.home.example"]]

    play(tmp_path, Peer({"EHLO": (CHUNKING,)}), scene)


# --- limits and wishes ------------------------------------------------------------------------------------------------


def test_what_the_peer_says_of_its_limits_is_kept_to(tmp_path: Path) -> None:
    """RFC 9422 §4"""

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(*[f"u{n}@there.example" for n in range(7)])
        assert set(told(report).values()) == {RELAYED}
        assert rig.past_dot == [[1, 2], [3, 4], [5, 6], [7]]
        assert [sum(line.startswith("MAIL") for line in said) for said in peer.said] == [2, 2]
        assert told(await rig.send()) == {1: RELAYED}
        assert len(peer.said) == 3

    play(tmp_path, Peer({"EHLO": ("250-there\r\n250 LIMITS RCPTMAX=2 MAILMAX=2",)}), scene)


def test_recipients_of_many_domains_are_offered_so_many_domains_at_a_time() -> None:
    left = [QueuedRecipient(n, parse(f"u@d{n % 3}.example"), "") for n in range(6)]
    assert [one.id for one in batch(left, {"RCPTDOMAINMAX": 2})] == [0, 1, 3, 4]
    assert [one.id for one in batch(left, {"RCPTMAX": 3, "RCPTDOMAINMAX": 1})] == [0, 3]
    assert len(batch(left, {})) == 6


@pytest.mark.parametrize("dsn", [True, False])
def test_whether_the_peer_reports_itself_is_told(tmp_path: Path, dsn: bool) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        wishes = Wishes(envid="e", ret="HDRS")
        report = await rig.send(wishes=wishes, notify=frozenset({"SUCCESS"}), orcpt="rfc822;b@x.example")
        assert [(one.fate.value, one.dsn_carried) for one in report.outcomes] == [("relayed", dsn)]
        parameters = " NOTIFY=SUCCESS ORCPT=rfc822;b@x.example" if dsn else ""
        assert f"RCPT TO:<bob@there.example>{parameters}" in peer.said[0]

    play(tmp_path, Peer({"EHLO": ("250-there\r\n250 DSN" if dsn else "250 there",)}), scene)


@pytest.mark.parametrize(
    ("offered", "left", "returned", "expected"),
    [
        ("250 DELIVERBY", 60, True, " BY=60;R"),
        ("250 DELIVERBY", -60, False, " BY=-60;N"),
        ("250 DELIVERBY 30", 60, True, " BY=60;R"),
        ("250 HELP", 60, False, ""),
        ("250 DELIVERBY", 0, True, "5.4.7"),
        ("250 DELIVERBY 240", 60, True, "5.4.7"),
        ("250 HELP", 60, True, "5.3.3"),
    ],
)
def test_what_must_arrive_in_time_says_how_much_is_left(
    tmp_path: Path, offered: str, left: int, returned: bool, expected: str
) -> None:
    """RFC 2852 §4"""

    async def scene(peer: Peer, rig: Rig) -> None:
        by = DeliverBy(rig.clock.now() + left * 1000, returned)
        report = await rig.send(wishes=Wishes(deliver_by=by))
        if expected.startswith("5"):
            assert (enhanced(report), peer.messages) == ([expected], [])
        else:
            assert f"MAIL FROM:<alice@home.example>{expected}" in peer.said[0]
            assert [one.by_carried for one in report.outcomes] == ["DELIVERBY" in offered]

    play(tmp_path, Peer({"EHLO": (f"250-there\r\n{offered}",)}), scene)


# --- the form that the peer can carry ---------------------------------------------------------------------------------

ACCENTS = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße an alle, die das lesen!\r\n".encode()
)


def test_submitted_mail_is_converted_where_8bitmime_lacks_and_signed_as_it_leaves(tmp_path: Path) -> None:
    class Signing:
        asked: ClassVar[list[tuple[str, bytes, bytes]]] = []

        async def sign(self, sender: Address | None, prologue: bytes, octets: Buffer) -> Signed:
            self.asked.append((str(sender), prologue, bytes(octets)))
            return Signed(b"DKIM-Signature: of this\r\n", "home.example", ("one", "two"))

    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(octets=ACCENTS, prologue=b"X: y\r\n", account=1)
        assert told(report) == {1: RELAYED}
        (signed,) = [step.facts for step in report.steps if step.kind == "relay.signed"]
        assert signed == {"domain": "home.example", "selectors": ("one", "two")}
        converted = b"".join(convert(ACCENTS))
        assert Signing.asked == [("alice@home.example", b"X: y\r\n", converted)]
        assert peer.messages == [b"DKIM-Signature: of this\r\nX: y\r\n" + converted]
        assert not any("BODY=" in line for line in peer.said[0])
        await rig.courier.close()
        peer.answers = {"EHLO": (EHLO,)}
        assert told(await rig.send(octets=ACCENTS, account=1)) == {1: RELAYED}
        assert peer.messages[1] == b"DKIM-Signature: of this\r\n" + ACCENTS

    play(tmp_path, Peer({"EHLO": ("250 there",)}), scene, signer=Signing())


def test_a_large_message_is_converted_beside_the_loop(tmp_path: Path) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        large = ACCENTS + "Grüße an alle, die das hier lesen.\r\n".encode() * 20_000
        assert told(await rig.send(octets=large, account=1)) == {1: RELAYED}
        assert peer.messages == [b"".join(convert(large))]

    play(tmp_path, Peer({"EHLO": ("250 there",)}), scene)


@pytest.mark.parametrize(
    ("octets", "account", "status"),
    [
        (b"Received: by home.example; now\r\n" + ACCENTS, None, "5.6.2"),
        (b"DKIM-Signature: v=1\r\n" + ACCENTS, 1, "5.6.2"),
        ("Subject: Grüße\r\n\r\nHello\r\n".encode(), 1, "5.6.3"),
    ],
)
def test_what_must_not_be_converted_comes_back(tmp_path: Path, octets: bytes, account: int | None, status: str) -> None:
    async def scene(peer: Peer, rig: Rig) -> None:
        report = await rig.send(octets=octets, account=account)
        assert (told(report), enhanced(report)) == ({1: ("failed", 554, "message")}, [status])

    play(tmp_path, Peer({"EHLO": ("250 there",)}), scene)


def test_what_this_server_wrote_is_converted(tmp_path: Path) -> None:
    """A report has no sender whom anybody could tell that it went nowhere."""
    about = b"Subject: x\r\nMessage-ID: <\xc3\xa4@x>\r\n" + ACCENTS
    octets = delivery_report(
        reporting_mta="mx.home.example",
        sender=Mailbox("Mail delivery", "MAILER-DAEMON", "mx.home.example"),
        to=Mailbox("", "bob", "there.example"),
        at=0,
        message_id="1@mx.home.example",
        recipients=[RecipientReport("eve@home.example", "failed", "5.1.1")],
        original=about,
        full=True,
    )

    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send(octets=octets, sender=None)) == {1: RELAYED}
        assert peer.messages == [b"".join(convert(octets))]
        assert peer.messages[0].isascii()
        assert not octets.isascii()

    play(tmp_path, Peer({"EHLO": ("250 there",)}), scene)


BINARY = b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n\r\xff"


@pytest.mark.parametrize(
    ("offered", "body", "octets"),
    [
        ("250-CHUNKING\r\n250-BINARYMIME\r\n250 8BITMIME", " BODY=BINARYMIME", BINARY),
        ("250-CHUNKING\r\n250-PIPELINING\r\n250 BINARYMIME", " BODY=BINARYMIME", BINARY),
        ("250-BINARYMIME\r\n250 8BITMIME", "", b"".join(convert(BINARY))),
        ("250 HELP", "", b"".join(convert(BINARY))),
    ],
)
def test_binary_mail_goes_by_bdat_or_becomes_base64(tmp_path: Path, offered: str, body: str, octets: bytes) -> None:
    """RFC 3030 §3"""

    async def scene(peer: Peer, rig: Rig) -> None:
        assert told(await rig.send(octets=BINARY, account=1, wishes=Wishes(body="BINARYMIME"))) == {1: RELAYED}
        assert peer.messages == [octets]
        assert f"MAIL FROM:<alice@home.example>{body}" in peer.said[0] or "8BITMIME" in offered

    play(tmp_path, Peer({"EHLO": (f"250-there\r\n{offered}",)}), scene)


# --- whatever a peer does ---------------------------------------------------------------------------------------------

TWICE = "250 ok\r\n250 ok"
SAYINGS = st.sampled_from(
    ["220 hi", "250 ok", "250 2.1.5 ok", "354 go", "421 bye", "450 later", "452 4.5.3 many", "550 5.1.1 no", "554 no",
     "250-half", "250-a\r\n251 b", "999", "", "\x00", "334 x", "235 in", DROP, CHUNKING, EHLO, "250-x\r\n250 STARTTLS",
     TWICE, "250-x\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=1 MAILMAX=1"]
)  # fmt: skip
VERBS = ["", "EHLO", "HELO", "MAIL", "RCPT", "DATA", ".", "RSET", "STARTTLS"]
LIES = st.fixed_dictionaries({}, optional={verb: st.lists(SAYINGS, min_size=1, max_size=4) for verb in VERBS})


@settings(max_examples=60, deadline=None)
@given(LIES, st.integers(1, 3))
@example({"EHLO": [CHUNKING], "MAIL": [TWICE], "RCPT": [TWICE, DROP]}, 2)
def test_a_lying_peer_never_makes_the_courier_raise_nor_believe(lies: dict[str, list[str]], count: int) -> None:
    """Who answers each command once has what he said 2xx to. Who says more than he was asked for answers for what he
    has not heard, and cannot be told from who has (RFC 1047 knows the other half of this)."""
    talkative = any(TWICE in sayings for sayings in lies.values())

    async def main() -> None:
        with TemporaryDirectory() as directory:
            async with Peer(lies) as peer:
                times = replace(
                    PATIENT, greeting=SOON, hello=SOON, mail=SOON, rcpt=SOON, data=SOON, dot=SOON, quit=SOON
                )
                rig = Rig(Blobs(Path(directory)), peer, timeouts=times)
                recipients = [f"u{n}@there.example" for n in range(count)]
                for _ in range(2):
                    report = await rig.send(*recipients)
                    assert set(told(report)) == set(range(1, count + 1))
                    relayed = [one for one in report.outcomes if one.fate is Fate.RELAYED]
                    assert all(one.reply.code // 100 == 2 for one in relayed)
                    assert not relayed or peer.messages or talkative
                await rig.courier.close()

    run(main())
