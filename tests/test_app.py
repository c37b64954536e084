"""The app as a whole: what a reload changes, how it stops, and that its workers go on."""

import asyncio
import base64
import ssl
from pathlib import Path
from random import Random

import pytest

from posthouse import housekeeping
from posthouse.app import App, _keep_running
from posthouse.clock import SetClock
from posthouse.delivery import fullness
from posthouse.mailbox import search
from posthouse.net.tls import CertificateError, private_pair
from posthouse.store.database import StoreUnavailable
from tests.doors.house import Pop3Client
from tests.harness import PASSWORD, House, configured, house
from tests.support import run

BOB = "bob@home.example"


def shown(port: int) -> bytes:
    """The certificate that a port shows, in TLS from the first octet."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=30))


async def certificate(home: House) -> bytes:
    """What submissions shows now."""
    return await asyncio.to_thread(shown, home.ports["submissions"])


def kinds(home: House) -> list[str]:
    """The steps so far."""
    return [step.kind for step in home.steps]


def test_reload_gives_new_limits_to_new_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB)
            old = await home.connect("smtp")
            await old.say("EHLO far.example")
            home.app.reload(configured(tmp_path, settings='limits.message_size = "1MB"\nlimits.connections = 2'))
            assert "reload.done" in kinds(home)
            assert "reload.needs_restart" not in kinds(home)
            # A conversation goes on as it began.
            assert (await old.say("MAIL FROM:<eve@far.example> SIZE=2000000")).startswith("250")
            new = await home.connect("smtp")
            assert "SIZE 1048576" in await new.say("EHLO far.example")
            assert (await new.say("MAIL FROM:<eve@far.example> SIZE=2000000")).startswith("552")
            # The old connection is counted under the new limit.
            third = await home.call("smtp")
            assert (await third.reply()).startswith("421")

    run(main())


def test_reload_gives_nobody_his_allowance_anew(tmp_path: Path) -> None:
    async def main() -> None:
        settings = 'submission.check_domains = false\nlimits.submission_rate = "2/1h"\n'
        async with house(tmp_path, settings=settings) as home:
            await home.people(BOB)
            login = base64.b64encode(f"\0{BOB}\0{PASSWORD}".encode()).decode()

            async def taken() -> list[bool]:
                client = await home.connect("submission")
                await client.say("EHLO bob.example", f"AUTH PLAIN {login}", f"MAIL FROM:<{BOB}>")
                return [(await client.say(f"RCPT TO:<{n}@far.example>")).startswith("250") for n in range(3)]

            assert await taken() == [True, True, False]
            home.app.reload(home.settings)
            assert await taken() == [False, False, False]
            more = configured(tmp_path, settings=settings.replace("2/1h", "3/1h"))
            home.app.reload(more)
            assert await taken() == [True, True, True]

    run(main())


def test_mail_for_postmaster_goes_to_whom_the_configuration_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, settings=f'delivery.postmaster = "{BOB}"') as home:
            await home.people("alice@home.example", BOB)
            client = await home.connect("smtp")
            everywhere = ["postmaster", "postmaster@home.example", "postmaster@mail.home.example"]
            assert (await client.send("eve@far.example", everywhere)).startswith("250")
            assert len(await home.mail(BOB)) == 1
            assert await home.mail("alice@home.example") == []

    run(main())


def test_a_maildrop_is_one_sessions_at_both_ports_where_that_is_configured(tmp_path: Path) -> None:
    async def main() -> None:
        doors = {"pop3": "none", "pop3s": "none"}
        async with house(tmp_path, listeners=doors, settings='pop3.maildrop = "exclusive"') as home:
            await home.people(BOB)
            clients = [await Pop3Client.connect(home.ports[door]) for door in (*doors, "pop3")]
            try:
                for client, answer in zip(clients, (b"+OK ", b"-ERR [IN-USE] ", b"-ERR [IN-USE] "), strict=True):
                    await client.say(f"USER {BOB}")
                    assert (await client.say(f"PASS {PASSWORD}")).startswith(answer)
                    home.app.reload(home.settings)
            finally:
                for client in clients:
                    await client.close()

    run(main())


def test_whose_mailbox_is_nearly_full_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fullness, "PAUSE_SECONDS", 0.01)

    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB, emails=5)
            client = await home.connect("smtp")
            for _ in range(4):
                assert (await client.send("eve@far.example", [BOB])).startswith("250")
            while len(found := await home.mail(BOB)) < 5:
                await asyncio.sleep(0.02)
            assert b"Subject: Your mailbox is 80 % full\r\n" in found[-1]
            (told,) = [one for one in await home.journeys(BOB) if one.subject == "Your mailbox is 80 % full"]
            assert "letter.written" in [step.kind for step in told.steps]

    run(main())


def test_reload_tells_what_needs_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            other = 'queue.expire = "2d"\nlimits.unfinished_memory = "1MB"'
            home.app.reload(configured(tmp_path, settings=other))
            (step,) = [step for step in home.steps if step.kind == "reload.needs_restart"]
            assert step.facts["settings"] == ("queue", "limits.unfinished_memory")

    run(main())


def test_reload_shows_a_certificate_that_was_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            before = await certificate(home)
            assert await certificate(home) == before
            for name in ("server.pem", "server.key"):
                (tmp_path / "tls" / name).unlink()
            home.app.reload(home.settings)
            after = await certificate(home)
            assert after != before

    run(main())


def test_a_certificate_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            before = await certificate(home)
            (tmp_path / "tls" / "ca.pem").write_text("no certificate")
            with pytest.raises(CertificateError):
                home.app.reload(configured(tmp_path, settings='limits.message_size = "1MB"'))
            assert await certificate(home) == before
            assert "52428800" in await (await home.connect("smtp")).say("EHLO far.example")

    run(main())


def test_our_own_certificate_is_renewed_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with house(tmp_path, clock=clock) as home:
            first = await certificate(home)
            home.app._renew_certificates()
            assert await certificate(home) == first
            clock.advance(380 * 86_400)
            home.app._renew_certificates()
            assert await certificate(home) != first

    run(main())


def test_what_was_refused_last_is_written_down_when_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.app._GOODBYE_SECONDS", 30.0)

    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB)
            client = await home.connect("smtp")
            await client.envelope("eve@far.example", ["nobody@home.example"])
        async with house(tmp_path) as home:
            assert len(await home.journeys("nobody@home.example")) == 1

    run(main())


def test_stopping_needs_no_time_where_nothing_is_to_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever were waited for as long as that would not be gone within the test's own time.
    monkeypatch.setattr("posthouse.app._GOODBYE_SECONDS", 3600.0)

    async def main() -> None:
        async with house(tmp_path) as home:
            clients = [await home.connect("smtp") for _ in range(20)]
            async with asyncio.timeout(30):
                await home.app.stop()
            assert {await client.reply() for client in clients} == {"421 4.3.2 This server is stopping; try again soon"}

    run(main())


def test_a_worker_that_fails_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def breaking() -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ZeroDivisionError if calls % 2 else StoreUnavailable("the disk is full")

    monkeypatch.setattr("posthouse.app._PAUSE_SECONDS", 0.001)
    run(_keep_running(breaking))
    assert calls == 4


def test_mail_is_taken_while_a_worker_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    async def main() -> None:
        monkeypatch.setattr(search, "keep_indexed", broken)
        # It is not begun again while this test looks.
        monkeypatch.setattr("posthouse.app._PAUSE_SECONDS", 3600.0)
        async with house(tmp_path) as home:
            await home.people(BOB)
            client = await home.connect("smtp")
            assert (await client.send("eve@far.example", [BOB])).startswith("250")
            assert kinds(home).count("worker.failed") == 1

    run(main())


def test_a_place_that_cannot_be_swept_is_told_of_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was an error of ours each second, with its traceback."""
    asked: list[int] = []

    async def clean(*given: object) -> None:
        asked.append(1)
        raise PermissionError(13, "Permission denied", "blobs/ab")

    async def main() -> None:
        monkeypatch.setattr(housekeeping, "clean", clean)
        monkeypatch.setattr("posthouse.app._PAUSE_SECONDS", 0.0)
        async with house(tmp_path) as home:
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert asked == [1]
            assert kinds(home).count("housekeeping.waits") == 1
            assert "worker.failed" not in kinds(home)

    run(main())


def test_a_directory_that_cannot_be_used_is_said_before_it_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as home:
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "blobs").write_text("no directory")
            private_pair(tmp_path / "other" / "tls", "mail.home.example", home.clock)
            with pytest.raises(OSError, match="Not a directory"):
                App(configured(tmp_path / "other"), home.store, home.clock, Random())

    run(main())
