"""Items of FETCH that follow each other and of which a message's answer never changes, as one: INTERNALDATE,
RFC822.SIZE, ENVELOPE and BODYSTRUCTURE are what most clients ask of a list of messages, always in the same order.

Promises: what a run answers is joined once and kept (`fields.Kept`, within its budget): who asks again is answered
without a look into the store. Refuses: to keep what is not rendered; a date and a size are read as fast.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from posthouse.imapd.fields import Names
from posthouse.mailbox.reading import Renderings, Values
from posthouse.wire.imap import response
from posthouse.wire.imap.fetch import Attribute

Run = tuple[Attribute, ...]

RENDERED: Final = frozenset({Attribute.ENVELOPE, Attribute.BODYSTRUCTURE})
_FIXED: Final = RENDERED | {Attribute.INTERNALDATE, Attribute.SIZE}


def grouped(items: Sequence[Attribute]) -> Iterator[Attribute | Run]:
    """The items in their order, runs of them in one."""
    for fixed, some in groupby(items, _FIXED.__contains__):
        run = tuple(some)
        if fixed and not RENDERED.isdisjoint(run):
            yield run
        else:
            yield from run


def names_of(run: Run) -> Names:
    """Under what it is kept. No field of a header is asked for in upper case there."""
    return tuple([item.value for item in run])


def join(run: Run, values: Values, renderings: Renderings) -> list[bytes]:
    """What each message answers, labels included."""
    columns: list[Sequence[object]] = []
    forms: list[bytes] = []
    for item in run:
        match item:
            case Attribute.SIZE:
                columns.append(values.sizes)
                forms.append(response.number_form(item.value))
                continue
            case Attribute.INTERNALDATE:
                columns.append(list(map(response.date_time, values.received)))
            case Attribute.ENVELOPE:
                columns.append(renderings.summaries)
            case _:
                columns.append(renderings.structures)
        forms.append(response.value_form(item.value))
    form = b" ".join(forms)
    return [form % row for row in zip(*columns, strict=True)]
