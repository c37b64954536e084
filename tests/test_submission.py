from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory import accounts, identities
from posthouse.directory.addresses import Rules
from posthouse.directory.cache import Directory
from posthouse.directory.model import Account
from posthouse.limits import HEADER_ADDRESSES, HEADER_FIELDS, HEADER_SIZE
from posthouse.message.header import Header, parse_date
from posthouse.store.sqlite import SqliteStore
from posthouse.submission import Submission
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal
from tests.directory.support import NOW, add_account, add_domain, with_store
from tests.support import run

Edit = Callable[[bytes], bytes]
ALICE = parse("alice@example.org")
COMPLETE = b"From: Alice <alice@example.org>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <a@example.org>\r\n"


def editor(directory: Path, sender: Address | None = ALICE) -> Edit:
    """The edit of a header for alice, who is a.liddell too."""
    edits: list[Edit] = []

    async def main(store: SqliteStore, clock: SetClock) -> None:
        account = await prepared(store)
        submission = Submission(Directory(store, clock, Rules()), clock, Random(1), "mx.example.org")
        await submission.check_sender(account, sender)
        edits.append(submission.header_edit(account, Envelope(sender)))

    with_store(directory, main)
    return edits[0]


async def prepared(store: SqliteStore) -> Account:
    await store.write(add_domain, "example.org")
    account = await store.write(add_account, "alice@example.org")
    await store.write(add_account, "alice+bank@example.org")
    await store.write(add_account, "bob@example.org")
    await store.write(identities.add, account.id, parse("a.liddell@example.org"))
    await store.write(accounts.set_full_name, account.id, "Alice Liddell")
    return await store.read(accounts.find, account.id)


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory) -> Edit:
    return editor(tmp_path_factory.mktemp("submission"))


def test_senders(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        account = await prepared(store)
        submission = Submission(Directory(store, clock, Rules()), clock, Random(1), "mx.example.org")
        for own in ("ALICE@example.org", "a.liddell@example.org", "alice+list@example.org"):
            await submission.check_sender(account, parse(own))
        await submission.check_sender(account, None)
        for other in ("bob@example.org", "alice@elsewhere.example", "alice+bank@example.org", "alice+@example.org"):
            with pytest.raises(Refusal) as refused:
                await submission.check_sender(account, parse(other))
            assert (refused.value.reply.code, refused.value.reply.enhanced) == (550, "5.7.1")
        await store.write(accounts.remove, account.id, NOW)
        submission = Submission(Directory(store, clock, Rules()), clock, Random(1), "mx.example.org")
        with pytest.raises(Refusal):
            await submission.check_sender(account, ALICE)

    with_store(tmp_path, main)


def test_an_address_that_was_granted_is_ones_own_to_send_as(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        account = await prepared(store)
        directory = Directory(store, clock, Rules())
        submission = Submission(directory, clock, Random(1), "mx.example.org")
        bob = parse("bob@example.org")
        await store.write(identities.grant, account.id, bob)
        for granted in (bob, parse("bob+list@example.org")):
            assert await submission.check_sender(account, granted) == granted
        edit = submission.header_edit(account, Envelope(bob))
        head = COMPLETE.replace(b"alice@", b"bob@")
        assert edit(head) is head
        await store.write(identities.revoke, account.id, bob)
        directory.forget()
        with pytest.raises(Refusal):
            await submission.check_sender(account, bob)

    with_store(tmp_path, main)


def test_senders_are_rewritten_where_that_is_configured(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        account = await prepared(store)
        submission = Submission(Directory(store, clock, Rules()), clock, Random(1), "mx.example.org", rewrite=True)
        printer = parse("root@printer.example")
        sender = await submission.check_sender(account, printer)
        assert sender == ALICE
        assert await submission.check_sender(account, None) is None
        edit = submission.header_edit(account, Envelope(sender))
        assert edit(COMPLETE) is COMPLETE
        rest = COMPLETE[COMPLETE.index(b"Date") :]
        own = b"From: Alice Liddell <alice@example.org>\r\n"
        answer = b"Reply-To: Printer <root@printer.example>\r\n"
        assert edit(b"From: Printer <root@printer.example>\r\n" + rest) == rest + answer + own
        # Whoever said where answers go is asked no more.
        said = b"Reply-To: office@example.org\r\n"
        assert edit(b"From: Printer <root@printer.example>\r\n" + said + rest) == said + rest + own
        for unreadable in (b"From: a@x.example b@x.example\r\n", b"From: \r\n"):
            with pytest.raises(Refusal):
                edit(unreadable + rest)

    with_store(tmp_path, main)


def test_a_header_without_a_sender_that_was_checked_has_to_wait() -> None:
    account = Account(1, "alice@example.org", "", None, None, True, 0)

    async def main() -> None:
        directory = Directory.__new__(Directory)
        submission = Submission(directory, SetClock(), Random(1), "mx.example.org")
        with pytest.raises(Refusal) as refused:
            submission.header_edit(account, Envelope(ALICE))
        assert refused.value.reply.transient

    run(main())


def test_what_is_complete_is_left_alone(edit: Edit) -> None:
    assert edit(COMPLETE) is COMPLETE


def test_what_is_missing_is_added_behind(edit: Edit) -> None:
    # RFC 6409 §8.2, §8.3
    made = edit(b"Subject: Hello\r\n")
    assert made.startswith(b"Subject: Hello\r\nFrom: Alice Liddell <alice@example.org>\r\nDate: ")
    header = Header.parse(made + b"\r\n")
    assert parse_date(header.first(b"date") or b"") == NOW
    message_id = header.first(b"message-id") or b""
    assert message_id.startswith(b"<")
    assert message_id.endswith(b"@example.org>")
    assert edit(made) is made
    assert edit(b"") != edit(b"")


def test_hidden_recipients_stay_hidden(edit: Edit) -> None:
    made = edit(
        b"Bcc: x@example.org,\r\n y@example.org\r\n" + COMPLETE + b"bCC: z@example.org\r\nTo: t@example.org\r\n"
    )
    assert made == COMPLETE + b"To: t@example.org\r\n"
    assert edit(b"Bcc :\r\n" + COMPLETE) == COMPLETE
    assert edit(COMPLETE + b"Resent-Bcc: x@example.org\r\n") == COMPLETE


@pytest.mark.parametrize(
    "line",
    [
        b"From: Alice <ALICE@Example.Org>",
        b"From: a.liddell@example.org",
        b"From: =?utf-8?q?Al=C3=AFce?= <alice+news@example.org>",
        b'From: "bob@example.org" <alice@example.org>',
        b"From:\r\n alice@example.org",
        b"From: alice@example.org <alice@example.org>",
        b'From: "Liddell, \\"A\\" (home)" (at ((home), (5) "<>")) <alice@example.org>, a.liddell@example.org',
    ],
)
def test_own_authors(edit: Edit, line: bytes) -> None:
    assert line in edit(line + b"\r\n")


@pytest.mark.parametrize(
    ("head", "enhanced"),
    [
        (b"From: bob@example.org\r\n", "5.7.1"),
        (b"From: alice+bank@example.org\r\n", "5.7.1"),
        (b"From: alice@example.org, bob@example.org\r\n", "5.7.1"),
        (b"From: Team: alice@example.org, bob@example.org;\r\n", "5.7.1"),
        (b"From: alice\r\n", "5.7.1"),
        (b"From:\r\n", "5.6.0"),
        (b"From: undisclosed:;\r\n", "5.6.0"),
        (b"From: alice@example.org\r\nFrom: bob@example.org\r\n", "5.6.0"),
        (b"From: alice@example.org\r\nFROM : bob@example.org\r\n", "5.6.0"),
        (b"From alice Thu Jan  1 00:00:00 2026\r\n" + COMPLETE, "5.6.0"),
        (b" \r\n" + COMPLETE, "5.6.0"),
        (b"\r\n" + COMPLETE, "5.6.0"),
        (COMPLETE + b"\r\n", "5.6.0"),
        (b"Bcc: a@example.org,\r\n\x01b@example.org\r\n" + COMPLETE, "5.6.0"),
        (b"Subject: a\0b\r\n" + COMPLETE, "5.6.0"),
        (COMPLETE + b"X: y\r\n" * HEADER_FIELDS + b"From: bob@example.org\r\n", "5.6.0"),
        (COMPLETE + b"X: " + b"y" * HEADER_SIZE + b"\r\nFrom: bob@example.org\r\n", "5.6.0"),
        (b"X: y\r\n" + b" z\r\n" * 4 * HEADER_FIELDS + b"From: bob@example.org\r\n", "5.6.0"),
        (b"From: " + b"alice@example.org,\r\n " * HEADER_ADDRESSES + b"bob@example.org\r\n", "5.6.0"),
        ("From\u00a0: bob@example.org\r\n".encode() + COMPLETE, "5.6.0"),
        # Programs differ on whom these name.
        (b"From: <bob@example.org> <alice@example.org>\r\n", "5.6.0"),
        (b"From: <bob@example.org>alice <alice@example.org>\r\n", "5.6.0"),
        (b"From: bob@example.org alice@example.org\r\n", "5.6.0"),
        (b"From: bob@example.org <alice@example.org>\r\n", "5.6.0"),
        (b'From: "bob@example.org" bob@example.org (Bob) <alice@example.org>\r\n', "5.6.0"),
        (b"From: <alice+x@far.example:bob@example.org>\r\n", "5.6.0"),
        (b"From: <alice+x@far.example@example.org>\r\n", "5.6.0"),
        (b"From: <@bob@far.example:alice@example.org>\r\n", "5.6.0"),
        (b"From: alice@example.org (bob@example.org\r\n", "5.6.0"),
        (b"From: alice@example.org, <bob@example.org alice@example.org\r\n", "5.6.0"),
    ],
)
def test_what_is_refused(edit: Edit, head: bytes, enhanced: str) -> None:
    with pytest.raises(Refusal) as refused:
        edit(head)
    assert (refused.value.reply.code, refused.value.reply.enhanced) == (550, enhanced)


def test_the_sender_field_is_true(edit: Edit) -> None:
    # RFC 6409 §8.1
    assert edit(b"Sender: a.liddell@example.org\r\n" + COMPLETE) == b"Sender: a.liddell@example.org\r\n" + COMPLETE
    assert edit(b"Sender: bob@example.org\r\n" + COMPLETE) == COMPLETE
    twice = b"Sender: alice@example.org\r\n" * 2
    assert edit(twice + COMPLETE) == COMPLETE
    # RFC 5322 §3.6.2: two authors, so there must be one.
    both = COMPLETE.replace(b"Alice <alice@example.org>", b"alice@example.org, a.liddell@example.org")
    assert edit(b"Sender: bob@example.org\r\n" + both) == both + b"Sender: Alice Liddell <alice@example.org>\r\n"


def test_a_receipt_is_from_the_account(tmp_path: Path) -> None:
    # RFC 8098 §3: a disposition notification has a null reverse-path.
    assert b"From: Alice Liddell <alice@example.org>\r\n" in editor(tmp_path, None)(b"Subject: read\r\n")


NAMES = st.sampled_from([b"From", b"Sender", b"Bcc", b"To", b"Date", b"Message-ID", b"Subject", b"From ", b"x"])
VALUES = st.sampled_from(
    [b"alice@example.org", b"bob@example.org", b"A <a.liddell@example.org>", b"", b"<x@y>", b"a:b;", b"a\r\n b"]
)
HEADS = st.lists(st.tuples(NAMES, VALUES)).map(lambda fields: b"".join(b"%s: %s\r\n" % field for field in fields))


@given(HEADS | st.binary(max_size=200).map(lambda octets: octets + b"\r\n"))
def test_whatever_comes_out_is_complete_and_nobody_elses(edit: Edit, head: bytes) -> None:
    try:
        made = edit(head)
    except Refusal:
        return
    header = Header.parse(made + b"\r\n")
    assert header.count(b"from") == 1
    assert header.count(b"date") >= 1
    assert header.count(b"message-id") >= 1
    assert header.count(b"bcc") == 0
    assert b"bob@example.org" not in (header.first(b"from") or b"") + (header.first(b"sender") or b"")
    assert edit(made) is made
