"""`posthouse dkim`: the keys that sign a domain's mail, and whether DNS knows of them.

Promises: no private key is ever printed. RSA keys are made here, not in the server, which notices what is changed at
once.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import click

from posthouse.cli.dns import dkim_record, print_zone
from posthouse.cli.domain import every_domain, new_keys
from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.directory import signing
from posthouse.directory.signing import DomainKey, State
from posthouse.net.dns import DnsError, NoRecords, NoSuchDomain, Resolver, StubResolver, system_servers
from posthouse.store.database import Tx
from posthouse.trust.keys import Algorithm, BadKey, BadRecord, PrivateKey, read_record

# A key in PEM is some 2 KB.
_LONGEST_FILE: Final = 64 * 1024


@click.group("dkim")
def dkim() -> None:
    """Keys that sign the mail of a domain (DKIM), so that receivers can tell it from forgeries.

    A domain signs with an RSA and an Ed25519 key at once; both are made with the domain. Each is looked up in DNS by
    its selector.
    """


# --- what is there ----------------------------------------------------------------------------------------------------


@dkim.command("list")
@click.argument("domain", required=False)
@as_json
@pass_installation
def list_(installation: Installation, domain: str | None, json_output: bool) -> None:
    """List the keys of DOMAIN, or of every domain that is served."""
    found = installation.read(_keys, domain)
    if json_output:
        print_json([_as_value(one) for one in found])
        return
    for one in found:
        since = datetime.fromtimestamp(one.since_at // 1000, UTC).strftime("%Y-%m-%d")
        click.echo(f"{one.domain}  {one.selector}  {one.algorithm}  {one.state} since {since}")


def _keys(tx: Tx, domain: str | None) -> list[DomainKey]:
    names = [domain] if domain else [one.name for one in every_domain(tx)]
    return [key for name in names for key in signing.keys(tx, name)]


def _as_value(key: DomainKey) -> dict[str, Any]:
    record = dkim_record(key)
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "created_at": key.created_at,
        "since_at": key.since_at,
        "record": {"name": record.name, "type": record.type, "value": record.value},
    }


# --- what can be done -------------------------------------------------------------------------------------------------


@dkim.command("add")
@click.argument("domain")
@click.option(
    "--algorithm",
    type=click.Choice([one.value for one in Algorithm]),
    help="Make a key of this kind only; without it, one of each.",
)
@click.option("--selector", help="The name it is looked up by; otherwise the month and a letter. Needs --algorithm.")
@click.option("--key", "file", type=click.File("rb"), help="Take this private key (PEM or DER) and make none.")
@as_json
@pass_installation
def add(
    installation: Installation,
    domain: str,
    algorithm: str | None,
    selector: str | None,
    file: IO[bytes] | None,
    json_output: bool,
) -> None:
    """Add keys to DOMAIN and print the records to publish.

    A key signs from now on where the domain has none of its kind that does; otherwise it waits for `posthouse dkim
    rotate`. With --key and --selector a domain that comes from another server keeps what it has published.
    """
    if selector and not (algorithm or file):
        raise CommandError("--selector names one key: say --algorithm or --key too")
    installation.read(signing.keys, domain)  # an unknown domain is said before work is done for it
    made = [_read(file, algorithm)] if file else new_keys([Algorithm(algorithm)] if algorithm else list(Algorithm))
    added = installation.write(_add, domain, made, installation.clock.now(), selector)
    if json_output:
        print_json([_as_value(one) for one in added])
    else:
        _print_published(added)


def _add(tx: Tx, domain: str, made: Sequence[PrivateKey], now: int, selector: str | None = None) -> list[DomainKey]:
    return [signing.add(tx, domain, one, now, selector) for one in made]


def _read(file: IO[bytes], algorithm: str | None) -> PrivateKey:
    """The key in a file, of this algorithm where one is named. Raises CommandError."""
    name = Path(file.name).name
    try:
        key = PrivateKey.of(file.read(_LONGEST_FILE), checked=True)
    except BadKey as error:
        raise CommandError(f"{name}: {error}") from error
    if algorithm is not None and key.algorithm.value != algorithm:
        raise CommandError(f"{name}: this key is of the kind {key.algorithm}, not {algorithm}")
    return key


@dkim.command("rotate")
@click.argument("domain")
@click.option("--unchecked", is_flag=True, help="Put waiting keys to use without a look into DNS.")
@pass_installation
def rotate(installation: Installation, domain: str, unchecked: bool) -> None:
    """Change the keys of DOMAIN in two steps, between which you publish the new records.

    The first call makes new keys, which wait. The second finds their records in DNS, lets them sign and retires the
    old ones, whose records stay until mail that they signed has arrived: after a week `posthouse dkim remove` them.
    """
    kept = installation.read(signing.keys, domain)
    waiting = [one for one in kept if one.state is State.WAITING]
    now = installation.clock.now()
    if not waiting:
        made = new_keys([one for one in Algorithm if any(key.algorithm is one for key in kept)] or list(Algorithm))
        _print_published(installation.write(_add, domain, made, now))
        return
    if not unchecked:
        wrong = [f"{one.selector}: {said}" for one, said, good in _look(installation, waiting) if not good]
        if wrong:
            raise CommandError(f"not yet, the records of the new keys cannot be used: {'; '.join(wrong)}")
    for one in installation.write(signing.rotate, domain, [one.selector for one in waiting], now):
        click.echo(f"{one.domain}  {one.selector}  {one.algorithm}  {one.state}")


@dkim.command("remove")
@click.argument("domain")
@click.argument("selector")
@click.option("--force", is_flag=True, help="Also where the key signs the domain's mail now.")
@pass_installation
def remove(installation: Installation, domain: str, selector: str, force: bool) -> None:
    """Remove the key SELECTOR of DOMAIN. Mail that it signed cannot be checked any more once its record is gone."""
    gone = installation.write(signing.remove, domain, selector, force=force)
    click.echo(f"key {gone.selector} is removed; take the TXT record {gone.name} out of DNS")


def _print_published(added: Sequence[DomainKey]) -> None:
    records = [dkim_record(one) for one in added]
    print_zone(records)
    if any(one.state is State.WAITING for one in added):
        click.echo(f"\nOnce they are published: posthouse dkim rotate {added[0].domain}")
    else:
        click.echo(f"\nOnce they are published: posthouse dkim check {added[0].domain}")


# --- what DNS says ----------------------------------------------------------------------------------------------------


@dkim.command("check")
@click.argument("domain")
@as_json
@pass_installation
def check(installation: Installation, domain: str, json_output: bool) -> None:
    """Look up the records of DOMAIN's keys and compare them. Status 1 where a key signs that others cannot use."""
    kept = installation.read(signing.keys, domain)
    looked = _look(installation, kept)
    if json_output:
        print_json([{**_as_value(key), "published": good, "found": said} for key, said, good in looked])
    else:
        for key, said, _ in looked:
            click.echo(f"{key.name}  {key.algorithm}  {key.state}: {said}")
        if not kept:
            click.echo(f"{domain} has no keys; `posthouse dkim add {domain}` makes them")
    if any(key.state is State.SIGNING and not good for key, _, good in looked):
        raise click.exceptions.Exit(1)


def _look(installation: Installation, kept: Sequence[DomainKey]) -> list[tuple[DomainKey, str, bool]]:
    """Each key with what DNS says of it, in words, and whether that is right."""
    settings = installation.config.dns

    async def look() -> list[tuple[str, bool]]:
        resolver = StubResolver(
            settings.resolver or system_servers(),
            installation.clock,
            trusted=settings.trusted,
            timeout=settings.timeout,
            attempts=settings.attempts,
        )
        return await asyncio.gather(*(compare(resolver, key) for key in kept))

    return [(key, *answer) for key, answer in zip(kept, asyncio.run(look()), strict=True)]


async def compare(resolver: Resolver, key: DomainKey) -> tuple[str, bool]:
    """What is published of a key, in words, and whether it is that key."""
    try:
        answer = await resolver.txt(key.name)
    except (NoRecords, NoSuchDomain):
        return "not published", False
    except DnsError as error:
        return f"cannot be looked up now ({error})", False
    if len(answer.records) > 1:
        # RFC 6376 §3.6.2.2: with several records a verifier may take any of them.
        return f"{len(answer.records)} TXT records stand at its name, of which verifiers take any", False
    try:
        record = read_record(answer.records[0])
    except BadRecord as error:
        return f"what is published cannot be used: {error}", False
    if not record.public:
        return "published as revoked", False
    if (record.algorithm, record.public) != (key.algorithm, key.public):
        return "another key is published", False
    return "published, but marked as a test (t=y)" if record.testing else "published", True
