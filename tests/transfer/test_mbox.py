"""mbox files, those of others and our own."""

import io
import mailbox as stdlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.transfer import mbox
from posthouse.transfer.mbox import Mbox, MboxTree, Quoting
from posthouse.transfer.source import Flaw, Item, Seen, SourceError

FROM = b"From bob@example.org Thu Jan  1 09:00:00 2026\n"


def read(octets: bytes, quoting: Quoting = "mboxrd") -> list[tuple[Item, bytes]]:
    """Its messages with their octets; a flaw is an error."""
    source = Mbox(io.BytesIO(octets), ("x",), len(octets), quoting)
    (folder,) = source.folders()
    found: list[tuple[Item, bytes]] = []
    progress = 0
    for one in source.items(folder, lambda keys: set()):
        assert not isinstance(one, Flaw), one
        progress += one.size
        if isinstance(one, Item):
            found.append((one, b"".join(one.pieces)))
    assert progress <= len(octets)
    return found


def texts(octets: bytes, quoting: Quoting = "mboxrd") -> list[bytes]:
    return [text for _, text in read(octets, quoting)]


def test_messages_stand_behind_their_lines() -> None:
    octets = FROM + b"Subject: one\n\nHello\n\n" + FROM + b"Subject: two\n\nHello\n\nagain\n\n"
    assert texts(octets) == [b"Subject: one\r\n\r\nHello\r\n", b"Subject: two\r\n\r\nHello\r\n\r\nagain\r\n"]
    assert texts(octets.replace(b"\n", b"\r\n")) == texts(octets)
    assert texts(b"\n\n" + octets) == texts(octets)
    # The last one may end without an empty line, or a line end.
    assert texts(FROM + b"Subject: one\n\nHello") == [b"Subject: one\r\n\r\nHello"]
    assert texts(b"") == []
    assert read(octets)[0][0].received_at == 1_767_258_000_000
    assert read(octets)[0][0].key is None


@pytest.mark.parametrize(
    "line",
    [
        "From - Thu Jan 01 09:00:00 2026",
        "From MAILER-DAEMON Thu Jan  1 09:00:00 2026",
        "From 1234567890@xxx Thu Jan 01 09:00:00 +0000 2026",
        "From bob@example.org Thu Jan  1 09:00 2026",
        "From bob@example.org Thu Jan  1 09:00:00 GMT 2026",
        "From bob@example.org Thu, 1 Jan 2026 09:00:00 +0000",
        "From some body Thu Jan  1 09:00:00 2026",
        "From  Thu Jan  1 09:00:00 2026",
    ],
)
def test_lines_as_programs_write_them(line: str) -> None:
    found = read(f"{line}\nSubject: one\n\nHello\n\n".encode() * 2)
    assert [text for _, text in found] == [b"Subject: one\r\n\r\nHello\r\n"] * 2
    assert [item.received_at for item, _ in found] == [1_767_258_000_000] * 2


@pytest.mark.parametrize(
    "line",
    [
        b"From here on it is all downhill\n",
        b"From now until Jan 5 we are away\n",
        # As programs write it, but no header follows.
        b"From bob@example.org Thu Jan  1 09:00:00 2026\nand then nothing\n",
        b"From: bob@example.org\n",
        b"from bob@example.org Thu Jan  1 09:00:00 2026\nSubject: x\n",
    ],
)
def test_a_text_may_say_from(line: bytes) -> None:
    body = b"Subject: one\n\nHello\n\n" + line + b"end\n"
    assert texts(FROM + body + b"\n") == [body.replace(b"\n", b"\r\n")]


def test_a_line_in_the_middle_of_a_text_begins_nothing() -> None:
    body = b"Subject: one\n\nHello\n" + FROM + b"Subject: no\n"
    assert texts(FROM + body + b"\n") == [body.replace(b"\n", b"\r\n")]


def test_quoting_is_undone() -> None:
    octets = FROM + b"Subject: one\n\n>From a\n>>From b\n> From c\n>Fromage\n\n"
    assert texts(octets) == [b"Subject: one\r\n\r\nFrom a\r\n>From b\r\n> From c\r\n>Fromage\r\n"]
    assert texts(octets, "mboxo") == [b"Subject: one\r\n\r\nFrom a\r\n>>From b\r\n> From c\r\n>Fromage\r\n"]


def test_what_programs_note() -> None:
    head = b"Subject: one\nStatus: RO\nX-Status: AFTD\nX-Keywords: $Forwarded work\n  more\nX-UID: 7\nX-Kept: 1\n\n"
    ((item, text),) = read(FROM + head + b"Status: F\n\n")
    assert item.keywords == {"$seen", "$answered", "$flagged", "$draft", "$Forwarded", "work", "more"}
    assert item.deleted
    assert text == b"Subject: one\r\nX-Kept: 1\r\n\r\nStatus: F\r\n"
    mozilla = b"X-Mozilla-Status: 1007\nX-Mozilla-Status2: 00000000\nX-Mozilla-Keys: $label1 NonJunk\nSubject: a\n\n"
    ((item, text),) = read(FROM + mozilla + b"\n")
    assert item.keywords == {"$seen", "$answered", "$flagged", "$forwarded", "$label1", "NonJunk"}
    assert text == b"Subject: a\r\n\r\n"
    assert read(FROM + b"X-Mozilla-Status: zz\nSubject: a\n\n\n")[0][0].keywords == set()


def test_what_is_no_mail_is_left_out() -> None:
    """What Thunderbird has not compacted yet, and what Pine keeps in front."""
    internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ntext\n\n"
    gone = b"X-Mozilla-Status: 0009\nSubject: gone\n\ntext\n\n"
    real = b"X-IMAPbase: 1 2\nSubject: real\n\ntext\n\n"
    assert texts(FROM + internal + FROM + gone + FROM + real) == [b"Subject: real\r\n\r\ntext\r\n"]


def test_nobody_elses_message_is_left_out() -> None:
    """Whoever writes to somebody cannot have his mail left out by the fields of programs that are kept here."""
    first = b"Subject: first\n\ntext\n\n"
    pine = b"Received: by here\nX-IMAP: 1 2\nSubject: second\n\ntext\n\n"
    thunderbird = b"Return-Path: <x@example.net>\nX-Mozilla-Status: 0008\nSubject: third\n\ntext\n\n"
    found = texts(FROM + first + FROM + pine + FROM + thunderbird)
    assert found == [one.removesuffix(b"\n").replace(b"\n", b"\r\n") for one in (first, pine, thunderbird)]
    assert texts(FROM + thunderbird.replace(b"Return-Path", b"X-Mozilla-Status: 0008\nReturn-Path")) == []


def test_a_file_that_is_none() -> None:
    source = Mbox(io.BytesIO(b"Subject: x\n\nno mbox\n"), ())
    (flaw,) = source.items(source.folders()[0], lambda keys: set())
    assert isinstance(flaw, Flaw)


def test_what_the_taker_leaves_is_passed_over() -> None:
    octets = (FROM + b"Subject: one\n\n" + b"text\n" * 100_000 + b"\n") * 2
    source = Mbox(io.BytesIO(octets), (), len(octets))
    items = [one for one in source.items(source.folders()[0], lambda keys: set()) if isinstance(one, Item)]
    assert [one.name for one in items] == ["message 1", "message 2"]


def test_long_lines_and_large_messages() -> None:
    body = b"Subject: x\n\n" + b"y" * 300_000 + b"\n" + b">From z\n" * 30_000
    expected = body.replace(b">From z", b"From z").replace(b"\n", b"\r\n")
    assert texts(FROM + body + b"\n" + FROM + b"Subject: b\n\n\n") == [expected, b"Subject: b\r\n\r\n"]


def written(messages: Iterable[bytes]) -> bytes:
    def parts() -> Iterator[bytes]:
        for one in messages:
            yield mbox.begin("bob@example.org", 1_767_258_000_000)
            yield from mbox.quoted(iter([one]))

    return b"".join(parts())


BODY = st.lists(
    st.sampled_from(
        [b"From a", b">From b", b">>From c", FROM.rstrip(), b"Subject: x", b"", b"text", b"y" * 70_000, b"> From"]
    ),
    max_size=8,
)


@settings(deadline=None)
@given(st.lists(BODY, max_size=4))
def test_what_we_write_reads_back(bodies: list[list[bytes]]) -> None:
    messages = [b"\r\n".join([b"X-A: b", b"", *body, b""]) for body in bodies]
    assert texts(written(messages)) == messages


@settings(deadline=None)
@given(BODY, st.lists(st.integers(0, 200), max_size=4))
def test_pieces_make_no_difference(body: list[bytes], cuts: list[int]) -> None:
    message = b"\r\n".join([b"X-A: b", b"", *body])
    places = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    pieces = [message[start:end] for start, end in pairwise(places)]
    assert b"".join(mbox.quoted(iter(pieces))) == b"".join(mbox.quoted(iter([message])))


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_octets_raise(octets: bytes, behind_from: bool) -> None:
    source = Mbox(io.BytesIO(FROM + octets if behind_from else octets), ())
    for one in source.items(source.folders()[0], lambda keys: set()):
        assert isinstance(one, Item | Seen | Flaw)
        if isinstance(one, Item):
            b"".join(one.pieces)


def test_the_standard_library_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "x.mbox"
    notes = mbox.notes({"$seen", "$answered", "work"}, deleted=False)
    file.write_bytes(written([notes + b"Subject: one\r\n\r\nFrom a\r\n", b"Subject: two\r\n\r\n"]))
    reader = stdlib.mbox(file, create=False)
    one, two = reader
    reader.close()
    assert (one["Subject"], one.get_flags(), one["X-Keywords"]) == ("one", "ROA", "work")
    assert two["Subject"] == "two"


@pytest.mark.parametrize("sender", [None, "", "two words@example.org", "jürgen@example.org", "a\nb"])
def test_senders_that_are_no_word(sender: str | None) -> None:
    assert mbox.begin(sender, 0) == b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"


@pytest.mark.parametrize("path", ["INBOX", "Work/Old", "../x", ".hidden/..", "100%/%2E", "a.mbox", "a.mbox/b.mbox"])
def test_names_of_files(tmp_path: Path, path: str) -> None:
    file = mbox.file_of(tmp_path, path)
    assert tmp_path in file.resolve().parents
    assert not any(part.startswith(".") for part in file.relative_to(tmp_path).parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(FROM + b"Subject: one\n\n\n")
    (folder,) = MboxTree(tmp_path).folders()
    assert folder.path == (() if path == "INBOX" else tuple(path.split("/")))
    assert len(list(items_of(tmp_path))) == 1


def items_of(root: Path) -> Iterator[Item]:
    tree = MboxTree(root)
    for folder in tree.folders():
        for one in tree.items(folder, lambda keys: set()):
            if isinstance(one, Item):
                yield one


def test_a_mailbox_called_as_a_file_is_beside_its_children(tmp_path: Path) -> None:
    assert mbox.file_of(tmp_path, "A") not in mbox.file_of(tmp_path, "A.mbox/B").parents


def test_several_files_of_which_each_might_be_the_inbox(tmp_path: Path) -> None:
    """One is; the others are folders that are called so, as they are where we have written them."""
    for name in ("INBOX", "Mail", "mbox"):
        (tmp_path / f"{name}.mbox").write_bytes(FROM + b"Subject: " + name.encode() + b"\n\n\n")
    assert [folder.path for folder in MboxTree(tmp_path).folders()] == [(), ("Mail",), ("mbox",)]
    (tmp_path / "INBOX.mbox").unlink()
    assert [folder.path for folder in MboxTree(tmp_path).folders()] == [(), ("Mail",)]


def test_of_several_files_the_one_is_told_that_is_none(tmp_path: Path) -> None:
    for name, octets in (("A", b"no mbox\n"), ("B", FROM + b"Subject: x\n\n\n")):
        (tmp_path / f"{name}.mbox").write_bytes(octets)
    tree = MboxTree(tmp_path)
    found = [one for folder in tree.folders() for one in tree.items(folder, lambda keys: set())]
    assert [one.name for one in found if not isinstance(one, Seen)] == [
        str(tmp_path / "A.mbox"),
        f"{tmp_path / 'B.mbox'}, message 1",
    ]


def test_files_that_are_one_folder(tmp_path: Path) -> None:
    for name in ("Inbox", "inbox"):
        (tmp_path / f"{name}.mbox").write_bytes(FROM + b"Subject: " + name.encode() + b"\n\n\n")
    (folder,) = MboxTree(tmp_path).folders()
    assert folder.path == ()
    assert len(list(items_of(tmp_path))) == 2


def test_a_directory_without_any(tmp_path: Path) -> None:
    (tmp_path / "link.mbox").symlink_to("/etc/passwd")
    with pytest.raises(SourceError):
        MboxTree(tmp_path).folders()
