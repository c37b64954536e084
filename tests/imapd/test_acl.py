"""Mailboxes that several accounts use: who may do what, at every command (RFC 4314 §4)."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from posthouse.directory import accounts, domains
from posthouse.mailbox import mailboxes, shares
from posthouse.mailbox.known import Known
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.shares import ANYONE
from posthouse.mailbox.view import View
from posthouse.terms.address import parse
from tests.doors.house import ALICE, BOB, House, ImapClient, having, in_house, message

THERE = f'"Other Users/{ALICE}/Project"'
Test = Callable[[House, ImapClient, ImapClient], Awaitable[None]]


def shared(tmp_path: Path, rights: str, test: Test, messages: int = 2) -> None:
    """Alice has a mailbox Project with messages, in which Bob has these rights."""

    async def run(house: House) -> None:
        alice, bob = await house.imap(mailbox=None), await house.imap(BOB, mailbox=None)
        await alice.ok("CREATE Project")
        for number in range(1, messages + 1):
            await house.file(message(number), mailbox="Project")
        if rights:
            await alice.ok(f"SETACL Project {BOB} {rights}")
        await test(house, alice, bob)

    in_house(tmp_path, run)


async def refused(client: ImapClient, command: str, code: str = "NOPERM") -> None:
    said = await client.tagged(command)
    assert said.startswith(b"NO [%b]" % code.encode()), (command, said)


def test_acl_is_told_and_changed(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        owner = b'* ACL "Project" alice@example.org lrswipkxteacd'
        assert await alice.ok("GETACL Project") == [owner]
        await alice.ok(f"SETACL Project {BOB} lrs")
        await alice.ok(f"SETACL Project {BOB} +ce")
        await alice.ok(f"SETACL Project {BOB} -s")
        assert await alice.ok("GETACL Project") == [owner + b" bob@example.org lrkxecd"]
        assert await bob.ok(f"MYRIGHTS {THERE}") == [b"* MYRIGHTS %b lrkxecd" % THERE.encode()]
        assert await alice.ok("MYRIGHTS Project") == [b'* MYRIGHTS "Project" lrswipkxteacd']
        assert await alice.ok(f"LISTRIGHTS Project {BOB}") == [
            b'* LISTRIGHTS "Project" bob@example.org "" l r s w i p k x t e a c d'
        ]
        assert await alice.ok(f"LISTRIGHTS Project {ALICE}") == [
            b'* LISTRIGHTS "Project" alice@example.org lrswipkxteacd'
        ]
        await refused(alice, f"SETACL Project {ALICE} lr", "CANNOT")
        await refused(alice, "SETACL Project anyone lr")
        await refused(alice, "SETACL Project nobody@example.org lr", "CANNOT")
        await refused(alice, f"SETACL Nowhere {BOB} lr", "NONEXISTENT")
        await alice.ok(f"DELETEACL Project {BOB}")
        assert await alice.ok("GETACL Project") == [owner]
        await refused(bob, f"MYRIGHTS {THERE}", "NONEXISTENT")

    shared(tmp_path, "", test)


def test_what_anyone_may_use(tmp_path: Path) -> None:
    """RFC 4314 §2: who runs the server gives it to all; the owner may take it back, and from some."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        project = await house.store.read(mailboxes.find, house.alice.id, "Project")
        await house.store.write(shares.grant, house.alice.id, project, ANYONE, "lrs")
        assert having(await bob.ok('LIST "" *'), b"Project") == [
            rb'* LIST (\HasNoChildren) "/" %b' % THERE.encode(),
        ]
        assert having(await alice.ok('LIST "" *'), b"Other") == []
        await refused(alice, f"SELECT {THERE}", "NONEXISTENT")
        await bob.ok(f"SUBSCRIBE {THERE}")
        assert having(await bob.ok('LIST (SUBSCRIBED) "" *'), b"Project")
        assert b" anyone lrs" in (await alice.ok("GETACL Project"))[0]
        await alice.ok("SETACL Project anyone -s")
        await refused(alice, "SETACL Project anyone +s")
        await bob.ok("ENABLE IMAP4rev2")
        await bob.ok(f"SELECT {THERE}")
        await alice.ok(f"SETACL Project -{BOB} r")
        await refused(bob, "FETCH 1 BODY.PEEK[]")
        assert (await bob.ok(f"MYRIGHTS {THERE}"))[0] == b"* MYRIGHTS %b l" % THERE.encode()
        await alice.ok("DELETEACL Project anyone")
        await refused(bob, f"MYRIGHTS {THERE}", "NONEXISTENT")

    shared(tmp_path, "", test)


def test_nothing_is_shared_beyond_the_domain(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.store.write(domains.add, "example.net", 1)
        await house.store.write(accounts.create_account, parse("eve@example.net"), now=1)
        await refused(alice, "SETACL Project eve@example.net lr", "CANNOT")
        await refused(alice, "SETACL Project -eve@example.net lr", "CANNOT")

    shared(tmp_path, "", test)


EVERYTHING = [
    f"SELECT {THERE}", f"EXAMINE {THERE}", f"STATUS {THERE} (MESSAGES)", f"APPEND {THERE} {{1+}}\r\nx",
    f"CREATE \"Other Users/{ALICE}/Project/sub\"", f"DELETE {THERE}", f"RENAME {THERE} \"Other Users/{ALICE}/x\"",
    f"SUBSCRIBE {THERE}", f"GETACL {THERE}", f"SETACL {THERE} {BOB} lra", f"DELETEACL {THERE} {BOB}",
    f"LISTRIGHTS {THERE} {BOB}", f"MYRIGHTS {THERE}", f"GETMETADATA {THERE} /shared/comment",
    f'SETMETADATA {THERE} (/shared/comment "x")', f"CREATE \"Other Users/{ALICE}/y\"",
    f"RENAME INBOX \"Other Users/{ALICE}/z\"", f"COPY 1 {THERE}", f"MOVE 1 {THERE}", f"REPLACE 1 {THERE} {{1+}}\r\nx",
]  # fmt: skip


@pytest.mark.parametrize("rights", ["", "p"])
def test_to_whom_nothing_is_granted_it_is_not_there(tmp_path: Path, rights: str) -> None:
    """RFC 4314 §6: not even that it is there."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.file(message(9), account=house.bob)
        nowhere = [one.replace("Project", "Nothing") for one in EVERYTHING]
        for client_says, of_nothing in zip(EVERYTHING, nowhere, strict=True):
            await bob.ok("SELECT INBOX")
            answer = await bob.tagged(client_says)
            assert answer.startswith(b"NO "), (client_says, answer)
            await bob.ok("SELECT INBOX")
            other = await bob.tagged(of_nothing)
            if not rights:
                assert answer == other, client_says
        assert not [line for line in await bob.ok('LIST "" *') if b"Project" in line]
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 2)']
        assert (await alice.ok("GETMETADATA Project /shared/comment"))[0].endswith(b"NIL)")

    shared(tmp_path, rights, test)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (f"SELECT {THERE}", "r"),
        (f"EXAMINE {THERE}", "r"),
        (f"STATUS {THERE} (MESSAGES)", "r"),
        (f"APPEND {THERE} {{1+}}\r\nx", "i"),
        (f'CREATE "Other Users/{ALICE}/Project/sub"', "k"),
        (f"DELETE {THERE}", "x"),
        (f"GETACL {THERE}", "a"),
        (f"SETACL {THERE} {BOB} lra", "a"),
        (f"DELETEACL {THERE} {BOB}", "a"),
        (f"LISTRIGHTS {THERE} {BOB}", "a"),
        (f'SETMETADATA {THERE} (/shared/comment "x")', "w"),
        (f"COPY 1 {THERE}", "i"),
        (f"MOVE 1 {THERE}", "i"),
    ],
)
def test_each_command_takes_its_right(tmp_path: Path, command: str, needed: str) -> None:
    """RFC 4314 §4: refused with all rights but that one, done with "l" and that one."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.file(message(9), account=house.bob)
        await bob.ok("SELECT INBOX")
        await alice.ok(f"SETACL Project {BOB} {shares.ALL.replace(needed, '')}")
        await refused(bob, command)
        await alice.ok(f"SETACL Project {BOB} l{needed}")
        if command.startswith(("SELECT", "EXAMINE")):
            assert not (await bob.tagged(command)).startswith(b"NO")
        else:
            await bob.ok("SELECT INBOX")
            await bob.ok(command)

    shared(tmp_path, "", test)


def test_list_shows_what_may_be_seen(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Project/hidden/deep")
        await alice.ok(f"DELETEACL Project/hidden {BOB}")
        await alice.ok("CREATE Else")
        await alice.ok(f"SETACL Else {BOB} l")
        there = f"Other Users/{ALICE}".encode()
        assert await bob.ok('LIST "" "Other*" RETURN (MYRIGHTS STATUS (MESSAGES))') == [
            b'* LIST (\\Noselect \\HasNoChildren) "/" "%b/Else"' % there,
            b'* MYRIGHTS "%b/Else" l' % there,
            b'* LIST (\\HasNoChildren) "/" "%b/Project"' % there,
            b'* STATUS "%b/Project" (MESSAGES 2)' % there,
            b'* MYRIGHTS "%b/Project" lr' % there,
            b'* LIST (\\HasNoChildren) "/" "%b/Project/hidden/deep"' % there,
            b'* STATUS "%b/Project/hidden/deep" (MESSAGES 0)' % there,
            b'* MYRIGHTS "%b/Project/hidden/deep" lr' % there,
            b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "Other Users"',
            b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "%b"' % there,
            b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "%b/Project/hidden"' % there,
        ]
        assert await bob.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL']
        assert having(await alice.ok('LIST "" *'), b"Other") == []

    shared(tmp_path, "lr", test)


def test_a_subscription_is_ones_own(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SUBSCRIBE {THERE}")
        assert having(await bob.ok('LSUB "" *'), b"Project") == [b'* LSUB () "/" %b' % THERE.encode()]
        assert having(await bob.ok('LIST (SUBSCRIBED) "" *'), b"Project")
        assert having(await alice.ok('LSUB "" *'), b"Project") == []
        await bob.ok(f"UNSUBSCRIBE {THERE}")
        assert having(await bob.ok('LSUB "" *'), b"Project") == []

    shared(tmp_path, "lr", test)


def test_flags_are_changed_as_far_as_allowed(tmp_path: Path) -> None:
    """RFC 4314 §4: STORE does what it may, and is refused where that is nothing. §5.1.1: PERMANENTFLAGS say so."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        told = await bob.ok(f"SELECT {THERE}")
        assert having(told, b"PERMANENTFLAGS") == [b"* OK [PERMANENTFLAGS (\\Seen)] Flags that stay"]
        assert await bob.ok(r"STORE 1 +FLAGS (\Seen \Flagged \Deleted Blue)") == [b"* 1 FETCH (UID 1 FLAGS (\\Seen))"]
        await refused(bob, r"STORE 1 +FLAGS (\Flagged)")
        await refused(bob, r"STORE 1 +FLAGS (Blue)")
        await refused(bob, r"STORE 1 -FLAGS (\Deleted)")
        await alice.ok("SELECT Project")
        await alice.ok(r"STORE 1 FLAGS (\Flagged \Deleted Green)")
        await bob.ok(r"STORE 1 FLAGS (\Seen)")
        told = await alice.ok("FETCH 1 FLAGS")
        assert having(told, b"1 FETCH (FLAGS") == [b"* 1 FETCH (FLAGS (\\Seen \\Flagged Green \\Deleted))"]
        assert b"Blue" not in b"".join(await alice.ok("SELECT Project"))

    shared(tmp_path, "lrs", test)


def test_seen_is_set_by_reading_only_where_allowed(tmp_path: Path) -> None:
    """RFC 4314 §4: FETCH. What is seen is seen by all who share the mailbox."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE}")
        assert b"FLAGS" not in b"".join(await bob.ok("FETCH 1 BODY[TEXT]"))
        assert await alice.ok("STATUS Project (UNSEEN)") == [b'* STATUS "Project" (UNSEEN 2)']
        await alice.ok(f"SETACL Project {BOB} lrs")
        await bob.ok("NOOP")
        assert b"FLAGS (\\Seen)" in b"".join(await bob.ok("FETCH 1 BODY[TEXT]"))
        assert await alice.ok("STATUS Project (UNSEEN)") == [b'* STATUS "Project" (UNSEEN 1)']

    shared(tmp_path, "lrw", test)


def test_expunging_takes_its_right(tmp_path: Path) -> None:
    """RFC 4314 §4: EXPUNGE is refused, CLOSE is not but expunges nothing."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE}")
        await bob.ok(r"STORE 1 +FLAGS (\Deleted)")
        await refused(bob, "EXPUNGE")
        await refused(bob, "UID EXPUNGE 1")
        await refused(bob, "MOVE 1 INBOX")
        await bob.ok("CLOSE")
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 2)']
        await alice.ok(f"SETACL Project {BOB} lrte")
        await bob.ok(f"SELECT {THERE}")
        await alice.ok(f"SETACL Project {BOB} lrt")
        await bob.ok("CLOSE")
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 2)']
        await alice.ok(f"SETACL Project {BOB} lrte")
        await bob.ok(f"SELECT {THERE}")
        assert await bob.ok("EXPUNGE") == [b"* 1 EXPUNGE"]
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 1)']

    shared(tmp_path, "lrt", test)


@pytest.mark.parametrize(
    ("rights", "code"), [("lr", b"READ-ONLY"), ("lrp", b"READ-ONLY"), ("lrs", b"READ-WRITE"), ("lri", b"READ-WRITE")]
)
def test_whether_it_is_open_for_writing(tmp_path: Path, rights: str, code: bytes) -> None:
    """RFC 4314 §5.2."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        assert (await bob.tagged(f"SELECT {THERE}")).startswith(b"OK [%b]" % code)
        if code == b"READ-ONLY":
            await refused(bob, r"STORE 1 +FLAGS (\Seen)", "READ-ONLY")

    shared(tmp_path, rights, test)


def test_append_leaves_out_flags_that_may_not_be_set(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        said = await bob.append(message(3), THERE, r"\Seen \Flagged \Deleted Blue")
        assert said.startswith(b"OK [APPENDUID"), said
        await alice.ok("SELECT Project")
        told = await alice.ok("FETCH 3 FLAGS")
        assert having(told, b"3 FETCH") == [b"* 3 FETCH (FLAGS (\\Flagged Blue))"]

    shared(tmp_path, "liw", test)


def test_copies_between_accounts(tmp_path: Path) -> None:
    """What arrives is a message of the other account's, with the flags that may be set there."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("SELECT Project")
        await alice.ok(r"STORE 1 FLAGS (\Seen \Flagged Green)")
        await bob.ok(f"SELECT {THERE}")
        assert (await bob.tagged("COPY 1:2 INBOX")).startswith(b"OK [COPYUID ")
        await bob.ok("SELECT INBOX")
        flags = having(await bob.ok("FETCH 1:2 (FLAGS BODY.PEEK[])"), b"FETCH")
        assert b"FLAGS (\\Seen \\Flagged Green)" in flags[0]
        assert message(1) in flags[0]
        assert message(2) in flags[1]
        await bob.ok(r"STORE 2 FLAGS (\Seen \Answered \Deleted)")
        assert (await bob.tagged(f"COPY 2 {THERE}")).startswith(b"OK [COPYUID ")
        await alice.ok("NOOP")
        assert having(await alice.ok("FETCH 3 FLAGS"), b"3 FETCH") == [b"* 3 FETCH (FLAGS (\\Seen))"]
        # What a copy costs is its new owner's.
        used = [await house.store.read(accounts.usage, one.id) for one in (house.alice, house.bob)]
        assert [emails for _, emails in used] == [3, 2]

    shared(tmp_path, "lris", test)


def test_parts_of_what_may_be_read_make_a_message(tmp_path: Path) -> None:
    """RFC 4469: where the mailbox is named, and where it is open; also of what the owner has expunged meanwhile."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        named = f'APPEND Drafts CATENATE (URL "/Other%20Users/{ALICE}/Project/;UID=1")'
        await bob.ok(named)
        await bob.ok(f"SELECT {THERE}")
        await bob.ok('APPEND Drafts CATENATE (URL ";UID=1")')
        await alice.ok("SELECT Project")
        await alice.ok(r"STORE 1 +FLAGS (\Deleted)")
        await alice.ok("EXPUNGE")
        # With this answer he hears that it is gone.
        await bob.ok(named)
        await refused(bob, named, f"BADURL /Other%20Users/{ALICE}/Project/;UID=1")
        await bob.ok("SELECT Drafts")
        drafts = having(await bob.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (Subject)]"), b"FETCH")
        assert [b"Subject: Coach 1\r\n" in line for line in drafts] == [True, True, True]
        await alice.ok(f"SETACL Project {BOB} l")
        await refused(bob, named.replace("UID=1", "UID=2"), f"BADURL /Other%20Users/{ALICE}/Project/;UID=2")

    shared(tmp_path, "lr", test)


def test_moves_between_accounts(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE}")
        *told, _ = await bob.say("MOVE 1 INBOX")
        assert told[0].startswith(b"* OK [COPYUID ")
        assert told[1:] == [b"* 1 EXPUNGE"]
        assert await bob.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 1)']
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 1)']
        await bob.ok("SELECT INBOX")
        await refused(bob, f"MOVE 1 {THERE}")
        assert await bob.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 1)']
        await alice.ok(f"SETACL Project {BOB} lri")
        await bob.ok(f"MOVE 1 {THERE}")
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 2)']

    shared(tmp_path, "lrte", test)


def test_within_the_other_account(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Second")
        await alice.ok(f"SETACL Second {BOB} lr")
        second = THERE.replace("Project", "Second")
        await bob.ok(f"SELECT {THERE}")
        await refused(bob, f"COPY 1 {second}")
        await refused(bob, f"MOVE 1 {second}")
        await alice.ok(f"SETACL Second {BOB} lri")
        await bob.ok(r"STORE 1:2 +FLAGS (\Deleted)")
        await bob.ok(f"COPY 1 {second}")
        await bob.ok(f"MOVE 2 {second}")
        assert await alice.ok("STATUS Second (MESSAGES DELETED)") == [b'* STATUS "Second" (MESSAGES 2 DELETED 0)']
        assert await alice.ok("STATUS Project (MESSAGES)") == [b'* STATUS "Project" (MESSAGES 1)']

    shared(tmp_path, "lrte", test)


def test_news_are_heard_in_both_accounts(tmp_path: Path) -> None:
    """While another's mailbox is open and idle, its bell is heard; SEARCH, FETCH and CONDSTORE are of its account."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE} (CONDSTORE)")
        await bob.idle()
        await house.file(message(3), mailbox="Project")
        assert (await bob.until(b"* 3 EXISTS"))[-1] == b"* 3 EXISTS"
        await alice.ok("SELECT Project")
        await alice.ok("STORE 2 +FLAGS (Green)")
        assert b"Green" in (await bob.until(b"* 2 FETCH"))[-1]
        await bob.done()
        assert having(await bob.ok("SEARCH KEYWORD Green"), b"SEARCH") == [b"* SEARCH 2"]
        assert having(await bob.ok("SEARCH BODY nine"), b"SEARCH") == [b"* SEARCH 1 2 3"]
        assert b"Coach 3" in b"".join(await bob.ok("FETCH 3 ENVELOPE"))
        await bob.ok("SELECT INBOX")
        await bob.idle()
        await house.file(message(4), account=house.bob)
        assert (await bob.until(b"* 1 EXISTS"))[-1] == b"* 1 EXISTS"

    shared(tmp_path, "lrsw", test)


def test_what_is_taken_back_is_taken_back_at_once(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok("ENABLE IMAP4rev2")
        await bob.ok(f"SELECT {THERE}")
        await alice.ok(f"SETACL Project {BOB} lr")
        told = await bob.ok("NOOP")
        assert having(told, b"PERMANENTFLAGS") == [b"* OK [PERMANENTFLAGS ()] Flags that stay"]
        await refused(bob, r"STORE 1 +FLAGS (\Seen)")
        await alice.ok(f"DELETEACL Project {BOB}")
        await refused(bob, "FETCH 1 BODY.PEEK[]")
        told = await bob.ok("NOOP")
        assert b"* OK [CLOSED]" in b"".join(told) or (await bob.tagged("FETCH 1 UID")).startswith(b"BAD")
        await refused(bob, f"SELECT {THERE}", "NONEXISTENT")

    shared(tmp_path, "lrsw", test)


def test_what_comes_behind_the_loss_of_the_right_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where both happen while Bob's session looks."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE}")
        await house.file(message(3), mailbox="Project")
        refresh = Snapshots.refresh

        async def after_all_that(snapshots: Snapshots, view: View) -> None:
            monkeypatch.undo()
            await alice.ok(f"DELETEACL Project {BOB}")
            await house.file(message(4), mailbox="Project")
            await refresh(snapshots, view)

        monkeypatch.setattr(Snapshots, "refresh", after_all_that)
        assert await bob.say("NOOP") == [b"OK Still here"]
        assert (await bob.response()).startswith(b"* BYE ")

    shared(tmp_path, "lr", test)


@pytest.mark.parametrize("change", ["DELETEACL Project {BOB}", "RENAME Project Secret"])
def test_what_comes_behind_the_loss_of_the_right_is_not_told_on_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Also where another mailbox has the name meanwhile."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        opening = Snapshots.open

        async def after_all_that(snapshots: Snapshots, account: int, mailbox: int, known: Known | None) -> View:
            monkeypatch.undo()
            await alice.ok(change.format(BOB=BOB))
            if change.startswith("RENAME"):
                await alice.ok("CREATE Project")
                await alice.ok(f"SETACL Project {BOB} lr")
            return await opening(snapshots, account, mailbox, known)

        monkeypatch.setattr(Snapshots, "open", after_all_that)
        assert await bob.say(f"SELECT {THERE}") == [b"NO [NONEXISTENT] There is no such mailbox"]

    shared(tmp_path, "lr", test)


def test_what_is_made_below_is_shared_alike(tmp_path: Path) -> None:
    """RFC 4314 §4: a new mailbox inherits the ACL of the one above it; DELETE takes it along; RENAME leaves it."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        below = THERE.replace("Project", "Project/sub/deep")
        await bob.ok(f"CREATE {below}")
        assert b"lrkx" in (await bob.ok(f"MYRIGHTS {below}"))[0]
        await bob.ok(f"RENAME {below} {below.replace('deep', 'deeper')}")
        assert await alice.ok("STATUS Project/sub/deeper (MESSAGES)")
        await refused(bob, f"RENAME {below.replace('deep', 'deeper')} mine", "CANNOT")
        await refused(bob, f"RENAME {below.replace('deep', 'deeper')} {THERE.replace('Project', 'top')}")
        await bob.ok(f"DELETE {below.replace('deep', 'deeper')}")
        await alice.ok("CREATE Project/sub/deeper")
        await alice.ok(f"DELETEACL Project/sub/deeper {BOB}")
        await refused(bob, f"SELECT {below.replace('deep', 'deeper')}", "NONEXISTENT")
        await refused(alice, 'CREATE "Other Users"', "CANNOT")

    shared(tmp_path, "lrkx", test)


def test_the_inbox_is_shared_too(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok(f"SETACL INBOX {BOB} lrx")
        inbox = f'"Other Users/{ALICE}/INBOX"'
        await bob.ok(f"SELECT {inbox.replace('INBOX', 'inbox')}")
        await refused(bob, f'RENAME {inbox} "Other Users/{ALICE}/Project/in"')
        await refused(bob, f"DELETE {inbox}", "CANNOT")

    shared(tmp_path, "lrk", test)


def test_annotations_and_quotas_of_what_is_shared(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.store.write(accounts.set_quota, house.alice.id, 100_000, None)
        await alice.ok('SETMETADATA Project (/private/comment "mine" /shared/comment "ours")')
        assert await bob.ok(f"GETMETADATA {THERE} (DEPTH 1) (/private /shared)") == [
            b'* METADATA %b (/private NIL /shared/comment "ours")' % THERE.encode()
        ]
        assert having(await bob.ok('LIST "" * RETURN (METADATA (/shared/comment))'), b"ours")
        said = await bob.tagged(f'SETMETADATA {THERE} (/private/comment "x")')
        assert said.startswith(b"NO [METADATA NOPRIVATE]")
        await bob.ok(f'SETMETADATA {THERE} (/shared/comment "changed")')
        assert await alice.ok("GETMETADATA Project /shared/comment") == [
            b'* METADATA "Project" (/shared/comment "changed")'
        ]
        assert await bob.ok(f"GETQUOTAROOT {THERE}") == [b"* QUOTAROOT %b" % THERE.encode()]
        too_big = await bob.append(bytes(b"x" * 120_000), THERE)
        assert too_big.startswith(b"NO [OVERQUOTA]")

    shared(tmp_path, "lrwi", test)


def test_with_another_account_open_ones_own_is_ones_own(tmp_path: Path) -> None:
    """Ids of mailboxes and keywords are an account's: the same number means another mailbox in each."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok("CREATE Own")
        await bob.append(message(7), "Own", "Red")
        await alice.ok("SELECT Project")
        await alice.ok("STORE 1 FLAGS (Green)")
        await bob.ok(f"SELECT {THERE}")
        assert having(await bob.ok("FETCH 1 FLAGS"), b"1 FETCH") == [b"* 1 FETCH (FLAGS (Green))"]
        assert await bob.ok("STATUS Own (MESSAGES)") == [b'* STATUS "Own" (MESSAGES 1)']
        # RFC 8474 §4: ids are never those of something else.
        owner = house.alice.id
        found = having(await bob.ok("FETCH 1 (EMAILID THREADID)"), b"FETCH")
        assert found == [b"* 1 FETCH (EMAILID (M%d-1) THREADID (T%d-1))" % (owner, owner)]
        assert having(await bob.ok(f"SEARCH EMAILID M{owner}-1"), b"SEARCH") == [b"* SEARCH 1"]
        assert having(await bob.ok("SEARCH EMAILID M1"), b"SEARCH") == [b"* SEARCH"]
        (theirs,) = await bob.ok(f"STATUS {THERE} (MAILBOXID)")
        (own,) = await bob.ok("STATUS Own (MAILBOXID)")
        assert theirs.endswith(b"(MAILBOXID (F%d-7))" % owner)
        assert own.endswith(b"(MAILBOXID (F7))")
        await refused(bob, "ESEARCH IN (mailboxes Own) ALL", "CANNOT")
        assert b"Project" in (await bob.ok("ESEARCH IN (selected) ALL"))[0]
        await bob.ok("DELETE Own")
        assert having(await bob.ok("FETCH 1:2 UID"), b"FETCH") == [b"* 1 FETCH (UID 1)", b"* 2 FETCH (UID 2)"]
        await bob.ok("UNSELECT")
        await bob.ok("CREATE Own")
        await bob.append(message(8), "Own", "Red")
        assert (await bob.ok("ESEARCH IN (mailboxes Own) KEYWORD Red"))[0].endswith(b"ALL 1")

    shared(tmp_path, "lr", test)


def test_notify_tells_of_ones_own_while_anothers_is_open(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"SELECT {THERE}")
        await bob.ok("NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (personal (MessageNew MessageExpunge))")
        await house.file(message(3), mailbox="Project")
        assert (await bob.until(b"* 3 FETCH"))[-1] == b"* 3 FETCH (UID 3)"
        await house.file(message(4), account=house.bob)
        assert (await bob.until(b"* STATUS"))[-1].startswith(b'* STATUS "INBOX" (MESSAGES 1')
        await bob.ok("NOTIFY NONE")

    shared(tmp_path, "lr", test)


def test_who_is_gone_shares_nothing(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.store.write(accounts.remove, house.alice.id, 1)
        assert having(await bob.ok('LIST "" *'), b"Other") == []
        await refused(bob, f"SELECT {THERE}", "NONEXISTENT")

    shared(tmp_path, "lr", test)
