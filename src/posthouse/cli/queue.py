"""`posthouse queue`: mail that waits to be relayed or delivered, and what a person may do with it.

Promises: a running server notices what is changed here within a second. What is being handed over right now is left
alone: it is neither dropped nor sent twice. Whatever concerns many is done some hundreds at a time, so that the server
goes on beside it.
"""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import SystemRandom
from typing import Any, Final

import click

from posthouse import journey, timeline
from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.quantities import COUNT
from posthouse.cli.queue_print import attempts, described, in_full, lanes_table, table
from posthouse.journey import Journey
from posthouse.queue import control
from posthouse.queue.clerk import Clerk, Terms
from posthouse.queue.control import Listed, Operation, Progress, Selection
from posthouse.queue.queue import DOMAIN, QueuedMessage, find_message, read_id, write_id
from posthouse.queue.settling import Rules
from posthouse.store.blobs import Blobs
from posthouse.store.database import Tx
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import BadAddress, parse, parse_domain

_SHOWN: Final = 100
# What concerns more recipients is done when the person who asked has seen how many.
_MANY: Final = 100
_ROUTE: Final = "route:"


@click.group("queue")
def queue() -> None:
    """Mail that waits to be relayed to another server, or to be delivered here.

    Every recipient of a message waits for itself, with an id of its own. Those that go to one destination (a domain)
    back off together when it cannot be reached.
    """


class WaitingType(click.ParamType[Selection]):
    """An id as `queue list` shows it, or the one in our 250."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Selection:
        if isinstance(value, Selection):
            return value
        text = str(value)
        if (id := read_id(text)) is not None:
            return Selection(id=id)
        code = journey.parse_code(text)
        if code is None:
            self.fail(f"{text}: neither an id of `posthouse queue list` nor one from our 250", param, ctx)
        return Selection(journey=code)


class BehindType(click.ParamType[int]):
    """An id as `queue list` shows it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        id = value if isinstance(value, int) else read_id(str(value))
        if id is None:
            self.fail(f"{value}: not an id of `posthouse queue list`", param, ctx)
        return id


WAITING = WaitingType()


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which recipients are selected."""
    for option in (
        click.option("--destination", metavar="DOMAIN", help="Those that wait for this domain."),
        click.option("--recipient", metavar="ADDRESS", help="Those of this recipient."),
        click.option("--sender", metavar="ADDRESS", help="Those of this sender; <> is the sender of bounces."),
    ):
        command = option(command)
    return command


def _selection(sender: str | None, recipient: str | None, destination: str | None) -> Selection:
    """What the options select."""
    return Selection(sender=_address(sender), recipient=_address(recipient), destination=_destination(destination))


def _address(text: str | None) -> str | None:
    """An address as people write it, as the queue has it; "" is the null sender."""
    bare = text.removeprefix("<").removesuffix(">") if text is not None else None
    try:
        return str(parse(bare)) if bare else bare
    except BadAddress:
        return bare


def _destination(text: str | None) -> str | None:
    """A domain as people write it, or a lane's destination as `queue lanes` shows it. Raises CommandError."""
    if text is None or (":" in text and not text.startswith("[")):
        return text
    try:
        return DOMAIN + parse_domain(text.rstrip("."))
    except BadAddress as error:
        raise CommandError(f"{text}: {error}") from error


# --- looking ----------------------------------------------------------------------------------------------------------


@queue.command("list")
@selecting
@click.option("--after", type=BehindType(), default=0, help="Only those behind this id.")
@click.option("--limit", type=COUNT, default=_SHOWN, show_default=True, help="At most so many.")
@as_json
@pass_installation
def list_(installation: Installation, /, after: int, limit: int, json_output: bool, **options: str | None) -> None:
    """List what waits, in the order it was queued: a line for each recipient, with what was said of it last.

    As JSON: {"recipients": [...], "after": the id to go on behind, null when that was all}.
    """
    now = installation.clock.now()
    wanted = _selection(**options)
    found = installation.read(control.list_recipients, wanted, now, after, limit + 1)
    more = write_id(found[limit - 1].id) if len(found) > limit else None
    if json_output:
        print_json({"recipients": [described(one) for one in found[:limit]], "after": more})
    elif found:
        click.echo(table(found[:limit], now), nl=False)
        if more:
            click.echo(f"More wait: --after {more}, or a higher --limit.")
    else:
        click.echo("The queue is empty." if wanted == Selection() and not after else "Nothing in the queue fits.")


@queue.command("lanes")
@as_json
@pass_installation
def lanes(installation: Installation, json_output: bool) -> None:
    """List where mail waits for: each destination and sender, how often it failed, and when it is tried next."""
    now = installation.clock.now()
    found = installation.read(control.list_lanes, now)
    if json_output:
        print_json([described(one) for one in found])
    else:
        click.echo(lanes_table(found, now) if found else "The queue is empty.\n", nl=False)


@queue.command("show")
@click.argument("one", metavar="ID", type=WAITING)
@as_json
@pass_installation
def show(installation: Installation, one: Selection, json_output: bool) -> None:
    """Show the message that ID belongs to: envelope, recipients that wait, the last reply, and the last attempts with
    every line that was said.

    ID is one from `posthouse queue list`, or the id from our 250.
    """
    now = installation.clock.now()
    found = installation.read(_with_message, one, now)
    if found is None:
        raise CommandError(_no_such(one))
    message, recipients, told_of = found
    if json_output:
        mail = message.mail
        told = {"journey": journey.code(mail.journey), "body": mail.wishes.body, "smtputf8": mail.wishes.smtputf8}
        told |= {"envid": mail.wishes.envid, "ret": mail.wishes.ret}
        told |= {"recipients": [described(each) for each in recipients]}
        print_json(told | {"steps": timeline.as_json(told_of)["steps"] if told_of else []})
    else:
        click.echo(in_full(message, recipients, now) + (attempts(told_of) if told_of else ""), nl=False)


def _with_message(tx: Tx, one: Selection, now: int) -> tuple[QueuedMessage, list[Listed], Journey | None] | None:
    found = control.list_recipients(tx, one, now, limit=1)
    if not found:
        return None
    message = find_message(tx, found[0].id)
    assert message is not None, "a recipient's message is there"
    recipients = control.list_recipients(tx, Selection(journey=found[0].journey), now, limit=1000)
    return message, recipients, journey.get(tx, found[0].journey)


def _no_such(one: Selection) -> str:
    named = write_id(one.id) if one.id is not None else journey.code(one.journey or 0)
    return f"nothing in the queue has the id {named}; `posthouse journey` tells what became of a message"


# --- doing ------------------------------------------------------------------------------------------------------------


def acting(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of the group that does something to ids, to what options select, or to --all."""

    def made(command: Callable[..., None]) -> click.Command:
        # Options stand in the help in the opposite order.
        command = as_json(pass_installation(command))
        command = click.option("--yes", is_flag=True, help="Don't ask.")(command)
        command = click.option("--all", "everything", is_flag=True, help="Everything in the queue.")(command)
        command = selecting(command)
        return queue.command(name)(click.argument("ids", metavar="[ID]...", type=WAITING, nargs=-1)(command))

    return made


@acting("retry")
def retry(installation: Installation, json_output: bool, yes: bool, **chosen: Any) -> None:
    """Try now, instead of when it is due. What is held, or its sender wants to leave later, is let go by `release`."""
    _act(installation, control.retry, "to be tried now", json_output, yes, _selections(**chosen))


@acting("hold")
def hold(installation: Installation, json_output: bool, yes: bool, **chosen: Any) -> None:
    """Keep it where it is until it is released. --destination alone also holds what comes later.

    What is being handed over right now cannot be called back: it says how much that is. What is not taken is held then.
    """
    selections = _selections(**chosen)
    if selections[0].whole_destination:
        destination = selections[0].destination or ""
        under_way = installation.write(control.hold_destination, destination, installation.clock.now())
        text = f"{destination} is held, with what comes later{_all_the_same(under_way)}"
        _told(json_output, {"done": text, "under_way": under_way}, text)
        return
    under_way = 0

    async def work(store: SqliteStore, selection: Selection, progress: Progress) -> int:
        nonlocal under_way
        done = await control.hold_each(store, selection, installation.clock.now(), progress)
        under_way += done.under_way
        return done.held

    held = _whole(installation, work, selections, _asked(installation, yes, selections))
    _told(
        json_output,
        {"count": held, "under_way": under_way},
        f"{_recipients(held)} held{_all_the_same(under_way)}",
    )


def _all_the_same(under_way: int) -> str:
    """Of those who cannot be called back."""
    return f"; {_recipients(under_way)} being handed over just now may still be sent" if under_way else ""


@acting("release")
def release(installation: Installation, json_output: bool, yes: bool, **chosen: Any) -> None:
    """Let what was held go on, now, and what its sender wants to leave later. A destination that was held is released
    by --destination."""
    selections = _selections(**chosen)
    if selections[0].whole_destination:
        destination = selections[0].destination or ""
        opened = installation.write(control.release_destination, destination, installation.clock.now())
        if not opened:
            raise CommandError(f"{destination} is not held")
        text = f"{destination} is released"
        _told(json_output, {"done": text}, text)
    else:
        _act(installation, control.release, "released", json_output, yes, selections)


@acting("reroute")
@click.option("--to", required=True, metavar="WHERE", help="A route of the configuration, a host or domain, or mx.")
def reroute(installation: Installation, json_output: bool, yes: bool, to: str, **chosen: Any) -> None:
    """Send it another way, now: by a route that the configuration names, or to a host or domain (by its MX, or itself
    where it has none). `--to mx` sends it where mail for its recipients usually goes."""
    destination = _where(installation, to)
    selections = _selections(**chosen)
    _act(installation, control.reroute(destination), f"rerouted to {destination or 'MX'}", json_output, yes, selections)


@acting("bounce")
def bounce(installation: Installation, json_output: bool, yes: bool, **chosen: Any) -> None:
    """Give it up now: it goes back to its sender, who is told so. What is being handed over right now stays."""
    selections = _selections(**chosen)

    async def work(store: SqliteStore, selection: Selection, progress: Progress) -> int:
        settings = installation.config
        blobs = open_blobs(settings.data, settings.store, settings.limits)
        try:
            clerk = _clerk(installation, store, blobs)
            return await control.give_up(store, clerk, installation.clock, selection, progress)
        finally:
            blobs.close()

    _work(installation, work, "given up", json_output, selections, None if yes else "Send {} back to their senders?")


@acting("drop")
def drop(installation: Installation, json_output: bool, yes: bool, **chosen: Any) -> None:
    """Remove it for ever. Nobody is told: there is no bounce. What is being handed over right now stays."""
    selections = _selections(**chosen)
    question = None if yes else "Drop {} from the queue, without a bounce?"
    _work(installation, _each(installation, control.drop), "dropped", json_output, selections, question)


def _selections(*, ids: tuple[Selection, ...], everything: bool, **options: str | None) -> list[Selection]:
    """What is meant. Nobody means everything by saying nothing."""
    wanted = _selection(**options)
    if not ids and wanted == Selection() and not everything:
        raise CommandError("which? Give an ID, --sender, --recipient, --destination, or --all")
    return [replace(wanted, id=one.id, journey=one.journey) for one in ids] or [wanted]


def _where(installation: Installation, text: str) -> str | None:
    """The destination that is meant; None: by MX."""
    if text == "mx":
        return None
    name = text.removeprefix(_ROUTE)
    if any(route.name == name for route in installation.config.routes):
        return _ROUTE + name
    if text.startswith(_ROUTE):
        raise CommandError(f"the configuration has no route {name}")
    try:
        return DOMAIN + parse_domain(text)
    except BadAddress as error:
        raise CommandError(f"{text}: neither a route of the configuration, nor a domain ({error}), nor mx") from error


def _clerk(installation: Installation, store: SqliteStore, blobs: Blobs) -> Clerk:
    """Who writes down what is given up, with the report to the sender."""
    settings = installation.config
    rules = Rules(settings.queue.schedule, store.secret)
    terms = Terms(settings.hostname, rules, settings.queue.expire)
    return Clerk(store, blobs, terms, installation.clock, SystemRandom())


Work = Callable[[SqliteStore, Selection, Progress], Awaitable[int]]


def _each(installation: Installation, operation: Operation) -> Work:
    async def work(store: SqliteStore, selection: Selection, progress: Progress) -> int:
        return await control.each(store, operation, selection, installation.clock.now(), progress)

    return work


def _act(
    installation: Installation,
    operation: Operation,
    done: str,
    json_output: bool,
    yes: bool,
    selections: list[Selection],
) -> None:
    """Carry it out; whoever means many is asked first."""
    question = _asked(installation, yes, selections)
    _work(installation, _each(installation, operation), done, json_output, selections, question)


def _asked(installation: Installation, yes: bool, selections: list[Selection]) -> str | None:
    """What whoever means many is asked first."""
    return None if yes or _count(installation, selections) <= _MANY else "This concerns {}. Go on?"


def _count(installation: Installation, selections: list[Selection]) -> int:
    """How many recipients are meant. Raises CommandError where one of the selections means none."""
    now = installation.clock.now()

    def counted(tx: Tx) -> int:
        for selection in selections:
            if not control.list_recipients(tx, selection, now, limit=1):
                plain = selection == Selection(id=selection.id, journey=selection.journey) != Selection()
                raise CommandError(_no_such(selection) if plain else "nothing in the queue fits")
        return sum(control.count(tx, selection) for selection in selections)

    return installation.read(counted)


def _work(
    installation: Installation,
    work: Work,
    done: str,
    json_output: bool,
    selections: list[Selection],
    question: str | None,
) -> None:
    count = _whole(installation, work, selections, question)
    _told(json_output, {"count": count}, f"{_recipients(count)} {done}")


def _whole(installation: Installation, work: Work, selections: list[Selection], question: str | None) -> int:
    """Do it to all that is meant, when whoever is asked has said yes; how many it concerned."""
    total = _count(installation, selections)
    if question is not None:
        click.confirm(question.format(_recipients(total)), abort=True, err=True)

    async def whole(store: SqliteStore) -> int:
        count = 0
        with _progress(total) as progress:
            for selection in selections:
                count += await work(store, selection, progress)
        return count

    return installation.with_store(whole)


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """On a terminal, and where it takes a while, tell how far it is."""
    if total <= _MANY or not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda seen: click.echo(f"\r{seen} of {total}", nl=False, err=True)
    finally:
        click.echo(err=True)


def _recipients(count: int) -> str:
    return f"{count} recipient{'' if count == 1 else 's'}"


def _told(json_output: bool, plain: dict[str, int | str], text: str) -> None:
    if json_output:
        print_json(plain)
    else:
        click.echo(text)
