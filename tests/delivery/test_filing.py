"""Filing for several accounts in one transaction."""

from pathlib import Path

from posthouse.delivery.filing import Copy, file_local, prologue
from posthouse.mailbox.append import Filed
from posthouse.mailbox.model import NoSuchAccount, OverQuota
from posthouse.mailbox.summary import render
from posthouse.store.database import Tx
from tests.delivery.support import NOW, Home, local
from tests.queue.support import MESSAGE
from tests.support import run


def test_octets_that_were_filed_at_acceptance_are_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        bob, carol = await home.people("bob", "carol")
        await home.send(local("carol@home.example"))
        ((blob,),) = await home.select("SELECT id >> 24 FROM queued_recipient")

        def at_acceptance(tx: Tx) -> None:
            copies = [Copy(bob, prologue(None, "bob@home.example"))]
            file_local(tx, int(str(blob)), render(MESSAGE), copies, received_at=NOW, thread_secret=b"s" * 32)

        await home.store.write(at_acceptance)
        await home.settle(home.post())
        assert [len(await home.inbox(one)) for one in (bob, carol)] == [1, 1]
        assert await home.select("SELECT count(*) FROM message") == [(1,)]

    run(main())


def test_filing_answers_for_each_account(tmp_path: Path) -> None:
    async def main() -> None:
        home = Home(tmp_path)
        (bob,) = await home.people("bob")
        (full,) = await home.people("full", quota_emails=0)
        staged = await home.blobs.stage(MESSAGE)

        def file(tx: Tx, *who: int, overshoot: bool = False) -> list[type]:
            fates = file_local(
                tx, staged, render(MESSAGE), [Copy(one, b"") for one in who],
                received_at=NOW, thread_secret=b"s" * 32, overshoot=overshoot,
            )  # fmt: skip
            return [type(fates[one]) for one in who]

        assert await home.store.write(file, full, 999) == [OverQuota, NoSuchAccount]
        assert await home.select("SELECT count(*) FROM message") == [(0,)]
        assert await home.store.write(file, 999, full, bob) == [NoSuchAccount, OverQuota, Filed]
        assert await home.store.write(file, full, overshoot=True) == [Filed]

    run(main())


def test_a_prologue_is_what_final_delivery_adds() -> None:
    assert prologue(None, "jürgen@home.example") == (
        "Return-Path: <>\r\nDelivered-To: jürgen@home.example\r\n".encode()
    )
