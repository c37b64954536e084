"""Keys that are made once for all tests."""

from functools import cache

from posthouse.trust.dkim import SigningKey
from posthouse.trust.keys import Algorithm, PrivateKey, record_name, record_text


@cache
def private(algorithm: Algorithm, number: int = 1) -> PrivateKey:
    """A key; another one for each number."""
    return PrivateKey.generate(algorithm)


RSA = SigningKey("rsa", private(Algorithm.RSA))
ED25519 = SigningKey("ed", private(Algorithm.ED25519))
BOTH = (RSA, ED25519)


def records(domain: str, *keys: SigningKey) -> dict[str, str]:
    """What is published of these keys."""
    return {record_name(one.selector, domain): record_text(one.key.algorithm, one.key.public) for one in keys}
