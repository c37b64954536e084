"""`posthouse check-config`: can the configuration be used, and what is doubtful in it?"""

import click

from posthouse import config
from posthouse.cli.installation import Installation, as_json, pass_installation, print_json


@click.command("check-config")
@as_json
@pass_installation
def check_config(installation: Installation, json_output: bool) -> None:
    """Say whether the configuration can be used, and what is doubtful in it.

    Status 0: `posthouse serve` would take it. Status 1: it would not; the line says which key, what was found there
    and what is expected. Nothing is bound or changed.
    """
    cautions = config.check(installation.config)
    if json_output:
        print_json(
            {"file": str(installation.path), "cautions": [{"key": one.key, "text": one.text} for one in cautions]}
        )
        return
    for one in cautions:
        click.echo(f"caution: {one}")
    click.echo(f"{installation.path} can be used")
