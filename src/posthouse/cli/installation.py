"""The installation that a verb works on: its configuration and its store, opened when they are asked for.

Promises: the store may be in use by a running server meanwhile; what a verb changes is noticed there at once. Run as
root, the command becomes the store's owner first, so that it leaves no file that the server cannot open.
"""

import asyncio
import fcntl
import grp
import json
import os
import pwd
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import click

from posthouse.clock import Clock, SystemClock
from posthouse.config import reading
from posthouse.config.errors import ConfigError
from posthouse.config.values import Config
from posthouse.directory.model import DirectoryError
from posthouse.store.database import StoreError, StoreUnavailable, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms import address as addresses
from posthouse.terms.address import BadAddress

P = ParamSpec("P")
T = TypeVar("T")

DATABASE = "posthouse.db"


class CommandError(click.ClickException):
    """What the person who ran the command is told, in one line on standard error; the status is 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"posthouse: {self.message}", file=file, err=file is None)


class Installation:
    """A configuration file, and what it points to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = SystemClock()
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The configuration. Raises CommandError."""
        if self._config is None:
            if not self.path.exists():
                raise CommandError(f"there is no configuration {self.path}; `posthouse init` writes one")
            try:
                self._config = reading.load(self.path)
            except ConfigError as error:
                raise CommandError(str(error)) from error
        return self._config

    def open_store(self) -> SqliteStore:
        """The store, made if it is not there yet, unless one is just being brought back. Raises CommandError."""
        return self._with_data(self._open_or_make)

    def open_to_serve(self) -> SqliteStore:
        """The same, for the one server of it: held until the process ends. Raises CommandError."""
        return self._with_data(self._hold_and_open)

    def _with_data(self, open_there: Callable[[Path], SqliteStore]) -> SqliteStore:
        data = self.config.data
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            become_owner(self.config)
            return open_there(data)
        except StoreError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{data}: {(error.strerror or str(error)).lower()}") from error

    def _hold_and_open(self, data: Path) -> SqliteStore:
        # First: what would serve later than another must not migrate the store beneath it.
        hold_data(data)
        return _open_privately(data / DATABASE, self.clock)

    def _open_or_make(self, data: Path) -> SqliteStore:
        if (data / DATABASE).exists():
            return _open_privately(data / DATABASE, self.clock)
        # A restore would put its own in the place of what is made meanwhile, and what was written there would be gone.
        with _making(data):
            return _open_privately(data / DATABASE, self.clock)

    def with_store(self, work: Callable[[SqliteStore], Awaitable[T]]) -> T:
        """Open the store, do the work, close it. Errors that a person can mend become CommandError."""

        async def whole() -> T:
            store = self.open_store()
            try:
                return await work(store)
            finally:
                await store.close()

        try:
            return asyncio.run(whole())
        except (DirectoryError, BadAddress) as error:
            raise CommandError(str(error)) from error
        except StoreUnavailable as error:
            raise CommandError(f"the store cannot do it now: {error}") from error
        except UnicodeEncodeError as error:
            # Octets of the command line that are no text reach us as what no text holds (PEP 383).
            raise CommandError("something in this command is not UTF-8 text") from error

    def write(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction. Raises CommandError."""
        return self.with_store(lambda store: store.write(function, *args, **kwargs))

    def read(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One look. Raises CommandError."""
        return self.with_store(lambda store: store.read(function, *args, **kwargs))


def _open_privately(database: Path, clock: Clock) -> SqliteStore:
    """The store, for nobody else to read, whoever may enter its directory: mail lies there, and keys. What SQLite makes
    beside it later is as private as the database.
    """
    before = os.umask(0o077)
    try:
        if database.exists() and stat.S_IMODE(database.stat().st_mode) & 0o077:
            database.chmod(0o600)
        return SqliteStore.open(database, clock=clock)
    finally:
        os.umask(before)


@contextmanager
def data_alone(data: Path) -> Iterator[None]:
    """Keep servers from the data directory meanwhile. Raises CommandError where one runs on it, and OSError."""
    descriptor = hold_data(data)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _making(data: Path) -> Iterator[None]:
    """Keep restores and servers from the data directory while a store is made there. Raises CommandError, OSError."""
    descriptor = _serving(data)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CommandError(f"{data} holds no store yet, and a restore or a server is about to put one there") from error
    finally:
        os.close(descriptor)


def _serving(data: Path) -> int:
    """A descriptor of the file that is locked by whoever must not be disturbed."""
    return os.open(data / "serving", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def hold_data(data: Path) -> int:
    """Be the one server of the data directory for as long as the descriptor is open, or the process lives.

    A second server would take the first one's couriers for dead and send again. Raises CommandError, OSError.
    """
    descriptor = _serving(data)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CommandError(f"{data} is served by another posthouse already") from error
    return descriptor


def become_owner(settings: Config) -> None:
    """As root, give up being root for the user that the configuration names, or else the owner of the data
    directory.
    """
    if os.geteuid() != 0:
        return
    if settings.user is not None:
        try:
            user = pwd.getpwnam(settings.user)
            group = grp.getgrnam(settings.group).gr_gid if settings.group else user.pw_gid
        except KeyError as error:
            raise CommandError(f"user or group: {error.args[0]}") from error
        uid = user.pw_uid
        if settings.data.stat().st_uid == 0 and not any(settings.data.iterdir()):
            os.chown(settings.data, uid, group)
    else:
        owner = settings.data.stat()
        uid, group = owner.st_uid, owner.st_gid
    if uid != 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(uid)
        _require_readable(Path(os.__file__).parent, Path(__file__).parent)


def _require_readable(*libraries: Path) -> None:
    """What is imported later must be readable for whom we have become."""
    for library in libraries:
        if not os.access(library, os.R_OK | os.X_OK):
            raise CommandError(
                f"{library} cannot be read by user {os.getuid()}; install it where everybody can read it"
            )


pass_installation = click.make_pass_decorator(Installation)
as_json = click.option("--json", "json_output", is_flag=True, help="Print JSON, for scripts.")


def print_json(value: Any) -> None:
    """One JSON value on standard output, readable."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


class AddressType(click.ParamType[addresses.Address]):
    """A command-line argument that is an address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> addresses.Address:
        if isinstance(value, addresses.Address):
            return value
        try:
            return addresses.parse(value)
        except BadAddress as error:
            self.fail(f"{value}: {error}", param, ctx)


ADDRESS = AddressType()
