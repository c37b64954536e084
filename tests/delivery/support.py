"""A home with people in it."""

from posthouse.delivery.courier import DeliveryCourier
from posthouse.directory import accounts, aliases, domains
from posthouse.directory.addresses import Rules
from posthouse.mailbox import emails
from posthouse.mailbox.emails import Content
from posthouse.queue.queue import NewRecipient
from posthouse.queue.runner import Runner
from posthouse.queue.schedule import LOCAL
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.queue.support import Script, World

NOW = 1_767_225_600_000


class Home(World):
    """A world that serves home.example, with its own delivery courier."""

    async def people(self, *names: str, quota_emails: int | None = None) -> list[int]:
        """Accounts of these names at home.example; their ids."""

        def create(tx: Tx) -> list[int]:
            if tx.one("domain_find", name="home.example") is None:
                domains.add(tx, "home.example", NOW)
            made = [
                accounts.create_account(tx, parse(f"{name}@home.example"), now=NOW, quota_emails=quota_emails)
                for name in names
            ]
            return [account.id for account in made]

        return await self.store.write(create)

    async def alias(self, name: str, *targets: str) -> None:
        """An alias at home.example."""
        await self.store.write(aliases.add_alias, parse(f"{name}@home.example"), [parse(one) for one in targets])

    def post(self, outside: Script | None = None) -> Runner:
        """The runner with the courier under test."""
        courier = DeliveryCourier(self.store, self.blobs, Rules(), self.store.secret, self.clock)
        return self.runner(outside or Script(), courier)

    async def inbox(self, account: int, role: str = "inbox") -> list[bytes]:
        """What stands in a mailbox of an account, whole."""

        def read(tx: Tx) -> list[Content]:
            rows = tx.query(
                "SELECT p.email FROM placement p JOIN mailbox m ON m.account = p.account AND m.id = p.mailbox"
                " WHERE p.account = ? AND m.role = ? ORDER BY p.uid", (account, role),
            )  # fmt: skip
            return [emails.content(tx, account, id) for (id,) in rows]

        contents = await self.store.read(read)
        return [one.prologue + bytes(await self.blobs.load(one.blob)) for one in contents]


def local(address: str, destination: str = LOCAL) -> NewRecipient:
    return NewRecipient(parse(address), destination)
