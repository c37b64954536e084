"""Passwords: one SCRAM-SHA-256 verifier each (RFC 5802, RFC 7677), several an account, and the checking of logins.

Promises:
- No password is stored; a verifier (salt, iterations, StoredKey, ServerKey) serves SCRAM and PLAIN alike.
- An unknown login costs the same work and shows the same kind of salt as a known one, the same each time it is asked.
- A password that was right minutes ago costs no derivation again (a keyed hash of it is remembered, not the password),
  until anything in the directory changes.
- Derivations run in threads of our own, at most so many wait; guesses are throttled before any work is done.
Refuses: to say, to a peer, whether a login exists; disabled accounts are named as such only after the right password.
"""

import asyncio
import hmac
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b, pbkdf2_hmac, sha256
from secrets import token_bytes
from typing import Final

from posthouse.clock import Clock
from posthouse.directory.kept import Kept, forget_when_changed
from posthouse.directory.model import (
    Account,
    BadPassword,
    CredentialExists,
    NoSuchAccount,
    NoSuchCredential,
    TooManyCredentials,
    account_from,
    changed,
)
from posthouse.directory.throttle import GuessThrottle, network_of
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.terms.address import BadAddress, parse
from posthouse.wire.sasl.strings import SaslError
from posthouse.wire.sasl.verifier import ScramVerifier, make_verifier

# 15 ms of one core (0.22 us a round, measured). RFC 7677 §4 asks for 4096 at least, OWASP for 600,000. With SCRAM the
# client derives too, and Cyrus SASL (mbsync, KMail, Postfix) refuses a server that asks for more than 65,536: mbsync
# hangs then, without a word. Each verifier names its own number, so this can grow when they do.
ITERATIONS: Final = 65_536
SALT_OCTETS: Final = 16
LONGEST_PASSWORD: Final = 1024
MOST_CREDENTIALS: Final = 50
# The label of the password that an account is created with and that `set_main` changes; the others are app passwords.
MAIN: Final = "password"

# Seconds a right password is remembered. Clients that poll come every few minutes.
REMEMBERED: Final = 600.0
REMEMBERED_LOGINS: Final = 20_000
THREADS: Final = 2
# Two cores make 140 derivations a second: behind these a client waits four seconds, as all do after a restart.
MOST_WAITING: Final = 500


@dataclass(frozen=True, slots=True)
class Credential:
    """A password as it is kept."""

    id: int
    label: str
    verifier: ScramVerifier
    created_at: int


# --- over a transaction -----------------------------------------------------------------------------------------------


def list_credentials(tx: Tx, account: int) -> list[Credential]:
    """The passwords of an account, oldest first."""
    return [
        Credential(id, label, ScramVerifier(iterations, salt, stored_key, server_key), created_at)
        for id, label, iterations, salt, stored_key, server_key, created_at in tx.all(
            "credential_list", account=account, limit=MOST_CREDENTIALS
        )
    ]


def add(tx: Tx, account: int, label: str, verifier: ScramVerifier, now: int) -> None:
    """One more password for an account. Raises NoSuchAccount, CredentialExists, TooManyCredentials."""
    if tx.one("account_find", account=account) is None:
        raise NoSuchAccount(account)
    present = list_credentials(tx, account)
    if any(credential.label == label for credential in present):
        raise CredentialExists(label)
    if len(present) >= MOST_CREDENTIALS:
        raise TooManyCredentials(f"account {account} has {len(present)} passwords, the most there may be")
    insert(tx, account, label, verifier, now)
    changed(tx)


def set_main(tx: Tx, account: int, verifier: ScramVerifier, now: int) -> None:
    """Change the account's password; its app passwords stay. Raises NoSuchAccount."""
    if tx.one("account_find", account=account) is None:
        raise NoSuchAccount(account)
    tx.run("credential_delete", account=account, label=MAIN)
    insert(tx, account, MAIN, verifier, now)
    changed(tx)


def remove(tx: Tx, account: int, label: str) -> None:
    """Take a password back. Raises NoSuchCredential."""
    if not tx.run("credential_delete", account=account, label=label):
        raise NoSuchCredential(label)
    changed(tx)


def insert(tx: Tx, account: int, label: str, verifier: ScramVerifier, now: int) -> None:
    """Enter a password, without ringing."""
    tx.run(
        "credential_insert",
        account=account,
        id=tx.value("credential_next", account=account),
        label=label,
        iterations=verifier.iterations,
        salt=verifier.salt,
        stored_key=verifier.stored_key,
        server_key=verifier.server_key,
        created_at=now,
    )


def _find_login(tx: Tx, key: str) -> tuple[Account, list[Credential]] | None:
    row = tx.one("account_by_address", key=key)
    if row is None:
        return None
    account = account_from(row)
    return account, list_credentials(tx, account.id)


# --- making verifiers -------------------------------------------------------------------------------------------------


def verifier_of(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> ScramVerifier:
    """The verifier of a password; some 40 ms of a core, so never on the event loop or inside a transaction.

    Raises BadPassword. An account's further passwords are given the salt of its first: then one derivation
    checks a login against all of them, and SCRAM, which shows one salt, knows them all.
    """
    if not password or len(password.encode("utf-8", "surrogatepass")) > LONGEST_PASSWORD:
        raise BadPassword(f"a password has 1 to {LONGEST_PASSWORD} octets")
    try:
        return make_verifier(password, salt or token_bytes(SALT_OCTETS), iterations)
    except SaslError as error:
        raise BadPassword(f"this cannot be a password: {error}") from error


async def change_password(store: Store, clock: Clock, account: int, password: str) -> None:
    """Change an account's main password. Raises BadPassword, NoSuchAccount, StoreUnavailable."""
    others = [one for one in await store.read(list_credentials, account) if one.label != MAIN]
    verifier = await _derive_beside(others, password)
    await store.write(set_main, account, verifier, clock.now())


async def add_password(store: Store, clock: Clock, account: int, label: str, password: str) -> None:
    """Give an account an app password. Raises BadPassword, NoSuchAccount, CredentialExists, StoreUnavailable."""
    verifier = await _derive_beside(await store.read(list_credentials, account), password)
    await store.write(add, account, label, verifier, clock.now())


async def _derive_beside(others: Sequence[Credential], password: str) -> ScramVerifier:
    if others:
        first = others[0].verifier
        return await asyncio.to_thread(verifier_of, password, salt=first.salt, iterations=first.iterations)
    return await asyncio.to_thread(verifier_of, password)


# --- logins -----------------------------------------------------------------------------------------------------------


class LoginFailure(Enum):
    """Why nobody was logged in. WRONG is all a peer hears of an unknown login."""

    WRONG = "wrong login or password"
    DISABLED = "this account is disabled"
    THROTTLED = "too many failed logins; try again later"
    BUSY = "too many logins at once; try again later"


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """Nobody was logged in; `wait` is for how many seconds it is useless to try again."""

    why: LoginFailure
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a SCRAM exchange is checked against: one of these verifiers, which share salt and iterations.

    `account` is None for a login that is unknown: the exchange then fails like one with a wrong password.
    """

    login: str
    peer: str
    verifiers: tuple[ScramVerifier, ...]
    account: Account | None


class Authenticator:
    """Says who somebody is. One for all doors of a process; `follow` has to run as a task."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        throttle: GuessThrottle,
        *,
        secret: bytes,
        iterations: int = ITERATIONS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._throttle = throttle
        self._iterations = iterations
        self._fake_key = hmac.digest(secret, b"posthouse: verifiers of nobody", "sha256")
        # Fresh with each start: what was remembered means nothing outside this process.
        self._memory_key = token_bytes(32)
        # Apart, so that a flood of guesses pushes no right one out.
        self._right: Kept[bytes, tuple[Account, float]] = Kept(REMEMBERED_LOGINS)
        self._wrong: Kept[bytes, tuple[LoginRefused, float]] = Kept(REMEMBERED_LOGINS)
        self._judging: dict[bytes, asyncio.Future[Account | LoginRefused]] = {}
        self._generation = 0
        self._waiting = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")

    async def follow(self) -> None:
        """Forget remembered logins each time the directory has changed. Runs until it is cancelled."""
        await forget_when_changed(self._store, self.forget)

    def forget(self) -> None:
        """The directory has changed, or may have."""
        self._generation += 1
        self._right.clear()
        self._wrong.clear()

    def close(self) -> None:
        """End the threads; logins under way are finished."""
        self._threads.shutdown(wait=False)

    async def plain(self, login: str, password: str, peer: str) -> Account | LoginRefused:
        """Who logs in with this password, from this IP address. Raises StoreUnavailable.

        `login` is any address of the account. The same wrong password again is refused without work and not counted:
        it tells nobody anything, and is what a client with an old password does all night. What was right is remembered
        of its network alone: whoever guesses from another one finds the throttle, not the memory of the account's own.
        """
        key = login_key(login)
        told = f"{key}\0{network_of(peer)}\0{password}"
        memory = blake2b(told.encode("utf-8", "surrogatepass"), key=self._memory_key).digest()
        known = self._right.get(memory) or self._wrong.get(memory)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        judging = self._judging.get(memory)
        if judging is None:
            judging = asyncio.ensure_future(self._decide(memory, key, password, peer))
            self._judging[memory] = judging
            judging.add_done_callback(lambda done: self._decided(memory, done))
        # A client opens its connections all at once: they wait for one derivation, which no one of them can cancel.
        return await asyncio.shield(judging)

    def _decided(self, memory: bytes, done: "asyncio.Future[Account | LoginRefused]") -> None:
        del self._judging[memory]
        if not done.cancelled():
            done.exception()  # perhaps nobody waits any more to be told

    async def _decide(self, memory: bytes, key: str, password: str, peer: str) -> Account | LoginRefused:
        if self._waiting >= MOST_WAITING:
            return LoginRefused(LoginFailure.BUSY, 1.0)
        wait = self._throttle.admit(key, peer)
        if wait > 0:
            return LoginRefused(LoginFailure.THROTTLED, wait)
        generation = self._generation
        try:
            answer = await self._judge(key, password)
        except StoreUnavailable:
            self._throttle.withdraw(key, peer)
            raise
        until = self._clock.monotonic() + REMEMBERED if generation == self._generation else 0.0
        if isinstance(answer, LoginRefused):
            if answer.why is LoginFailure.WRONG:
                self._throttle.failed(key, peer)
            else:
                self._throttle.succeeded(key, peer)
            self._wrong.put(memory, (answer, until))
        else:
            self._throttle.succeeded(key, peer)
            self._right.put(memory, (answer, until))
        return answer

    async def _judge(self, key: str, password: str) -> Account | LoginRefused:
        found = await self._store.read(_find_login, key)
        account, credentials = found or (None, [])
        verifiers = [credential.verifier for credential in credentials] or [self._fake(key)]
        if len(password) > LONGEST_PASSWORD:
            return LoginRefused(LoginFailure.WRONG)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, check, password, verifiers, self._iterations)
        finally:
            self._waiting -= 1
        if account is None or not right:
            return LoginRefused(LoginFailure.WRONG)
        return account if account.enabled else LoginRefused(LoginFailure.DISABLED)

    async def scram(self, login: str, peer: str) -> Challenge | LoginRefused:
        """What an exchange of this login is checked against. Raises StoreUnavailable.

        Tell `settle` how it ended; an exchange that is broken off counts as a wrong guess.
        """
        key = login_key(login)
        wait = self._throttle.admit(key, peer)
        if wait > 0:
            return LoginRefused(LoginFailure.THROTTLED, wait)
        try:
            found = await self._store.read(_find_login, key)
        except StoreUnavailable:
            self._throttle.withdraw(key, peer)
            raise
        account, credentials = found or (None, [])
        if account is None or not credentials:
            return Challenge(key, peer, (self._fake(key),), None)
        first = credentials[0].verifier
        shared = [one.verifier for one in credentials if _costs(one.verifier) == _costs(first)]
        return Challenge(key, peer, tuple(shared), account)

    def settle(self, challenge: Challenge, right: bool) -> Account | LoginRefused:
        """Who the exchange has logged in, given that its proof was right or wrong."""
        if not right or challenge.account is None:
            self._throttle.failed(challenge.login, challenge.peer)
            return LoginRefused(LoginFailure.WRONG)
        self._throttle.succeeded(challenge.login, challenge.peer)
        return challenge.account if challenge.account.enabled else LoginRefused(LoginFailure.DISABLED)

    async def certified(self, login: str) -> Account | LoginRefused:
        """Whose login this is, where something else than a password has proved it. Raises StoreUnavailable."""
        found = await self._store.read(_find_login, login_key(login))
        if found is None:
            return LoginRefused(LoginFailure.WRONG)
        account, _ = found
        return account if account.enabled else LoginRefused(LoginFailure.DISABLED)

    def _fake(self, key: str) -> ScramVerifier:
        """The verifier of nobody: the same each time this login is asked for, on every node of this store."""
        salt, stored, server = (
            hmac.digest(self._fake_key, part + key.encode("utf-8", "surrogatepass"), "sha256")
            for part in (b"salt:", b"stored:", b"server:")
        )
        return ScramVerifier(self._iterations, salt[:SALT_OCTETS], stored, server)


def login_key(login: str) -> str:
    """What a login is looked up by; text that is no address is nobody's, and stands for itself."""
    try:
        return parse(login.strip()).key
    except BadAddress:
        return login.casefold()[:320]


def _costs(verifier: ScramVerifier) -> tuple[bytes, int]:
    return verifier.salt, verifier.iterations


def check(password: str, verifiers: Sequence[ScramVerifier], iterations: int) -> bool:
    """Is this the password of one of them? Blocks: one derivation for all that share a salt.

    Where that was cheaper than `iterations` rounds (a verifier from elsewhere), the rest is burnt: the time must not
    tell that the login exists. All are compared, whichever matches.
    """
    right = False
    spent = 0
    for salt, rounds in dict.fromkeys(_costs(verifier) for verifier in verifiers):
        spent += rounds
        try:
            made = make_verifier(password, salt, rounds)
        except SaslError:
            # What cannot be prepared (RFC 4013) cannot be anybody's password; the work is done all the same.
            pbkdf2_hmac("sha256", b"", salt, rounds)
            continue
        for verifier in verifiers:
            if _costs(verifier) == (salt, rounds):
                right |= hmac.compare_digest(made.stored_key, verifier.stored_key)
    if spent < iterations:
        pbkdf2_hmac("sha256", b"", sha256(b"").digest(), iterations - spent)
    return right
