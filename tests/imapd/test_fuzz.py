"""Commands put together at random of what the grammar allows, and of what it does not: each is answered, and nothing of
it is an error of ours."""

import re
from pathlib import Path
from random import Random

import pytest

from tests.doors.house import House, in_house

CORPUS = sorted((Path(__file__).parent.parent / "corpus").glob("*.eml"))

# A word in angle brackets stands for any of its fragments, which may hold such words themselves.
FRAGMENTS: dict[str, list[str]] = {
    "command": [
        *["<uid>FETCH <set> (<item> <item> <whole>[<section>]<partial>)<since>"] * 2,
        *["<uid>STORE <set> <unless><how>FLAGS<silent> <flags>"] * 2,
        *["<uid>SEARCH <return><key> <key>"] * 2,
        *["<uid>SORT <return>(<sort> REVERSE <sort>) <charset> <key>"] * 2,
        "<uid>THREAD <algorithm> <charset> <key>",
        "ESEARCH <sources><return><key>",
        'CANCELUPDATE "a1" "a2"',
        "<uid>COPY <set> <name>",
        "<uid>MOVE <set> <name>",
        "CREATE <name>",
        "DELETE <name>",
        "SUBSCRIBE <name>",
        "UNSUBSCRIBE <name>",
        "RENAME <name> <name>",
        "LIST <select><name> <pattern><listed>",
        'LSUB "" <pattern>',
        "STATUS <name> (<status>)",
        "SELECT <name><known>",
        "EXAMINE <name><known>",
        "NOTIFY SET<told> (<watched> <events>)",
        "NOTIFY SET (selected <events>) (<watched> <events>)",
        *("NOTIFY NONE", "ENABLE CONDSTORE", "ENABLE QRESYNC"),
        "APPEND <name> <append>",
        "APPEND <name> <append> <append>",
        "<uid>REPLACE <set> <name> <append>",
        "COMPRESS X",
        *("GETQUOTAROOT <name>", "GETQUOTA account", "SETQUOTA x (STORAGE 1)"),
        *("SETACL <name> <who> <rights>", "DELETEACL <name> <who>", "GETACL <name>", "LISTRIGHTS <name> <who>"),
        *("MYRIGHTS <name>", 'LIST "" <pattern> RETURN (MYRIGHTS STATUS (MESSAGES))'),
        "GETMETADATA <reach><name> (<entry> <entry>)",
        'SETMETADATA <name> (<entry> "x" <entry> NIL)',
        'LIST "" <pattern> RETURN (METADATA (<entry>))',
        *("NOOP", "EXPUNGE", "UID EXPUNGE <set>", "CLOSE", "CHECK", "NAMESPACE", "ENABLE IMAP4rev2", "ID NIL", "X"),
        "ENABLE UTF8=ACCEPT",
    ],
    "uid": ["", "UID "],
    "set": ["1", "1:*", "*", "2:4", "4:2", "$", "1,3,$", "99", "99:*", "4294967295", "0", "*:5"],
    "item": [
        *("FLAGS", "UID", "BODY", "BODYSTRUCTURE", "ENVELOPE", "RFC822", "FAST", "MODSEQ", "EMAILID", "X"),
        *("PREVIEW", "PREVIEW (LAZY)", "SAVEDATE", "THREADID"),
    ],
    "whole": ["BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE"],
    "section": ["", "1", "2", "1.1", "HEADER", "TEXT", "1.MIME", "2.HEADER", "HEADER.FIELDS (a b)", "9.9"],
    "partial": ["", "", "<<0.10>", "<<9999999999.1>", "<<0.9223372036854775807>", "<<5.0>"],
    "name": [
        *("INBOX", "inbox", "a", "a/b", "a/b/", '""', "/", "#x", "Archive", "&ZeVnLIqe-", "Nowhere", "{2+}\r\nzz"),
        *('"Other Users/bob@example.org/INBOX"', '"Other Users/"'),
    ],
    "since": [
        "",
        " (CHANGEDSINCE 3)",
        " (CHANGEDSINCE 3 VANISHED)",
        " (PARTIAL -1:-2)",
        " (CHANGEDSINCE 0 PARTIAL 2:9)",
    ],
    "unless": ["", "", "(UNCHANGEDSINCE 9) ", "(UNCHANGEDSINCE 0) ", "(UNCHANGEDSINCE)"],
    "known": ["", " (CONDSTORE)", " (QRESYNC (1 2))", " (QRESYNC (1 2 1:9 (1 1)))", " (QRESYNC (0 0 *))", " ()"],
    "told": ["", " STATUS"],
    "watched": ["personal", "subscribed", "inboxes", "subtree <name>", "mailboxes (<name> <name>)", "selected-delayed"],
    "events": [
        *(
            "NONE",
            "(MessageNew MessageExpunge)",
            "(MessageNew (<item> <item>) MessageExpunge FlagChange)",
            "(MessageNew)",
        ),
        *(
            "(MailboxName SubscriptionChange)",
            "(MailboxName MessageNew MessageExpunge FlagChange)",
            "(AnnotationChange)",
        ),
    ],
    "who": ["alice@example.org", "bob@example.org", "anyone", '""', "x"],
    "rights": ["lr", "+cda", "-w", '""', "lrswipkxtea", "q"],
    "reach": ["", "(DEPTH 1) ", "(MAXSIZE 1 DEPTH infinity) ", "(DEPTH 2) "],
    "entry": ["/private/a", "/private/a/b", "/shared/comment", "/private", "/private/specialuse", "/x", "/private//a"],
    "how": ["", "+", "-", "*"],
    "silent": ["", ".SILENT"],
    "flags": ["()", "(\\Seen)", "(\\Seen x \\Deleted)", "\\Flagged", "(\\Recent)", "($Junk)", "(\\Nonsense)", "(a b)"],
    "key": [
        *("ALL", "SEEN", "UNKEYWORD x", "KEYWORD \\x", "NOT <key>", "OR <key> <key>", "(<key> (<key>))", "NEW"),
        *("TEXT leaves", "BODY {3+}\r\nnin", 'FROM "b"', 'HEADER Subject ""', 'SUBJECT ""', "SUBJECT \xe9", "<set>"),
        *("BEFORE 1-Jan-2026", "SENTON 31-Feb-2026", "SENTSINCE 1-Jan-0001", "SMALLER 0", "LARGER 9223372036854775807"),
        *("OLDER 1", "YOUNGER 99999", "EMAILID M2", "THREADID T1", "SAVEDON 1-Jan-2026", "SAVEDBEFORE 1-Jan-0001"),
        *("FUZZY <key>", "FUZZY SUBJECT leaving", "FILTER x", "MODSEQ 3", "SAVEDATESUPPORTED"),
        *("UID <set>", "CHARSET UTF-8 ALL", "CHARSET KOI8-R TO {1+}\r\n\xc1"),
    ],
    "return": [
        *("", "RETURN () ", "RETURN (SAVE) ", "RETURN (MIN MAX COUNT ALL SAVE) ", "RETURN (X) ", "RETURN (UPDATE) "),
        *(
            "RETURN (PARTIAL 1:2 UPDATE) ",
            "RETURN (PARTIAL -1:-9 SAVE) ",
            "RETURN (RELEVANCY ALL) ",
            "RETURN (CONTEXT) ",
        ),
    ],
    "sort": ["ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "RELEVANCY", "X"],
    "charset": ["UTF-8", "US-ASCII", "KOI8-R", "KLINGON"],
    "algorithm": ["REFERENCES", "ORDEREDSUBJECT", "REFS", "X"],
    "sources": ["", "IN (personal) ", "IN (<watched> <watched>) ", "IN (selected <watched>) ", "IN (selected) "],
    "select": ["", "(SUBSCRIBED) ", "(SUBSCRIBED RECURSIVEMATCH) ", "(SPECIAL-USE REMOTE) "],
    "pattern": ["*", "%", "%/%", "a*", "(a b*)", "INBOX", '""'],
    "listed": ["", " RETURN (STATUS (<status>))", " RETURN (CHILDREN SUBSCRIBED)"],
    "status": [
        *("HIGHESTMODSEQ", "MESSAGES", "UIDNEXT UNSEEN", "SIZE DELETED RECENT", "NOTHING", "", "MAILBOXID APPENDLIMIT"),
    ],
    "append": [
        *("{0+}\r\n", "(x) {5+}\r\nx: y\n", "~{3+}\r\na\0b", '"31-Dec-9999 23:59:59 -1200" {4+}\r\n\r\n\r\n'),
        *(
            "CATENATE (<part>)",
            "(\\Seen) CATENATE (<part> <part>)",
            "UTF8 (~{2+}\r\nab)",
            "CATENATE (<part>",
            "CATENATE ()",
        ),
    ],
    "part": [
        *("TEXT {3+}\r\nabc", "URL <url>", "URL {8+}\r\n/x/;UID=1", "UTF8 (~{1+}\r\nx)", "X y", "TEXT x", "URL"),
    ],
    "url": [
        *('"/INBOX/;UID=1"', ";UID=2/;SECTION=<section>", '"/INBOX/;UID=3/;PARTIAL=5.9"', "/a/;UID=1", "imap://x/"),
        '"/INBOX;UIDVALIDITY=1/;UID=1"',
    ],
}
_PLACE = re.compile(r"<([a-z]+)>")


def spell(text: str, random: Random) -> str:
    """The text with its words in angle brackets replaced; `<<` is what `<` says."""
    while found := _PLACE.search(text):
        text = text[: found.start()] + random.choice(FRAGMENTS[found[1]]) + text[found.end() :]
    return text.replace("<<", "<")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_said_is_answered(tmp_path: Path, seed: int) -> None:
    async def test(house: House) -> None:
        random = Random(seed)
        for path in random.sample(CORPUS, 4):
            await house.file(path.read_bytes())
        client = await house.imap()
        said: list[str] = []
        for turn in range(250):
            said.append(spell("<command>", random))
            tag = b"f%d" % turn
            await client.send(tag + b" " + said[-1].encode("latin-1") + b"\r\n")
            while not (line := await client.response()).startswith((tag, b"* BYE")):
                assert line, f"hung up without a word: {said[-5:]}"
            assert b"SERVERBUG" not in line, said[-5:]
            if line.startswith(b"* BYE"):
                client = await house.imap()
            elif random.random() < 0.1:
                await client.say("SELECT INBOX")

    in_house(tmp_path, test)
