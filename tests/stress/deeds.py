"""What clients do at random, one function each: the actions of the stress."""

import asyncio
import re
from collections.abc import Awaitable, Callable

from tests.doors.house import message
from tests.stress.picture import Picture, is_kept, numbers_of

Deed = Callable[[Picture], Awaitable[None]]

_STORABLE = (rb"\Seen", rb"\Flagged", rb"\Answered", rb"\Deleted", b"red", b"blue")
_UID = re.compile(rb"UID ([0-9]+)")
# What is asked for, with words that the mail has; of dates and ages only such as mean the same throughout.
_KEYS = (
    *("ALL", "SEEN", "UNDELETED", "NOT DELETED LARGER 10", "SMALLER 100000", "NEW", "OLD", "DRAFT", "UID 1:*"),
    *("KEYWORD red", "UNKEYWORD blue FLAGGED", "OR ANSWERED UNSEEN", "NOT (SEEN KEYWORD red)"),
    *("SUBJECT Coach", "BODY nine", "FROM bob", "TO alice", "CC alice", "TEXT example", 'HEADER Message-ID "@example"'),
    *("FUZZY SUBJECT coaches", "FUZZY BODY leaving", "FUZZY (TEXT coach SEEN)", "OR FUZZY BODY nines KEYWORD red"),
    *("SINCE 1-Jan-2020", "SENTBEFORE 1-Jan-2030", "SAVEDSINCE 1-Jan-2020", "YOUNGER 86400", "OLDER 86400"),
)
_OTHER = "Archive"


def some(picture: Picture) -> list[int]:
    """A few of the sequence numbers."""
    count = picture.random.randint(1, min(4, len(picture.uids)))
    return sorted(picture.random.sample(range(1, len(picture.uids) + 1), count))


def removable(picture: Picture) -> list[int]:
    """A few of the messages that may go."""
    free = [n for n, uid in enumerate(picture.uids, 1) if uid is not None and not is_kept(uid)]
    return sorted(picture.random.sample(free, min(len(free), picture.random.randint(1, 3))))


def joined(numbers: list[int]) -> str:
    """As a sequence set."""
    return ",".join(map(str, numbers))


async def store(picture: Picture) -> None:
    """STORE in all its forms; \\Deleted on what may go only."""
    chosen = picture.random.sample(_STORABLE, picture.random.randint(1, 2))
    how = picture.random.choice(["FLAGS", "+FLAGS", "-FLAGS"])
    adds = rb"\Deleted" in chosen and how != "-FLAGS"
    numbers = removable(picture) if adds else some(picture)
    if not numbers:
        return
    silent = picture.random.random() < 0.5
    before = {uid: picture.flags.get(uid) for number in numbers if (uid := picture.uids[number - 1])}
    words = b" ".join(chosen).decode()
    *untagged, tagged = await picture.say(f"STORE {joined(numbers)} {how}{'.SILENT' if silent else ''} ({words})")
    if silent and tagged.startswith(b"OK"):
        # RFC 7162 §3.1.3: the mod-sequence is told even so, without the flags.
        told = {int(found[1]) for one in untagged if b"FLAGS (" in one and (found := _UID.search(one))}
        picture.assume({uid: flags for uid, flags in before.items() if uid not in told}, how, frozenset(chosen))


async def look(picture: Picture) -> None:
    """What is told of some."""
    await picture.say(f"FETCH {joined(some(picture))} (UID FLAGS)")


async def overview(picture: Picture) -> None:
    """What a client lists."""
    await picture.say(f"FETCH {joined(some(picture))} (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")


async def read(picture: Picture) -> None:
    """A whole message. What was expunged may still be read, or be gone by name (RFC 2180 §4.1)."""
    number = picture.random.choice(some(picture))
    *untagged, tagged = await picture.say(f"FETCH {number} (UID BODY.PEEK[])")
    had = any(b"BODY[] {" in response for response in untagged)
    picture.check(had or not tagged.startswith(b"OK"), "content that is known is not to be had")


async def look_by_uid(picture: Picture) -> None:
    """All flags."""
    await picture.say("UID FETCH 1:* (FLAGS)")


async def copy(picture: Picture) -> None:
    """To another mailbox: a copy is \\Deleted where the first is, and here its uid may be one that is kept."""
    await picture.say(f"COPY {picture.random.choice(some(picture))} {_OTHER}")


async def move(picture: Picture) -> None:
    """What may go."""
    if numbers := removable(picture):
        await picture.say(f"MOVE {numbers[0]} {_OTHER}")


async def expunge(picture: Picture) -> None:
    """All that is marked."""
    await picture.say("EXPUNGE")


async def search(picture: Picture) -> None:
    """Numbers that are known."""
    found = await picture.say(f"SEARCH {picture.random.choice(_KEYS)}")
    numbers = [int(n) for line in found if line.startswith(b"* SEARCH") for n in line.split()[2:] if n.isdigit()]
    picture.check(all(1 <= number <= len(picture.uids) for number in numbers), "found what is not there")


async def sort(picture: Picture) -> None:
    """Numbers that are known, each once."""
    found = await picture.say(f"SORT (SUBJECT REVERSE ARRIVAL) UTF-8 {picture.random.choice(_KEYS)}")
    numbers = [int(n) for line in found if line.startswith(b"* SORT") for n in line.split()[2:]]
    picture.check(all(1 <= number <= len(picture.uids) for number in numbers), "sorted what is not there")
    picture.check(len(set(numbers)) == len(numbers), "sorted something twice")


async def thread(picture: Picture) -> None:
    """Each message once."""
    found = await picture.say("THREAD REFERENCES UTF-8 ALL")
    numbers = [int(n) for line in found if line.startswith(b"* THREAD") for n in re.findall(rb"[0-9]+", line)]
    picture.check(len(set(numbers)) == len(numbers), "threaded something twice")
    picture.check(all(1 <= number <= len(picture.uids) for number in numbers), "threaded what is not there")


async def extended(picture: Picture) -> None:
    """SEARCH, and SORT, with return options: what they say agrees with itself."""
    program = picture.random.choice(_KEYS)
    unknown = None in picture.uids
    head = picture.random.choice(["SEARCH RETURN ({})", "SORT RETURN ({}) (SUBJECT REVERSE SIZE) UTF-8"])
    found = await picture.say(f"UID {head.format('MIN MAX COUNT ALL')} {program}")
    (answer,) = [one for one in found if b" COUNT " in one]
    count = re.search(rb"COUNT ([0-9]+)", answer)
    every = re.search(rb"ALL ([0-9:,]+)", answer)
    uids = numbers_of(every[1]) if every else []
    picture.check(count is not None and int(count[1]) == len(uids) == len(set(uids)), "another COUNT than in ALL")
    if uids:
        picture.check(b" MIN %d " % uids[0] in answer + b" ", "another MIN than the first")
        picture.check(b" MAX %d " % uids[-1] in answer + b" ", "another MAX than the last")
    # What came while this was answered may have gone again at its end.
    picture.check(unknown or None in picture.uids or picture.met >= set(uids), "found what is not known")


async def saved(picture: Picture) -> None:
    """What is kept for "$" can be used, and is no more than was found."""
    found = await picture.say(f"UID SEARCH RETURN (SAVE COUNT) {picture.random.choice(_KEYS)}")
    (answer,) = [one for one in found if b" COUNT " in one]
    count = int(answer.split(b" COUNT ")[1])
    again = await picture.say("UID SEARCH RETURN (COUNT) $")
    (answer,) = [one for one in again if b" COUNT " in one]
    picture.check(int(answer.split(b" COUNT ")[1]) <= count, "more in $ than was found")
    await picture.say("UID FETCH $ (FLAGS)")


async def watch(picture: Picture) -> None:
    """Have a result kept up to date, or let go of one (RFC 5267)."""
    if len(picture.results) >= 4:
        tag = picture.random.choice(list(picture.results))
        picture.results.pop(tag)
        await picture.say(f'CANCELUPDATE "{tag.decode()}"')
        return
    program = picture.random.choice(_KEYS)
    ordered = picture.random.random() < 0.6
    form = "UID SORT RETURN ({}) (SUBJECT REVERSE ARRIVAL) UTF-8" if ordered else "UID SEARCH RETURN ({})"
    # What is said beside its own answer are numbers of others.
    found = await picture.say(f"{form.format('UPDATE ALL')} {program}")
    picture.watch(f"{form.format('ALL')} {program}", ordered=ordered, answers=found)


async def changed_since(picture: Picture) -> None:
    """Only what has changed since (RFC 7162 §3.1.4.1)."""
    if not picture.modseqs:
        await picture.say("UID FETCH 1:* (FLAGS MODSEQ)")
        return
    since = picture.random.choice(list(picture.modseqs.values()))
    known = {uid: modseq for uid, modseq in picture.modseqs.items() if modseq > since}
    found = await picture.say(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})")
    told = {int(one[1]) for line in found if (one := _UID.search(line))}
    there = {uid for uid in picture.uids if uid is not None}
    # Of what others have expunged meanwhile nothing need be told.
    missing = (known.keys() & there) - told
    if missing:
        await picture.say("NOOP")
        picture.check(not missing & set(picture.uids), f"a change of {missing} was not told")


async def store_unchanged(picture: Picture) -> None:
    """Only where nothing has changed since (RFC 7162 §3.1.3)."""
    uids = [uid for number in some(picture) if (uid := picture.uids[number - 1]) and uid in picture.modseqs]
    if not uids:
        return
    since = min(picture.modseqs[uid] for uid in uids)
    newer = {uid for uid in uids if picture.modseqs[uid] > since}
    how = picture.random.choice(["+FLAGS", "-FLAGS"])
    *_, tagged = await picture.say(
        f"UID STORE {joined(uids)} (UNCHANGEDSINCE {since}) {how} ({picture.random.choice(['red', chr(92) + 'Seen'])})"
    )
    modified = re.search(rb"MODIFIED ([0-9:,]+)", tagged)
    told = set(numbers_of(modified[1])) if modified else set()
    if missing := newer - told:
        await picture.say("NOOP")
        picture.check(not missing & set(picture.uids), f"{missing} were stored, and had changed since")


async def append(picture: Picture) -> None:
    """A message, now and then two at once."""
    octets = message(picture.random.randrange(100_000))
    head = f"APPEND INBOX {{{len(octets)}}}"
    if picture.random.random() < 0.3:
        second = message(picture.random.randrange(100_000))
        await picture.say(head, octets + b" {%d}\r\n" % len(second), second + b"\r\n")
    else:
        await picture.say(head, octets + b"\r\n")


async def noop(picture: Picture) -> None:
    """What is new?"""
    await picture.say("NOOP")


async def status(picture: Picture) -> None:
    """Of another mailbox."""
    await picture.say(f"STATUS {_OTHER} (MESSAGES UIDNEXT UNSEEN SIZE)")


async def idle(picture: Picture) -> None:
    """Wait a moment for news."""
    for response in await picture.client.idle():
        picture.believe(response, "IDLE")
    await asyncio.sleep(picture.random.random() * 0.01)
    for response in await picture.client.done():
        picture.believe(response, "IDLE")


ALWAYS: tuple[Deed, ...] = (append, noop, expunge, search, idle, status, sort, thread, extended, saved, watch)
WITH_MESSAGES: tuple[Deed, ...] = (
    *([store] * 12),
    *([look] * 3),
    overview,
    read,
    read,
    copy,
    move,
    look_by_uid,
    changed_since,
    store_unchanged,
)


async def act(picture: Picture) -> None:
    """Do one of them."""
    await picture.random.choice([*WITH_MESSAGES, *ALWAYS] if picture.uids else ALWAYS)(picture)
