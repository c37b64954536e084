"""Maildirs, those of others and our own."""

import os
from pathlib import Path

import pytest

from posthouse.transfer.maildir import Maildir, Writer, is_maildir
from posthouse.transfer.source import Flaw, Folder, Item, Seen

TEXT = b"Subject: one\n\nHello\n"


def make(root: Path, *files: str) -> Path:
    """A Maildir with these files in it."""
    for which in ("cur", "new", "tmp"):
        (root / which).mkdir(parents=True)
    for name in files:
        (root / name).write_bytes(TEXT)
    return root


def items(root: Path, folder: tuple[str, ...] = (), known: set[bytes] | None = None) -> list[Item | Seen | Flaw]:
    source = Maildir(root)
    named = {one.path: one for one in source.folders()}
    found = list(source.items(named[folder], lambda keys: set(keys) & (known or set())))
    assert sum(one.size for one in found) == named[folder].size
    return found


def test_flags_dates_and_texts(tmp_path: Path) -> None:
    make(tmp_path, "new/1.a", "cur/2.b:2,", "cur/3.c:2,DFPRST", "cur/4.d:2,Sab", "tmp/5.e", "cur/.6")
    (tmp_path / "dovecot-keywords").write_text("0 work\n1 $Junk\n99 no\nx y\n\n")
    os.utime(tmp_path / "cur" / "2.b:2,", ns=(0, 1_767_258_000_123_000_000))
    found = [one for one in items(tmp_path) if isinstance(one, Item)]
    assert [Path(one.name).name for one in found] == ["1.a", "2.b:2,", "3.c:2,DFPRST", "4.d:2,Sab"]
    assert [set(one.keywords) for one in found] == [
        set(),
        set(),
        {"$draft", "$flagged", "$forwarded", "$answered", "$seen"},
        {"$seen", "work", "$Junk"},
    ]
    assert [one.deleted for one in found] == [False, False, True, False]
    assert found[1].received_at == 1_767_258_000_123
    assert b"".join(found[0].pieces) == TEXT.replace(b"\n", b"\r\n")


def test_a_message_is_known_whatever_its_flags(tmp_path: Path) -> None:
    make(tmp_path, "new/1.a", "cur/2.b:2,S")
    keys = [one.key for one in items(tmp_path) if isinstance(one, Item) and one.key]
    os.rename(tmp_path / "new" / "1.a", tmp_path / "cur" / "1.a:2,R")
    assert items(tmp_path, known=set(keys)) == [Seen(2, 2)]
    (seen, item) = items(tmp_path, known={keys[0]})
    assert seen == Seen(1, 1)
    assert isinstance(item, Item)
    assert item.key == keys[1]


def test_folders(tmp_path: Path) -> None:
    make(tmp_path)
    for name in (".Sent", ".Work.Old", ".Entw&APw-rfe", ".&bad", "..", ".a\\2eb", ".Empty", "Plain/Below"):
        if name != "..":
            make(tmp_path / name, "cur/1.a:2,")
    (tmp_path / ".no").mkdir()
    (tmp_path / ".link").symlink_to(tmp_path / ".Sent")
    assert Maildir(tmp_path).folders() == [
        Folder((), 0),
        *(
            Folder(path, 1)
            for path in sorted(
                [("Sent",), ("Work", "Old"), ("Entwürfe",), ("&bad",), ("a.b",), ("Empty",), ("Plain", "Below")]
            )
        ),
    ]
    assert is_maildir(tmp_path)
    assert not is_maildir(tmp_path / ".no")


@pytest.mark.parametrize("which", ["cur", "new"])
def test_a_link_in_a_maildir_does_not_let_anothers_in(tmp_path: Path, which: str) -> None:
    make(tmp_path / "theirs", "cur/1.a:2,", "new/2.b")
    make(tmp_path / "mine")
    for place in (tmp_path / "mine" / ".Sent", tmp_path / "mine" / "Work", tmp_path / "linked"):
        make(place)
        (place / which).rmdir()
        (place / which).symlink_to(tmp_path / "theirs" / which)
    assert Maildir(tmp_path / "mine").folders() == [Folder((), 0)]
    assert not is_maildir(tmp_path / "linked")


def test_a_folder_that_stands_there_in_both_ways(tmp_path: Path) -> None:
    """As Maildir++ has it and as a directory: what lies in either is read."""
    make(tmp_path)
    make(tmp_path / ".Work.Old", "cur/1.a:2,S")
    make(tmp_path / "Work" / "Old", "cur/2.b:2,")
    assert Maildir(tmp_path).folders() == [Folder((), 0), Folder(("Work", "Old"), 2)]
    names = [Path(one.name).name for one in items(tmp_path, ("Work", "Old")) if isinstance(one, Item)]
    assert names == ["1.a:2,S", "2.b:2,"]


def test_what_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    make(tmp_path, "cur/3.c:2,", "cur/9.z:2,")
    (tmp_path / "cur" / "1.a:2,").symlink_to("/etc/passwd")
    (tmp_path / "cur" / "2.b:2,").mkdir()
    os.mkfifo(tmp_path / "cur" / "4.d:2,")
    found = items(tmp_path)
    assert [type(one) for one in found] == [Flaw, Flaw, Item, Flaw, Item]
    vanished, swapped = found[2], found[4]
    assert isinstance(vanished, Item)
    assert isinstance(swapped, Item)
    for name in ("3.c:2,", "9.z:2,"):
        (tmp_path / "cur" / name).unlink()
    (tmp_path / "cur" / "9.z:2,").symlink_to("/etc/passwd")
    with pytest.raises(FileNotFoundError):
        next(vanished.pieces)
    with pytest.raises(OSError, match="symbolic links"):
        next(swapped.pieces)


def test_keywords_of_a_link_are_not_read(tmp_path: Path) -> None:
    make(tmp_path, "cur/1.a:2,a")
    (tmp_path / "real").write_text("0 secret\n")
    (tmp_path / "dovecot-keywords").symlink_to(tmp_path / "real")
    (found,) = items(tmp_path)
    assert isinstance(found, Item)
    assert found.keywords == set()


def put(writer: Writer, base: str, *keywords: str, deleted: bool = False) -> bool:
    return writer.put(
        base, frozenset(keywords), deleted=deleted, received_at=1_767_258_000_123, pieces=[b"A: b\r\n\r\n"]
    )


def test_what_we_write_reads_back(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "m", ())
    assert put(writer, "1.a", "$seen", "work", "$Junk", deleted=True)
    assert put(writer, "2.b")
    writer.finish()
    below = Writer(tmp_path / "m", ("a.b", "ü/\\"))
    assert put(below, "3.c")
    below.finish()
    first, second = items(tmp_path / "m")
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    assert first.keywords == {"$seen", "work", "$Junk"}
    assert (first.deleted, first.received_at) == (True, 1_767_258_000_123)
    assert second.keywords == set()
    assert not second.deleted
    assert b"".join(first.pieces) == b"A: b\r\n\r\n"
    assert [one.path for one in Maildir(tmp_path / "m").folders()] == [(), ("a.b", "ü/\\")]
    assert (tmp_path / "m" / "cur" / "2.b:2,").stat().st_mode & 0o777 == 0o600


def test_written_again_nothing_is_doubled_and_flags_follow(tmp_path: Path) -> None:
    first = Writer(tmp_path, ())
    put(first, "1.a", "$seen", "work")
    first.finish()
    again = Writer(tmp_path, ())
    assert not put(again, "1.a", "$flagged", "private", "work")
    again.finish()
    (found,) = items(tmp_path)
    assert isinstance(found, Item)
    assert found.keywords == {"$flagged", "work", "private"}
    assert (tmp_path / "dovecot-keywords").read_text() == "0 work\n1 private\n"


def test_more_keywords_than_letters(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ())
    put(writer, "1.a", *(f"k{number:02}" for number in range(30)))
    writer.finish()
    assert writer.unnamed == {"k26", "k27", "k28", "k29"}
    (found,) = items(tmp_path)
    assert isinstance(found, Item)
    assert len(found.keywords) == 26
