"""A DKIM verifier that is simple and slow: it reads RFC 6376 line by line, and shares nothing with what it judges but
the library that multiplies numbers.
"""

import base64
import hashlib
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


def body(octets: bytes, *, relaxed: bool) -> bytes:
    """A body in canonical form (§3.4.3, §3.4.4)."""
    lines = octets.split(b"\r\n")
    if relaxed:
        ended = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
        lines = ended
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"" if relaxed else b"\r\n"
    return b"".join(line + b"\r\n" for line in lines)


def field(octets: bytes, *, relaxed: bool) -> bytes:
    """A field in canonical form (§3.4.1, §3.4.2), with its CRLF."""
    if not relaxed:
        return octets
    name, value = octets.removesuffix(b"\r\n").split(b":", 1)
    value = re.sub(rb"[ \t]+", b" ", re.sub(rb"\r\n(?=[ \t])", b"", value))
    return name.strip(b" \t").lower() + b":" + value.strip(b" ") + b"\r\n"


def fields(message: bytes) -> tuple[list[bytes], bytes]:
    """The fields of a message, topmost first, and its body."""
    head, _, rest = message.partition(b"\r\n\r\n")
    return re.findall(rb"[^\r\n][^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", head + b"\r\n"), rest


def tags(octets: bytes) -> dict[str, str]:
    """A list of tags (§3.2)."""
    pairs = [one.split("=", 1) for one in octets.decode().split(";") if one.strip()]
    return {name.strip(): value.strip() for name, value in pairs}


def verify(message: bytes, records: Mapping[str, str]) -> list[str]:
    """What comes of each signature, from the top: "pass a=rsa-sha256 d=example.org", or why not. `records` by name."""
    head, rest = fields(message)
    signatures = [one for one in head if one.lower().startswith(b"dkim-signature")]
    return [_verify(one, head, rest, records) for one in signatures]


def _verify(signature: bytes, head: list[bytes], rest: bytes, records: Mapping[str, str]) -> str:
    said = tags(signature.split(b":", 1)[1])
    of_header, _, of_body = said.get("c", "simple/simple").partition("/")
    hashed = hashlib.sha256(body(rest, relaxed=of_body == "relaxed")).digest()
    if base64.b64decode("".join(said["bh"].split())) != hashed:
        return "the body was changed"
    below = [one for one in head if one != signature]
    data = b""
    for name in said["h"].split(":"):
        wanted = name.strip().lower().encode()
        for place in range(len(below) - 1, -1, -1):
            if below[place].split(b":", 1)[0].strip(b" \t").lower() == wanted:
                data += field(below.pop(place), relaxed=of_header == "relaxed")
                break
    emptied = re.sub(rb"(?s)([;:\s]b=)[^;]*", rb"\1", signature.removesuffix(b"\r\n"))
    data += field(emptied + b"\r\n", relaxed=of_header == "relaxed").removesuffix(b"\r\n")
    record = tags(records[f"{said['s']}._domainkey.{said['d']}"].encode())
    octets, key = base64.b64decode("".join(said["b"].split())), base64.b64decode(record["p"])
    try:
        if said["a"] == "ed25519-sha256":
            Ed25519PublicKey.from_public_bytes(key).verify(octets, hashlib.sha256(data).digest())
        else:
            rsa = serialization.load_der_public_key(key)
            assert isinstance(rsa, RSAPublicKey)
            rsa.verify(octets, data, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return "the header was changed"
    return f"pass a={said['a']} d={said['d']}"
