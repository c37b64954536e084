"""Mail by seed, in the likeness of what lies in people's mailboxes.

A third is plain text, a third alternative with HTML, a third has an attachment; 7.7 KB in the mean, most of it in few.
Each has one to four Received lines and a DKIM-Signature. Half stand in threads of two to nine. 15 % have encoded
subjects, of which a third is Chinese and a third Japanese. RARE stands in the text of 20, RARE_SUBJECT in the subject
of the same 20, whatever the number of messages; COMMON in about every fourth text and every tenth subject.

Promises: the same seed and number give the same octets.
"""

import quopri
from base64 import b64encode, encodebytes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

RARE: Final = "zwieselkraut"
RARE_SUBJECT: Final = "quittenbrot"
RARE_MESSAGES: Final = 20
COMMON: Final = "invoice"

# 2024-01-01 in seconds; a message comes some minutes after the one before.
_EPOCH: Final = 1_704_067_200
_SYLLABLES: Final = (
    *("ka", "lo", "mi", "ter", "ven", "son", "dar", "pli", "quo", "res"),
    *("tan", "bel", "gri", "hun", "mos", "pe", "ra", "sti", "ul", "vor"),
)
_LONGEST_THREAD: Final = 9
_OPEN_THREADS: Final = 40

_CHINESE: Final = (
    "关于明天会议的通知",
    "第三季度财务报告",
    "请确认订单信息",
    "项目进度更新",
    "周末聚餐安排",
    "合同修改意见",
)
_JAPANESE: Final = (
    "明日の会議について",
    "請求書の送付",
    "ご注文の確認",
    "新年のご挨拶",
    "出張の予定",
    "資料をお送りします",
)
_LATIN: Final = ("Grüße aus Köln", "Réunion reportée à jeudi", "Año nuevo, precios nuevos", "Übersicht für März")
_CHINESE_TEXT: Final = "您好，附件是我们上周讨论的文件。如有问题请随时与我联系，谢谢您的合作。\r\n"
_JAPANESE_TEXT: Final = "お世話になっております。先日の件について資料をお送りします。よろしくお願いいたします。\r\n"


@dataclass(frozen=True, slots=True)
class Sample:
    """A message, when it was received (seconds since 1970) and its IMAP flags."""

    octets: bytes
    received_at: int
    flags: bytes

    @property
    def internal_date(self) -> bytes:
        """As APPEND takes it (RFC 9051 §9, date-time)."""
        return f'"{_written(self.received_at, "%d-%b-%Y %H:%M:%S")}"'.encode()


def make(count: int, seed: int = 5) -> list[Sample]:
    """So many messages."""
    return list(_Writer(count, seed).messages())


def _written(seconds: int, form: str) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):{form}} +0000"


@dataclass(slots=True)
class _Thread:
    """A conversation that goes on."""

    subject: str
    ids: list[str]
    left: int


class _Writer:
    def __init__(self, count: int, seed: int) -> None:
        self._random = Random(seed)
        self._count = count
        self._words = self._vocabulary()
        self._sentences = [self._sentence() for _ in range(6000)]
        self._people = [self._person() for _ in range(400)]
        self._threads: list[_Thread] = []
        self._rare = set(self._random.sample(range(count), min(RARE_MESSAGES, count)))

    def _vocabulary(self) -> list[str]:
        words = {"".join(self._random.choices(_SYLLABLES, k=1 + number % 4)) for number in range(12_000)}
        return sorted(words, key=lambda word: (len(word), word))

    def _sentence(self) -> str:
        """Words of which few are frequent and most are not, as in any language."""
        size, pick = len(self._words), self._random
        words = [self._words[int(size * pick.random() ** 3)] for _ in range(pick.randint(6, 16))]
        if pick.random() < 0.01:
            words[len(words) // 2] = COMMON
        return " ".join(words).capitalize() + "."

    def _person(self) -> tuple[str, str]:
        first, last, host = (self._random.choice(self._words) for _ in range(3))
        return f"{first.title()} {last.title()}", f"{first}.{last}@{host}.test"

    def messages(self) -> Iterator[Sample]:
        received_at = _EPOCH
        for number in range(self._count):
            received_at += self._random.randint(10, 1800)
            octets = self._message(number, received_at)
            flags = [b"\\Seen"] if self._random.random() < 0.7 else []
            flags += [b"\\Answered"] if self._random.random() < 0.1 else []
            yield Sample(octets, received_at, b"(%b)" % b" ".join(flags))

    def _message(self, number: int, received_at: int) -> bytes:
        """One message: trace, header, body."""
        own = f"{number:x}.{self._random.getrandbits(48):x}@{self._random.choice(self._people)[1].partition('@')[2]}"
        subject, references = self._topic(own)
        if number in self._rare:
            subject = f"{subject} {RARE_SUBJECT}"
        date = _written(received_at, "%a, %d %b %Y %H:%M:%S")
        (author, sender), (reader, recipient) = self._random.sample(self._people, 2)
        lines = [*self._trace(date, recipient), *self._signature(sender)]
        lines += [
            f"From: {author} <{sender}>",
            f"To: {reader} <{recipient}>",
            *self._copies(),
            f"Subject: {self._encoded(subject)}",
            f"Date: {date}",
            f"Message-ID: <{own}>",
        ]
        if references:
            lines += [
                f"In-Reply-To: <{references[-1]}>",
                "References: " + "\r\n ".join(f"<{one}>" for one in references),
            ]
        lines += [
            "MIME-Version: 1.0",
            "X-Mailer: Anything 12.3",
            f"X-Spam-Status: No, score={self._random.random():.3f}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n" + self._body(number)

    def _topic(self, own: str) -> tuple[str, list[str]]:
        """The subject, and the message-ids before it in its thread. Half of all messages stand in threads."""
        pick = self._random
        if pick.random() < 0.5:
            if len(self._threads) < _OPEN_THREADS and pick.random() < 0.25:
                self._threads.append(_Thread(self._subject(), [own], pick.randint(1, _LONGEST_THREAD - 1)))
                return self._threads[-1].subject, []
            if self._threads:
                thread = pick.choice(self._threads)
                references = thread.ids[:]
                thread.ids.append(own)
                thread.left -= 1
                if not thread.left:
                    self._threads.remove(thread)
                return f"Re: {thread.subject}", references
        return self._subject(), []

    def _subject(self) -> str:
        pick = self._random
        dice = pick.random()
        if dice < 0.15:
            return pick.choice((_CHINESE, _JAPANESE, _LATIN)[int(dice / 0.05)]) + f" {pick.randint(1, 400)}"
        words = pick.choice(self._sentences).split()[: pick.randint(2, 7)]
        return " ".join([COMMON, *words] if dice < 0.25 else words).rstrip(".")

    def _encoded(self, subject: str) -> str:
        """As a client writes it into a header (RFC 2047)."""
        if subject.isascii():
            return subject
        # A third in quoted-printable, as western clients do; the Japanese in their old charset, every other time.
        if any(char in "üöäÜéàñ" for char in subject):
            inner = quopri.encodestring(subject.encode(), header=True).decode().replace("=\n", "").replace("?", "=3F")
            return f"=?utf-8?Q?{inner}?="
        charset = "iso-2022-jp" if any("ぁ" <= c <= "ヿ" for c in subject) and self._random.random() < 0.5 else "utf-8"
        return f"=?{charset}?B?{b64encode(subject.encode(charset)).decode()}?="

    def _trace(self, date: str, recipient: str) -> list[str]:
        hosts = [self._random.choice(self._words) for _ in range(self._random.randint(1, 4))]
        return [
            f"Received: from {host}.relay.test ({host}.relay.test [192.0.2.{self._random.randint(1, 254)}])\r\n"
            f"\tby mx{hop}.bench.test with ESMTPS id {self._random.getrandbits(60):x}\r\n\tfor <{recipient}>; {date}"
            for hop, host in enumerate(hosts)
        ]

    def _signature(self, sender: str) -> list[str]:
        digest, proof = b64encode(self._random.randbytes(32)).decode(), b64encode(self._random.randbytes(256)).decode()
        folded = "\r\n\t ".join(proof[start : start + 72] for start in range(0, len(proof), 72))
        return [
            f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={sender.partition('@')[2]};\r\n"
            f"\ts=s2024; h=from:to:subject:date:message-id:mime-version;\r\n\tbh={digest};\r\n\tb={folded}"
        ]

    def _copies(self) -> list[str]:
        others = self._random.sample(self._people, self._random.choice((0, 0, 0, 1, 2, 6)))
        return ["Cc: " + ",\r\n ".join(f"{name} <{address}>" for name, address in others)] if others else []

    def _body(self, number: int) -> bytes:
        text = self._text(number)
        match number % 3:
            case 0:
                return self._part(text)
            case 1:
                return self._alternative(text)
            case _:
                return self._attached(text)

    def _text(self, number: int) -> str:
        """Paragraphs; some Chinese or Japanese, as some of their readers write."""
        pick = self._random
        paragraphs = []
        for _ in range(1 + int(pick.expovariate(0.3))):
            words = " ".join(pick.choices(self._sentences, k=pick.randint(2, 6))).split()
            paragraphs.append("\r\n".join(" ".join(words[at : at + 11]) for at in range(0, len(words), 11)))
        if number in self._rare:
            paragraphs.append(f"And there is {RARE} in it.")
        text = "\r\n\r\n".join(paragraphs) + "\r\n"
        dice = pick.random()
        if dice < 0.06:
            text += (_CHINESE_TEXT if dice < 0.03 else _JAPANESE_TEXT) * pick.randint(3, 12)
        return text

    def _part(self, text: str, kind: str = "plain") -> bytes:
        """A part of text with its own header fields, in the encoding it needs."""
        head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: "
        if not text.isascii():
            return f"{head}base64\r\n\r\n".encode() + _base64(text.encode())
        if kind == "html":
            quoted = quopri.encodestring(text.replace("\r\n", "\n").encode()).replace(b"\n", b"\r\n")
            return f"{head}quoted-printable\r\n\r\n".encode() + quoted
        return f"{head}7bit\r\n\r\n{text}".encode()

    def _alternative(self, text: str) -> bytes:
        paragraphs = "".join(
            f'<p style="margin: 0 0 1em; font-family: sans-serif"><span>{one}</span></p>\r\n'
            for one in text.split("\r\n\r\n")
        )
        links = "".join(
            f'<a href="https://example.test/{self._random.getrandbits(40):x}">More</a>\r\n' for _ in range(4)
        )
        html = f"<html><head><title>Mail</title></head><body>\r\n{paragraphs}{links}</body></html>\r\n"
        return self._multipart("alternative", self._part(text), self._part(html, "html"))

    def _attached(self, text: str) -> bytes:
        """A file as large as most are, and now and then one that is much larger."""
        size = min(int(self._random.lognormvariate(8.5, 1.0)), 400_000)
        kind, name = self._random.choice((("application/pdf", "Plan.pdf"), ("image/png", "photo.png")))
        file = (
            f'Content-Type: {kind}; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="{name}"; size={size}\r\n\r\n'
        ).encode() + _base64(self._random.randbytes(size))
        return self._multipart("mixed", self._part(text), file)

    def _multipart(self, kind: str, *parts: bytes) -> bytes:
        boundary = f"=_{self._random.getrandbits(64):016x}"
        head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
        return (
            head
            + b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
            + b"--%b--\r\n" % (boundary.encode())
        )


def _base64(octets: bytes) -> bytes:
    return encodebytes(octets).replace(b"\n", b"\r\n")
