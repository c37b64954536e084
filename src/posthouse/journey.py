"""The journey of a message: its steps through posthouse, kept with it; timeline.py tells them to people.

Promises: steps are written in the same transaction as what they tell of, packed, so the journey is never ahead of the
truth or behind it. A journey is found by Message-ID, by the code in our 250, or by an address, from its commit on; the
keys are hashed with a secret of the store, so that the index alone tells nobody who wrote to whom. They are written
beside each other, and brought into order behind the commit (`keep_ordered`): three rows at random places cost the
writer more than the journey itself.
Mail that was refused has a journey too: a Recorder writes it behind the reply, in batches, within a daily allowance.
Refuses: to be the log (observe.py makes that of the same steps), and to raise for what a stranger put into a fact.
"""

import asyncio
import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import Fact, Level, Step
from posthouse.observe import code as code
from posthouse.observe import parse_code as parse_code
from posthouse.store.database import Row, Store, StoreUnavailable, Topic, Tx

RANDOM_BITS: Final = 21
_MOST_RECIPIENTS_SHOWN: Final = 20
_MOST_KEYS: Final = 100
_LONGEST_TEXT: Final = 300
_MOST_STEPS_ROWS: Final = 2000
_HASH_OCTETS: Final = 8
_HOUR_MS: Final = 3_600_000

# Journeys whose keys are brought into order in one transaction: some 5 ms of the writer. Between two rounds more come
# together.
ORDER_BATCH: Final = 1000
ORDER_PAUSE_SECONDS: Final = 0.2

_REFUSED_WAITING: Final = 2000
_REFUSED_BATCH: Final = 200
_REFUSED_GATHER_SECONDS: Final = 0.5
_REFUSED_RETRY_SECONDS: Final = 5.0
# A journey of refused mail takes some 500 octets: a day of nothing but spam costs 50 MB at most.
_REFUSED_A_DAY: Final = 100_000


@dataclass(frozen=True, slots=True)
class Journey:
    """One message's. `message_id` is without angle brackets; `recipients` are the first twenty."""

    id: int
    message_id: str | None
    sender: str | None
    recipients: tuple[str, ...]
    subject: str | None
    steps: tuple[Step, ...]

    @property
    def code(self) -> str:
        """The id as people see it."""
        return code(self.id)


@dataclass(frozen=True, slots=True)
class Refused:
    """The journey of a message that was not taken."""

    id: int
    steps: tuple[Step, ...]
    message_id: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    subject: str | None = None


def new_id(now: int, random_bits: int) -> int:
    """The id of a journey that begins now (UTC milliseconds); `random_bits` tells those of one millisecond apart."""
    return now << RANDOM_BITS | random_bits & (1 << RANDOM_BITS) - 1


# --- writing ----------------------------------------------------------------------------------------------------------


def open(
    tx: Tx,
    id: int,
    *,
    message_id: str | None,
    sender: str | None,
    recipients: Sequence[str],
    subject: str | None,
    secret: bytes,
    steps: Sequence[Step] = (),
    account: int | None = None,
    envid: str | None = None,
) -> None:
    """Write down what the message is, by what its journey is found, and its first steps. `sender` None is the null
    reverse-path. `account`: whose submission it is, with this ENVID.

    Once for a journey: where the id is taken (one chance in two million for two messages of one millisecond) it keeps
    what it has.
    """
    tx.put(
        "journey_insert",
        id=id,
        message_id=_storable(message_id.strip("<>")) if message_id else None,
        sender=_storable(sender) if sender else None,
        recipients="\n".join([_storable(one) for one in recipients[:_MOST_RECIPIENTS_SHOWN]]),
        subject=_storable(subject) if subject else None,
        steps=pack(steps),
    )
    hashes = b"".join(_hashes(secret, message_id, sender, recipients))
    if account is not None:
        hashes += b"".join(_submission_hashes(secret, account, message_id, envid))
    tx.put("journey_new_insert", journey=id, hashes=hashes)
    tx.ring(Topic.JOURNEY)


def record(tx: Tx, id: int, steps: Sequence[Step]) -> None:
    """Write steps, which are in the order of time; those that no journey was opened for are found by code."""
    if steps:
        tx.put("journey_steps_insert", journey=id, steps=pack(steps))


def expire(tx: Tx, before: int, limit: int = 500) -> int:
    """Remove journeys that began before this time, about `limit` of the oldest. 0: none are left."""
    oldest_kept = before << RANDOM_BITS
    gone = [
        tx.run(statement, before=oldest_kept, limit=limit) for statement in ("journey_delete", "journey_steps_delete")
    ]
    gone.append(tx.run("journey_keys_delete", before=before // _HOUR_MS, limit=limit))
    return max(gone)


def _hashes(secret: bytes, message_id: str | None, sender: str | None, recipients: Sequence[str]) -> Iterable[bytes]:
    """By what the journey is found, each once."""
    hashes: dict[bytes, None] = {}
    if message_id:
        hashes[_hash(secret, b"m", message_id.strip("<>"))] = None
    if sender:
        hashes[_hash(secret, b"a", sender.casefold())] = None
    for one in recipients[:_MOST_KEYS]:
        hashes[_hash(secret, b"a", one.casefold())] = None
    return hashes


def _submission_hashes(secret: bytes, account: int, message_id: str | None, envid: str | None) -> list[bytes]:
    """By what an account's own submission is found; what others send cannot be found by these."""
    said = (b"s", message_id.strip("<>") if message_id else None), (b"e", envid)
    return [_hash(secret, kind, f"{account} {text}") for kind, text in said if text]


@lru_cache(maxsize=1024)
def _hash(secret: bytes, kind: bytes, text: str) -> bytes:
    octets = text.encode("utf-8", "backslashreplace")
    return hashlib.blake2b(octets, digest_size=_HASH_OCTETS, key=secret, person=kind).digest()


def _storable(text: str) -> str:
    """Text that every database takes, cut where it is long."""
    if len(text) <= _LONGEST_TEXT and text.isascii() and text.isprintable():
        return text
    return text[:_LONGEST_TEXT].encode("utf-8", "backslashreplace").decode().replace("\n", " ").replace("\0", " ")


# --- bringing keys into order -----------------------------------------------------------------------------------------


def order_new(tx: Tx, limit: int = ORDER_BATCH) -> int:
    """Bring the keys of new journeys into order; how many journeys. 0: all are."""
    rows = tx.all("journey_new_list", limit=limit)
    if rows:
        keys = sorted(
            [((id >> RANDOM_BITS) // _HOUR_MS, hash, id) for _, id, hashes in rows for hash in _unpacked(hashes)]
        )
        packed = ",".join([f"[{hour},{hash},{id}]" for hour, hash, id in keys])
        tx.run("journey_keys_insert", keys=f"[{packed}]")
        tx.run("journey_new_delete", upto=rows[-1][0])
    return len(rows)


def _unpacked(hashes: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(hashes) // _HASH_OCTETS}q", hashes)


async def keep_ordered(store: Store) -> None:
    """Do so with whatever is opened, for ever. One process of a store need do it; more do no harm. Raises
    StoreUnavailable."""
    ear = store.listen(Topic.JOURNEY)
    try:
        while True:
            while await store.write(order_new) == ORDER_BATCH:
                pass
            await ear.wait()
            await asyncio.sleep(ORDER_PAUSE_SECONDS)
    finally:
        ear.close()


# --- packing ----------------------------------------------------------------------------------------------------------

_Packed = tuple[str, int, int, dict[str, Any]]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Packed])
_LEVELS: Final[dict[int, Level]] = {10: 10, 20: 20, 30: 30, 40: 40}


def pack(steps: Iterable[Step]) -> bytes:
    """Steps as one row holds them. Never raises."""
    rows = [(step.kind, step.at, step.level, step.facts) for step in steps]
    try:
        return _encoder.encode(rows)
    except (UnicodeEncodeError, OverflowError, TypeError):
        # Surrogates from undecodable octets, numbers past 64 bits: rare, and no reason to lose a message.
        return _encoder.encode([(kind, at, level, _tame(facts)) for kind, at, level, facts in rows])


def unpack(octets: bytes, id: int) -> list[Step]:
    """The steps of a row of this journey, facts that are None left out; a row that cannot be read is told of as one
    step."""
    try:
        rows = _decoder.decode(octets)
    except msgspec.MsgspecError as error:
        return [Step("journey.unreadable", id >> RANDOM_BITS, id, {"error": str(error)}, observe.ERROR)]
    return [Step(kind, at, id, _thaw(facts), _LEVELS.get(level, observe.INFO)) for kind, at, level, facts in rows]


def _tame(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    def tamed(fact: object) -> Any:
        if isinstance(fact, tuple | list):
            return tuple(tamed(one) for one in fact)
        if isinstance(fact, bool | float) or (isinstance(fact, int) and -(2**63) <= fact < 2**63):
            return fact
        return str(fact).encode("utf-8", "backslashreplace").decode()

    return {str(key): tamed(fact) for key, fact in facts.items()}


def _thaw(facts: dict[str, Any]) -> dict[str, Fact]:
    return {key: tuple(fact) if isinstance(fact, list) else fact for key, fact in facts.items() if fact is not None}


# --- finding ----------------------------------------------------------------------------------------------------------


def find(tx: Tx, text: str, secret: bytes, limit: int = 20) -> list[Journey]:
    """The journeys of a Message-ID, a code out of our 250, or an address: the newest first, at most `limit`."""
    text = text.strip()
    id = parse_code(text)
    if id is not None and (found := get(tx, id)):
        return [found]
    bare = text.strip("<>")
    return _find(tx, _hash(secret, b"m", bare), _hash(secret, b"a", bare.casefold()), limit)


def submitted(
    tx: Tx, account: int, message_id: str | None, envid: str | None, secret: bytes, limit: int
) -> list[Journey]:
    """The journeys of what this account submitted with that Message-ID, or ENVID: the newest first, at most `limit`."""
    hashes = _submission_hashes(secret, account, message_id, envid)
    return _find(tx, hashes[0], hashes[-1], limit) if hashes else []


def _find(tx: Tx, hash: bytes, other: bytes, limit: int) -> list[Journey]:
    """The journeys of either hash."""
    (one,), (two,) = _unpacked(hash), _unpacked(other)
    ids = {row[0] for row in tx.all("journey_find", hash=one, other=two, limit=limit)}
    for id, hashes in tx.all("journey_find_new", hash=hash, other=other):
        if not {one, two}.isdisjoint(_unpacked(hashes)):
            ids.add(id)
    return [found for id in sorted(ids, reverse=True)[:limit] if (found := get(tx, id))]


def get(tx: Tx, id: int) -> Journey | None:
    """The journey with this id, with its steps."""
    head = tx.one("journey_get", id=id)
    rows = tx.all("journey_steps", journey=id, limit=_MOST_STEPS_ROWS)
    if head is None and not rows:
        return None
    packed = [row[0] for row in rows] if head is None else [head[5], *(row[0] for row in rows)]
    return _journey(id, head, tuple([step for octets in packed for step in unpack(octets, id)]))


def _journey(id: int, head: Row | None, steps: tuple[Step, ...]) -> Journey:
    if head is None:
        return Journey(id, None, None, (), None, steps)
    return Journey(id, head[1], head[2], tuple(head[3].split("\n")) if head[3] else (), head[4], steps)


# --- refused mail -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Recorder:
    """Writes the journeys of refused mail, later and together: a stranger who is refused costs no commit."""

    store: Store
    secret: bytes
    clock: Clock
    _waiting: deque[Refused] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _allowance: float = 10_000
    _seen_at: int = 0
    _closing: bool = False

    def add(self, refused: Refused) -> None:
        """Take it; never waits, never raises. Past the allowance it is dropped, and counted as `journeys_dropped`."""
        now = self.clock.now()
        earned = max(0, now - self._seen_at) / 86_400_000 * _REFUSED_A_DAY
        self._allowance = min(10_000, self._allowance + (earned if self._seen_at else 0))
        self._seen_at = now
        if self._allowance < 1 or len(self._waiting) >= _REFUSED_WAITING:
            observe.count("journeys_dropped")
            return
        self._allowance -= 1
        self._waiting.append(refused)
        self._news.set()

    async def run(self) -> None:
        """Write what is taken, until closed."""
        while not (self._closing and not self._waiting):
            await self._news.wait()
            if not self._closing:
                await asyncio.sleep(_REFUSED_GATHER_SECONDS)
            self._news.clear()
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _REFUSED_BATCH))]
            try:
                await self.store.write(_write_refused, batch, self.secret)
            except StoreUnavailable as error:
                observe.count("journeys_dropped", len(batch))
                observe.tell("journey.cannot_record", level=observe.WARNING, error=str(error))
                if not self._closing:
                    await asyncio.sleep(_REFUSED_RETRY_SECONDS)

    def close(self) -> None:
        """Let `run` write what waits, and return."""
        self._closing = True
        self._news.set()


def _write_refused(tx: Tx, batch: Sequence[Refused], secret: bytes) -> None:
    for one in batch:
        open(
            tx,
            one.id,
            message_id=one.message_id,
            sender=one.sender,
            recipients=one.recipients,
            subject=one.subject,
            secret=secret,
            steps=one.steps,
        )
