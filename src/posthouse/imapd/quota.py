"""GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208).

Promises: what is told are the totals that filing keeps and is measured by. An account has one quota root for all its
mailboxes; where its domain has a quota, that is another, which it shares with the domain's other accounts.
Refuses: SETQUOTA: limits are the administrator's to set.
"""

from posthouse.imapd.places import is_others
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox.quota import Limit, limits
from posthouse.wire.imap import quota as wire
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code


async def get_quota(session: Session, command: Command, asked: wire.GetQuota) -> None:
    """GETQUOTA: RFC 9208 §4.1.1."""
    found = [limit for limit in await session.read(limits) if _root(limit) == asked.root]
    if not found:
        raise Refused("There is no such quota root", Code.NONEXISTENT)
    _tell(session, found)
    await session.ok(command, "That is what it holds and may hold")


async def get_quota_root(session: Session, command: Command, asked: wire.GetQuotaRoot) -> None:
    """GETQUOTAROOT: RFC 9208 §4.1.2."""
    # RFC 9208 §8: what another holds is not ours to tell.
    found = [] if is_others(asked.mailbox) else await session.read(limits)
    roots = [_root(limit) for limit in found]
    # RFC 9208 §4.1.2: the mailbox need not be there; all of an account have the same roots.
    session.engine.send(wire.quota_root(asked.mailbox, dict.fromkeys(roots), utf8=session.engine.utf8))
    _tell(session, found)
    await session.ok(command, "Those limit it" if found else "Nothing limits it")


async def set_quota(session: Session, command: Command, asked: wire.SetQuota) -> None:
    """SETQUOTA: RFC 9208 §4.1.3."""
    raise Refused("Quotas are set by those who run this server", Code.NOPERM)


def _tell(session: Session, found: list[Limit]) -> None:
    for root in dict.fromkeys(map(_root, found)):
        session.engine.send(wire.quota(root, [_resource(limit) for limit in found if _root(limit) == root]))


def _root(limit: Limit) -> bytes:
    # RFC 9208 §3: names of quota roots mean nothing to clients, but people are shown them.
    return b"account" if limit.domain is None else b"domain " + limit.domain.encode()


def _resource(limit: Limit) -> tuple[bytes, int, int]:
    if limit.octets:
        # RFC 9208 §5.1: STORAGE counts by 1024 octets. What is begun counts on both sides, so that full is full.
        return b"STORAGE", -(-limit.used // 1024), -(-limit.limit // 1024)
    return b"MESSAGE", limit.used, limit.limit
