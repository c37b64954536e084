"""What is announced is what the manual says, to the last word."""

import re
import ssl
from pathlib import Path

from tests.doors.house import House, ImapClient, in_house

SUPPORT = Path(__file__).parent.parent.parent / "docs" / "imap-support.md"
# Only for who is asked for a certificate: tests/doors/test_tls_logins.py.
_WITH_CERTIFICATES = {"AUTH=EXTERNAL"}
# Only where it is set: tests/transcripts/imapd/message_limit.txt.
_WHERE_SET = {"MESSAGELIMIT"}


def told(table: str) -> set[str]:
    """The capabilities in the first column of one of the page's tables, found by its head."""
    rows = SUPPORT.read_text().split(f"| capability | RFC | {table}|\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return {name for row in rows for name in re.findall("`([^`]+)`", row.split("|")[1])}


async def announced(client: ImapClient) -> set[str]:
    (line,) = await client.ok("CAPABILITY")
    return {word.decode().partition("LIMIT=")[0] + "LIMIT" * (b"LIMIT=" in word) for word in line.split()[2:]}


def test_the_manual_lists_what_is_announced(tmp_path: Path) -> None:
    found: set[str] = set()

    async def in_the_clear(house: House) -> None:
        found.update(await announced(await house.imap(None)))
        found.update(await announced(await house.imap()))

    async def in_tls(house: House) -> None:
        client = await house.imap(None)
        found.update(await announced(client))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await client.ok("STARTTLS")
        await client.writer.start_tls(context)
        found.update(await announced(client))

    for name, test, clear in (("a", in_the_clear, True), ("b", in_tls, False)):
        directory = tmp_path / name
        directory.mkdir()
        in_house(directory, test, clear_text_login=clear)
    assert found | _WITH_CERTIFICATES | _WHERE_SET == told("")
    assert not found & _WHERE_SET
    assert not found & told("why ")
