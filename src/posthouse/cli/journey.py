"""`posthouse journey`: what happened to a message, as a timeline that people understand."""

import sys

import click

from posthouse import journey as journeys
from posthouse import timeline
from posthouse.cli.installation import Installation, as_json, pass_installation, print_json
from posthouse.written import format_duration


@click.command("journey")
@click.argument("what", metavar="MESSAGE")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="At most so many journeys, newest first.",
)
@as_json
@pass_installation
def journey(installation: Installation, what: str, limit: int, json_output: bool) -> None:
    """Tell what happened to MESSAGE, step by step, with the other servers' words.

    MESSAGE is the message's Message-ID (with or without <>), the id that stands in our 250 after "Taken as" (or in a
    line of the log), or an address: then the journeys of all mail from and to it are told, the newest first. Mail that
    was refused has a journey too. Times are UTC.

    \b
    posthouse journey '<5f3a@example.org>'
    posthouse journey 0cxy51rbc0g7m
    posthouse journey alice@example.org --limit 3
    """
    found = installation.with_store(lambda store: store.read(journeys.find, what, store.secret, limit))
    if json_output:
        print_json([timeline.as_json(one) for one in found])
    else:
        click.echo("\n".join(timeline.as_text(one) for one in found), nl=False)
    if not found:
        kept = format_duration(installation.config.store.journeys)
        click.echo(f"posthouse: nothing is known of {what}; journeys are kept for {kept}", err=True)
        sys.exit(1)
    if len(found) == limit and not json_output:
        click.echo(f"\nThere may be older ones: --limit {limit * 5}")
