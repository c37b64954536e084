"""What each failure dooms."""

import pytest

from posthouse.queue.outcome import Dooms, Fate, Stage, Trouble, after_all_hosts, classify
from posthouse.terms.reply import Reply

FAILED, DEFERRED = Fate.FAILED, Fate.DEFERRED


def said(code: int, enhanced: str | None = None) -> Reply:
    return Reply(code, enhanced, "as the peer put it")


@pytest.mark.parametrize(
    ("stage", "reply", "fate", "dooms"),
    [
        (Stage.ROUTE, said(451, "4.4.3"), DEFERRED, Dooms.DESTINATION),
        (Stage.ROUTE, said(556, "5.1.10"), FAILED, Dooms.DESTINATION),
        (Stage.GREETING, said(450), DEFERRED, Dooms.HOST),
        (Stage.GREETING, said(554), FAILED, Dooms.HOST),
        (Stage.GREETING, said(421), DEFERRED, Dooms.HOST),
        (Stage.HELLO, said(550), FAILED, Dooms.HOST),
        (Stage.AUTH, said(535), DEFERRED, Dooms.HOST),
        (Stage.MAIL, said(451), DEFERRED, Dooms.MESSAGE),
        (Stage.MAIL, said(550), FAILED, Dooms.MESSAGE),
        (Stage.MAIL, said(421), DEFERRED, Dooms.HOST),
        (Stage.RCPT, said(450), DEFERRED, Dooms.RECIPIENT),
        (Stage.RCPT, said(550, "5.1.1"), FAILED, Dooms.RECIPIENT),
        (Stage.RCPT, said(421), DEFERRED, Dooms.HOST),
        (Stage.DATA, said(554), FAILED, Dooms.MESSAGE),
        (Stage.DATA, said(451), DEFERRED, Dooms.MESSAGE),
        (Stage.DOT, said(554, "5.7.1"), FAILED, Dooms.MESSAGE),
        (Stage.DOT, said(452), DEFERRED, Dooms.MESSAGE),
        (Stage.DOT, said(421), DEFERRED, Dooms.HOST),
    ],
)
def test_what_the_peer_said(stage: Stage, reply: Reply, fate: Fate, dooms: Dooms) -> None:
    assert classify(stage, reply) == Trouble(fate, dooms)


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.TLS, Stage.MAIL, Stage.RCPT])
def test_a_connection_that_breaks_dooms_the_host(stage: Stage) -> None:
    assert classify(stage, said(421, "4.4.2"), said=False) == Trouble(DEFERRED, Dooms.HOST)


def test_a_demand_on_tls_that_is_not_met_dooms_the_host_as_our_own_words_say() -> None:
    """RFC 8689 §4.2.1: what requires TLS comes back, once no host is left; what only wants it waits."""
    assert classify(Stage.TLS, said(550, "5.7.10"), said=False) == Trouble(FAILED, Dooms.HOST)
    assert classify(Stage.TLS, said(451, "4.7.5"), said=False) == Trouble(DEFERRED, Dooms.HOST)


def test_a_connection_that_breaks_after_the_dot_is_not_tried_elsewhere_at_once() -> None:
    assert classify(Stage.DOT, said(421, "4.4.2"), said=False) == Trouble(DEFERRED, Dooms.MESSAGE)


@pytest.mark.parametrize("reply", [said(452), said(552), said(452, "4.5.3"), said(550, "5.5.3"), said(452, "4.3.1")])
def test_too_many_recipients_are_offered_again_in_the_next_transaction(reply: Reply) -> None:
    assert classify(Stage.RCPT, reply, accepted=3) == Trouble(DEFERRED, Dooms.TRANSACTION)


def test_a_full_mailbox_is_not_too_many_recipients() -> None:
    assert classify(Stage.RCPT, said(452, "4.2.2"), accepted=3) == Trouble(DEFERRED, Dooms.RECIPIENT)
    assert classify(Stage.RCPT, said(552, "5.2.2"), accepted=3) == Trouble(FAILED, Dooms.RECIPIENT)


def test_too_many_with_none_accepted_waits_and_never_fails() -> None:
    assert classify(Stage.RCPT, said(452)) == Trouble(DEFERRED, Dooms.RECIPIENT)
    assert classify(Stage.RCPT, said(552, "5.5.3")) == Trouble(DEFERRED, Dooms.RECIPIENT)


def test_a_destination_fails_for_good_only_where_each_of_its_hosts_refused_for_good() -> None:
    refused = (Trouble(FAILED, Dooms.HOST), said(554))
    away = (Trouble(DEFERRED, Dooms.HOST), said(421, "4.4.1"))
    assert after_all_hosts([refused, refused]) == (Trouble(FAILED, Dooms.DESTINATION), refused[1])
    assert after_all_hosts([refused, away]) == (Trouble(DEFERRED, Dooms.DESTINATION), away[1])
