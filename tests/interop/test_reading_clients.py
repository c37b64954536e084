"""mutt, mbsync, fetchmail, curl and the standard library read mail over TLS."""

import email
import email.policy
import imaplib
import os
import poplib
import ssl
import subprocess
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.conftest import require
from tests.interop.reading import connect, messages

pytestmark = pytest.mark.interop

CAROL, BOB = "carol@example.test", "bob@example.test"


def fill(server: PosthouseServer, login: str, count: int, name: str) -> list[bytes]:
    """APPEND messages to INBOX, every third with flags; what was sent."""
    sent = []
    with connect(server, login) as client:
        for n in range(count):
            octets = (
                f"From: Écrivain <writer@elsewhere.test>\r\nTo: {login}\r\nSubject: {name} {n} äöü\r\n"
                f"Message-ID: <{name}.{n}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:{n // 60 % 60:02}:{n % 60:02} +0000\r\n"
                f"\r\nBody {n}\r\n.\r\n..two dots\r\n"
            ).encode()
            flags = (r"(\Seen)", r"(\Flagged \Answered)", "()")[n % 3]
            assert client.append("INBOX", flags, None, octets)[0] == "OK"
            sent.append(octets)
    return sent


def run(argv: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a client; fails with its own words."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=110
    )
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("tls", ["IMAPS", "STARTTLS"])
def test_mbsync_syncs_a_thousand_messages_both_ways(server: PosthouseServer, tmp_path: Path, tls: str) -> None:
    """Down into an empty Maildir, flags and new mail up again, and after that nothing differs and nothing is done."""
    login = CAROL if tls == "IMAPS" else BOB
    with connect(server, login) as client:
        client.store("1:*", "+FLAGS", r"(\Deleted)")
        client.expunge()
    sent = fill(server, login, 1000 if tls == "IMAPS" else 50, tls)
    local = tmp_path / "mail"
    (local / "cur").mkdir(parents=True)
    port = server.ports["imaps" if tls == "IMAPS" else "imap"]
    configuration = tmp_path / "mbsyncrc"
    configuration.write_text(
        f'IMAPAccount far\nHost mail.example.test\nPort {port}\nTunnel ""\nUser {login}\nPass "{PASSWORD}"\nSSLType {tls}\n'
        f"CertificateFile {server.certificates}\nIMAPStore far\nAccount far\nMaildirStore near\nPath {tmp_path}/folders/\n"
        f"Inbox {local}\nChannel all\nFar :far:\nNear :near:\nCreate Both\nExpunge Both\nSyncState *\n".replace(
            'Tunnel ""\n', ""
        ).replace("mail.example.test", server.address)
    )
    mbsync = [require("mbsync"), "-c", str(configuration), "all"]
    run(mbsync)
    files = [path for part in ("cur", "new") for path in (local / part).iterdir()]
    held = sorted(path.read_bytes().replace(b"\r\n", b"\n") for path in files)
    assert [strip_tuid(octets) for octets in held] == sorted(octets.replace(b"\r\n", b"\n") for octets in sent)

    # Up: a new local message, a flag set, a message removed.
    (local / "new" / "1.local").write_bytes(b"Subject: written here\n\nlocal\n")
    unseen = next(path for path in files if path.name.endswith(":2,") or ":2," not in path.name)
    unseen.rename(local / "cur" / (unseen.name.partition(":2,")[0] + ":2,S"))
    gone = next(path for path in files if path != unseen)
    gone.rename(local / "cur" / (gone.name.partition(":2,")[0] + ":2,T"))
    run(mbsync)
    there = messages(server, login)
    assert len(there) == len(sent)
    assert any(b"Subject: written here" in octets for octets in there)

    # And now both sides agree.
    before = sorted(path.name for part in ("cur", "new") for path in (local / part).iterdir())
    run(mbsync)
    assert sorted(path.name for part in ("cur", "new") for path in (local / part).iterdir()) == before
    assert len(messages(server, login)) == len(sent)


def strip_tuid(octets: bytes) -> bytes:
    """Without the field that mbsync adds to what it copies."""
    head, blank, body = octets.partition(b"\n\n")
    return b"\n".join(line for line in head.split(b"\n") if not line.startswith(b"X-TUID:")) + blank + body


def test_mutt_reads_flags_and_moves(server: PosthouseServer, tmp_path: Path) -> None:
    """mutt in batch: open INBOX over TLS, tag all from one sender, save them to Archive, leave."""
    fill(server, BOB, 3, "mutt")
    configuration = tmp_path / "muttrc"
    configuration.write_text(
        f'set folder="imaps://{server.address}:{server.ports["imaps"]}/"\nset spoolfile="+INBOX"\n'
        f'set imap_user="{BOB}"\nset imap_pass="{PASSWORD}"\nset ssl_force_tls=yes\nset ssl_verify_host=no\n'
        f'set certificate_file="{server.certificates}"\nset ssl_usesystemcerts=no\nset delete=yes\nset quit=yes\n'
        f'set wait_key=no\nset confirmappend=no\nset confirmcreate=no\nset header_cache=""\n'
        'push "<tag-pattern>~s mutt<enter><tag-prefix><save-message>=Archive<enter><sync-mailbox><quit>"\n'
    )
    run(["script", "-qec", f"{require('mutt')} -n -F {configuration}", "/dev/null"], TERM="xterm", HOME=str(tmp_path))
    with connect(server, BOB) as client:
        client.select("Archive")
        archived = client.search(None, "SUBJECT", "mutt")[1][0].split()
        client.select("INBOX")
        left = client.search(None, "SUBJECT", "mutt")[1][0].split()
    assert (len(archived), len(left)) == (3, 0)


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
@pytest.mark.parametrize("tls", ["ssl", "starttls"])
def test_fetchmail_fetches(server: PosthouseServer, tmp_path: Path, protocol: str, tls: str) -> None:
    with connect(server, CAROL) as client:
        client.store("1:*", "+FLAGS", r"(\Deleted)")
        client.expunge()
    fill(server, CAROL, 3, f"fetchmail{protocol}{tls}")
    port = server.ports[protocol.lower() + ("s" if tls == "ssl" else "")]
    encryption = "ssl" if tls == "ssl" else 'sslproto "tls1.2+"'
    out = tmp_path / "out"
    configuration = tmp_path / "fetchmailrc"
    configuration.write_text(
        f'poll {server.address} protocol {protocol} service {port}\nuser "{CAROL}" password "{PASSWORD}"\n'
        f'{encryption} sslcertck sslcertfile "{server.certificates}" sslcommonname "mail.example.test"\n'
        f'fetchall nokeep mda "cat >> {out}"\n'
    )
    configuration.chmod(0o600)
    run([require("fetchmail"), "-f", str(configuration), "--nosyslog", "--nodetach"], FETCHMAILHOME=str(tmp_path))
    assert out.read_bytes().count(b"Message-ID: <fetchmail") == 3
    assert messages(server, CAROL) == []


def test_curl_reads_by_imap_and_pop3(server: PosthouseServer) -> None:
    with connect(server, CAROL) as client:
        client.store("1:*", "+FLAGS", r"(\Deleted)")
        client.expunge()
    (sent,) = fill(server, CAROL, 1, "curl")
    for protocol, path in (("imaps", "INBOX;MAILINDEX=1"), ("pop3s", "1")):
        port = server.ports[protocol]
        done = subprocess.run(
            [
                *(require("curl"), "--silent", "--show-error", "--cacert", str(server.certificates)),
                *("--resolve", f"mail.example.test:{port}:{server.address}", "--user", f"{CAROL}:{PASSWORD}"),
                f"{protocol}://mail.example.test:{port}/{path}",
            ],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == sent, protocol


def test_poplib_walks_the_whole_protocol(server: PosthouseServer) -> None:
    with connect(server, CAROL) as reader:
        reader.store("1:*", "+FLAGS", r"(\Deleted)")
        reader.expunge()
    sent = fill(server, CAROL, 3, "poplib")
    context = ssl.create_default_context(cafile=str(server.certificates))
    context.check_hostname = False
    client = poplib.POP3(server.address, server.ports["pop3"], timeout=30)
    assert "STLS" in client.capa()
    client.stls(context)
    client.user(CAROL)
    client.pass_(PASSWORD)
    assert client.stat() == (3, sum(map(len, sent)))
    assert len(client.uidl()[1]) == 3
    assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == sent[0]
    assert client.top(2, 1)[1][-1] == b"Body 1"
    client.dele(1)
    client.rset()
    client.dele(2)
    client.quit()
    assert messages(server, CAROL) == [sent[0], sent[2]]


def test_what_imaplib_appends_is_what_the_parser_reads(server: PosthouseServer) -> None:
    with connect(server, CAROL) as client:
        assert isinstance(client, imaplib.IMAP4_SSL)
        client.select("Drafts")
        sent = b"Subject: a draft\r\nFrom: carol@example.test\r\n\r\nnot yet\r\n"
        assert client.append("Drafts", r"(\Draft)", None, sent)[0] == "OK"
        number = client.search(None, "DRAFT")[1][0].split()[-1].decode()
        (_, octets), _ = client.fetch(number, "(BODY[])")[1]
    assert octets == sent
    assert email.message_from_bytes(octets, policy=email.policy.default)["subject"] == "a draft"
