"""Mailboxes as they are kept packed in the store, so that opening a large one need not read its placements one by one.

The four columns of a mailbox, cut at uids into pieces, each of which is a row of octets with a checksum; one row names
them in order, and says at which modseq they were true. They are made behind the commit (`packer.py`) and are never the
truth: whoever reads them adds what has changed since, and reads placements where anything is missing or does not fit.

Promises: new pieces have new ids, and count from the transaction on that names them: so a mailbox is found as it was
packed before, or as it is now, whatever dies in between. Pieces that nothing names are removed a few at a time.
"""

import json
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from posthouse.mailbox.pieces import SIZE, Pieces
from posthouse.store.database import Tx

# Placements of a piece: 48 KB, a dozen pages. The pieces of a snapshot's columns are as large, and taken as they are.
PIECE: Final = SIZE
# Octets of a placement in all columns; the type of each, and from where to where it goes in these.
_EACH: Final = 24
_LAYOUT: Final = (("I", 0, 4), ("I", 4, 8), ("q", 8, 16), ("q", 16, 24))
# Pieces that are removed in one transaction.
_SOME: Final = 16

# Uids, email ids, flags and modseqs.
Columns = tuple["array[int]", "array[int]", Pieces, Pieces]


class Piece(NamedTuple):
    """A piece that is in the store: its id, the first of its uids, and of how many placements it is."""

    id: int
    first: int
    size: int


class Cut(NamedTuple):
    """A piece to be made: of the placements from this index up to that one."""

    start: int
    stop: int


class Packed(NamedTuple):
    """What is kept of a mailbox, without the columns."""

    uidvalidity: int
    uidnext: int
    modseq: int
    pieces: tuple[Piece, ...]


def find(tx: Tx, account: int, mailbox: int) -> Packed | None:
    """What is kept of a mailbox."""
    row = tx.one("packed_mailbox", account=account, mailbox=mailbox)
    if row is None:
        return None
    uidvalidity, uidnext, modseq, pieces = row
    return Packed(uidvalidity, uidnext, modseq, tuple([Piece(*one) for one in json.loads(pieces)]))


def columns(tx: Tx, account: int, mailbox: int, packed: Packed) -> Columns | None:
    """The columns, as they were packed; None where a piece is missing, or is not what it was."""
    cut: list[list[array[int]]] = [[], [], [], []]
    for piece in packed.pieces:
        # One after the other: memory that is touched for the first time costs more than statements do.
        row = tx.one("packed_piece", account=account, mailbox=mailbox, id=piece.id)
        if row is None or len(row[0]) != piece.size * _EACH or zlib.crc32(row[0]) != row[1]:
            return None
        octets = memoryview(row[0])
        for some, (kind, start, stop) in zip(cut, _LAYOUT, strict=True):
            some.append(_column(kind, octets[start * piece.size : stop * piece.size]))
    uids, emails, flags, modseqs = cut
    return array("I", b"".join(uids)), array("I", b"".join(emails)), Pieces(flags), Pieces(modseqs)


def _column(kind: str, octets: memoryview) -> "array[int]":
    column = array(kind)
    column.frombytes(octets)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def encode(columns: Sequence["array[int]"]) -> bytes:
    """The octets of a piece: of uids, email ids, flags and modseqs, which have one length."""
    if sys.byteorder == "big":
        columns = [column[:] for column in columns]
        for column in columns:
            column.byteswap()
    return b"".join([column.tobytes() for column in columns])


def plan(packed: Packed | None, uids: "array[int]", modseqs: Sequence[int]) -> list[Piece | Cut]:
    """What pieces a mailbox with these columns is to have, in order: those that are the same still, and what is to be
    made anew."""
    found: list[Piece | Cut] = []
    start = cut = 0
    pieces = packed.pieces if packed is not None else ()
    for number, piece in enumerate(pieces):
        stop = bisect_left(uids, pieces[number + 1].first, start) if number + 1 < len(pieces) else len(uids)
        # Small ones are put together with what changes beside them.
        same = packed is not None and stop - start == piece.size >= PIECE // 4 and _quiet(modseqs, start, stop, packed)
        if same:
            found += _cuts(cut, start)
            found.append(piece)
            cut = stop
        start = stop
    return found + _cuts(cut, len(uids))


def _quiet(modseqs: Sequence[int], start: int, stop: int, packed: Packed) -> bool:
    return max(modseqs[start:stop]) <= packed.modseq


def _cuts(start: int, stop: int) -> list[Piece | Cut]:
    return [Cut(at, min(at + PIECE, stop)) for at in range(start, stop, PIECE)]


def put(tx: Tx, account: int, mailbox: int, pieces: Sequence[bytes]) -> list[int]:
    """Keep these pieces, which nothing names yet; their ids."""
    ids = [tx.number("packed_piece") for _ in pieces]
    for id, octets in zip(ids, pieces, strict=True):
        tx.put("packed_put", account=account, mailbox=mailbox, id=id, octets=octets, checksum=zlib.crc32(octets))
    return ids


def name(tx: Tx, account: int, mailbox: int, old: int, new: Packed) -> bool:
    """From now on the mailbox is kept like this. False where another has packed it since, as it was at modseq `old` (0:
    it was not), where it is another mailbox or none, or where pieces are missing."""
    ids = json.dumps([piece.id for piece in new.pieces])
    if tx.value("packed_there", account=account, mailbox=mailbox, ids=ids) != len(new.pieces):
        return False
    named = tx.run(
        "packed_name",
        account=account,
        mailbox=mailbox,
        uidvalidity=new.uidvalidity,
        uidnext=new.uidnext,
        modseq=new.modseq,
        messages=sum([piece.size for piece in new.pieces]),
        pieces=json.dumps(new.pieces, separators=(",", ":")),
        old=old,
    )
    return named > 0


def forget(tx: Tx, account: int, mailbox: int) -> None:
    """The mailbox is not kept packed any more."""
    tx.run("packed_forget", account=account, mailbox=mailbox)


def drop_unnamed(tx: Tx, account: int, mailbox: int) -> int:
    """Remove some of the mailbox' pieces that it is not made of; how many. 0: there are none."""
    packed = find(tx, account, mailbox)
    named = json.dumps([piece.id for piece in packed.pieces] if packed else [])
    return tx.run("packed_drop_unnamed", account=account, mailbox=mailbox, ids=named, limit=_SOME)


def sweep(tx: Tx) -> int:
    """Remove some of the pieces of mailboxes that are not kept packed, because they are gone; how many. 0: there are
    none."""
    return tx.run("packed_sweep", limit=_SOME)
