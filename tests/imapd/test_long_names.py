"""LIST and LSUB of names that are long, with many patterns: others have their turn in between."""

from pathlib import Path
from unittest import mock

from posthouse.imapd.session import LINES, Session
from posthouse.mailbox import mailboxes
from posthouse.store.database import Tx
from tests.doors.house import House, in_house

_DEEP = "/".join("x" * 250 for _ in range(19))
_MANY = 20


def _make(tx: Tx, account: int) -> None:
    for number in range(_MANY):
        made = mailboxes.create(tx, account, f"{_DEEP}/{number}", 0)
        mailboxes.subscribe(tx, account, made, True, 0)


def test_long_names_and_many_patterns_hold_nobody_up(tmp_path: Path) -> None:
    """A name of 5,000 characters that is held against 100 patterns takes a tenth of a second."""
    assert _MANY * 2 < LINES, "there are too few to pause for their number"

    async def test(house: House) -> None:
        await house.store.write(_make, house.alice.id)
        client = await house.imap(mailbox=None)
        with mock.patch.object(Session, "pause", autospec=True, side_effect=Session.pause) as pauses:
            await client.ok('LIST "" "INBOX"')
            assert pauses.call_count <= 2
            pauses.reset_mock()
            patterns = " ".join(f'"*y{number}"' for number in range(25))
            assert await client.ok(f'LIST "" ({patterns})') == []
            # As often as there are names of that length.
            assert pauses.call_count >= _MANY
            pauses.reset_mock()
            assert await client.ok('LSUB "" "*y"') == []
            # Those above each are tried in its stead.
            assert pauses.call_count >= _MANY // 2

    in_house(tmp_path, test)
