"""The mail that benchmarks are made with is like what lies in people's mailboxes, by what it promises itself."""

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from functools import cache

from bench import corpus
from posthouse.mailbox.summary import render

COUNT = 3000


@cache
def messages() -> list[bytes]:
    return [one.octets for one in corpus.make(COUNT)]


def share(pattern: bytes) -> float:
    """The part of the messages in whose header that stands."""
    return sum(re.search(pattern, octets.partition(b"\r\n\r\n")[0]) is not None for octets in messages()) / COUNT


def test_the_same_seed_gives_the_same_octets() -> None:
    assert corpus.make(50) == corpus.make(50)
    assert corpus.make(50) != corpus.make(50, seed=6)


def test_sizes_and_forms() -> None:
    assert 7300 < sum(map(len, messages())) / COUNT < 8300
    assert share(rb"\nContent-Type: text/plain") == share(rb"\nContent-Type: multipart/alternative") == 1 / 3
    assert share(rb"\nContent-Type: multipart/mixed") == 1 / 3


def test_every_line_ends_as_it_must() -> None:
    assert not any(re.search(rb"(?<!\r)\n|\r(?!\n)", octets) for octets in messages())


def test_traces_and_signatures() -> None:
    assert {octets.count(b"Received: from ") for octets in messages()} == {1, 2, 3, 4}
    assert share(rb"\nDKIM-Signature: ") == 1


def test_subjects() -> None:
    assert 0.12 < share(rb"\nSubject: (Re: )?=\?") < 0.18
    subjects = [str(make_header(decode_header(message_from_bytes(octets)["Subject"]))) for octets in messages()]
    assert any("会议" in subject for subject in subjects)
    assert any("ご注文" in subject for subject in subjects)


def test_half_stand_in_threads() -> None:
    known, linked = {}, set()
    for number, octets in enumerate(messages()):
        rendered = render(octets)
        known[rendered.message_id] = number
        if rendered.references:
            linked |= {number, *[known[one] for one in rendered.references]}
    assert 0.42 < len(linked) / COUNT < 0.58


def test_rare_words_are_rare_and_common_ones_are_not() -> None:
    heads_and_bodies = [(rendered.head, rendered.body) for rendered in map(render, messages())]
    assert sum(corpus.RARE_SUBJECT in head for head, _ in heads_and_bodies) == corpus.RARE_MESSAGES
    assert 0.05 < sum(corpus.COMMON in head for head, _ in heads_and_bodies) / COUNT < 0.2
    texts = [octets + body.encode() for octets, (_, body) in zip(messages(), heads_and_bodies, strict=True)]
    assert sum(corpus.RARE.encode() in text for text in texts) == corpus.RARE_MESSAGES
    assert 0.1 < sum(corpus.COMMON.encode() in text for text in texts) / COUNT < 0.5
