"""What one client believes of a mailbox that many use at once, and what it holds every response against.

Each keeps its picture from what it is told, and checks every untagged response by what the protocol allows (RFC 9051
§7.4.1, §7.5.1, §7.5.2; RFC 7162 §3.1, §3.2) and by what it and the others were told: a uid keeps its octets, a
mod-sequence never goes back, and nothing goes that nobody may remove.
"""

import hashlib
import re
from dataclasses import dataclass, field
from random import Random

from tests.doors.house import ImapClient

_NUMBERED = re.compile(rb"\* ([0-9]+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?\Z", re.DOTALL)
_VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\Z")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_UID = re.compile(rb"UID ([0-9]+)")
_MODSEQ = re.compile(rb"MODSEQ \(([0-9]+)\)")
_BODY = re.compile(rb"BODY\[\] \{([0-9]+)\}\r\n")
_EXPUNGE_FORBIDDEN = ("FETCH", "STORE", "SEARCH", "SORT", "THREAD")
_VALIDITY = re.compile(rb"\[UIDVALIDITY ([0-9]+)\]")
_HIGHEST = re.compile(rb"OK \[HIGHESTMODSEQ ([0-9]+)\]")
_RESULT = re.compile(rb'\* ESEARCH \(TAG "([^"]+)"\) UID ?(.*)\Z')
_UPDATE = re.compile(rb"(ADDTO|REMOVEFROM) \(([0-9]+) ([0-9:,]+)\)")
_ALL = re.compile(rb"\bALL ([0-9:,]+)")
_KEPT_EACH = 3


def is_kept(uid: int) -> bool:
    """Nobody deletes or moves these: whatever else happens, they are there in the end."""
    return uid % _KEPT_EACH == 0


def numbers_of(written: bytes) -> list[int]:
    """The numbers of a sequence-set, in the order they stand."""
    found: list[int] = []
    for part in written.split(b","):
        low, _, high = part.partition(b":")
        found += range(int(low), int(high or low) + 1)
    return found


@dataclass
class Result:
    """What one search that is watched has found so far (RFC 5267), by uid; the command asks for it once more."""

    command: str
    ordered: bool
    uids: list[int]


@dataclass
class Common:
    """What all clients know of one mailbox: the hash of the octets of each uid that was read."""

    octets: dict[int, bytes] = field(default_factory=dict)


class Picture:
    """The uid of each message (None: not told yet), and the flags and mod-sequences that were told."""

    def __init__(self, client: ImapClient, random: Random, name: str, common: Common) -> None:
        self.client = client
        self.random = random
        self.name = name
        self.common = common
        self.vanishing = False  # RFC 7162 §3.2.10: VANISHED in place of EXPUNGE
        self.uids: list[int | None] = []
        self.met: set[int] = set()  # all uids that were ever told
        self.flags: dict[int, frozenset[bytes]] = {}
        self.modseqs: dict[int, int] = {}
        self.validity = 0
        self.highest: int | None = None
        self.results: dict[bytes, Result] = {}
        self.log: list[str] = []
        self.heard = 0

    async def say(self, text: str, *literals: bytes) -> list[bytes]:
        """A command; its untagged responses are believed. Its answer may be NO, never BAD."""
        self.log.append(f"C: {text}")
        *untagged, tagged = await self.client.say(text, *literals)
        for response in untagged:
            self.believe(response, text.split()[0])
        self.log.append(f"S: {tagged!r}")
        del self.log[:-200]
        highest = _HIGHEST.match(tagged)
        self.highest = int(highest[1]) if highest else None
        self.check(not tagged.startswith(b"BAD"), tagged)
        return [*untagged, tagged]

    def check(self, holds: object, what: object) -> None:
        """Fail with the end of the conversation."""
        assert holds, f"{self.name}: {what!r}\n" + "\n".join(line[:300] for line in self.log[-40:])

    @property
    def known(self) -> int:
        """The mod-sequence up to which all was told; 0 where that is not known. A server that holds a VANISHED back
        says so by a lower HIGHESTMODSEQ (RFC 7162 §3.2.7)."""
        return self.highest or max(self.modseqs.values(), default=0)

    def forget(self) -> None:
        """The mailbox was closed, or is opened anew."""
        self.uids, self.flags, self.modseqs, self.results = [], {}, {}, {}

    def believe(self, response: bytes, command: str) -> None:
        """One untagged response, checked against what is believed so far."""
        self.log.append(f"S: {response[:300]!r}")
        self.heard += 1
        if vanished := _VANISHED.match(response):
            self.check(self.vanishing, "VANISHED that was not asked for")
            self._lose(vanished[2], earlier=vanished[1] is not None, command=command)
            return
        if (result := _RESULT.match(response)) and result[1] in self.results:
            self._follow(self.results[result[1]], result[2])
            return
        if validity := _VALIDITY.search(response):
            self.check(self.validity in (0, int(validity[1])), "UIDVALIDITY is another")
            self.validity = int(validity[1])
        found = _NUMBERED.match(response)
        if found is None:
            return
        number, kind, items = int(found[1]), found[2], found[3]
        if kind == b"EXISTS":
            self.check(number >= len(self.uids), "EXISTS makes the mailbox smaller")
            self.uids += [None] * (number - len(self.uids))
            return
        self.check(1 <= number <= len(self.uids), "a number that is none")
        if kind == b"FETCH":
            self.learn(number, items)
            return
        self.check(command not in _EXPUNGE_FORBIDDEN, f"EXPUNGE during {command}")
        self.check(not self.vanishing, "EXPUNGE where VANISHED was asked for")
        self._gone(self.uids.pop(number - 1))

    def watch(self, command: str, *, ordered: bool, answers: list[bytes]) -> None:
        """A search has been answered, and is watched from now on."""
        tag = b"t%d" % self.client.tags
        first, *more = [found[2] for answer in answers if (found := _RESULT.match(answer)) and found[1] == tag]
        told = _ALL.search(first)
        if not any(b"NOUPDATE" in answer for answer in answers):
            self.results[tag] = Result(command, ordered, numbers_of(told[1]) if told else [])
            for items in more:
                self._follow(self.results[tag], items)

    def _follow(self, result: Result, items: bytes) -> None:
        """RFC 5267 §4.3: what comes into a result and what leaves it, where it is said to."""
        for name, position, written in _UPDATE.findall(items):
            uids, at = numbers_of(written), int(position)
            self.check((at > 0) == result.ordered, "a position where the order is none, or none where it is one")
            known = {uid for uid in self.uids if uid is not None}
            if name == b"ADDTO":
                self.check(not set(uids) & set(result.uids), f"{uids} are in the result already")
                self.check(None in self.uids or set(uids) <= known, f"{uids} are not known")
                start = at - 1 if result.ordered else len(result.uids)
                self.check(start <= len(result.uids), "a position behind the end")
                result.uids[start:start] = uids
            elif result.ordered:
                there = result.uids[at - 1 : at - 1 + len(uids)]
                self.check(there == uids, f"at {at} there are {there}, not {uids}")
                del result.uids[at - 1 : at - 1 + len(uids)]
            else:
                self.check(set(uids) <= set(result.uids), f"{uids} are not all in the result")
                result.uids = [uid for uid in result.uids if uid not in uids]

    async def compare_results(self) -> None:
        """What is watched must be what is found now."""
        await self.say("NOOP")
        for result in list(self.results.values()):
            answers = await self.say(result.command)
            told = [all_of for one in answers if (found := _RESULT.match(one)) for all_of in _ALL.findall(found[2])]
            now = numbers_of(told[0]) if told else []
            was = result.uids if result.ordered else sorted(result.uids)
            self.check(was == now, f"{result.command}: {was} are watched, {now} are found")

    def _gone(self, uid: int | None) -> None:
        if uid is not None:
            self.check(not is_kept(uid), f"message {uid} is lost: nobody has removed it")
            for result in self.results.values():
                # RFC 5267 §4.3.4
                self.check(uid not in result.uids, f"{uid} goes, and has not left {result.command}")
            self.flags.pop(uid, None)
            self.modseqs.pop(uid, None)

    def _lose(self, uids: bytes, *, earlier: bool, command: str) -> None:
        self.check(earlier or command not in _EXPUNGE_FORBIDDEN, f"VANISHED during {command}")
        for part in uids.split(b","):
            low, _, high = part.partition(b":")
            for uid in range(int(low), int(high or low) + 1):
                if uid in self.uids:
                    self.uids.remove(uid)
                    self._gone(uid)
                elif not earlier:
                    self._lose_unknown(uid)

    def _lose_unknown(self, uid: int) -> None:
        """One of those between the known uids below it and those above."""
        below = max((at for at, known in enumerate(self.uids) if known is not None and known < uid), default=-1)
        at = below + 1
        self.check(at < len(self.uids) and self.uids[at] is None, f"VANISHED of {uid}, which never was here")
        del self.uids[at]

    def learn(self, number: int, items: bytes) -> None:
        """A FETCH response."""
        if uid := _UID.search(items):
            known = self.uids[number - 1]
            self.check(known in (None, int(uid[1])), f"message {number} had uid {known}")
            self.uids[number - 1] = int(uid[1])
            self.met.add(int(uid[1]))
            told = [one for one in self.uids if one is not None]
            self.check(told == sorted(set(told)), "uids do not ascend")
        learnt = self.uids[number - 1]
        flags, modseq, body = _FLAGS.search(items), _MODSEQ.search(items), _BODY.search(items)
        if learnt is None:
            self.check(not (flags or modseq or body), "something of a message whose uid is not known")
            return
        if flags:
            self.flags[learnt] = frozenset(flags[1].split())
        if modseq:
            self.check(int(modseq[1]) >= self.modseqs.get(learnt, 0), f"the mod-sequence of {learnt} went back")
            self.modseqs[learnt] = int(modseq[1])
        if body:
            octets = hashlib.sha256(items[body.end() : body.end() + int(body[1])]).digest()
            self.check(self.common.octets.setdefault(learnt, octets) == octets, f"message {learnt} has other octets")

    def assume(self, before: dict[int, frozenset[bytes] | None], how: str, chosen: frozenset[bytes]) -> None:
        """RFC 9051 §6.4.6: whoever asks not to be told knows what comes of it."""
        for uid, flags in before.items():
            if uid in self.flags and (flags is not None or how == "FLAGS"):
                known = flags or frozenset()
                self.flags[uid] = chosen if how == "FLAGS" else known | chosen if how == "+FLAGS" else known - chosen

    async def learn_the_rest(self) -> None:
        """Ask for what was never told: new messages. What was told before is not asked for again."""
        unknown = [n for n, uid in enumerate(self.uids, 1) if uid is None or uid not in self.flags]
        for start in range(0, len(unknown), 500):
            await self.say(f"FETCH {','.join(map(str, unknown[start : start + 500]))} (UID FLAGS)")
