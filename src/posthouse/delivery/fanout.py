"""From one message for the members of a list to a row of the queue for each of them.

Promises: thousands of members hold up nobody else's mail: the message is queued with a row a batch of members, and each
batch becomes its members' rows in a commit of its own, which are made before it. Of a batch those get it who are on the
list now. Refuses: to know what the message is: a post, or a digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.delivery import posts
from posthouse.directory import lists, members
from posthouse.directory.digests import Form
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Member
from posthouse.directory.verp import Verp
from posthouse.queue import queue
from posthouse.queue.outcome import Fate, Filed, Outcome
from posthouse.queue.queue import MEMBERS, Job, NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.store.database import Tx
from posthouse.terms.reply import Reply

# Members that become rows in one commit: some 5 ms of the writer.
BATCH: Final = 200
SENT_OUT: Final = Reply(250, "2.1.5", "Sent on to the members")

Batches = Sequence[tuple[str, str]]
"""Members by their keys: behind the first one, up to the second."""


@dataclass(frozen=True, slots=True)
class Takers:
    """Who is to get it: of this list those who take what was posted in this period in this form."""

    list: int
    form: Form
    period: int


def batches(tx: Tx, takers: Takers) -> Batches:
    """The batches that they stand in; none where nobody does. To be asked before the transaction that queues them: of a
    long list it takes milliseconds. Whoever comes later stands in one of them all the same."""
    return members.ranges(tx, takers.list, BATCH, takers.form, takers.period)


def send(tx: Tx, mailing_list: MailingList, mail: QueuedMail, takers: Takers, found: Batches) -> None:
    """Queue the message for them, a row a batch."""
    row = NewRecipient(mailing_list.address, f"{MEMBERS}{takers.list}", notify=frozenset({"NEVER"}))
    ids = queue.accept(tx, mail, [row] * len(found))
    for id, (after, upto) in zip(ids, found, strict=True):
        tx.put(
            "list_batch_insert",
            recipient=id,
            list=takers.list,
            after=after,
            upto=upto,
            form=takers.form,
            period=takers.period,
        )


def ready(tx: Tx, job: Job, verp: Verp) -> dict[int, NewRecipient]:
    """The rows of the batches that these stand for, by the members' numbers: made before the transaction that queues
    them, which the whole house waits for."""
    made: dict[int, NewRecipient] = {}
    for recipient in job.recipients:
        row = tx.one("list_batch_get", recipient=recipient.id)
        if row is not None:
            made |= _rows(tx, lists.get(tx, row[0]), members.between(tx, *row), verp)
    return made


def expand(tx: Tx, job: Job, made: Mapping[int, NewRecipient], verp: Verp, now: int) -> Filed:
    """The batches become their members' rows: of those who are on the list now."""
    for recipient in job.recipients:
        row = tx.one("list_batch_take", recipient=recipient.id)
        if row is None:
            continue  # the list is gone
        found = members.between(tx, *row)
        late = _rows(tx, lists.get(tx, row[0]), [one for one in found if one.number not in made], verp)
        rows = [made.get(one.number) or late[one.number] for one in found]
        if rows:
            queue.add(tx, job.message, rows, now)
    return Filed(tuple(Outcome(one.id, Fate.DELIVERED, SENT_OUT) for one in job.recipients))


def _rows(tx: Tx, mailing_list: MailingList, found: Sequence[Member], verp: Verp) -> dict[int, NewRecipient]:
    """What is queued for these members: those at home share prologue and reverse-path, so that they are filed
    together."""
    ours = _served(tx, {one.address.domain for one in found})
    front, bounces = posts.front(mailing_list), mailing_list.beside("bounces")
    together = front + posts.way_out(mailing_list, "unsubscribe")
    rows: dict[int, NewRecipient] = {}
    for one in found:
        home = one.address.domain in ours
        prologue, path = together, bounces
        if not home:
            prologue = front + posts.way_out(mailing_list, f"leave+{verp.tag('leave', one.number)}")
            path = mailing_list.beside(f"bounces+{verp.tag('bounces', one.number)}")
        rows[one.number] = NewRecipient(
            one.address,
            LOCAL if home else None,
            notify=frozenset({"FAILURE"}),
            prologue=prologue,
            return_path=path,
        )
    return rows


def _served(tx: Tx, domains: set[str]) -> set[str]:
    return {name for name in domains if tx.one("domain_find", name=name) is not None}
