"""Channel bindings of a TLS session (RFC 5056): what only its two ends know, for SCRAM-SHA-256-PLUS.

Promises: only bindings that this process can truly compute are given. tls-server-end-point (RFC 5929 §4) is the hash of
the certificate that was shown. tls-exporter (RFC 9266) is asked of the very OpenSSL that the ssl module uses, for that
module has no function for it; where the inside of its objects is not what we know, there is no such binding.
Refuses: tls-unique, which TLS 1.3 does not have (RFC 8446 appendix C.5), and tls-exporter before TLS 1.3, where it is
safe only with an extension that the ssl module does not tell of (RFC 9266 §4.2).
"""

import ctypes
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from posthouse.net.tls import end_point

_LABEL: Final = b"EXPORTER-Channel-Binding"
_OCTETS: Final = 32
_WORD: Final = ctypes.sizeof(ctypes.c_void_p)
_Export = Callable[..., int]


def bindings(ssl_object: ssl.SSLObject) -> tuple[tuple[str, bytes], ...]:
    """The types that there are on our side, a server's, and their octets; the best first."""
    found: list[tuple[str, bytes]] = []
    if (exported := _exported(ssl_object)) is not None:
        found.append(("tls-exporter", exported))
    if (shown := end_point(ssl_object)) is not None:
        found.append(("tls-server-end-point", shown))
    return tuple(found)


@cache
def _export() -> _Export | None:
    """OpenSSL's SSL_export_keying_material, of the library that the ssl module is linked to."""
    try:
        import _ssl

        function = ctypes.CDLL(_ssl.__file__).SSL_export_keying_material
    except (ImportError, AttributeError, OSError):
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = [pointer, pointer, size, ctypes.c_char_p, size, pointer, size, ctypes.c_int]
    function.restype = ctypes.c_int
    return function


def _exported(ssl_object: ssl.SSLObject) -> bytes | None:
    export, session = _export(), _session(ssl_object)
    if export is None or session is None or ssl_object.version() != "TLSv1.3":
        return None
    octets = ctypes.create_string_buffer(_OCTETS)
    # RFC 9266 §2: with an empty context, which in TLS 1.3 is the same as none.
    if export(session, octets, _OCTETS, _LABEL, len(_LABEL), None, 0, 0) != 1:
        return None
    return octets.raw


def _session(ssl_object: ssl.SSLObject) -> int | None:
    """The address of OpenSSL's own object: in CPython's it stands in front of the context.

    Nothing is followed before that context is found to be the one that we know.
    """
    connection: Any = ssl_object
    inner: Any = getattr(connection, "_sslobj", None)
    if inner is None or type(inner).__basicsize__ < 5 * _WORD:
        return None
    words = (ctypes.c_void_p * 5).from_address(id(inner))
    return words[3] if words[4] == id(inner.context) else None
