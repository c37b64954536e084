"""The table of replies, the source and the tests tell the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.smtpd.replies import REASONS, Reason
from posthouse.wire.smtp.extensions import EXTENSIONS
from posthouse.wire.smtp.table import Kind
from tests.harness import house
from tests.smtpd.manual import PAGE, render
from tests.support import run
from tests.transcript import TRANSCRIPTS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "posthouse"
# Whatever may answer a client.
SPEAKERS = [
    *(SOURCE / "wire" / "smtp" / f"{name}.py" for name in ("command", "parameters", "server")),
    *(path for room in ("smtpd", "reception", "policy") for path in (SOURCE / room).glob("*.py")),
    SOURCE / "submission.py",
]
# Where one half of the pair is worked out: the code, and who says it.
WORKED_OUT = {
    (501, "5.1.7"): "command.py", (553, "5.1.3"): "command.py", (553, "5.1.7"): "command.py",
    (550, "5.2.4"): "recipient.py", (550, "5.4.6"): "recipient.py",
    (554, "5.6.2"): "binary.py", (554, "5.6.3"): "binary.py",
}  # fmt: skip
ASKED_FOR = {
    *(211, 214, 220, 221, 235, 250, 251, 252, 334, 354, 421, 450, 451, 452, 454, 455),
    *(500, 501, 502, 503, 504, 521, 523, 530, 534, 535, 538, 550, 551, 552, 553, 554, 555, 556),
}


def said(path: Path) -> Iterator[tuple[int, str | None]]:
    """The pairs that a file says."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        pair = node.args[name in ("refuse", "defer") :][:2]
        match pair if name in ("Reply", "Refusal", "refuse", "defer") else []:
            case [ast.Constant(int(code)), ast.Constant(enhanced)]:
                assert enhanced is None or isinstance(enhanced, str)
                yield code, enhanced


def test_what_is_said_has_a_reason_and_every_reason_is_said() -> None:
    pairs = {pair: path.name for path in SPEAKERS if path.name != "replies.py" for pair in said(path)}
    reasons = [(reason.code, reason.enhanced) for reason in REASONS]
    assert {pair: name for pair, name in pairs.items() if pair not in reasons} == {}
    assert [pair for pair in reasons if pair not in pairs and pair not in WORKED_OUT] == []
    assert reasons == sorted(reasons, key=lambda pair: (pair[0], pair[1] or ""))
    assert len(set(reasons)) == len(reasons)
    by_name = {path.name: path.read_text() for path in SPEAKERS}
    assert all(f'"{enhanced}"' in by_name[name] for (_, enhanced), name in WORKED_OUT.items())


def test_every_code_of_the_standards_is_used() -> None:
    assert ASKED_FOR.issubset({reason.code for reason in REASONS})


def heard() -> str:
    """Everything in which a reply may have been heard."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    files += [*TRANSCRIPTS.glob("smtpd/*.txt"), *TRANSCRIPTS.glob("smtp/*.txt")]
    return "\n".join(path.read_text() for path in files)


HEARD = heard()


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: f"{reason.code}-{reason.enhanced}")
def test_every_reply_is_heard_in_a_test(reason: Reason) -> None:
    enhanced = re.escape(reason.enhanced or "")
    assert re.search(rf'\b{reason.code}(?:[- ]|, "){enhanced}', HEARD), f"no test hears {reason.code} {enhanced}"


def test_the_manual_is_made_of_the_tables() -> None:
    assert PAGE.read_text() == render(), "make it anew: python -m tests.smtpd.manual"


CONFIGURED = 'relay_domains = ["backup.example"]\nlimits.hold = "36500d"'


@pytest.mark.parametrize(
    ("protocol", "kind", "more"),
    [("smtp", "mx", 'xclient_from = "127.0.0.0/8"'), ("lmtp", "lmtp", ""), ("submission", "msa", "")],
)
def test_a_door_announces_what_the_table_says(tmp_path: Path, protocol: str, kind: Kind, more: str) -> None:
    async def main() -> dict[bool, list[str]]:
        heard = {}
        listeners = {protocol: "starttls"}
        async with house(tmp_path, listeners=listeners, settings=CONFIGURED, each_listener=more) as home:
            client = await home.connect(protocol)
            for secured in (False, True):
                if secured:
                    await client.start_tls()
                _, *lines = (await client.say("LHLO x" if kind == "lmtp" else "EHLO x")).splitlines()
                heard[secured] = [line[4:].split()[0] for line in lines]
                # RFC 4865 §4: nine digits, however long the operator lets mail wait.
                assert kind != "msa" or f"250-FUTURERELEASE {10**9 - 1} 20" in "\n".join(lines)
        return heard

    heard = run(main())
    told = {one.keyword: one.doors[kind] for one in EXTENSIONS if kind in one.doors}
    in_clear = {one for one, when in told.items() if when != "in TLS"} | ({"AUTH"} & told.keys())
    assert set(heard[False]) == in_clear
    assert set(heard[True]) == told.keys() - {"STARTTLS"}
    order = [one.keyword for one in EXTENSIONS if one.keyword != "XCLIENT"]
    assert [one for one in heard[False] if one != "XCLIENT"] == [one for one in order if one in heard[False]]


def test_the_client_speaks_what_the_table_says() -> None:
    client = (SOURCE / "wire" / "smtp" / "client.py").read_text()
    for extension in EXTENSIONS:
        assert (f'"{extension.keyword}"' in client) == (extension.client not in ("", "read")), extension.keyword
