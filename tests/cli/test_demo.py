"""The demo as people run it; every run uses two real servers."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers.waiting import wait_until
from posthouse.cli import demo_servers
from posthouse.cli.demo_print import Teller
from posthouse.cli.demo_servers import Place, claim, zone_text
from posthouse.cli.main import posthouse
from tests.cli.support import Command

SOURCE = Path(__file__).parent.parent.parent / "src"
# A demo starts two servers, and takes some seconds where it has a core for itself.
pytestmark = pytest.mark.timeout(400)


def demo(directory: Path, *options: str, seconds: float = 200) -> subprocess.CompletedProcess[str]:
    """Run it with `directory` for temporary files, of which it leaves none."""
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "demo", *options],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(directory)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert list(directory.iterdir()) == []
    assert "\x1b" not in done.stdout, "no colours where there is no terminal"
    assert "✗" not in done.stdout
    return done


def test_once(tmp_path: Path) -> None:
    shown = demo(tmp_path, "--once").stdout
    for line in (
        "C: AUTH PLAIN ********  (name and password)",
        "C: MAIL FROM:<alice@example.org> SIZE=",
        "C: RCPT TO:<bob@someschool.example>",
        "looked up MX of someschool.example: 10 mail.someschool.example",
        '._domainkey.example.org TXT "v=DKIM1; k=ed25519; p=',
        "signed by example.org (DKIM, with ",
        "S: DKIM-Signature: v=1; a=rsa-sha256",
        "S: DKIM-Signature: v=1; a=ed25519-sha256",
        "S: 220 mail.someschool.example ESMTP posthouse",
        "filed in Inbox of bob@someschool.example",
        "C: a1 LOGIN bob@someschool.example ********",
        "C: RETR 1",
        "✓ IMAP and POP3 give the same",
        "✓ Everything arrived as it should",
    ):
        assert line in shown, line
    assert re.search(r"S: 250 2\.0\.0 Taken as [0-9a-z]{13}   \([0-9.]+ ms\)", shown)
    asked = "MX of someschool.example, TXT of _mta-sts.someschool.example, A of mail.someschool.example"
    assert f"DNS was asked for {asked}" in " ".join(shown.split())


def test_outage(tmp_path: Path) -> None:
    shown = demo(tmp_path, "--once", "--outage").stdout
    refused = shown.index("did not take it, at connect")
    waiting = shown.index("This is what `posthouse queue list`")
    started = shown.index("Now Bob's server is started")
    relayed = shown.index("took it for bob@someschool.example: 250")
    assert refused < waiting < started < relayed
    assert shown.count("not yet delivered to bob@someschool.example") >= 2


def test_unknown_user(tmp_path: Path) -> None:
    shown = demo(tmp_path, "--once", "--unknown-user").stdout
    assert "failed for bop@someschool.example at mail.someschool.example: 550 5.1.1" in " ".join(shown.split())
    assert "S: Subject: Could not be delivered: Lunch on Friday?" in shown
    assert "✓ the report says: bop@someschool.example, failed, 5.1.1" in shown
    assert "✓ IMAP and POP3 give the same" in shown


def test_attach(tmp_path: Path) -> None:
    file = tmp_path / "größe .bin"
    file.write_bytes(bytes(range(256)) * 4000 + b"\r\n.\r\n.")
    (tmp_path / "below").mkdir()
    shown = demo(tmp_path / "below", "--once", "--attach", str(file)).stdout
    assert "größe .bin (1000.0 KB), decoded, is octet for octet the file" in shown
    assert "lines are not shown" in shown


def test_everything_at_once_where_there_is_only_one_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "empty"
    file.write_bytes(b"")
    monkeypatch.setattr(demo_servers, "_has_address", lambda address: False)
    with pytest.raises(SystemExit) as end:
        posthouse(["demo", "--once", "--outage", "--unknown-user", "--attach", str(file)])
    shown = capsys.readouterr().out
    assert end.value.code == 0, shown
    assert "127.0.0.2" not in shown
    assert "✓ Everything arrived as it should" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_it_is_ended_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    (tmp_path / "below").mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "posthouse", "demo"],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path / "below")},
        )
    try:
        wait_until(lambda: process.poll() is not None or b"Ctrl-C ends it all" in log.read_bytes(), 200, "the demo")
        shown = log.read_text()
        assert re.search(r"Bob +bob@someschool\.example +password [0-9a-f]{10}", shown)
        journey = re.search(r"^ +posthouse (-c .*)$", shown, re.MULTILINE)
        assert journey
        configuration, _, what = journey[1].removeprefix("-c ").partition(" journey ")
        told = Command(Path(configuration).parent)("journey", what.strip("'"))
        assert "took it for bob@someschool.example" in told
        process.send_signal(number)
        assert process.wait(60) == (0 if number == signal.SIGINT else 128 + number)
    finally:
        process.kill()
        process.wait()
    assert list((tmp_path / "below").iterdir()) == []


def test_keep_says_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "demo", "--once", "--keep"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path)},
    )
    (kept,) = tmp_path.iterdir()
    assert done.stdout.endswith(f"Everything is kept:\n\n   {kept}\n")
    assert (kept / "someschool.example" / "posthouse.toml").exists()


def test_a_file_that_is_too_large_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(100 << 20)
    assert "is too much for one message" in Command(tmp_path).error("demo", "--attach", str(file))


def test_two_demos_have_places_of_their_own() -> None:
    names, places = claim("a.example", "b.example")
    other_names, other_places = claim("a.example", "b.example")
    try:
        assert names.endpoint.port != other_names.endpoint.port
        assert {place.endpoint("smtp") for place in places}.isdisjoint(place.endpoint("smtp") for place in other_places)
    finally:
        names.stop()
        other_names.stop()


def test_the_zone_says_where_each_server_is() -> None:
    assert zone_text((Place("example.org", "127.0.0.2", 10000),)).splitlines() == [
        "example.org MX 10 mail.example.org.",
        'example.org TXT "v=spf1 mx -all"',
        "mail.example.org A 127.0.0.2",
    ]
    assert zone_text((), ["x.example.org TXT y"]) == "x.example.org TXT y"


def test_long_messages_are_cut_and_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()
    teller.message("S:", b"".join(b"line %d\x1b[2J\r\n" % number for number in range(2000)))
    shown = capsys.readouterr().out
    assert "lines are not shown" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) < 40


def test_an_explanation_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()
    teller.say("This is why.")
    teller.say("This is why.")
    assert capsys.readouterr().out.count("This is why.") == 1
