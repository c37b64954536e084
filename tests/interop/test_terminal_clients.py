"""aerc, alpine and neomutt, each at a terminal: reading, flags, folders, searching, moving, deleting, news.

aerc and alpine verify the name of the server, so this one has a certificate for localhost.
"""

import re
import shutil
import smtplib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bench.posthouse_server import ENCRYPTED, PASSWORD, PosthouseServer
from tests.interop.authority import Authority
from tests.interop.clients import require
from tests.interop.conftest import SETTINGS
from tests.interop.reading import connect, empty, fill, flags
from tests.interop.terminal import Terminal

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOB = "bob@example.test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PosthouseServer]:
    """A posthouse for example.test whose certificate is localhost's, too."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    pair = authority.pair("localhost", "mail.example.test")
    running = PosthouseServer(
        domain="example.test",
        users=["bob"],
        listeners=ENCRYPTED,
        settings=f'{SETTINGS}[tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n',
        authority=authority.certificate,
    )
    try:
        running.start()
        yield running
        assert running.errors() == []
    finally:
        running.stop()


def letter(subject: str) -> bytes:
    """A message to Bob."""
    return (
        f"From: Alice Müller <alice@elsewhere.test>\r\nTo: {BOB}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '.')}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        f"\r\nKörper of {subject}\r\n"
    ).encode()


def in_mailbox(server: PosthouseServer, name: str) -> list[bytes]:
    """The messages of a mailbox; none where it does not exist."""
    with connect(server, BOB) as client:
        if client.select(f'"{name}"', readonly=True)[0] != "OK":
            return []
        found = client.fetch("1:*", "(BODY.PEEK[])")[1]
    return [part[1] for part in found if isinstance(part, tuple)]


def becomes(server: PosthouseServer, terminal: Terminal, expected: dict[bytes, set[bytes]]) -> None:
    """Wait until INBOX holds this."""
    terminal.until(lambda: flags(server, BOB) == expected, f"{expected}")


# --- neomutt


def neomutt(server: PosthouseServer, directory: Path, keys: str) -> list[str]:
    """Press these keys in INBOX; what it sent. It keeps its header cache, and nothing may be refused or misread."""
    configuration, log = directory / "neomuttrc", directory / "log0"
    configuration.write_text(
        f'set folder="imaps://localhost:{server.ports["imaps"]}/"\nset spoolfile="+INBOX"\n'
        f'set imap_user="{BOB}"\nset imap_pass="{PASSWORD}"\n'
        f'set certificate_file="{server.certificates}"\n'
        f'set header_cache="{directory}/headers"\nset message_cachedir="{directory}/bodies"\n'
        "set imap_condstore=yes imap_qresync=yes imap_idle=yes\nset hostname=example.test\n"
        "set delete=yes quit=yes wait_key=no sleep_time=0 confirmappend=no confirmcreate=no mark_old=no\n"
        f'set debug_level=5 debug_file="{directory}/log"\npush "{keys}"\n'
    )
    log.unlink(missing_ok=True)
    with Terminal([require("neomutt"), "-n", "-F", str(configuration)], directory) as terminal:
        assert terminal.ends() == 0, terminal.text()
    said = log.read_text(errors="replace")
    assert re.findall(r"4< a\d+ (?:NO|BAD) .*", said) == []
    return re.findall(r"4> a\d+ (.*)", said)


def test_neomutt_hears_what_happened_since_it_filled_its_cache(server: PosthouseServer, tmp_path: Path) -> None:
    """By FETCH with CHANGEDSINCE and VANISHED; what it then believes is seen in what it copies."""
    sent = [letter(f"neomutt {n}") for n in range(6)]
    empty(server, BOB)
    fill(server, BOB, sent[:5], ["", r"\Flagged"])
    with connect(server, BOB) as client:
        client.create("Kept")
    assert not any("CHANGEDSINCE" in one for one in neomutt(server, tmp_path, "<quit>"))
    with connect(server, BOB) as other:
        other.store("1", "+FLAGS", r"(\Flagged)")
        other.store("2", "-FLAGS", r"(\Flagged)")
        other.store("4", "+FLAGS", r"(\Deleted)")
        other.expunge()
    fill(server, BOB, sent[5:], [r"\Flagged"])
    commands = neomutt(server, tmp_path, "<tag-pattern>~F<enter><tag-prefix><copy-message>=Kept<enter><quit>")
    assert [one for one in commands if re.fullmatch(r"UID FETCH .*\(CHANGEDSINCE \d+ VANISHED\)", one)]
    assert in_mailbox(server, "Kept") == [sent[0], sent[5]]


def test_neomutt_moves_and_marks(server: PosthouseServer, tmp_path: Path) -> None:
    moved, marked, left = (letter(f"neomutt's {one}") for one in ("moved", "marked", "left"))
    empty(server, BOB)
    fill(server, BOB, [moved, marked, left])
    keys = "<limit>~s\\ moved<enter><save-message>=Archive<enter><limit>~B\\ marked<enter><flag-message>"
    neomutt(server, tmp_path, f"{keys}<sync-mailbox><quit>")
    assert in_mailbox(server, "Archive") == [moved]
    assert flags(server, BOB) == {marked: {rb"\Flagged"}, left: frozenset()}


# --- aerc


def aerc(server: PosthouseServer, directory: Path) -> Terminal:
    """Bob's INBOX in aerc, which logs to "log"."""
    program = require("aerc")
    settings = directory / ".config" / "aerc"
    settings.mkdir(parents=True)
    (settings / "aerc.conf").write_text(
        f"[general]\nlog-file = {directory}/log\nlog-level = trace\n[filters]\ntext/plain = cat\n"
        "[viewer]\npager = cat\n[ui]\nthreading-enabled = false\n"
    )
    shutil.copy("/usr/share/aerc/binds.conf", settings)
    login = f"{quote(BOB)}:{quote(PASSWORD)}@localhost:{server.ports['imaps']}"
    accounts = settings / "accounts.conf"
    accounts.write_text(f"[Bob]\nsource = imaps://{login}\nfrom = Bob <{BOB}>\ndefault = INBOX\narchive = Archive\n")
    accounts.chmod(0o600)
    return Terminal([program], directory, SSL_CERT_FILE=str(server.certificates), XDG_RUNTIME_DIR=str(directory))


def test_aerc_reads_searches_marks_files_and_deletes(server: PosthouseServer, tmp_path: Path) -> None:
    filed, deleted, marked = (letter(f"aerc {one}") for one in ("filed", "deleted", "marked"))
    empty(server, BOB)
    fill(server, BOB, [filed, deleted, marked])
    with aerc(server, tmp_path) as terminal:
        terminal.shows("aerc marked")
        terminal.press("\r")
        terminal.shows("Körper of aerc marked")
        becomes(server, terminal, {filed: set(), deleted: set(), marked: {rb"\Seen"}})
        terminal.press(":close\r:flag\r")
        becomes(server, terminal, {filed: set(), deleted: set(), marked: {rb"\Seen", rb"\Flagged"}})
        terminal.press(":filter -b 'of aerc deleted'\r")
        # The list is another once its first line is: "O" stands in front of a subject there and nowhere else.
        terminal.shows("O aerc deleted")
        assert "Found 1 UIDs" in (tmp_path / "log").read_text()
        terminal.press(":select 0\r:delete\r")
        becomes(server, terminal, {filed: set(), marked: {rb"\Seen", rb"\Flagged"}})
        terminal.press(":clear\r")
        terminal.shows("O aerc filed")
        terminal.press(":filter filed\r")
        terminal.shows("O aerc filed")
        terminal.press(":select 0\r:move -p Aerc/Parks\r")
        becomes(server, terminal, {marked: {rb"\Seen", rb"\Flagged"}})
        terminal.press(":quit\r")
        terminal.ends()
    assert in_mailbox(server, "Aerc/Parks") == [filed]
    assert re.findall(r"(?m)^(?:WARN|ERROR).*", (tmp_path / "log").read_text()) == []


def test_aerc_shows_what_arrives(server: PosthouseServer, tmp_path: Path) -> None:
    """IDLE."""
    empty(server, BOB)
    fill(server, BOB, [letter("aerc was here")])
    with aerc(server, tmp_path) as terminal:
        terminal.shows("aerc was here")
        terminal.until(lambda: "=>(idle)" in (tmp_path / "log").read_text(), "IDLE")
        with smtplib.SMTP(server.address, server.ports["smtp"], timeout=60) as stranger:
            stranger.sendmail("alice@elsewhere.test", [BOB], letter("aerc hears"))
        terminal.shows("aerc hears")
        terminal.press(":quit\r")
        terminal.ends()


# --- alpine


def test_alpine_reads_saves_and_deletes(server: PosthouseServer, tmp_path: Path) -> None:
    saved, deleted, left = (letter(f"alpine {one}") for one in ("saved", "deleted", "left"))
    empty(server, BOB)
    fill(server, BOB, [saved, deleted, left])
    there = f"{{localhost:{server.ports['imaps']}/ssl/user={BOB}}}"
    (tmp_path / ".pinerc").write_text(
        f"inbox-path={there}INBOX\nfolder-collections=Mail {there}[]\nuser-domain=example.test\npersonal-name=Bob\n"
        "last-version-used=7.00\nfeature-list=quit-without-confirm,save-will-advance,expunge-without-confirm,"
        "expunge-without-confirm-everywhere,disable-password-file-saving\n"
    )
    options = ("-i", "-p", str(tmp_path / ".pinerc"), "-d", "imap=4,flush,verbose=4")
    with Terminal([require("alpine"), *options], tmp_path, SSL_CERT_FILE=str(server.certificates)) as terminal:
        terminal.shows("ENTER PASSWORD:")
        terminal.press(f"{PASSWORD}\r")
        terminal.shows("alpine left")
        terminal.press("\r")
        terminal.shows("Körper of alpine saved")
        terminal.press("<")
        terminal.shows("alpine left")
        terminal.press("s")
        terminal.shows("SAVE")
        terminal.press("Archive/Alpine\r")
        terminal.shows("N No")  # what is pressed before all of the question stands there is thrown away
        terminal.press("y")
        terminal.until(lambda: in_mailbox(server, "Archive/Alpine") == [saved], "a saved message")
        terminal.press("d")
        terminal.shows("marked for deletion")
        terminal.press("q")
        terminal.ends()
    assert flags(server, BOB) == {left: frozenset()}
    said = (tmp_path / ".pine-debug1").read_text(errors="replace")
    assert [
        words for words in re.findall(r"IMAP DEBUG \S+ \S+: \S+ ((?:NO|BAD) .*)", said) if "TRYCREATE" not in words
    ] == []
    assert re.findall(r"(?im).*(?:unexpected|bogus|unknown|unsolicited).*", said) == []
