"""Who stands in a header, and which of them mail can go to.

Promises: groups are gone through; nothing is raised. Refuses: to believe that whoever is named is who wrote.
"""

from posthouse.message.addresses import Group, Mailbox, parse_addresses
from posthouse.message.header import Header
from posthouse.terms.address import Address, BadAddress, parse


def people(raw: bytes) -> list[Mailbox]:
    """Everybody in an unfolded value, members of groups among them, in order."""
    found: list[Mailbox] = []
    for one in parse_addresses(raw):
        found += one.members if isinstance(one, Group) else (one,)
    return found


def named(header: Header, name: bytes) -> list[Mailbox]:
    """Everybody in all fields of this name (lower case)."""
    return [person for value in header.all(name) for person in people(value)]


def author(header: Header) -> Mailbox | None:
    """The one in From; None where there are several or none, or none that mail can go to.

    None too where the header is not known to its end: another From may be part of it.
    """
    authors = named(header, b"from") if header.complete else []
    return authors[0] if len(authors) == 1 and address_of(authors[0]) is not None else None


def address_of(person: Mailbox) -> Address | None:
    """The address of a person, where mail can go to it."""
    try:
        return parse(str(Address(person.local, person.domain)))
    except BadAddress:
        return None
