"""How much of its answers a session holds in memory."""

import pytest

from posthouse.imapd.session import Session


def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on, the octets that were made ready at each time when some are sent."""
    waiting: list[int] = []
    flush = Session.flush

    async def flushing(session: Session) -> None:
        outgoing = session.engine.outgoing()
        waiting.append(sum(map(len, outgoing)))
        session.engine.send(*outgoing)
        await flush(session)

    monkeypatch.setattr(Session, "flush", flushing)
    return waiting
