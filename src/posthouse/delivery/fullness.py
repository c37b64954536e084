"""Telling people by mail that their mailbox, or their domain's share of the store, is nearly full.

Promises: one letter when 80 % are reached and one at 95 %, and again only after what is held has fallen well below
(directory/quotas.py); whichever process saw it and however often they are started. It follows what is filed, and looks
at everybody once at its start. An account's letter goes to the account, a domain's to its postmaster.
Refuses: to make anybody wait for it, and to keep mail out: filing does, at 100 %.
"""

import asyncio
from collections.abc import Callable, Collection
from random import Random
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.delivery.letters import Letters, Settings
from posthouse.directory import quotas
from posthouse.directory.quotas import Fullness
from posthouse.message.addresses import Mailbox
from posthouse.store.database import Store, Topic, Tx
from posthouse.terms.address import Address, parse
from posthouse.written import rough_size

# A burst of mail is looked at once.
PAUSE_SECONDS: Final = 2.0


Note = Callable[[Tx, Letters, Fullness], Fullness | None]


class Attendant:
    """Watches what accounts and domains hold."""

    def __init__(self, store: Store, settings: Settings, *, clock: Clock, random: Random) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """For ever. Raises StoreUnavailable."""
        ear = self._store.listen(Topic.SEARCH)
        heard: Collection[int] = {0}
        try:
            while True:
                await self.look(None if 0 in heard else heard)
                heard = await ear.wait()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            ear.close()

    async def look(self, accounts: Collection[int] | None = None) -> None:
        """Tell those of these accounts (None: all), and the domains, that are to be told. Raises StoreUnavailable."""
        after = 0
        while found := await self._store.read(quotas.full_accounts, accounts, after):
            for one in found:
                if one.level != one.told:
                    await self._note(one, _note_account)
            if accounts is not None:
                break
            after = found[-1].id
        for one in await self._store.read(quotas.full_domains):
            if one.level != one.told:
                await self._note(one, _note_domain)

    async def _note(self, one: Fullness, note: Note) -> None:
        letters = self._settings.letters(self._clock.now(), self._random)
        written = await self._store.write(note, letters, one)
        if written is not None:
            observe.tell("quota.nearly", who=one.name, percent=int(written.part), octets=written.octets)


def _note_account(tx: Tx, letters: Letters, one: Fullness) -> Fullness | None:
    """Note its threshold, and queue the letter where it was crossed upwards; what the letter tells."""
    now = quotas.note_account(tx, one.id, one.level)
    if now is None or now.level < now.told:
        return None
    to = parse(now.name)
    letters.write(tx, _sender(to), to, *words(now))
    return now


def _note_domain(tx: Tx, letters: Letters, one: Fullness) -> Fullness | None:
    now = quotas.note_domain(tx, one.name, one.level)
    if now is None or now.level < now.told:
        return None
    to = Address("postmaster", now.name)
    letters.write(tx, _sender(to), to, *words_for_domain(now))
    return now


def _sender(to: Address) -> Mailbox:
    return Mailbox("Mail server", "postmaster", to.domain)


def words(one: Fullness) -> tuple[str, str]:
    """Subject and text for the person whose account it is."""
    part = int(one.part)
    held = []
    if one.quota_octets is not None:
        held.append(f"{rough_size(one.octets)} of {rough_size(one.quota_octets)}")
    if one.quota_emails is not None:
        held.append(f"{one.emails} emails of {one.quota_emails}")
    text = (
        f"Your account {one.name} holds {' and '.join(held)}: {part} % of what it may.\n"
        "When it is full, mail for you is not taken any more: who writes to you is told so, or has to wait.\n"
        "\n"
        "Delete what you don't need any more, and what lies in the trash, large messages first; what is only moved to\n"
        "another folder still counts. Whoever runs this server can also allow your account more.\n"
    )
    return f"Your mailbox is {part} % full", text


def words_for_domain(one: Fullness) -> tuple[str, str]:
    """Subject and text for the postmaster of a domain."""
    part = int(one.part)
    text = (
        f"The accounts of {one.name} hold {rough_size(one.octets)} of {rough_size(one.quota_octets or 0)} together:"
        f" {part} % of what they may.\n"
        "When that is full, none of them gets any more mail.\n"
        "\n"
        "`posthouse account list` shows who holds how much; `posthouse domain quota` allows the domain more.\n"
    )
    return f"{one.name} is {part} % full", text
