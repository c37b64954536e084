"""The client's half: every transcript of it, and both halves against each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.terms import address
from posthouse.terms.address import Address
from posthouse.terms.envelope import NO_WISHES, DeliverBy, Envelope, Recipient, Wishes
from posthouse.terms.reply import Reply
from posthouse.wire.lines import BareLineEnding
from posthouse.wire.sasl import mechanisms
from posthouse.wire.smtp.client import Answered, Lost, NotOffered, SmtpClient
from posthouse.wire.smtp.table import Kind
from tests.transcript import PIECES, Driven, Pieces, play, read, scripts, unescape
from tests.wire.smtp.door import ALL, PASSWORD, Door, server

NOW = 1_700_000_000_000


class Caller:
    """What drives a client in a transcript: `A:` lines say what it wants said and what it must have heard."""

    def __init__(self, *, lmtp: bool = False) -> None:
        self.client = SmtpClient(lmtp=lmtp)
        self.heard: list[Answered] = []
        self.lost: Lost | None = None
        self.wishes = NO_WISHES
        self.recipient: dict[str, Any] = {}

    def run(self) -> None:
        """Hear all there is."""
        while (event := self.client.next_event()) is not None:
            if isinstance(event, Lost):
                self.lost = event
                return
            self.heard.append(event)

    def act(self, what: str) -> None:
        """Carry out an `A:` line."""
        verb, _, argument = what.partition(" ")
        match verb:
            case "hello" | "starttls" | "rset" | "quit" | "secured":
                getattr(self.client, verb)(*argument.split())
            case "auth":
                exchange = mechanisms.client([argument], "alice", PASSWORD, "clientnonce")
                assert exchange is not None
                self.client.authenticate(exchange)
            case "wish":
                self.wish(dict(word.split("=", 1) for word in argument.split()))
            case "send" | "envelope":
                self.client.transaction(self.envelope(argument), now=NOW, data=verb == "send")
            case "packet":
                addresses, _, text = argument.partition(" with ")
                self.client.transaction(self.envelope(addresses), chunk=unescape(text), now=NOW)
            case "chunk":
                self.client.chunk(len(unescape(argument)))
                assert b"".join(self.client.content(unescape(argument), binary=True)) == unescape(argument)
            case "content":
                self.content = b"".join(self.client.content(unescape(argument)))
                assert self.content == unescape(argument.replace("\\r\\n.", "\\r\\n..")) + b".\r\n"
            case _:
                self.check(verb, argument)

    def envelope(self, addresses: str) -> Envelope:
        """The addresses, with what is wished."""
        plain = envelope(*addresses.split())
        recipients = tuple(replace(one, **self.recipient) for one in plain.recipients)
        return replace(plain, recipients=recipients, wishes=self.wishes)

    def wish(self, wishes: dict[str, str]) -> None:
        """What the next envelopes ask for."""
        if notify := wishes.pop("notify", None):
            self.recipient["notify"] = frozenset(notify.split(","))
        if orcpt := wishes.pop("orcpt", None):
            self.recipient["orcpt"] = orcpt
        given: dict[str, Any] = dict(wishes)
        if by := given.pop("by", None):
            seconds, _, mode = by.partition(";")
            given["deliver_by"] = DeliverBy(NOW + int(seconds) * 1000, mode[0] == "R", "T" in mode)
        given |= {"requiretls": True} if "requiretls" in given else {}
        given |= {"priority": int(given["priority"])} if "priority" in given else {}
        self.wishes = replace(NO_WISHES, **given)

    def check(self, verb: str, argument: str) -> None:
        """Assert what an `A:` line says."""
        match verb:
            case "heard":
                assert [f"{event.verb or 'greeting'}:{event.reply.code}" for event in self.heard] == argument.split()
                self.heard.clear()
            case "about":
                assert [str(event.recipient.address) for event in self.heard if event.recipient] == argument.split()
            case "reply":
                assert str(self.heard[-1].reply) == argument
            case "accepted":
                assert [recipient.address.local for recipient in self.client.accepted] == argument.split()
            case "extensions":
                assert " ".join(f"{k}={v}" for k, v in self.client.extensions.items()) == argument
            case "lost":
                assert self.lost is not None
                assert self.lost.why == argument
                assert self.client.idle
            case "transcript":
                assert [f"{who}: {text}" for who, text in self.client.take_transcript()][-1] == argument
            case "going":
                assert self.lost is None
            case _:
                raise AssertionError(f"nobody knows how to {verb}")


def envelope(sender: str, *recipients: str) -> Envelope:
    """An envelope of plain addresses."""
    return Envelope(address.parse(sender), tuple(Recipient(address.parse(text)) for text in recipients))


@pytest.mark.parametrize("path", scripts("smtp/client"), ids=lambda path: path.stem)
@pytest.mark.parametrize("pieces", PIECES)
def test_conversation_goes_as_written(path: Path, pieces: Pieces) -> None:
    script = read(path)
    caller = Caller(lmtp=script.settings.get("kind") == "lmtp")
    conversation = Driven(caller.client, caller.run, ended=lambda: caller.lost is not None, acts=caller.act)
    play(script, conversation, ours="C", pieces=pieces)


def converse(client: SmtpClient, door: Door, cut: int = 1 << 20) -> list[Answered]:
    """Carry octets between both halves, `cut` at a time, until the client is idle."""
    heard: list[Answered] = []
    door.run()
    for _ in range(100_000):
        while (event := client.next_event()) is not None:
            assert isinstance(event, Answered), event
            heard.append(event)
        if client.idle or client.ready_for_content:
            return heard
        carry(client.outgoing(), door, cut)
        answer = door.engine.outgoing()
        for at in range(0, len(answer), cut):
            client.receive(answer[at : at + cut])
    raise AssertionError("they talk for ever")


def carry(octets: bytes, door: Door, cut: int) -> None:
    """Give octets to the door, `cut` at a time."""
    for at in range(0, len(octets), cut):
        door.engine.receive(octets[at : at + cut])
        door.run()


LOCALS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
ADDRESSES = st.builds(Address, LOCALS, st.sampled_from(["example.org", "someschool.example", "[192.0.2.1]"]))
WISHES = st.sampled_from([None, frozenset({"NEVER"}), frozenset({"SUCCESS", "DELAY"})])
RECIPIENTS = st.builds(Recipient, ADDRESSES, WISHES, st.sampled_from([None, "rfc822;a+b=c d@example.org"]))
ENVELOPES = st.builds(
    Envelope,
    st.none() | ADDRESSES,
    st.lists(RECIPIENTS, min_size=1, max_size=5).map(tuple),
    size=st.none() | st.integers(0, 1000),
    wishes=st.builds(
        Wishes,
        body=st.sampled_from(["7BIT", "8BITMIME"]),
        smtputf8=st.booleans(),
        envid=st.sampled_from([None, "an id + more"]),
        ret=st.sampled_from([None, "FULL", "HDRS"]),
    ),
)
TEXTS = st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.", b"..", b"word", b"\xc3\xa9"]) | st.binary(max_size=4)).map(
    lambda parts: b"".join(parts).replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
)


@given(
    st.lists(st.tuples(ENVELOPES, TEXTS, st.sampled_from(["data", "halves", "packet", "chunk"])), max_size=3),
    st.integers(1, 50),
    st.sampled_from(["mx", "lmtp"]),
    st.booleans(),
)
def test_both_halves_carry_the_same_mail(
    mails: list[tuple[Envelope, bytes, str]], cut: int, kind: Kind, pipelining: bool
) -> None:
    offered = {**ALL, "CHUNKING": "", "BINARYMIME": ""}
    extensions = {keyword: text for keyword, text in offered.items() if keyword != "PIPELINING" or pipelining}
    client, door = SmtpClient(lmtp=kind == "lmtp"), Door(server(kind, extensions))
    client.hello("client.example")
    assert [answer.reply.code for answer in converse(client, door, cut)] == [220, 250]
    assert client.extensions == extensions
    sent = []
    for wanted, text, way in mails:
        whole = text if not text or text.endswith(b"\r\n") else text + b"\r\n"
        about = wanted.recipients if kind == "lmtp" else (None,)
        taken = [Answered(".", Reply(250, "2.0.0", "Taken"), recipient) for recipient in about]
        envelope_verbs = ["MAIL", *["RCPT"] * len(wanted.recipients)]
        if way == "packet" and kind == "mx" and whole:
            client.transaction(wanted, chunk=whole)
            answers = converse(client, door, cut)
            assert [answer.verb for answer in answers] == [*envelope_verbs, "."]
            answers = answers[-1:]
        else:
            client.transaction(wanted, data=way != "chunk")
            answers = converse(client, door, cut)
            assert [answer.verb for answer in answers] == [*envelope_verbs, *["DATA"] * (way != "chunk")]
            if way == "chunk":
                client.chunk(len(whole))
                carry(client.outgoing(), door, cut)
            assert client.ready_for_content
            octets_sent = whole if way == "chunk" else text
            halves = (text[: len(text) // 2], text[len(text) // 2 :]) if way == "halves" else (octets_sent,)
            for octets in client.content(*halves):
                carry(octets, door, cut)
            client.receive(door.engine.outgoing())
            answers = converse(client, door, cut)
        assert answers == taken
        sent.append((wanted, whole))
    client.quit()
    assert converse(client, door, cut)[-1].reply.code == 221
    assert door.messages == sent


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_both_halves_authenticate(mechanism: str) -> None:
    client, door = SmtpClient(), Door(server("msa"))
    client.hello("client.example")
    converse(client, door)
    assert mechanism in client.mechanisms
    for password, code in (("wrong", 535), (PASSWORD, 235)):
        exchange = mechanisms.client([mechanism], "alice", password, "clientnonce")
        assert exchange is not None
        client.authenticate(exchange)
        assert converse(client, door)[-1].reply.code == code
    assert PASSWORD not in repr(client.take_transcript())


def test_both_halves_begin_tls() -> None:
    client, door = SmtpClient(), Door(server())
    client.hello("client.example")
    client.starttls()
    assert converse(client, door)[-1] == Answered("STARTTLS", Reply(220, "2.0.0", "Go ahead"))
    with pytest.raises(RuntimeError):
        client.rset()
    client.secured()
    door.engine.secured(door.after_tls)
    assert client.extensions == {}
    client.hello("client.example")
    converse(client, door)
    assert client.extensions == door.after_tls


def ready() -> SmtpClient:
    """A client whose peer waits for a message."""
    client = SmtpClient()
    client.transaction(envelope("a@example.org", "b@example.org"))
    for reply in (b"220 hi\r\n", b"250 Yes\r\n", b"250 Yes\r\n", b"354 Go\r\n"):
        client.receive(reply)
        client.next_event()
    assert client.ready_for_content
    return client


def test_a_message_with_a_bare_ending_is_never_finished() -> None:
    client = ready()
    content = client.content(b"x" * 70000 + b"\n.\n")
    assert b"\n" not in next(content)
    with pytest.raises(BareLineEnding):
        next(content)
    with pytest.raises(RuntimeError):
        client.rset()


def chunking() -> SmtpClient:
    """A client whose peer has taken an envelope and knows BDAT."""
    client = SmtpClient()
    client.transaction(envelope("a@example.org", "b@example.org"), data=False)
    for reply in (b"220 hi\r\n", b"250 Yes\r\n", b"250 Yes\r\n"):
        client.receive(reply)
        client.next_event()
    return client


def test_a_chunk_with_a_bare_ending_is_never_finished() -> None:
    client = chunking()
    client.chunk(70003)
    content = client.content(b"x" * 70000 + b"\n.\n")
    with pytest.raises(BareLineEnding):
        list(content)
    with pytest.raises(RuntimeError):
        client.rset()


def test_a_chunk_is_as_long_as_was_said() -> None:
    client = chunking()
    client.chunk(4)
    with pytest.raises(RuntimeError, match="differs by -1"):
        list(client.content(b"12345"))


def test_needs_that_the_peer_does_not_meet() -> None:
    client = SmtpClient()
    for wanted, extension in (
        (Envelope(None, wishes=Wishes(smtputf8=True)), "SMTPUTF8"),
        (Envelope(Address("é", "example.org")), "SMTPUTF8"),
        (Envelope(None, wishes=Wishes(body="8BITMIME")), "8BITMIME"),
        (Envelope(None, wishes=Wishes(body="BINARYMIME")), "BINARYMIME"),
    ):
        with pytest.raises(NotOffered) as caught:
            client.mail(wanted)
        assert caught.value.extension == extension
    with pytest.raises(NotOffered):
        client.rcpt(Recipient(Address("é", "example.org")))
    with pytest.raises(ValueError, match="cannot stand in a line"):
        client.hello("a\r\nRSET")


@pytest.mark.parametrize("control", ["\r\n", "\x85", "\u2028", "\ud800", "\x7f"])
def test_what_no_line_may_hold_is_found_out_before_anything_is_said(control: str) -> None:
    client = SmtpClient()
    client.hello("a")
    for reply in (b"220 hi\r\n", b"250-x\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n"):
        client.receive(reply)
        client.next_event()
    client.outgoing()
    bad = Envelope(None, (Recipient(Address(f"a{control}b", "example.org")),), wishes=Wishes(smtputf8=True))
    with pytest.raises(ValueError, match="cannot stand in a line"):
        client.written(bad)
    assert client.outgoing() == b""
    good = Envelope(None, (Recipient(Address("a\u200cb", "example.org")),), wishes=Wishes(smtputf8=True))
    client.say(client.written(good, data=False))
    assert client.outgoing() == "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<a\u200cb@example.org>\r\n".encode()


def test_what_the_peer_announces() -> None:
    client = SmtpClient()
    client.receive(b"220 hi\r\n250-x\r\n"[:8])
    client.hello("a")
    client.next_event()
    client.receive(b"250-x\r\n250-size 1000\r\n250-AUTH=PLAIN\r\n250 LIMITS RCPTMAX=10 MAILMAX=x RCPTDOMAINMAX=0\r\n")
    client.next_event()
    assert client.size_limit == 1000
    assert client.mechanisms == ["PLAIN"]
    assert client.limits == {"RCPTMAX": 10}


SAID = st.lists(
    st.sampled_from(
        [b"220 hi\r\n", b"250-", b"250 ok\r\n", b"250 2.1.0\r\n", b"354 go\r\n", b"421 x\r\n", b"550-5.1.1 a\r\n",
         b"550 5.1.1 b\r\n", b"999 x\r\n", b"\n", b"\r", b"334 !\r\n", b"334 \r\n", b"\xff", b"x" * 20000]
    )
    | st.binary(max_size=6)
)  # fmt: skip


@given(SAID, st.integers(1, 30), st.sampled_from([None, b"one\r\n"]))
def test_no_peer_makes_the_client_raise(said: list[bytes], cut: int, chunk: bytes | None) -> None:
    whole = b"".join(said)
    client = SmtpClient()
    client.hello("a")
    exchange = mechanisms.client(["PLAIN"], "alice", "pencil", "n")
    assert exchange is not None
    client.authenticate(exchange)
    client.transaction(envelope("a@example.org", "b@example.org", "c@example.org"), chunk=chunk)
    for at in range(0, len(whole), cut):
        client.receive(whole[at : at + cut])
        while (event := client.next_event()) is not None and not isinstance(event, Lost):
            assert event.reply.text.replace("\n", "").isprintable()
    client.receive(b"")
    while not isinstance(client.next_event(), Lost):
        assert not client.idle
    assert client.idle
