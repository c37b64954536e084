import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from posthouse.cli.mime import describe, mime
from tests.message.corpus import DIRECTORY, NAMES, load


def run(*arguments: str, stdin: bytes = b"") -> str:
    result = CliRunner().invoke(mime, list(arguments), input=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_message_of_the_corpus_is_shown(name: str) -> None:
    file = str(DIRECTORY / f"{name}.eml")
    assert json.loads(run(file, "--json"))["size"] == len(load(name))
    assert "body" in run(file)


def test_what_json_holds() -> None:
    described = describe(load("forwarded_message_with_attachment"))
    assert described["envelope"].startswith('("Fri, 21 Nov 2025 10:55:04 +0100" "Fwd: report"')
    assert described["bodystructure"].startswith('(("text" "plain"')
    assert described["date"] == "Fri, 21 Nov 2025 09:55:04 +0000"
    assert described["message_id"] == "13@example.org"
    text, message = described["structure"]["children"]
    assert (text["path"], text["type"], text["body_start"], text["end"]) == ("1", "text/plain", 233, 243)
    assert (message["path"], message["message"]["path"]) == ("2", "2")
    pdf = message["message"]["children"][1]
    assert (pdf["path"], pdf["filename"], pdf["decoded_size"]) == ("2.2", "report.pdf", 9)
    assert described["structure"]["fields"][2] == {"name": "Subject", "start": 67, "end": 89, "value": "Fwd: report"}


def test_paths_of_messages_without_multipart() -> None:
    structure = describe(load("forwarded_plain_message"))["structure"]
    assert (structure["path"], structure["message"]["path"]) == ("1", "1.1")


def test_standard_input() -> None:
    assert "hello" in run("-", stdin=b"Subject: hello\r\n\r\n")


def test_control_characters_do_not_reach_the_terminal() -> None:
    shown = run("-", stdin=b"Subject: a\x1b[2Jb\r\nContent-Type: application/x; name=\x1b[31m\r\n\r\n")
    assert "\x1b" not in shown


@given(st.binary())
def test_anything_becomes_json(octets: bytes) -> None:
    json.dumps(describe(octets)).encode()
