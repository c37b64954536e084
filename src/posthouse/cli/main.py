"""The `posthouse` command: its verbs, each a file of this room, imported when it is called.

Promises: an error that a person can mend is one line on standard error and status 1; a wrong command line is status
2. What scripts read is asked for with --json and goes to standard output alone.
"""

import importlib
import io
import sys
from pathlib import Path
from typing import Final

import click

from posthouse import __version__
from posthouse.cli.installation import Installation

# Verb: the module that holds it, the command in there, and its line in `posthouse --help` (here, so that help imports
# nothing).
VERBS: Final[dict[str, tuple[str, str, str]]] = {
    "init": ("init", "init", "Write a configuration and print the DNS records to publish."),
    "serve": ("serve", "serve", "Run the mail server."),
    "demo": ("demo", "demo", "Watch a message travel between two servers on this machine."),
    "check-config": ("check", "check_config", "Say whether the configuration can be used, and what is doubtful in it."),
    "domain": ("domain", "domain", "Domains that are served here."),
    "account": ("account", "account", "Accounts: where mail is kept, and who may log in."),
    "alias": ("alias", "alias", "Addresses that stand for others."),
    "share": ("share", "share", "Mailboxes that several accounts use."),
    "list": ("list", "list_group", "Mailing lists, who is on them, and what waits for a moderator."),
    "undelete": ("undelete", "undelete", "What was removed and is still kept: list it, bring it back."),
    "import": ("import_", "import_", "Bring mail from an mbox file, a Maildir or another server."),
    "export": ("export", "export", "Write an account's mail as a Maildir or mbox files."),
    "queue": ("queue", "queue", "Mail that waits to be relayed or delivered."),
    "suppression": ("suppression", "suppression", "Addresses that an account's mail did not reach, and why."),
    "journey": ("journey", "journey", "What happened to a message."),
    "search": ("search", "search", "The index that mail is searched by."),
    "block": ("block", "block", "Networks that nobody is served from, because they misbehaved."),
    "dkim": ("dkim", "dkim", "Keys that sign the mail of a domain."),
    "dns": ("dns", "dns", "Print the DNS records to publish."),
    "backup": ("backup", "backup", "Copy the store, while mail goes on."),
    "restore": ("restore", "restore", "Bring back what a backup holds."),
    "mime": ("mime", "mime", "Show the structure of a message in a file."),
}
CONFIGURATIONS: Final = (Path("posthouse.toml"), Path("/etc/posthouse/posthouse.toml"))


class Verbs(click.Group):
    """The group that imports a verb's module only when the verb is called: `posthouse --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, name, _ = VERBS[cmd_name]
        found = getattr(importlib.import_module(f"posthouse.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in VERBS.items()])


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="posthouse")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="POSTHOUSE_CONFIG",
    help="The configuration. Otherwise ./posthouse.toml, then /etc/posthouse/posthouse.toml.",
)
@click.pass_context
def posthouse(context: click.Context, config: Path | None) -> None:
    """A mail server: SMTP, submission, queue, IMAP and POP3 in one program.

    Try `posthouse demo` first. To serve a domain: `posthouse init`, `posthouse account add`, `posthouse serve`.
    """
    chosen = config or next((path for path in CONFIGURATIONS if path.exists()), CONFIGURATIONS[0])
    context.obj = Installation(chosen)


def main() -> None:
    """Run the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal has no letter for, or a name that is not UTF-8, is spelled out and no error.
        sys.stdout.reconfigure(errors="backslashreplace")
    posthouse(prog_name="posthouse")
