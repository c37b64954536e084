"""What the verdicts on a message come to: who gets it, where, when, and what the peer is told. Pure.

Promises: SMTP has one reply behind the dot, so it refuses or defers only where that holds for every recipient left;
otherwise whoever refuses finds the message in Junk, and a deferral waits in the queue. LMTP answers each recipient for
himself (RFC 2033 §4.2). Nobody is forgotten: a recipient is taken, waits, or is told no.
Refuses: to judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.policy.check import Action, Verdict
from posthouse.terms.reply import Reply

_NOT_TAKEN: Final = Reply(554, "5.7.1", "This message is not taken")


@dataclass(frozen=True, slots=True)
class Decision:
    """By index of the recipients: `taken` get the message now, `junked` of them in Junk; `deferred` get it later.
    `unwanted` are those of `junked` who refuse and could not say so.

    `refused` holds, for each recipient, the reply that says no; None where the message is taken for him.
    """

    refused: tuple[Reply | None, ...]
    taken: tuple[int, ...] = ()
    junked: frozenset[int] = frozenset()
    unwanted: frozenset[int] = frozenset()
    deferred: tuple[int, ...] = ()

    @property
    def nobody(self) -> bool:
        """No recipient gets the message."""
        return None not in self.refused


def decide(verdicts: Sequence[Verdict], *, each: bool) -> Decision:
    """What becomes of a message with at least one recipient; `each`: every recipient is answered (LMTP)."""
    if all(verdict.action is Action.ACCEPT for verdict in verdicts):
        return Decision((None,) * len(verdicts), tuple(range(len(verdicts))))
    if each:
        return _for_each(verdicts)
    if all(verdict.action >= Action.DEFER for verdict in verdicts):
        # The weaker of both: what is refused will be refused again, what is deferred may be taken then.
        said = _said(min(verdicts, key=lambda verdict: verdict.action))
        return Decision((said,) * len(verdicts))
    # Not DEFER: whoever refuses cannot say so any more, and would bounce to a forged sender.
    taken = tuple(index for index, verdict in enumerate(verdicts) if verdict.action is not Action.DEFER)
    return Decision(
        refused=(None,) * len(verdicts),
        taken=taken,
        junked=frozenset(index for index in taken if verdicts[index].action is not Action.ACCEPT),
        unwanted=frozenset(index for index in taken if verdicts[index].action is Action.REFUSE),
        deferred=tuple(index for index, verdict in enumerate(verdicts) if verdict.action is Action.DEFER),
    )


def _for_each(verdicts: Sequence[Verdict]) -> Decision:
    taken = tuple(index for index, verdict in enumerate(verdicts) if verdict.action < Action.DEFER)
    return Decision(
        refused=tuple(_said(verdict) if verdict.action >= Action.DEFER else None for verdict in verdicts),
        taken=taken,
        junked=frozenset(index for index in taken if verdicts[index].action is Action.JUNK),
    )


def _said(verdict: Verdict) -> Reply:
    return verdict.reply or _NOT_TAKEN
