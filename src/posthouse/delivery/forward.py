"""Mail that an address of ours sends on elsewhere: its mark, and the reverse-path under which it travels.

Promises: the mark lets a loop be seen (policy/forwarding.py); the reverse-path passes SPF at the next hop and leads
bounces home (directory/srs.py). What one of ours wrote keeps its own: the domain is ours, and so is its SPF record.
Refuses: to change the message.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from posthouse.directory import srs
from posthouse.directory.addresses import Rules
from posthouse.store.database import Tx
from posthouse.terms.address import Address

_KEPT_MS: Final = (srs.DAYS + 1) * 86_400_000


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What a forwarded recipient's row gets."""

    prologue: bytes = b""
    return_path: Address | None = None


AS_IT_IS: Final = Forwarding()


def forwarding(tx: Tx, rules: Rules, sender: Address | None, original: Address, address: Address) -> Forwarding:
    """How mail of `sender` for `original` is sent on to `address`; as it is where the two are one."""
    if original.key == address.key:
        return AS_IT_IS
    mark = f"Delivered-To: {original}\r\n".encode()
    if sender is None or rules.srs is None or tx.one("domain_find", name=sender.domain) is not None:
        return Forwarding(mark)
    rewritten = rules.srs.forward(sender, original.domain)
    return Forwarding(mark, rewritten if rewritten != sender else None)


def keep_sender(tx: Tx, rules: Rules, sender: Address | None, paths: Iterable[Address | None], now: int) -> None:
    """Keep whose mail travels under these reverse-paths, where they do not hold him themselves. For the transaction
    that queues it: a bounce finds him."""
    if sender is None or rules.srs is None:
        return
    for path in {path for path in paths if path is not None and path != sender}:
        ticket = rules.srs.ticket(path)
        if ticket is not None:
            tx.run("forwarded_expire", before=now - _KEPT_MS)
            tx.put("forwarded_put", ticket=ticket, sender=str(sender), now=now)
