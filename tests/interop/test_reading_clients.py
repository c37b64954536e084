"""mutt, fetchmail, curl and the standard library read mail over TLS, by IMAP and POP3."""

import email
import email.policy
import poplib
import re
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import require, run
from tests.interop.reading import connect, empty, fill, flags, messages, trusting
from tests.interop.terminal import Terminal

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOB, CAROL = "bob@example.test", "carol@example.test"
HOST = "mail.example.test"


def letter(subject: str, name: str = "Écrivain") -> bytes:
    """A message with what transports trip over: a lone dot, two of them, 8-bit octets in header and body."""
    return (
        f"From: {name} <writer@elsewhere.test>\r\nTo: {CAROL}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{abs(hash(subject))}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        f"\r\nÄrger mit {subject}\r\n.\r\n..two dots\r\n"
    ).encode()


# --- mutt


def mutt(server: PosthouseServer, directory: Path, login: str, keys: str, more: str = "") -> None:
    """Open INBOX with mutt, over TLS and by SCRAM-SHA-256, and press these keys; `more` settings."""
    configuration = directory / "muttrc"
    configuration.write_text(
        f'set folder="imaps://{server.address}:{server.ports["imaps"]}/"\nset spoolfile="+INBOX"\n'
        f'set imap_user="{login}"\nset imap_pass="{PASSWORD}"\nset imap_authenticators="scram-sha-256"\n'
        f'set ssl_verify_host=no\nset certificate_file="{server.certificates}"\n'
        "set delete=yes\nset quit=yes\nset wait_key=no\nset confirmappend=no\nset confirmcreate=no\nset mark_old=no\n"
        'set hostname="example.test"\n'  # or it asks the DNS for its own
        f'{more}push "{keys}"\n'
    )
    with Terminal([require("mutt"), "-d", "3", "-n", "-F", str(configuration)], directory) as terminal:
        assert terminal.ends() == 0, terminal.text()
    said = (directory / ".muttdebug0").read_text(errors="replace")
    assert "4< a0001 OK" in said
    # It makes a mailbox once it has heard that there is none.
    assert re.findall(r"4< a\d+ (?:NO|BAD) (?!\[NONEXISTENT\]|\[TRYCREATE\]).*", said) == []


def test_mutt_files_what_it_finds(server: PosthouseServer, tmp_path: Path) -> None:
    fill(server, BOB, [letter(f"mutt {n}") for n in range(3)])
    save = "<tag-pattern>~s mutt<enter><tag-prefix><save-message>=Archive<enter><sync-mailbox><quit>"
    mutt(server, tmp_path, BOB, save)
    with connect(server, BOB) as client:
        assert client.search(None, "SUBJECT", "mutt") == ("OK", [b""])
        assert client.select("Archive") == ("OK", [b"3"])


def test_mutt_compresses(server: PosthouseServer, tmp_path: Path) -> None:
    # RFC 4978
    empty(server, BOB)
    fill(server, BOB, [letter(f"packed {n}") for n in range(50)])
    copy = "<tag-pattern>=b'mit packed'<enter><tag-prefix><copy-message>=Packed<enter><quit>"
    mutt(server, tmp_path, BOB, copy, more="set imap_deflate=yes\n")
    with connect(server, BOB) as client:
        assert client.select("Packed") == ("OK", [b"50"])


def test_mutt_searches_in_bodies_and_sets_flags(server: PosthouseServer, tmp_path: Path) -> None:
    empty(server, BOB)
    flagged, left = letter("the one"), letter("the other")
    fill(server, BOB, [flagged, left])
    mutt(server, tmp_path, BOB, "<tag-pattern>=b'mit the one'<enter><tag-prefix><flag-message><quit>")
    assert flags(server, BOB) == {flagged: {rb"\Flagged"}, left: frozenset()}


# --- fetchmail


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_fetchmail_fetches_and_deletes(server: PosthouseServer, tmp_path: Path, protocol: str, tls: str) -> None:
    empty(server, CAROL)
    fill(server, CAROL, [letter(f"fetchmail {n}") for n in range(3)])
    port = server.ports[protocol.lower() + ("s" if tls == "implicit" else "")]
    encryption = "ssl" if tls == "implicit" else 'sslproto "tls1.2+"'
    out = tmp_path / "out"
    configuration = tmp_path / "fetchmailrc"
    configuration.write_text(
        f'poll {server.address} protocol {protocol} service {port}\nuser "{CAROL}" password "{PASSWORD}"\n'
        f'{encryption} sslcertck sslcertfile "{server.certificates}" sslcommonname "{HOST}"\n'
        f'fetchall nokeep mda "cat >> {out}"\n'
    )
    configuration.chmod(0o600)
    argv = [require("fetchmail"), "-f", str(configuration), "--nosyslog", "--nodetach", "--verbose"]
    said = run(argv, FETCHMAILHOME=str(tmp_path)).decode()
    assert f"{protocol}< " in said
    assert re.findall(r"IMAP< \S+ (?:NO|BAD) .*|POP3< -ERR.*", said) == []
    assert out.read_text().count("\nÄrger mit fetchmail ") == 3
    assert messages(server, CAROL) == []


# --- curl


def curl(server: PosthouseServer, url: str, *options: str) -> bytes:
    """What curl, which verifies the server's certificate, finds at "imaps/INBOX", which stands for a whole URL."""
    protocol, _, path = url.partition("/")
    port = server.ports[protocol]
    argv = [
        *(require("curl"), "--disable", "--noproxy", "*", "--silent", "--show-error"),
        *("--ssl-reqd", "--cacert", str(server.certificates)),
        *("--resolve", f"{HOST}:{port}:{server.address}", "--user", f"{CAROL}:{PASSWORD}"),
        *(f"{protocol}://{HOST}:{port}/{path}", *options),
    ]
    return run(argv)


@pytest.mark.parametrize("message", ["imaps/INBOX;MAILINDEX=1", "imap/INBOX;MAILINDEX=1", "pop3s/1", "pop3/1"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_curl_reads(server: PosthouseServer, message: str, mechanism: str) -> None:
    empty(server, CAROL)
    fill(server, CAROL, [letter("curl")])
    # POP3 without UTF8 shows the header in ASCII, RFC 6858.
    expected = letter("curl", "=?utf-8?q?=C3=89crivain?=") if message.startswith("pop3") else letter("curl")
    assert curl(server, message, "--login-options", f"AUTH={mechanism}") == expected


def test_curl_appends_searches_and_lists(server: PosthouseServer, tmp_path: Path) -> None:
    empty(server, CAROL)
    path = tmp_path / "message"
    path.write_bytes(letter("curl appends"))
    curl(server, "imaps/INBOX", "--upload-file", str(path))
    assert messages(server, CAROL) == [letter("curl appends")]
    assert curl(server, "imaps/INBOX?SUBJECT%20appends") == b"* SEARCH 1\r\n"
    assert b'* LIST (\\HasNoChildren \\Drafts) "/" "Drafts"\r\n' in curl(server, "imaps/")
    assert curl(server, "imaps/INBOX;MAILINDEX=1;SECTION=HEADER.FIELDS%20(SUBJECT)") == b"Subject: curl appends\r\n\r\n"


# --- the standard library


def test_poplib_walks_the_whole_protocol(server: PosthouseServer) -> None:
    empty(server, CAROL)
    sent = [letter(f"poplib {n}") for n in range(3)]
    fill(server, CAROL, sent)
    client = poplib.POP3(server.address, server.ports["pop3"], timeout=30)
    assert "STLS" in client.capa()
    client.stls(trusting(server))
    client.utf8()
    client.user(CAROL)
    client.pass_(PASSWORD)
    assert client.stat() == (3, sum(map(len, sent)))
    assert len({line.split()[1] for line in client.uidl()[1]}) == 3
    assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == sent[0]
    assert client.top(2, 1)[1][-1] == "Ärger mit poplib 1".encode()
    client.dele(1)
    client.rset()
    client.dele(2)
    client.quit()
    assert messages(server, CAROL) == [sent[0], sent[2]]


def test_imaplib_keeps_a_draft(server: PosthouseServer) -> None:
    sent = b"Subject: a draft\r\nFrom: carol@example.test\r\n\r\nnot yet\r\n"
    with connect(server, CAROL) as client:
        assert client.append("Drafts", r"(\Draft)", "", sent)[0] == "OK"
        client.select("Drafts")
        number = client.search(None, "DRAFT")[1][0].split()[-1].decode()
        found = client.fetch(number, "(BODY[])")[1][0]
    assert isinstance(found, tuple)
    assert found[1] == sent
    assert email.message_from_bytes(found[1], policy=email.policy.default)["subject"] == "a draft"
