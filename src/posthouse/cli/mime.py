"""`posthouse mime`: how we read a message, to compare with how others do.

Promises: works on any octets, opens no store and no configuration. Offsets count octets from the beginning of the file.
"""

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from posthouse.cli.installation import print_json
from posthouse.mailbox import summary
from posthouse.message.date import format_date
from posthouse.message.header import Buffer, Header, decode_words, parameter
from posthouse.message.mime import Part, decoded_size, scan


def describe(octets: Buffer) -> dict[str, Any]:
    """What the message is, in values that JSON has. Octets that are no text show as U+FFFD."""
    root = scan(octets)
    rendered = summary.render(octets)
    return {
        "size": rendered.size,
        "subject": rendered.subject,
        "base_subject": rendered.base_subject,
        "date": None if rendered.sent_at is None else format_date(rendered.sent_at),
        "message_id": rendered.message_id,
        "references": list(rendered.references),
        "has_attachment": rendered.has_attachment,
        "preview": rendered.preview,
        "envelope": _text(rendered.summary),
        "bodystructure": _text(rendered.structure),
        "body": _text(summary.body(octets, root)),
        "structure": _part(octets, root, []),
    }


def _part(octets: Buffer, part: Part, path: list[int]) -> dict[str, Any]:
    header = Header.parse(octets, part.header_start, part.body_start)
    leaf = not part.children and part.message is None
    shown: dict[str, Any] = {
        # RFC 9051 §6.4.5.1: a message that is no multipart has one part, number 1.
        "path": ".".join(map(str, path or ([] if part.children else [1]))),
        "type": f"{part.type}/{part.subtype}",
        "parameters": _parameters(part.parameters),
        "encoding": _text(part.encoding),
        "disposition": _optional(part.disposition),
        "disposition_parameters": _parameters(part.disposition_parameters),
        "filename": part.filename,
        "id": _optional(part.id),
        "description": None if part.description is None else decode_words(part.description),
        "header_start": part.header_start,
        "body_start": part.body_start,
        "end": part.end,
        "size": part.size,
        "lines": part.lines,
        "decoded_size": decoded_size(octets, part) if leaf else None,
        "fields": [
            {
                "name": _text(header.octets(field).partition(b":")[0].strip()) if field.name else None,
                "start": field.start,
                "end": field.end,
                "value": decode_words(header.value(field)),
            }
            for field in header.fields
        ],
    }
    if part.children:
        shown["children"] = [_part(octets, child, [*path, number]) for number, child in enumerate(part.children, 1)]
    if part.message is not None:
        inside = path or [1]
        shown["message"] = _part(octets, part.message, inside if part.message.children else [*inside, 1])
    return shown


def _parameters(parameters: tuple[tuple[bytes, bytes], ...]) -> dict[str, str | None]:
    names = dict.fromkeys(name.rstrip(b"*") for name, _ in parameters)
    return {_text(name): parameter(parameters, name) for name in names}


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _optional(octets: bytes | None) -> str | None:
    return None if octets is None else _text(octets)


@click.command("mime")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Everything we know, as one JSON object.")
def mime(file: Path, as_json: bool) -> None:
    """Show how the message in FILE ("-": standard input) is read: its fields, its parts and where they lie.

    Offsets are in octets. With --json also all fields decoded, and what IMAP answers to ENVELOPE, BODY and
    BODYSTRUCTURE.
    """
    with _opened(file) as octets:
        described = describe(octets)
    if as_json:
        print_json(described)
        return
    for name in ("subject", "date", "message_id", "preview"):
        # A stranger's control characters must not reach the terminal.
        value = "".join(letter if letter.isprintable() else "?" for letter in described[name] or "(none)")
        click.echo(f"{name.replace('_', '-') + ':':<12} {value}")
    click.echo()
    for line in _lines(described["structure"], 0):
        click.echo(line)


@contextmanager
def _opened(file: Path) -> Iterator[Buffer]:
    if str(file) == "-":
        yield sys.stdin.buffer.read()
    elif not file.stat().st_size:
        yield b""
    else:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def _lines(part: dict[str, Any], depth: int) -> Iterator[str]:
    name = f"  {part['filename']!r}" if part["filename"] else ""
    size = f"{part['decoded_size']} octets decoded, " if part["decoded_size"] is not None else ""
    where = f"header {part['header_start']}, body {part['body_start']} to {part['end']}"
    path = part["path"] or "-"
    yield f"{'  ' * depth}{path:<6} {part['type']}  {part['encoding']}{name}  ({size}{where})"
    for child in part.get("children", []):
        yield from _lines(child, depth + 1)
    if "message" in part:
        yield from _lines(part["message"], depth + 1)
