"""The grammar: parsers raise nothing but a Refusal, and what they take is what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.terms.address import Address
from posthouse.terms.reply import Refusal
from posthouse.wire.smtp import command
from posthouse.wire.smtp.command import Parser
from posthouse.wire.smtp.event import Rejected
from posthouse.wire.smtp.parameters import Situation, decode_xtext, encode_xtext
from posthouse.wire.smtp.table import VERBS
from tests.wire.smtp.door import ALL, MORE, Door, server

SITUATION = Situation(ALL | MORE, "example.org")
WORDS = st.sampled_from(
    ["FROM:", "TO:", "<", ">", "@", "a", "a@b.example", '"', "\\", " ", "SIZE=", "1", "BODY=", "8BITMIME", "NOTIFY=",
     "NEVER", ",", "ORCPT=rfc822;", "+2B", "+", "=", "SMTPUTF8", "é", "日本", "AUTH=<>", "RET=FULL", "ENVID=",
     "BY=", "120", ";R", ";NT", "HOLDFOR=", "HOLDUNTIL=", "2030-01-01T00:00:00Z", "MT-PRIORITY=", "-9", "REQUIRETLS",
     "LAST", "#", "ADDR=", "NAME=", "[UNAVAILABLE]", "\t", "[1.2.3.4]", "[IPv6:", "]", ":", "PLAIN", "\U0001f4a9",
     "xn--", ".", "-", "*"]
)  # fmt: skip
TEXT = st.lists(WORDS | st.text(max_size=3)).map("".join)


@pytest.mark.parametrize("verb", sorted(VERBS["mx"]))
@given(argument=TEXT, smtputf8=st.booleans())
def test_a_parser_raises_nothing_but_a_refusal(verb: str, argument: str, smtputf8: bool) -> None:
    parse = VERBS["mx"][verb].parse
    assert parse is not None
    refusal = refused(parse, argument, Situation(ALL | MORE, "example.org", smtputf8))
    if refusal is not None:
        assert 500 <= refusal.reply.code < 600
        assert refusal.reply.enhanced is not None


def refused(parse: Parser, argument: str, situation: Situation) -> Refusal | None:
    try:
        parse(argument, situation)
    except Refusal as refusal:
        return refusal
    return None


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_xtext_comes_back(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text


@given(st.text())
def test_xtext_decodes_to_printable_ascii_or_not_at_all(text: str) -> None:
    decoded = decode_xtext(text)
    assert decoded is None or (decoded.isascii() and decoded.isprintable())


LOCALS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@given(LOCALS)
def test_every_local_part_comes_back(local: str) -> None:
    address = Address(local, "example.org")
    parsed = command.parse_rcpt(f"TO:<{address}>", SITUATION)
    assert parsed.recipient.address == address


def test_a_long_path_takes_no_time() -> None:
    for text in ("<" + "a" * 2000, '<"' + "\\a" * 900, "<" + '"a"' * 600 + ">", "<" * 2000):
        with pytest.raises(Refusal):
            command.parse_mail("FROM:" + text, SITUATION)


COMMANDS = st.lists(
    st.sampled_from(
        [b"BDAT 4\r\n", b"BDAT 6 LAST\r\nlast\r\n", b"BDAT x\r\n", b"MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n",
         b"ETRN @b.example\r\n", b"XCLIENT ADDR=192.0.2.1\r\n", b"EHLO a.example\r\n", b"MAIL FROM:<a@b.example>\r\n",
         b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"text\r\n",
         b".\r\n", b"..\r\n", b"RSET\r\n", b"NOOP\r\n", b"AUTH LOGIN\r\n", b"YWxpY2U=\r\n", b"*\r\n", b"\n", b"\r",
         b"\0", b"AUTH PLAIN AGFsaWNlAHBlbmNpbA==\r\n", b"RCPT TO:<refused@d.example>\r\n", b"VRFY \xff\r\n",
         b"x" * 3000, b"QUIT\r\n", b"MAIL FROM:<\xc3\xa9@b.example> SMTPUTF8\r\n", b"RCPT TO:<full@d.example>\r\n"]
    )
    | st.binary(max_size=8)
)  # fmt: skip


@given(said=COMMANDS, cuts=st.lists(st.integers(1, 200)), kind=st.sampled_from(["mx", "msa"]))
def test_any_octets_in_any_pieces_get_the_same_answers(said: list[bytes], cuts: list[int], kind: str) -> None:
    whole = b"EHLO a.example\r\n" + b"".join(said)
    answers = []
    for sizes in ([len(whole)], cuts, [1] * len(whole)):
        door = Door(server("msa" if kind == "msa" else "mx", ALL | MORE))
        door.run()
        rest, sent = whole, b""
        for size in [*sizes, len(whole)]:
            if rest:
                door.engine.receive(rest[:size])
                rest = rest[size:]
                door.run()
                sent += door.engine.outgoing()
        door.engine.receive(b"")
        door.run()
        rejected = [event for event in door.events if isinstance(event, Rejected)]
        answers.append((sent + door.engine.outgoing(), door.messages, rejected, door.engine.errors, door.events[-1]))
    assert answers[0] == answers[1] == answers[2]
