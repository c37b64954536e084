"""Creating thousands of accounts: passwords are hashed on all cores, accounts are committed in batches.

Promises: each record is created whole or told of with its number and the reason; a bad one does not stop the others.
A batch is one commit, so that an import that is broken off can be run again: what exists already is told of as such.
Refuses: to hold all records in memory.
"""

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from posthouse.clock import Clock
from posthouse.directory import accounts, domains
from posthouse.directory.credentials import (
    ITERATIONS,
    SALT_OCTETS,
    verifier_of,
)
from posthouse.directory.model import BadPassword, DirectoryError, DomainExists
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address, BadAddress, parse
from posthouse.wire.sasl.verifier import MAX_ITERATIONS, MIN_ITERATIONS, ScramVerifier

BATCH: Final = 200
_KEY_OCTETS: Final = 32


class BadRecord(ValueError):
    """A line that is no account; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An account to be: with a password, a verifier made elsewhere, or neither (nobody can log in yet)."""

    address: Address
    password: str | None = None
    verifier: ScramVerifier | None = None
    full_name: str = ""
    quota_octets: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record; `number` counts from 1, `error` is None where the account was created."""

    number: int
    address: str
    error: str | None


def parse_record(line: str | bytes) -> Record:
    """The record of one JSON line: "address", and any of "password", "scram", "name", "quota" (octets).

    "scram" holds "iterations" and, in base64, "salt", "stored_key", "server_key" (RFC 5803). Raises BadRecord.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRecord("this is no JSON") from error
    if not isinstance(found, dict):
        raise BadRecord("this is no JSON object")
    unknown = found.keys() - {"address", "password", "scram", "name", "quota"}
    if unknown:
        raise BadRecord(f"unknown key {min(unknown)!r}")
    try:
        address = parse(_text(found, "address") or "")
    except BadAddress as error:
        raise BadRecord(f"address: {error}") from error
    quota = found.get("quota")
    if quota is not None and (not isinstance(quota, int) or isinstance(quota, bool) or not 0 <= quota < 1 << 63):
        raise BadRecord("quota: a number of octets is expected")
    verifier = _verifier(found["scram"]) if found.get("scram") is not None else None
    return Record(address, _text(found, "password"), verifier, _text(found, "name") or "", quota)


def _text(found: Mapping[str, object], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRecord(f"{key}: text is expected")
    if value and any("\ud800" <= letter <= "\udfff" for letter in value):
        # JSON can spell halves of a character, which no database keeps.
        raise BadRecord(f"{key}: half a character is no text")
    return value


def _verifier(found: object) -> ScramVerifier:
    if not isinstance(found, dict):
        raise BadRecord("scram: an object is expected")
    iterations = found.get("iterations")
    if not isinstance(iterations, int) or not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise BadRecord(f"scram: iterations from {MIN_ITERATIONS} to {MAX_ITERATIONS} are expected")
    try:
        salt, stored, server = (
            base64.b64decode(found.get(key, ""), validate=True) for key in ("salt", "stored_key", "server_key")
        )
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadRecord("scram: salt, stored_key and server_key are expected in base64") from error
    if len(salt) < SALT_OCTETS // 2 or len(stored) != _KEY_OCTETS or len(server) != _KEY_OCTETS:
        raise BadRecord(
            f"scram: a salt of {SALT_OCTETS // 2} octets or more and two keys of {_KEY_OCTETS} are expected"
        )
    return ScramVerifier(iterations, salt, stored, server)


async def import_accounts(
    store: Store,
    clock: Clock,
    records: Iterable[Record],
    *,
    told: Callable[[Outcome], None],
    iterations: int = ITERATIONS,
    add_domains: bool = False,
) -> int:
    """Create them all; the number created. `told` hears of each record in order.

    `iterations` is how dear a password given in clear is made to guess. `add_domains`: domains that are not served yet
    are added. Raises StoreUnavailable; what was told of as created stands.
    """
    numbered = enumerate(records, 1)
    created = 0
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="password") as threads:
        for batch in _batches(numbered):
            ready = await _hash(threads, batch, iterations)
            for outcome in await store.write(_create, ready, clock.now(), add_domains):
                created += outcome.error is None
                told(outcome)
    return created


_Ready = tuple[int, Record, ScramVerifier | str | None]
"""Number, record, and its verifier or what is wrong with its password."""


def _batches(numbered: Iterator[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    while batch := list(islice(numbered, BATCH)):
        yield batch


async def _hash(threads: ThreadPoolExecutor, batch: list[tuple[int, Record]], iterations: int) -> list[_Ready]:
    loop = asyncio.get_running_loop()

    def made(record: Record) -> ScramVerifier | str | None:
        if record.password is None:
            return record.verifier
        try:
            return verifier_of(record.password, iterations=iterations)
        except BadPassword as error:
            return str(error)

    verifiers = await asyncio.gather(*(loop.run_in_executor(threads, made, record) for _, record in batch))
    return [(number, record, verifier) for (number, record), verifier in zip(batch, verifiers, strict=True)]


def _create(tx: Tx, ready: list[_Ready], now: int, add_domains: bool) -> list[Outcome]:
    outcomes = []
    for number, record, verifier in ready:
        error = verifier if isinstance(verifier, str) else None
        if not isinstance(verifier, str):
            try:
                if add_domains:
                    _serve(tx, record.address.domain, now)
                accounts.create_account(
                    tx,
                    record.address,
                    now=now,
                    verifier=verifier,
                    full_name=record.full_name,
                    quota_octets=record.quota_octets,
                )
            except DirectoryError as refused:
                error = str(refused)
        outcomes.append(Outcome(number, str(record.address), error))
    return outcomes


def _serve(tx: Tx, domain: str, now: int) -> None:
    try:
        domains.add(tx, domain, now)
    except DomainExists:
        return
