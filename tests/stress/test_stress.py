"""The stress, for seconds in place of minutes."""

import asyncio

import pytest

from tests.stress.__main__ import stress


@pytest.mark.timeout(600)
def test_clients_at_one_mailbox_hear_nothing_that_the_protocol_forbids() -> None:
    told = asyncio.run(stress(clients=8, seconds=4, seed=7))
    assert "8 clients" in told
