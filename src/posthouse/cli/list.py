"""`posthouse list`: mailing lists, who is on them, and what waits for a moderator."""

import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, get_args

import click

from posthouse import journey
from posthouse.cli.installation import ADDRESS, CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.cli.quantities import NUMBER
from posthouse.cli.queue_print import timestamp
from posthouse.clock import SystemClock
from posthouse.delivery import posts
from posthouse.delivery.posts import Held
from posthouse.directory import digests, lists, members
from posthouse.directory.lists import CHOICES, MailingList
from posthouse.directory.members import Member
from posthouse.store import blobs
from posthouse.store.blobs import BlobLost
from posthouse.store.database import Tx
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, BadAddress, parse
from posthouse.written import format_duration, format_size, parse_duration, parse_size


@click.group("list")
def list_group() -> None:
    """Mailing lists: one address that many stand behind.

    Beside NAME@DOMAIN there are NAME-subscribe, NAME-unsubscribe, NAME-request (commands by mail) and NAME-owner.
    """


def _settings(command: Any) -> Any:
    """The options that make and change a list."""
    options = [
        click.option("--title", help="What the list is called in From and List-Id."),
        click.option("--posting", type=click.Choice(CHOICES["posting"]), help="Whose messages go out at once."),
        click.option("--others", type=click.Choice(CHOICES["others"]), help="What becomes of what others write."),
        click.option("--joining", type=click.Choice(CHOICES["joining"]), help="Who may join by mail."),
        click.option("--reply-to", type=click.Choice(CHOICES["reply_to"]), help="Where answers go by themselves."),
        click.option(
            "--rewrite-from",
            type=click.Choice(CHOICES["rewrite_from"]),
            help="Put the list in the author's place; auto: where his domain's DMARC policy calls for it.",
        ),
        click.option("--subject-tag", help='Put this in front of subjects; "" for nothing. It breaks signatures.'),
        click.option("--footer", help='Put this below plain text; "" for nothing. It breaks signatures.'),
        click.option("--message-size", help="The largest message taken, such as 5MB."),
        click.option("--digest-every", help="How long posts are gathered for a digest at most, such as 1d."),
        click.option("--digest-posts", type=int, help="A digest of so many posts is sent at once."),
        click.option("--digest-size", help="The size from which a digest is sent at once, such as 256KB."),
        click.option("--notices/--no-notices", default=None, help="Whether owners hear who joins and leaves by mail."),
        click.option("--visible/--hidden", default=None, help="Whether members may see who is on the list."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_WRITTEN: Final[Mapping[str, Callable[[str], float]]] = {
    "message_size": parse_size,
    "digest_size": parse_size,
    "digest_every": parse_duration,
}


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in settings.items() if value is not None}
    for name, read in _WRITTEN.items():
        if name in given:
            try:
                given[name] = int(read(given[name]))
            except ValueError as error:
                raise click.UsageError(f"--{name.replace('_', '-')}: {error}") from error
    return given


@list_group.command("add")
@click.argument("address", type=ADDRESS)
@click.option("--owner", type=ADDRESS, multiple=True, required=True, help="Who looks after the list; may be repeated.")
@_settings
@pass_installation
def add(installation: Installation, /, address: Address, owner: tuple[Address, ...], **settings: Any) -> None:
    """Make the list ADDRESS."""
    made = installation.write(_add, address, owner, _given(settings))
    click.echo(f"{made.address} is a list of {', '.join(map(str, owner))}")


def _add(tx: Tx, address: Address, owners: tuple[Address, ...], settings: dict[str, Any]) -> MailingList:
    now = SystemClock().now()
    made = lists.add(tx, address, settings.pop("title", ""), now, **settings)
    for owner in owners:
        members.add(tx, made.id, owner, now, role="owner")
    return made


@list_group.command("set")
@click.argument("address", type=ADDRESS)
@_settings
@pass_installation
def set_(installation: Installation, /, address: Address, **settings: Any) -> None:
    """Change settings of the list ADDRESS."""
    given = _given(settings)
    if not given:
        raise click.UsageError("nothing to change was given")
    installation.write(lambda tx: lists.change(tx, address, **given))
    click.echo(f"{address} is changed")


@list_group.command("show")
@click.argument("address", type=ADDRESS)
@as_json
@pass_installation
def show(installation: Installation, address: Address, json_output: bool) -> None:
    """Show the settings of the list ADDRESS."""
    told = _told(installation.read(lists.find, address))
    if json_output:
        print_json(told)
        return
    for name, value in told.items():
        written = _SHOWN[name](value) if name in _SHOWN else value
        click.echo(f"{name.replace('_', ' '):<14}{written}")


_SHOWN: Final[Mapping[str, Callable[[int], str]]] = {
    "message_size": format_size,
    "digest_size": format_size,
    "digest_every": format_duration,
}


@list_group.command("list")
@as_json
@pass_installation
def list_(installation: Installation, json_output: bool) -> None:
    """List the mailing lists, by address."""
    found = installation.read(_every_list)
    if json_output:
        print_json([_told(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.address}  {one.title}")


@list_group.command("remove")
@click.argument("address", type=ADDRESS)
@click.confirmation_option(prompt="Its members and what is held go too. Remove it?")
@pass_installation
def remove(installation: Installation, address: Address) -> None:
    """Remove the list ADDRESS, its members, and what waits for a moderator."""
    installation.write(lists.remove, address, SystemClock().now())
    click.echo(f"{address} is no list any more")


def _told(one: MailingList) -> dict[str, Any]:
    return {"address": str(one.address), **{name: getattr(one, name) for name in lists.SETTINGS}}


def _every_list(tx: Tx) -> list[MailingList]:
    found: list[MailingList] = []
    while batch := lists.listed(tx, found[-1].address.key if found else ""):
        found += batch
    return found


# --- members ----------------------------------------------------------------------------------------------------------


@list_group.group("member")
def member() -> None:
    """Who is on a list."""


_DELIVERIES: Final = click.Choice(get_args(members.Delivery))
# What is not UTF-8 is no address either, and the line is told of.
_ADDRESSES: Final = click.File(encoding="utf-8", errors="surrogateescape")


@member.command("add")
@click.argument("address", type=ADDRESS)
@click.argument("who", type=ADDRESS, nargs=-1)
@click.option("--from-file", type=_ADDRESSES, help="Addresses, one a line; - reads standard input.")
@click.option(
    "--role",
    type=click.Choice(["member", "moderator", "owner"]),
    default="member",
    show_default=True,
    help="What they are on the list.",
)
@click.option("--delivery", type=_DELIVERIES, default="each", show_default=True, help="Each message, digests, or none.")
@pass_installation
def member_add(
    installation: Installation,
    address: Address,
    who: tuple[Address, ...],
    from_file: IO[str] | None,
    role: members.Role,
    delivery: members.Delivery,
) -> None:
    """Put WHO on the list ADDRESS, without asking them. Those who are on it already stay as they are."""
    wanted = [*who, *(_read(from_file) if from_file else ())]
    if not wanted:
        raise click.UsageError("say WHO, or --from-file")
    added = 0
    batches = range(0, len(wanted), _BATCH)
    with click.progressbar(batches, label="Adding", file=sys.stderr, hidden=len(batches) == 1) as bar:
        for at in bar:
            added += installation.write(_add_members, address, wanted[at : at + _BATCH], role, delivery)
    click.echo(f"{added} added to {address}")


_BATCH = 500


def _read(file: IO[str]) -> list[Address]:
    found: list[Address] = []
    for number, line in enumerate(file, 1):
        if text := line.strip():
            try:
                found.append(parse(text))
            except BadAddress as error:
                raise CommandError(f"line {number}: {error}") from error
    return found


def _add_members(
    tx: Tx, address: Address, wanted: list[Address], role: members.Role, delivery: members.Delivery
) -> int:
    to = lists.find(tx, address).id
    now = SystemClock().now()
    fresh = [one for one in dict.fromkeys(wanted) if members.find(tx, to, one) is None]
    for one in fresh:
        members.add(tx, to, one, now, role=role, delivery=delivery)
    return len(fresh)


@member.command("set")
@click.argument("address", type=ADDRESS)
@click.argument("who", type=ADDRESS)
@click.option("--role", type=click.Choice(["member", "moderator", "owner"]), help="What the member is on the list.")
@click.option("--delivery", type=_DELIVERIES, help="Each message, digests, or none.")
@click.option("--name", help="What the member is called.")
@click.option("--enable", is_flag=True, help="Forget that mail came back.")
@pass_installation
def member_set(
    installation: Installation,
    address: Address,
    who: Address,
    role: members.Role | None,
    delivery: members.Delivery | None,
    name: str | None,
    enable: bool,
) -> None:
    """Change what WHO is on the list ADDRESS.

    Between single messages and digests WHO changes when the digest that is being gathered has been sent.
    """

    def work(tx: Tx) -> bool:
        to = lists.find(tx, address).id
        members.change(tx, to, who, name=name, role=role, delivery=delivery, enabled=enable or None)
        return delivery in ("each", "digest") and digests.gathering(tx, to)

    later = installation.write(work)
    click.echo(f"{who} is changed on {address}{_LATER if later else ''}")


_LATER: Final = "; what is being gathered for a digest comes as before"


@member.command("remove")
@click.argument("address", type=ADDRESS)
@click.argument("who", type=ADDRESS, nargs=-1, required=True)
@pass_installation
def member_remove(installation: Installation, address: Address, who: tuple[Address, ...]) -> None:
    """Take WHO off the list ADDRESS, without asking them."""

    def work(tx: Tx) -> None:
        to = lists.find(tx, address).id
        for one in who:
            members.remove(tx, to, one)

    installation.write(work)
    click.echo(f"{len(who)} taken off {address}")


@member.command("list")
@click.argument("address", type=ADDRESS)
@as_json
@pass_installation
def member_list(installation: Installation, address: Address, json_output: bool) -> None:
    """List who is on the list ADDRESS. Those marked ! get nothing, because their mail came back."""
    found = installation.read(lambda tx: list(members.every(tx, lists.find(tx, address).id)))
    if json_output:
        print_json([_told_member(one) for one in found])
        return
    for one in found:
        rest: list[str] = [one.role] if one.role != "member" else []
        rest += [_DELIVERED[one.delivery]] if one.delivery != "each" else []
        rest += [f"disabled {timestamp(one.disabled_at)}"] if one.disabled_at else []
        click.echo(f"{'!' if one.disabled_at else ' '} {one.address}{'  ' if rest else ''}{', '.join(rest)}")


_DELIVERED: Final = {"digest": "gets digests", "none": "gets nothing"}


def _told_member(one: Member) -> dict[str, Any]:
    return {
        "address": str(one.address),
        "name": one.name,
        "role": one.role,
        "delivery": one.delivery,
        "joined_at": timestamp(one.joined_at),
        "bounces": one.bounces,
        "disabled_at": timestamp(one.disabled_at) if one.disabled_at else None,
    }


# --- what waits for a moderator ---------------------------------------------------------------------------------------


@list_group.group("held")
def held_group() -> None:
    """Messages that wait for a moderator."""


@held_group.command("list")
@click.argument("address", type=ADDRESS)
@as_json
@pass_installation
def held_list(installation: Installation, address: Address, json_output: bool) -> None:
    """List what waits at the list ADDRESS, and why."""
    found = installation.read(_every_held, address)
    if json_output:
        print_json([_told_held(one) for one in found])
        return
    for one in found:
        _print_held(one)


@held_group.command("show")
@click.argument("address", type=ADDRESS)
@click.argument("number", type=NUMBER)
@as_json
@pass_installation
def held_show(installation: Installation, address: Address, number: int, json_output: bool) -> None:
    """Show the message with this number as it was posted, and why it waits."""
    one, octets = installation.with_store(lambda store: _with_octets(installation, store, address, number))
    text = octets.decode("utf-8", "backslashreplace")
    if json_output:
        print_json(_told_held(one) | {"message": text})
        return
    _print_held(one)
    click.echo()
    for line in text.splitlines():
        click.echo(printable(line.replace("\t", "    ")))


def _print_held(one: Held) -> None:
    click.echo(f"{one.id}  {timestamp(one.held_at)}  {printable(one.author)}: {printable(one.subject)}")
    click.echo(f"    {one.reason}")


async def _with_octets(
    installation: Installation, store: SqliteStore, address: Address, number: int
) -> tuple[Held, bytes]:
    """A post that waits, whole. Raises CommandError, BlobLost."""
    settings = installation.config
    stored = open_blobs(settings.data, settings.store, settings.limits)
    try:
        _, held = await store.read(_find, address, number)
        found = await store.read(blobs.find, held.blob)
        if found is None:
            raise CommandError(f"the message with the number {number} is lost")
        return held, bytes(await stored.load(found))
    except BlobLost as error:
        raise CommandError(f"the message with the number {number} is lost: {error}") from error
    finally:
        stored.close()


@held_group.command("approve")
@click.argument("address", type=ADDRESS)
@click.argument("number", type=NUMBER, nargs=-1, required=True)
@pass_installation
def held_approve(installation: Installation, address: Address, number: tuple[int, ...]) -> None:
    """Let the messages with these numbers out to the members of the list ADDRESS."""
    for one in number:
        installation.write(_approve, address, one)
    click.echo(f"{len(number)} let out")


@held_group.command("refuse")
@click.argument("address", type=ADDRESS)
@click.argument("number", type=NUMBER, nargs=-1, required=True)
@pass_installation
def held_refuse(installation: Installation, address: Address, number: tuple[int, ...]) -> None:
    """Drop the messages with these numbers. Their authors are not told."""
    for one in number:
        installation.write(_refuse, address, one)
    click.echo(f"{len(number)} dropped")


def _every_held(tx: Tx, address: Address) -> list[Held]:
    of = lists.find(tx, address).id
    found: list[Held] = []
    while batch := posts.list_held(tx, of, found[-1].id if found else 0):
        found += batch
    return found


def _find(tx: Tx, address: Address, number: int) -> tuple[MailingList, Held]:
    found = lists.find(tx, address)
    held = posts.numbered(tx, found.id, number)
    if held is None:
        raise CommandError(f"nothing with the number {number} waits at {address}")
    return found, held


def _approve(tx: Tx, address: Address, number: int) -> None:
    """A running server does the rest: what approves is an answer to the address that moderators were told."""
    found, held = _find(tx, address, number)
    posts.approve(tx, found, held, SystemClock().now())


def _refuse(tx: Tx, address: Address, number: int) -> None:
    found, held = _find(tx, address, number)
    journey.record(tx, held.journey, posts.drop(tx, found, held, SystemClock().now()))


def _told_held(one: Held) -> dict[str, Any]:
    return {
        "number": one.id,
        "held_at": timestamp(one.held_at),
        "author": one.author,
        "subject": one.subject,
        "reason": one.reason,
        "size": one.size,
        "journey": journey.code(one.journey),
    }
