"""Quotas that several accounts share."""

from pathlib import Path

from posthouse.directory import accounts, quotas
from tests.doors.house import BOB, MESSAGE, House, in_house


def test_a_domains_quota_is_another_root(tmp_path: Path) -> None:
    """RFC 9208 §3: a mailbox may have several quota roots; what others of the domain hold counts in theirs."""

    async def test(house: House) -> None:
        await house.store.write(quotas.set_quota, "example.org", 10 * 1024)
        await house.store.write(accounts.set_quota, house.alice.id, 5 * 1024, None)
        await house.file(bytes(1500))
        await house.file(MESSAGE, account=house.bob)
        alice, bob = await house.imap(), await house.imap(BOB)
        assert await alice.ok("GETQUOTAROOT INBOX") == [
            b'* QUOTAROOT "INBOX" account "domain example.org"',
            b"* QUOTA account (STORAGE 2 5)",
            b'* QUOTA "domain example.org" (STORAGE 2 10)',
        ]
        assert await bob.ok("GETQUOTAROOT INBOX") == [
            b'* QUOTAROOT "INBOX" "domain example.org"',
            b'* QUOTA "domain example.org" (STORAGE 2 10)',
        ]
        assert await bob.ok('GETQUOTA "domain example.org"') == [b'* QUOTA "domain example.org" (STORAGE 2 10)']
        assert (await bob.tagged("GETQUOTA account")).startswith(b"NO [NONEXISTENT]")

    in_house(tmp_path, test)


def test_full_is_told_as_full(tmp_path: Path) -> None:
    """What is begun counts on both sides: an account that can take no octet more is told as full."""

    async def test(house: House) -> None:
        await house.file(bytes(1500))
        for limit, told in ((1500, b"2 2"), (2048, b"2 2"), (2049, b"2 3")):
            await house.store.write(accounts.set_quota, house.alice.id, limit, None)
            assert await (await house.imap()).ok("GETQUOTA account") == [b"* QUOTA account (STORAGE %b)" % told]

    in_house(tmp_path, test)
