"""NOTIFY of mailboxes that others share (RFC 5465, RFC 4314): what is told of them, and what not any more."""

import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from posthouse import limits
from posthouse.directory import accounts, domains
from posthouse.imapd import session
from posthouse.imapd.abroad import Abroad
from posthouse.imapd.shared import sharing
from posthouse.mailbox import mailboxes, shares
from posthouse.mailbox.shares import ANYONE
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.address import parse
from tests.doors.house import ALICE, BOB, House, ImapClient, in_house, message, until
from tests.doors.house import _file as _file_octets
from tests.store.support import open_store

HERE = f"Other Users/{ALICE}"
MESSAGES = "MessageNew MessageExpunge"
ALL = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange"
Test = Callable[[House, ImapClient, ImapClient], Awaitable[None]]


def shared(tmp_path: Path, test: Test, rights: str = "lr") -> None:
    """Alice has a mailbox Project with one message, in which Bob has these rights."""

    async def run(house: House) -> None:
        alice, bob = await house.imap(mailbox=None), await house.imap(BOB, mailbox=None)
        await alice.ok("CREATE Project")
        await house.file(message(1), mailbox="Project")
        if rights:
            await alice.ok(f"SETACL Project {BOB} {rights}")
        await test(house, alice, bob)

    in_house(tmp_path, run)


async def news(client: ImapClient) -> list[str]:
    """All that was told since the client said something last."""
    return [line.decode() for line in await client.ok("NOOP")]


def status(name: str, messages: int, uidnext: int, unseen: int) -> str:
    """STATUS, as `news` is compared with; UIDVALIDITY is whatever it is."""
    return f'* STATUS "{HERE}/{name}" (MESSAGES {messages} UIDNEXT {uidnext} UIDVALIDITY … UNSEEN {unseen})'


def listed(name: str, attributes: str = r"\HasNoChildren", oldname: str = "") -> str:
    old = f' ("OLDNAME" ("{HERE}/{oldname}"))' if oldname else ""
    return f'* LIST ({attributes}) "/" "{HERE}/{name}"{old}'


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"UIDVALIDITY \d+", "UIDVALIDITY …", line) for line in lines]


async def told(client: ImapClient) -> list[str]:
    return plain(await news(client))


@pytest.mark.parametrize(
    "group", ['subtree "Other Users"', 'subtree ""', f'subtree "{HERE}/"', f'mailboxes "{HERE}/Project"', "subscribed"]
)
def test_messages_of_another_are_told_however_its_mailbox_is_meant(tmp_path: Path, group: str) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'SUBSCRIBE "{HERE}/Project"')
        assert plain([line.decode() for line in await bob.ok(f"NOTIFY SET STATUS ({group} ({MESSAGES}))")])[-1] == (
            status("Project", 1, 2, 1)
        )
        await house.file(message(2), mailbox="Project")
        assert plain([(await bob.response()).decode()]) == [status("Project", 2, 3, 2)]
        await alice.ok("SELECT Project")
        await alice.ok(r"STORE 1 +FLAGS (\Seen \Deleted)")
        assert await told(bob) == []
        await alice.ok("EXPUNGE")
        assert await told(bob) == [status("Project", 1, 3, 1)]
        await house.file(message(3))
        assert await told(bob) == []

    shared(tmp_path, test)


@pytest.mark.parametrize("group", ["personal", "inboxes", 'subtree "Project"', "mailboxes Project", "subscribed"])
def test_what_is_not_meant_is_not_told(tmp_path: Path, group: str) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"NOTIFY SET ({group} ({ALL}))")
        await house.file(message(2), mailbox="Project")
        await alice.ok(f"SETACL Project {BOB} lrs")
        await alice.ok("RENAME Project Other")
        assert await told(bob) == []

    shared(tmp_path, test)


def test_flags_are_told_as_status_with_modseqs_where_they_are_known(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        said = await bob.ok(f'NOTIFY SET STATUS (subtree "Other Users" ({MESSAGES} FlagChange))')
        assert re.search(rb"UNSEEN 1 HIGHESTMODSEQ \d+\)$", said[0])
        await alice.ok("SELECT Project")
        await alice.ok(r"STORE 1 +FLAGS (\Seen)")
        assert await told(bob) == [status("Project", 1, 2, 0)]
        await bob.ok("ENABLE CONDSTORE")
        await alice.ok(r"STORE 1 -FLAGS (\Seen)")
        assert re.search(r"UNSEEN 1 HIGHESTMODSEQ \d+\)$", (await told(bob))[0])

    shared(tmp_path, test)


def test_a_right_that_is_taken_and_given_again(tmp_path: Path) -> None:
    """RFC 5465 §5.4, §5.9: who may not see a mailbox any more hears that it is gone, and nothing of it afterwards."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({ALL}))')
        await alice.ok(f"DELETEACL Project {BOB}")
        gone = [rf'* LIST (\NonExistent \NoAccess) "/" "{HERE}/Project"', rf'* LIST (\NonExistent) "/" "{HERE}"']
        assert await told(bob) == gone
        await house.file(message(2), mailbox="Project")
        await alice.ok("CREATE Project/Below")
        await alice.ok('SETMETADATA Project (/shared/comment "x")')
        assert await told(bob) == []
        await alice.ok(f"SETACL Project {BOB} lr")
        above = rf'* LIST (\Noselect \NonExistent \HasChildren) "/" "{HERE}"'
        assert await told(bob) == [listed("Project"), above, status("Project", 2, 3, 2)]
        await house.file(message(3), mailbox="Project")
        assert await told(bob) == [status("Project", 3, 4, 3)]

    shared(tmp_path, test)


def test_what_may_be_seen_and_not_be_read(tmp_path: Path) -> None:
    """RFC 5465 §3.1: the client hears that it has no access; events take "l" and "r" (§5)."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        no_access = listed("Project", r"\NoAccess \Noselect \HasNoChildren")
        assert [line.decode() for line in await bob.ok(f'NOTIFY SET STATUS (subtree "Other Users" ({MESSAGES}))')] == [
            no_access
        ]
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == []
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES} MailboxName))')
        await alice.ok("RENAME Project Plan")
        assert await told(bob) == [listed("Plan", r"\NoAccess \Noselect \HasNoChildren", "Project")]
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES}))')
        await alice.ok(f"SETACL Plan {BOB} +r")
        assert await told(bob) == [listed("Plan"), status("Plan", 2, 3, 2)]
        await alice.ok(f"SETACL Plan -{BOB} r")
        assert await told(bob) == [listed("Plan", r"\NoAccess \Noselect \HasNoChildren")]
        await alice.ok(f"SETACL Plan -{BOB} l")
        assert await told(bob) == [listed("Plan", r"\NonExistent \NoAccess")]
        await alice.ok(f"DELETEACL Plan -{BOB}")
        assert await told(bob) == [listed("Plan"), status("Plan", 2, 3, 2)]

    shared(tmp_path, test, "l")


def test_names_for_which_there_is_no_right_are_ignored(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        asked = f'"{HERE}/Project" "{HERE}/Nowhere" "Other Users/nobody@example.org/INBOX"'
        assert await bob.ok(f"NOTIFY SET STATUS (mailboxes ({asked}) ({ALL}))") == []
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == []
        await alice.ok(f"SETACL Project {BOB} lr")
        assert await told(bob) == [listed("Project"), status("Project", 2, 3, 2)]

    shared(tmp_path, test, "")


def test_what_happens_in_the_commit_that_takes_the_right_is_not_told(tmp_path: Path) -> None:
    """One look finds both: nothing is told that may not be read when it is told."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Kept")
        await alice.ok(f"SETACL Kept {BOB} lr")
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({ALL}))')

        def at_once(tx: Tx, account: int) -> None:
            project = mailboxes.find(tx, account, "Project")
            mailboxes.rename(tx, account, project, "Secret", 1)
            mailboxes.create(tx, account, "Secret/Below", 1)
            shares.grant(tx, account, project, house.bob.id, "")
            shares.grant(tx, account, mailboxes.find(tx, account, "Secret/Below"), house.bob.id, "")

        await house.store.write(at_once, house.alice.id)
        gone = [listed("Project", r"\NonExistent \NoAccess")]
        above = [rf'* LIST (\Noselect \NonExistent \HasChildren) "/" "{HERE}"']
        assert await told(bob) == gone + above

    shared(tmp_path, test)


def test_names_are_told(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "{HERE}/Project" ({ALL})) (mailboxes "{HERE}/Plan" (MailboxName))')
        await alice.ok("CREATE Project/Below")
        assert await told(bob) == [listed("Project/Below"), listed("Project", r"\HasChildren")]
        # RFC 5465 §5.4: not of each that is below.
        await alice.ok("RENAME Project Plan")
        assert await told(bob) == [listed("Plan", r"\HasChildren", "Project")]
        await alice.ok("RENAME Plan Project")
        assert await told(bob) == [listed("Project", r"\HasChildren", "Plan")]
        await alice.ok("DELETE Project/Below")
        assert await told(bob) == [listed("Project/Below", r"\NonExistent"), listed("Project")]
        await alice.ok("DELETE Project")
        assert await told(bob) == [listed("Project", r"\NonExistent")]

    shared(tmp_path, test)


def test_a_name_moves_with_one_above_that_the_client_does_not_see(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Closed/Open")
        await alice.ok(f"SETACL Closed/Open {BOB} lr")
        await bob.ok(f'NOTIFY SET (subtree "Other Users" (MailboxName {MESSAGES}))')
        await alice.ok("RENAME Closed Shut")
        assert await told(bob) == [listed("Shut/Open", oldname="Closed/Open")]
        await house.file(message(1), mailbox="Shut/Open")
        assert await told(bob) == [status("Shut/Open", 1, 2, 1)]

    shared(tmp_path, test)


def test_subscriptions_of_another_session_are_told(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        other = await house.imap(BOB, mailbox=None)
        await bob.ok(f"NOTIFY SET (subscribed ({ALL}))")
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == []
        await other.ok(f'SUBSCRIBE "{HERE}/Project"')
        assert await told(bob) == [listed("Project", r"\HasNoChildren \Subscribed")]
        await house.file(message(3), mailbox="Project")
        assert await told(bob) == [status("Project", 3, 4, 3)]
        await other.ok(f'UNSUBSCRIBE "{HERE}/Project"')
        await house.file(message(4), mailbox="Project")
        assert await told(bob) == []
        await bob.ok('NOTIFY SET (subtree "Other Users" (SubscriptionChange))')
        await other.ok(f'SUBSCRIBE "{HERE}/Project"')
        assert await told(bob) == [listed("Project", r"\HasNoChildren \Subscribed")]
        await other.ok(f'UNSUBSCRIBE "{HERE}/Project"')
        assert await told(bob) == [listed("Project")]

    shared(tmp_path, test)


def test_shared_annotations_are_told_and_private_ones_never(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Closed")
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({ALL} ServerMetadataChange))')
        await alice.ok('SETMETADATA Project (/shared/comment "x" /private/comment "y")')
        await alice.ok('SETMETADATA Closed (/shared/comment "x")')
        await alice.ok('SETMETADATA "" (/private/comment "x")')
        assert await told(bob) == [f'* METADATA "{HERE}/Project" /shared/comment']
        await alice.ok('SETMETADATA Project (/private/comment "z")')
        assert await told(bob) == []

    shared(tmp_path, test)


def test_what_the_client_does_itself_is_not_told(tmp_path: Path) -> None:
    """RFC 5465 §5, in another's mailboxes too."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Plan")
        await alice.ok(f"SETACL Plan {BOB} lri")
        await house.file(message(1), account=house.bob)
        await bob.ok("SELECT INBOX")
        others = " ".join([f"({group} ({ALL}))" for group in ('subtree "Other Users"', "personal", "subscribed")])
        await bob.ok(f"NOTIFY SET (selected ({MESSAGES} FlagChange)) {others}")
        for command in (
            f'COPY 1 "{HERE}/Project"',
            f'CREATE "{HERE}/Project/Own"',
            f'RENAME "{HERE}/Project/Own" "{HERE}/Project/Mine"',
            f'SUBSCRIBE "{HERE}/Project/Mine"',
            f'UNSUBSCRIBE "{HERE}/Project/Mine"',
            f'SETMETADATA "{HERE}/Project" (/shared/comment "x")',
            f'DELETE "{HERE}/Project/Mine"',
            "NOOP",
        ):
            assert await bob.ok(command) == [], command
        text = message(2)
        assert await bob.ok(f'APPEND "{HERE}/Project" {{{len(text)}}}', text + b"\r\n") == []
        assert await told(bob) == []
        await house.file(message(3), mailbox="Project")
        assert await told(bob) == [status("Project", 4, 5, 4)]
        await bob.ok(f'SELECT "{HERE}/Project"')
        assert await bob.ok("COPY 1 INBOX") == []
        assert await bob.ok(rf'COPY 1 "{HERE}/Plan"') == []
        await bob.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        assert await bob.ok("EXPUNGE") == [b"* 1 EXPUNGE"]
        assert await bob.ok("UNSELECT") == []
        assert await told(bob) == []

    shared(tmp_path, test, "lrswipkxte")


def test_a_first_subscription_of_its_own_is_not_told(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f"NOTIFY SET (subscribed ({ALL}))")
        await bob.ok("NOOP")
        before = _ears(house)
        assert await bob.ok(f'SUBSCRIBE "{HERE}/Project"') == []
        assert await told(bob) == []
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == [status("Project", 2, 3, 2)]
        # Alice is followed for as long as something of hers is meant.
        assert _ears(house) == before + 1
        assert await bob.ok(f'UNSUBSCRIBE "{HERE}/Project"') == []
        await house.file(message(3), mailbox="Project")
        assert await told(bob) == []
        assert _ears(house) == before

    shared(tmp_path, test)


def test_what_happens_at_once_is_told_in_order(tmp_path: Path) -> None:
    """One look finds all of it."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await alice.ok("CREATE Plan")
        await alice.ok(f"SETACL Plan {BOB} lr")
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES} MailboxName))')

        def make_way(tx: Tx, account: int) -> None:
            plan, project = (mailboxes.find(tx, account, name) for name in ("Plan", "Project"))
            mailboxes.rename(tx, account, plan, "Old", 1)
            mailboxes.rename(tx, account, project, "Plan", 1)
            _file_octets(tx, account, message(2), "Plan", b"", 1_767_258_000_000)

        await house.store.write(make_way, house.alice.id)
        assert await told(bob) == [
            listed("Old", oldname="Plan"),
            listed("Plan", oldname="Project"),
            status("Plan", 2, 3, 2),
        ]
        await bob.ok(f'NOTIFY SET (mailboxes "{HERE}/Old" ({MESSAGES}))')

        def make_anew(tx: Tx, account: int) -> None:
            mailboxes.delete(tx, account, mailboxes.find(tx, account, "Old"), 1)
            shares.grant(tx, account, mailboxes.create(tx, account, "Old", 1), house.bob.id, "lr")

        # RFC 5465 §5.1: it has another UIDVALIDITY.
        await house.store.write(make_anew, house.alice.id)
        assert await told(bob) == [status("Old", 0, 1, 0)]

    shared(tmp_path, test)


def test_the_open_mailbox_is_told_as_that(tmp_path: Path) -> None:
    """RFC 5465 §3.1; and as lost where it may not be read any more."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok("ENABLE IMAP4rev2")
        await bob.ok(f'SELECT "{HERE}/Project"')
        await bob.ok(f'NOTIFY SET (selected ({MESSAGES})) (subtree "Other Users" ({ALL}))')
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == ["* 2 EXISTS"]
        await alice.ok(f"DELETEACL Project {BOB}")
        lost = await told(bob)
        assert lost[0].startswith("* OK [CLOSED]")
        assert listed("Project", r"\NonExistent \NoAccess") in lost
        await house.file(message(3), mailbox="Project")
        assert await told(bob) == []

    shared(tmp_path, test)


def test_it_is_told_while_the_client_idles_and_by_another_process(tmp_path: Path) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        other = open_store(tmp_path)
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES} MailboxName))')
        await house.file(message(2), mailbox="Project", store=other)
        assert plain([(await bob.response()).decode()]) == [status("Project", 2, 3, 2)]
        await bob.idle()
        await house.file(message(3), mailbox="Project", store=other)
        assert plain([(await bob.response()).decode()]) == [status("Project", 3, 4, 3)]
        project = await other.read(mailboxes.find, house.alice.id, "Project")
        await other.write(shares.grant, house.alice.id, project, house.bob.id, "")
        assert (await bob.response()).decode() == listed("Project", r"\NonExistent \NoAccess")
        await bob.done()
        await other.close()

    shared(tmp_path, test)


def test_what_anyone_may_read_is_heard_of_at_once(tmp_path: Path) -> None:
    """Also where nothing was shared with the client until then, and nothing happens in its own account."""

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES} MailboxName))')
        project = await house.store.read(mailboxes.find, house.alice.id, "Project")
        await house.store.write(shares.grant, house.alice.id, project, ANYONE, "lr")
        assert (await bob.response()).decode() == listed("Project")
        assert await told(bob) == [
            rf'* LIST (\Noselect \NonExistent \HasChildren) "/" "{HERE}"',
            status("Project", 1, 2, 1),
        ]
        await house.store.write(shares.grant, house.alice.id, project, ANYONE, "")
        assert (await bob.response()).decode() == listed("Project", r"\NonExistent \NoAccess")

    shared(tmp_path, test, "")


@pytest.mark.parametrize("swept", [False, True])
def test_an_account_that_is_removed_shares_nothing(tmp_path: Path, swept: bool) -> None:
    """Also where nothing is left of it when somebody looks."""

    def remove(tx: Tx, account: int) -> None:
        accounts.remove(tx, account, 1)
        while swept and accounts.sweep_removed(tx, 2):
            pass

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES} MailboxName))')
        await house.store.write(remove, house.alice.id)
        lost = await told(bob)
        assert lost[0] == listed("Project", r"\NonExistent" if swept else r"\NonExistent \NoAccess")
        await house.file(message(2), account=house.bob)
        assert await told(bob) == []

    shared(tmp_path, test)


@pytest.mark.parametrize("group", ['subtree "Other Users"', f'mailboxes "{HERE}/Project"', "subscribed"])
def test_an_account_that_is_called_otherwise(tmp_path: Path, group: str) -> None:
    """Where a domain is renamed: nothing is told of a name that may be another's by now."""
    now = HERE.replace("example.org", "example.net")

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'SUBSCRIBE "{HERE}/Project"')
        await bob.ok(f"NOTIFY SET ({group} ({MESSAGES} MailboxName))")
        ears = _ears(house)
        await house.store.write(domains.rename, "example.org", "example.net")
        attributes = r"\HasNoChildren \Subscribed"
        renamed = listed("Project", attributes, "Project").replace(f'"/" "{HERE}', f'"/" "{now}')
        assert (await bob.response()).decode() == renamed
        await house.file(message(2), mailbox="Project")
        if group.startswith("mailboxes"):
            # What was meant by that name is not there any more.
            assert await told(bob) == []
            assert _ears(house) == ears - 1
        else:
            assert plain([(await bob.response()).decode()]) == [status("Project", 2, 3, 2).replace(HERE, now)]

    shared(tmp_path, test)


# --- a client that believes what it is told ---------------------------------------------------------------------------

_LIST = re.compile(r'\* LIST \((.*?)\) "/" "(.*?)"(?: \("OLDNAME" \("(.*?)"\)\))?\Z')
_STATUS = re.compile(r'\* STATUS "(.*?)" \(MESSAGES (\d+) UIDNEXT (\d+) UIDVALIDITY (\d+) UNSEEN (\d+)\)\Z')
_NOTHING = ("0", "1", "", "0")


class _Picture:
    """What a client makes of what it is told: the mailboxes it can see, whether it can read them and is subscribed to
    them, and their totals where it can."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[bool, bool]] = {}
        self.totals: dict[str, tuple[str, ...]] = {}

    def hear(self, line: str) -> None:
        if found := _STATUS.match(line):
            name, messages, uidnext, _, unseen = found.groups()
            self.totals[name] = (messages, uidnext, "", unseen)
            return
        found = _LIST.match(line)
        assert found, line
        attributes, name, oldname = found[1].split(), found[2], found[3]
        if oldname:
            self.seen = {_renamed(path, oldname, name): known for path, known in self.seen.items()}
            self.totals = {_renamed(path, oldname, name): known for path, known in self.totals.items()}
        if "\\NonExistent" in attributes:
            self.seen.pop(name, None)
            self.totals.pop(name, None)
            return
        readable = "\\Noselect" not in attributes
        # RFC 5465 §5: whether it is subscribed to is told of what can be read.
        self.seen[name] = readable, readable and "\\Subscribed" in attributes
        if readable:
            self.totals.setdefault(name, _NOTHING)
        else:
            self.totals.pop(name, None)


def _renamed(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path


async def _truth(client: ImapClient) -> _Picture:
    """The same, asked for."""
    truth = _Picture()
    returns = "SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
    for line in await client.ok(f'LIST "" "Other Users/*" RETURN ({returns})'):
        truth.hear(line.decode())
    return truth


async def _do_something(chance: random.Random, house: House, alice: ImapClient, bob: ImapClient) -> None:
    """What Alice does to her mailboxes, or Bob to his subscriptions; half of it comes to nothing."""
    name, other = (chance.choice(["A", "B", "A/C", "A/C/D", "B/C", "INBOX"]) for _ in range(2))
    who = chance.choice([BOB, BOB, f"-{BOB}"])
    match chance.randrange(14):
        case 0 | 11 | 12:
            await alice.say(f"CREATE {name}")
        case 1:
            await alice.say(f"DELETE {name}")
        case 2 | 9 | 10:
            await alice.say(f"RENAME {name} {other}")
        case 3 | 4:
            await alice.say(f"SETACL {name} {who} {chance.choice(['lr', 'l', 'r', 'lrs', '+r', '-l'])}")
        case 5:
            await alice.say(f"DELETEACL {name} {who}")
        case 6:
            if await house.store.read(_some, house.alice.id, name) is not None:
                await house.file(message(chance.randrange(100)), mailbox=name)
        case 7:
            await alice.say(f"SELECT {name}")
            sign, flag = chance.choice("+-"), chance.choice(["x", r"\Seen", r"\Deleted"])
            await alice.say(f"STORE 1:* {sign}FLAGS ({flag})")
            await alice.say("CLOSE")
        case 8:
            await bob.say(f'{chance.choice(["", "UN"])}SUBSCRIBE "{HERE}/{name}"')
        case _:
            path = await house.store.read(_some, house.alice.id, name)
            if path is not None:
                rights = chance.choice(["lr", ""])
                await house.store.write(shares.grant, house.alice.id, path, ANYONE, rights)


def _some(tx: Tx, account: int, name: str) -> int | None:
    return next((one.id for one in mailboxes.list_mailboxes(tx, account) if one.path == name), None)


@pytest.mark.parametrize("seed", range(6))
def test_who_believes_what_is_told_knows_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever is done, and however much of it one look finds."""
    chance = random.Random(seed)
    tell, blind = Abroad.tell, False

    async def later(abroad: Abroad) -> None:
        if not blind:
            await tell(abroad)

    monkeypatch.setattr(Abroad, "tell", later)

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        nonlocal blind
        other = await house.imap(BOB, mailbox=None)
        for name in ("A", "B", "A/C"):
            await alice.ok(f"CREATE {name}")
        picture = await _truth(bob)
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({ALL}))')
        for _ in range(100):
            before = {*picture.seen}
            blind = True
            for _ in range(chance.randrange(1, 5)):
                await _do_something(chance, house, alice, other)
            blind = False
            lines = await news(bob)
            for line in lines:
                picture.hear(line)
            truth = await _truth(other)
            assert (picture.seen, picture.totals) == (truth.seen, truth.totals), lines
            # Nothing is named that cannot be seen, or could not; but what is above it.
            named = {(_LIST.match(line) or _STATUS.match(line) or [])[2 if "LIST" in line else 1] for line in lines}
            known = before | {*truth.seen}
            assert named <= known | {one.rpartition("/")[0] for one in known}, lines

    shared(tmp_path, test)


# --- bounds -----------------------------------------------------------------------------------------------------------


def _ears(house: House) -> int:
    return sum(len(ears) for ears in house.store._bell._ears.values())


@pytest.mark.parametrize("limit", ["NOTIFY_ACCOUNTS", "NOTIFY_SHARED"])
def test_too_many_to_follow_is_refused_and_what_was_asked_before_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """RFC 5465 §3.1."""
    monkeypatch.setattr(limits, limit, 1)

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.store.write(_share_one, "carol@example.org", house.bob.id)
        await bob.ok(f'NOTIFY SET (selected ({MESSAGES})) (mailboxes "{HERE}/Project" ({MESSAGES}))')
        await bob.ok("NOOP")
        before = _ears(house)
        said = await bob.tagged('NOTIFY SET (subtree "Other Users" (MailboxName))')
        assert said.startswith(b"NO [NOTIFICATIONOVERFLOW]")
        assert _ears(house) == before
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == [status("Project", 2, 3, 2)]

    shared(tmp_path, test)


def test_a_bell_that_rings_while_a_command_is_refused_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for before stands, and has missed nothing."""
    monkeypatch.setattr(limits, "NOTIFY_ACCOUNTS", 1)

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await house.store.write(_share_one, "carol@example.org", house.bob.id)
        await bob.ok(f'NOTIFY SET (mailboxes "{HERE}/Project" ({MESSAGES}))')
        await bob.ok("NOOP")
        read = house.store.read

        async def slowly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            found = await read(function, *args, **kwargs)
            if function is sharing:
                monkeypatch.setattr(house.store, "read", read)
                await house.file(message(2), mailbox="Project")
            return found

        monkeypatch.setattr(house.store, "read", slowly)
        *_, said = await bob.say('NOTIFY SET (subtree "Other Users" (MailboxName))')
        assert said.startswith(b"NO [NOTIFICATIONOVERFLOW]")
        assert await told(bob) == [status("Project", 2, 3, 2)]

    shared(tmp_path, test)


def test_more_than_can_be_followed_later_is_an_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5465 §5.8."""
    monkeypatch.setattr(limits, "NOTIFY_SHARED", 1)

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({ALL}))')
        await alice.ok(f"SETACL INBOX {BOB} lr")
        assert b"* OK [NOTIFICATIONOVERFLOW]" in (await bob.response())
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == []

    shared(tmp_path, test)


def test_a_client_waits_for_all_it_follows_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wait is for all their bells, and takes no task for each; it lets go of all when it asks for something else,
    or leaves."""
    waits: list[int] = []
    first_of = session._first_of

    async def counting(works: Sequence[Coroutine[Any, Any, None]]) -> None:
        waits.append(len(works))
        await first_of(works)

    monkeypatch.setattr(session, "_first_of", counting)

    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok("NOTIFY SET (personal (MailboxName))")
        ears = _ears(house)
        for number in range(5):
            await house.store.write(_share_one, f"u{number}@example.org", house.bob.id)
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES}))')
        # Those who share, and whoever shares with anyone.
        assert _ears(house) == ears + 7
        for number in range(3):
            await house.file(message(number), mailbox="Project")
            assert (await bob.response()).startswith(b"* STATUS")
        assert {*waits} == {1}
        await bob.ok("NOTIFY SET (personal (MailboxName))")
        assert _ears(house) == ears
        await bob.ok('NOTIFY SET (subtree "Other Users" (MailboxName))')
        await bob.ok("LOGOUT")
        await until(lambda: _ears(house) == ears - 1)

    shared(tmp_path, test)


def _share_one(tx: Tx, name: str, grantee: int) -> None:
    account = accounts.create_account(tx, parse(name), now=1)
    shares.grant(tx, account.id, mailboxes.find(tx, account.id, "INBOX"), grantee, "lr")


def test_a_store_that_fails_for_a_moment_costs_no_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House, alice: ImapClient, bob: ImapClient) -> None:
        await bob.ok(f'NOTIFY SET (subtree "Other Users" ({MESSAGES}))')
        await bob.ok("NOOP")
        read = house.store.read
        failed = 0

        async def failing(function: Callable[..., object], *args: object, **kwargs: object) -> object:
            nonlocal failed
            if function.__module__.endswith("imapd.shared"):
                failed += 1
                raise StoreUnavailable("locked")
            return await read(function, *args, **kwargs)

        monkeypatch.setattr(house.store, "read", failing)
        await house.file(message(2), mailbox="Project")
        assert await told(bob) == []
        assert failed
        monkeypatch.undo()
        assert await told(bob) == [status("Project", 2, 3, 2)]

    shared(tmp_path, test)
