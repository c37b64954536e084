"""swaks hands in mail by each mechanism that it knows and we offer, and is told so of the others."""

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import require, run
from tests.interop.reading import wait_for_message

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ALICE, BOB = "alice@example.test", "bob@example.test"
HOST = "mail.example.test"
# What it ends with where it cannot log in.
NO_LOGIN = 28


def swaks(server: PosthouseServer, protocol: str, *options: str, password: str = PASSWORD, status: int = 0) -> str:
    """Send by swaks, which verifies the server's certificate; what it shows of the conversation."""
    tls = "--tls" if protocol == "submission" else "--tls-on-connect"
    argv = [
        *(require("swaks"), "--server", server.address, "--port", str(server.ports[protocol]), tls),
        *("--tls-verify", "--tls-ca-path", str(server.certificates), "--tls-sni", HOST),
        *("--auth-user", ALICE, "--auth-password", password, "--from", ALICE, "--to", BOB, *options),
    ]
    return run(argv, status=status).decode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("protocol", ["submission", "submissions"])
def test_swaks_submits(server: PosthouseServer, protocol: str, mechanism: str) -> None:
    subject = f"swaks {protocol} {mechanism}"
    swaks(server, protocol, "--auth", mechanism, "--header", f"Subject: {subject}", "--body", "Grüße")
    assert "Grüße".encode() in wait_for_message(server, BOB, subject)


def test_swaks_chooses_a_mechanism_itself(server: PosthouseServer) -> None:
    shown = swaks(server, "submissions", "--auth", "--header", "Subject: swaks chooses")
    assert "235 2.7.0" in shown
    wait_for_message(server, BOB, "swaks chooses")


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "CRAM-SHA1", "DIGEST-MD5", "NTLM"])
def test_swaks_finds_none_that_needs_the_password_itself(server: PosthouseServer, mechanism: str) -> None:
    """They would have us keep passwords, or what is as good as one."""
    shown = swaks(server, "submissions", "--auth", mechanism, status=NO_LOGIN)
    (offered,) = [line for line in shown.splitlines() if "250-AUTH " in line or "250 AUTH " in line]
    assert mechanism not in offered.split()
    assert "MAIL FROM" not in shown


def test_swaks_with_a_wrong_password_is_refused(server: PosthouseServer) -> None:
    shown = swaks(server, "submission", "--auth", "PLAIN", password="wrong", status=NO_LOGIN)
    assert "535 5.7.8" in shown


def test_swaks_pipelines(server: PosthouseServer) -> None:
    swaks(server, "submissions", "--auth", "PLAIN", "--pipeline", "--header", "Subject: pipelined")
    wait_for_message(server, BOB, "pipelined")
