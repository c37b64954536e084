"""Mail that an address here sends on elsewhere, and the bounce that comes home."""

from pathlib import Path

import pytest

from posthouse.delivery.courier import DeliveryCourier
from posthouse.directory.addresses import Rules
from posthouse.directory.srs import DAYS, Srs
from posthouse.queue.queue import NewRecipient
from posthouse.queue.runner import Runner
from posthouse.terms.address import parse
from tests.delivery.support import Home, local
from tests.queue.support import DAY, NO_SUCH, NOT_NOW, Script
from tests.support import run


class Forwarder(Home):
    """A home whose aliases lead elsewhere."""

    @property
    def rules(self) -> Rules:
        return Rules(srs=Srs(self.store.secret, self.clock))

    def post(self, outside: Script | None = None) -> Runner:
        courier = DeliveryCourier(self.store, self.blobs, self.rules, self.store.secret, self.clock)
        return self.runner(outside or Script(), courier)


@pytest.mark.parametrize(
    ("sender", "rewritten"), [("eve@far.example", True), ("alice@home.example", False), (None, False)]
)
def test_a_strangers_reverse_path_becomes_ours(tmp_path: Path, sender: str | None, rewritten: bool) -> None:
    async def main() -> None:
        home = Forwarder(tmp_path)
        await home.people("alice")
        await home.alias("away", "dave@there.example")
        await home.send(local("away@home.example"), sender=sender)
        await home.settle(home.post(Script(default=NOT_NOW)))
        ((prologue, return_path),) = await home.select("SELECT prologue, return_path FROM queued_recipient")
        assert prologue == b"Delivered-To: away@home.example\r\n"
        if rewritten:
            assert sender is not None
            assert Srs(home.store.secret, home.clock).reverse(parse(str(return_path))) == parse(sender)
            assert str(return_path).endswith("=far.example=eve@home.example")
        else:
            assert return_path is None

    run(main())


def test_its_bounce_comes_home_and_goes_on_to_who_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        home = Forwarder(tmp_path)
        await home.people("alice")
        await home.alias("away", "dave@there.example")
        await home.send(local("away@home.example"), sender="eve@far.example")
        outside = Script({"there.example": (NO_SUCH,)}, default=NOT_NOW)
        await home.settle(home.post(outside))
        assert [names for _, names in outside.seen] == [["dave@there.example"], ["eve@far.example"]]
        ((sender, prologue),) = await home.select("SELECT sender, prologue FROM queued_recipient")
        assert sender is None
        assert isinstance(prologue, bytes)
        assert prologue.startswith(b"Delivered-To: SRS0=")

    run(main())


def test_another_servers_bounce_to_it_does_so_too(tmp_path: Path) -> None:
    async def main() -> None:
        home = Forwarder(tmp_path)
        await home.people("alice")
        back = home.rules.srs.forward(parse("eve@far.example"), "home.example") if home.rules.srs else None
        assert back is not None
        await home.send(NewRecipient(back, "local:"), sender=None)
        outside = Script()
        await home.settle(home.post(outside))
        assert [names for _, names in outside.seen] == [["eve@far.example"]]

    run(main())


LONG = "bounce-md_30850198.5e1b2c3d.v1-0123456789abcdef@mail.newsletters.example"


@pytest.mark.parametrize("by_another_server", [False, True])
def test_the_bounce_of_a_long_senders_mail_comes_home_too(tmp_path: Path, by_another_server: bool) -> None:
    async def main() -> None:
        home = Forwarder(tmp_path)
        await home.people("alice")
        await home.alias("away", "dave@there.example")
        await home.send(local("away@home.example"), sender=LONG)
        outside = Script({"there.example": (NOT_NOW if by_another_server else NO_SUCH,)})
        await home.settle(home.post(outside))
        if by_another_server:
            ((path,),) = await home.select("SELECT return_path FROM queued_recipient")
            await home.send(local(str(path).lower()), sender=None)
            await home.settle(home.post(outside))
        assert [names for _, names in outside.seen] == [["dave@there.example"], [LONG]]

    run(main())


def test_senders_that_are_kept_are_forgotten_with_their_reverse_path(tmp_path: Path) -> None:
    async def main() -> None:
        home = Forwarder(tmp_path)
        await home.people("alice")
        await home.alias("away", "dave@there.example")
        for sender in (LONG, f"x{LONG}"):
            for _ in range(2):
                await home.send(local("away@home.example"), sender=sender)
                await home.settle(home.post(Script()))
            home.clock.advance((DAYS + 2) * DAY)
        assert await home.select("SELECT sender FROM forwarded") == [(f"x{LONG}",)]

    run(main())
