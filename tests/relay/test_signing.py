import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory import signing
from posthouse.directory.addresses import Rules
from posthouse.directory.cache import Directory
from posthouse.message import build
from posthouse.relay.signing import _BROUGHT, _LOGGED_IN, UNSIGNED, DkimSigner, _authors, _may_be_asked
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, parse
from posthouse.trust import dkim
from posthouse.trust.dkim import Parts, SigningKey
from tests.directory.support import NOW, add_domain, with_store
from tests.trust import reference
from tests.trust.support import BOTH, RSA, records

PASSED = ["pass a=rsa-sha256 d=home.example", "pass a=ed25519-sha256 d=home.example"]
RECORDS = {**records("home.example", *BOTH), **records("other.example", RSA)}
ALICE, SRS = parse("alice@home.example"), parse("SRS0=x=y=far.example=eve@home.example")
REST = b"To: <bob@there.example>\r\nSubject: Hello\r\n\r\nHello.\r\n"


def received(protocol: str, helo: str = "[192.0.2.1]", name: str | None = None, peer: str = "192.0.2.1") -> bytes:
    """The field that a door of ours puts in front."""
    return build.received_field(
        helo=helo, peer=peer, peer_name=name, by="mail.home.example", protocol=protocol, id="x", at=NOW,
        tls="TLSv1.3 AES",
    )  # fmt: skip


SUBMITTED, FROM_STRANGER = received("ESMTPSA"), received("ESMTPS")

Sign = Callable[..., Awaitable[list[str]]]


def prepare(tx: Tx) -> None:
    """home.example with two keys, other.example with one, bare.example without."""
    for domain, keys in {"home.example": BOTH, "other.example": (RSA,), "bare.example": ()}.items():
        add_domain(tx, domain)
        for one in keys:
            signing.add(tx, domain, one.key, NOW, one.selector)


def signer(path: Path, test: Callable[[Sign], Awaitable[None]], trusted: Sequence[str] = ()) -> None:
    """Run a test with what signs a message and verifies it: what comes of each signature."""

    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(prepare)
        signer = DkimSigner(Directory(store, clock, Rules()), clock, trusted)

        async def sign(octets: bytes, sender: Address | None = ALICE, prologue: bytes = b"") -> list[str]:
            signed = await signer.sign(sender, prologue, octets)
            return reference.verify(signed.fields + prologue + octets, RECORDS)

        await test(sign)

    with_store(path, main)


def test_mail_of_our_accounts_is_signed_by_the_domain_that_people_see(tmp_path: Path) -> None:
    async def test(sign: Sign) -> None:
        assert await sign(SUBMITTED + b"From: Alice <alice@home.example>\r\n" + REST) == PASSED
        # The reverse-path may be of another domain: DMARC looks at From.
        assert await sign(SUBMITTED + b"From: <x@other.example>\r\n" + REST) == ["pass a=rsa-sha256 d=other.example"]
        assert await sign(SUBMITTED + b"From: <alice@HOME.example>\r\n" + REST, None) == PASSED
        # Of several authors one signs.
        several = b"From: friends: Eve <eve@far.example>, alice@home.example;\r\n"
        assert await sign(SUBMITTED + several + REST) == PASSED

    signer(tmp_path, test)


def test_else_by_the_domain_of_the_sender_or_by_nobody(tmp_path: Path) -> None:
    async def test(sign: Sign) -> None:
        assert await sign(SUBMITTED + b"From: <x@bare.example>\r\n" + REST) == PASSED
        assert await sign(SUBMITTED + b"From: nobody\r\n" + REST) == PASSED
        assert await sign(SUBMITTED + b"From: <x@bare.example>\r\n" + REST, parse("x@bare.example")) == []
        assert await sign(SUBMITTED + b"From: <x@far.example>\r\n" + REST, None) == []

    signer(tmp_path, test)


def test_where_nothing_has_a_key_no_header_is_read_until_something_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def seen(prologue: bytes, octets: bytes) -> Parts:
        read.append(octets)
        return dkim.take_apart(prologue, octets)

    monkeypatch.setattr("posthouse.relay.signing.take_apart", seen)
    octets = SUBMITTED + b"From: Alice <alice@home.example>\r\n" + REST

    async def main(store: SqliteStore, clock: SetClock) -> None:
        directory = Directory(store, clock, Rules())
        signer = DkimSigner(directory, clock)
        assert await signer.sign(ALICE, b"", octets) == UNSIGNED
        assert read == []
        await store.write(prepare)
        directory.forget()
        signed = await signer.sign(ALICE, b"", octets)
        assert (signed.domain, read) == ("home.example", [octets])

    with_store(tmp_path, main)


def test_of_mail_that_nobody_can_sign_no_second_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def seen(prologue: bytes, octets: bytes) -> Parts:
        read.append(octets)
        return dkim.take_apart(prologue, octets)

    monkeypatch.setattr("posthouse.relay.signing.take_apart", seen)
    bare = SUBMITTED + b"From: <x@bare.example>\r\n" + REST
    own = SUBMITTED + b"Subject: x\r\nfrom :\r\n <alice@home.example>\r\n" + REST

    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(prepare)
        directory, sender = Directory(store, clock, Rules()), parse("x@bare.example")
        signer = DkimSigner(directory, clock)
        for _ in range(3):
            assert await signer.sign(sender, b"", bare) == UNSIGNED
        assert read == [bare]
        # Who has keys signs, whatever is known of others; and so does who gets some.
        assert (await signer.sign(sender, b"", own)).domain == "home.example"
        await store.write(signing.add, "bare.example", RSA.key, NOW, "new")
        directory.forget()
        assert (await signer.sign(sender, b"", bare)).domain == "bare.example"

    with_store(tmp_path, main)


_PIECES = (
    b"From:", b"from :", b"FROM\t:", b"From", b"\n", b"\r\n", b"\r\n ", b"\n\t", b"\r", b" ", b"\x00", b"a@b.example",
    b"<c@d.example>", b",", b"X: y", b"Sender:", b"\n\n", b'"', b"(",
)  # fmt: skip
HEADERS = st.lists(st.sampled_from(_PIECES)).map(b"".join)


@given(HEADERS, HEADERS)
def test_whoever_may_sign_is_among_those_who_are_looked_for(prologue: bytes, octets: bytes) -> None:
    prologue = b"".join(line + b"\r\n" for line in prologue.splitlines() if line[:1] > b" ")
    header = dkim.take_apart(prologue, octets).header
    asked = _may_be_asked(ALICE, prologue, octets)
    if asked and header.count(b"from") == 1:
        assert {*_authors(header.first(b"from") or b""), ALICE.domain} <= asked


def test_our_own_reports_are_signed_by_the_domain_above_the_host(tmp_path: Path) -> None:
    async def test(sign: Sign) -> None:
        assert await sign(b"From: <MAILER-DAEMON@mail.home.example>\r\n" + REST, None) == PASSED

    signer(tmp_path, test)


@pytest.mark.parametrize("sender", [ALICE, SRS, None, parse("eve@far.example")])
def test_what_strangers_wrote_is_not_signed_when_we_pass_it_on(tmp_path: Path, sender: Address | None) -> None:
    async def test(sign: Sign) -> None:
        for author in (b"alice@home.example", b"eve@far.example", b"x@mail.home.example"):
            message = FROM_STRANGER + b"From: <" + author + b">\r\n" + REST
            assert await sign(message, sender) == []
            # Neither a Received field further down nor a List-Id of theirs makes it ours.
            forged = SUBMITTED + b"List-Id: <staff.home.example>\r\nFrom: <" + author + b">\r\n" + REST
            assert await sign(FROM_STRANGER + forged, sender) == []
            # Nor do our own marks in front of it.
            assert await sign(message, sender, b"Delivered-To: staff@home.example\r\n" + SUBMITTED) == []

    signer(tmp_path, test)


TRUSTED = ("192.0.2.0/28", "2001:db8::/64")
FROM_ALICE = b"From: <alice@home.example>\r\n"


@pytest.mark.parametrize(
    "below",
    [
        b"",
        b"Received: by web.home.example (Postfix, from userid 33)\r\n\tid 4B; Thu, 1 Jan 2026 00:00:00 +0000\r\n",
        b"Received: from app (localhost [127.0.0.1])\r\n\tby web.home.example (Postfix) with ESMTP id 4B\r\n",
        b"Received: from app (app [IPv6:2001:db8::7]) by web.home.example with ESMTP id 4B\r\n",
    ],
)
def test_mail_of_hosts_in_trusted_networks_is_signed_by_its_author(tmp_path: Path, below: bytes) -> None:
    async def test(sign: Sign) -> None:
        for peer in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"):
            octets = received("ESMTP", name="web.home.example", peer=peer) + below + FROM_ALICE + REST
            assert await sign(octets) == PASSED
            assert await sign(octets, None) == PASSED
        # The domain of the author signs, or nobody: what forwards has its own reverse-path.
        foreign = FROM_STRANGER + below + b"From: <eve@far.example>\r\n" + REST
        assert await sign(foreign, ALICE) == []
        # What an alias led on was not sent there by that host.
        led = b"Delivered-To: staff@home.example\r\n"
        assert await sign(FROM_STRANGER + below + FROM_ALICE + REST, ALICE, led) == []

    signer(tmp_path, test, TRUSTED)


@pytest.mark.parametrize(
    "octets",
    [
        # Not from there, or nobody knows from where.
        received("ESMTP", peer="192.0.2.16"),
        received("ESMTP", peer="127.0.0.1"),
        received("ESMTP", helo="x ([192.0.2.1]) by mail.home.example (posthouse) with ESMTP", peer="198.51.100.7"),
        received("LMTP"),
        # From there, and before that from a stranger, whatever else he wrote.
        FROM_STRANGER + b"Received: from x (x [198.51.100.7]) by web.home.example (Postfix) with ESMTP id 4B\r\n",
        FROM_STRANGER + b"Received: from [127.0.0.1] (x [198.51.100.7]) by web.home.example with ESMTP id 4B\r\n",
        FROM_STRANGER + b"Received: from x (unknown) by web.home.example with ESMTP id 4B\r\n",
        FROM_STRANGER + b"Received: from\r\n x ([198.51.100.7])\r\n\tby web.home.example with ESMTP id 4B\r\n"
        b"Received: from app (localhost [127.0.0.1]) by web.home.example with ESMTP id 4A\r\n",
        FROM_STRANGER + b"Received: from x ([999.0.0.1]) by web.home.example with ESMTP id 4B\r\n",
    ],
)
def test_what_passed_other_hands_is_not_signed(tmp_path: Path, octets: bytes) -> None:
    async def test(sign: Sign) -> None:
        assert await sign(octets + FROM_ALICE + REST) == []

    signer(tmp_path, test, TRUSTED)


def test_a_list_signs_what_it_sends(tmp_path: Path) -> None:
    async def test(sign: Sign) -> None:
        bounces, prologue = parse("staff-bounces@other.example"), b"List-Id: <staff.other.example>\r\n"
        for author in (b"alice@home.example", b"eve@far.example"):
            message = FROM_STRANGER + b"From: <" + author + b">\r\n" + REST
            assert await sign(message, bounces, prologue) == ["pass a=rsa-sha256 d=other.example"]

    signer(tmp_path, test)


def test_a_header_that_can_be_read_in_two_ways_is_signed_by_nobody(tmp_path: Path) -> None:
    async def test(sign: Sign) -> None:
        author = b"From: <alice@home.example>\r\n"
        assert await sign(SUBMITTED + author * 2 + REST) == []
        assert await sign(SUBMITTED + REST) == []
        assert await sign(SUBMITTED + author + b"X: x\r\n" * 3000 + REST) == []
        assert await sign(b"") == []

    signer(tmp_path, test)


def test_a_large_message_does_not_hold_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def sign_and_tell(parts: Parts, domain: str, keys: Sequence[SigningKey], now: int) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return dkim.sign(parts, domain, keys, now)

    monkeypatch.setattr("posthouse.relay.signing.sign", sign_and_tell)

    async def test(sign: Sign) -> None:
        head = SUBMITTED + b"From: <alice@home.example>\r\n\r\n"
        assert await sign(head + b"A line.\r\n") == PASSED
        assert await asyncio.gather(*(sign(head + b"A line.\r\n" * 10_000) for _ in range(2))) == [PASSED] * 2

    signer(tmp_path, test)
    assert threads == [True, False, False]


def test_new_keys_sign_as_soon_as_the_directory_has_heard(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(prepare)
        directory = Directory(store, clock, Rules())
        following = asyncio.create_task(directory.follow())
        signer = DkimSigner(directory, clock)
        message = SUBMITTED + b"From: <x@bare.example>\r\n" + REST
        sender = parse("x@bare.example")
        assert await signer.sign(sender, b"", message) == UNSIGNED
        await store.write(signing.add, "bare.example", RSA.key, NOW, "new")
        while (made := await signer.sign(sender, b"", message)) is UNSIGNED:
            await asyncio.sleep(0.01)
        assert (b"s=new;" in made.fields, made.domain, made.selectors) == (True, "bare.example", ("new",))
        following.cancel()

    with_store(tmp_path, main)


def test_without_the_store_nothing_is_sent_unsigned(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        directory = Directory(store, clock, Rules())
        signer = DkimSigner(directory, clock)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await signer.sign(ALICE, b"", SUBMITTED + b"From: <alice@home.example>\r\n" + REST)

    with_store(tmp_path, main)


# --- whether somebody had logged in


@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize("lmtp", [True, False])
def test_a_login_is_read_from_our_received_field(lmtp: bool, auth: bool, tls: bool, utf8: bool) -> None:
    field = received(build.protocol(lmtp=lmtp, utf8=utf8, tls=tls, auth=auth), name="host.far.example")
    value = field.removeprefix(b"Received: ").replace(b"\r\n", b"")
    assert bool(_LOGGED_IN.match(value)) is auth


LURES = [
    "x by y (posthouse) with ESMTPSA",
    "(posthouse)",
    ") by y (posthouse) with ESMTPSA (",
    "x\r\n\tby y (posthouse) with ESMTPA",
]
HELO = st.text(st.sampled_from(' ()[].;=\r\n\tabyith<>\\"'), max_size=20) | st.sampled_from(LURES)


@given(HELO, HELO)
def test_no_greeting_makes_a_stranger_look_like_one_of_ours(helo: str, name: str) -> None:
    value = received("ESMTPS", helo, name).removeprefix(b"Received: ").replace(b"\r\n", b"")
    assert not _LOGGED_IN.match(value)
    # Nor as if he came from anywhere else.
    brought = _BROUGHT.match(value)
    assert brought is not None
    assert brought[1] == b"192.0.2.1"
