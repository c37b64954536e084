"""Mail that an address here sends on elsewhere, through real doors: under which sender, and who may write to that."""

import re
from pathlib import Path

import pytest

from tests.relay.support import Peer
from tests.road.test_signed import DOMAIN, between, relayed
from tests.support import run, until

SHORT = "eve@far.example"
LONG = "bounce-md_30850198.5e1b2c3d.v1-0123456789abcdef@mail.newsletters.example"


@pytest.mark.parametrize("sender", [SHORT, LONG])
def test_a_bounce_goes_on_to_who_wrote_and_nothing_else_does(tmp_path: Path, sender: str) -> None:
    async def main() -> None:
        async with Peer() as peer, between(tmp_path, peer) as home:
            await home.alias(f"astray@{DOMAIN}", "bob@there.example")
            stranger = await home.connect("smtp")
            post = f"From: <{sender}>\r\nSubject: x\r\n\r\nHello\r\n".encode()
            assert (await stranger.send(sender, [f"astray@{DOMAIN}"], post)).startswith("250")
            assert b"Delivered-To: astray@home.example" in await relayed(home, peer)
            found = re.search(r"MAIL FROM:<(SRS0=[^@>]{1,59}@home\.example)>", "\n".join(peer.said[0]))
            assert found is not None
            assert (await stranger.envelope("spammer@far.example", [found[1]])).startswith("550 5.7.1")
            assert (await stranger.send("", [found[1]], b"Subject: it failed\r\n\r\n")).startswith("250")

            # Not by the queue: far.example does not exist, which is soon found out.
            def queued() -> list[object]:
                return [step.facts["recipients"] for step in home.steps if step.kind == "mail.queued"]

            await until(lambda: len(queued()) == 2)
            assert queued() == [("bob@there.example",), (sender,)]

    run(main())
