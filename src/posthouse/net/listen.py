"""Sockets to listen on, and what a process settles before it serves.

Promises: a socket that cannot be bound is one clear line; systemd's sockets are used where they are given.
Refuses: to accept anything; that is server.serve's.
"""

import ctypes
import errno
import grp
import ipaddress
import os
import resource
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from posthouse.written import Endpoint

# sd_listen_fds(3): the first descriptor that is handed over.
_FIRST_INHERITED: Final = 3
_DESCRIPTORS: Final = 65_536
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


class BindError(Exception):
    """An address cannot be listened on: one line for the person who started us."""


def bind(
    endpoint: Endpoint, inherited: Iterable[socket.socket] = (), *, group: str | None = None
) -> list[socket.socket]:
    """Sockets that listen at the endpoint: one, or for "*" one for IPv4 and one for IPv6.

    A Unix socket may be reached by our user and by members of the `group`, where one is named; one that a predecessor
    left behind is replaced.

    Who connects waits in the kernel until `server.serve` accepts; we may become somebody else in between. Those of
    `inherited` that are bound there already are taken. Port 0 lets the system choose. Raises BindError.
    """
    if given := [one for one in inherited if _is_bound_to(one, endpoint)]:
        return given
    if endpoint.is_path:
        return [_bind_path(endpoint, group)]
    if endpoint.host != "*":
        return [_bind(endpoint.host, endpoint.port)]
    sockets = [_bind("", endpoint.port)]
    if socket.has_ipv6:
        port = sockets[0].getsockname()[1]
        try:
            sockets.append(_bind("", port, socket.AF_INET6))
        except BindError as error:
            # A kernel without IPv6 has no "::"; a port in use there is an error like any other.
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno == errno.EADDRINUSE:
                sockets[0].close()
                raise
    return sockets


def _is_bound_to(bound: socket.socket, endpoint: Endpoint) -> bool:
    name = bound.getsockname()
    if endpoint.is_path:
        return bool(name == endpoint.host)
    if not isinstance(name, tuple) or name[1] != endpoint.port:
        return False
    return name[0] == endpoint.host or (endpoint.host == "*" and ipaddress.ip_address(name[0]).is_unspecified)


def _bind_path(endpoint: Endpoint, group: str | None) -> socket.socket:
    path = Path(endpoint.host)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect in between.
    before = os.umask(0o177)
    try:
        _remove_forsaken(path)
        bound.bind(endpoint.host)
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
        bound.setblocking(False)
        bound.listen(1024)
    except (OSError, KeyError) as error:
        bound.close()
        why = _strerror(error) if isinstance(error, OSError) else f"there is no group {group}"
        raise BindError(f"cannot listen on {endpoint}: {why}") from error
    finally:
        os.umask(before)
    return bound


def _remove_forsaken(path: Path) -> None:
    """A socket that nobody listens at goes; one of somebody's stays, and is in our way, as any other file is."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _bind(host: str, port: int, family: socket.AddressFamily | None = None) -> socket.socket:
    """`host` "" is every address of the family."""
    if family is None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shown = Endpoint(host or "*", port)
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BindError(f"cannot listen on {shown}: {_strerror(error)}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux hands both on to what is accepted. A client that vanished is found after two hours; RFC 1122 §4.2.3.6.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.setblocking(False)
        # Without this a port in use by a listener that shares it would only be noticed when we listen.
        bound.listen(1024)
    except OSError as error:
        bound.close()
        raise BindError(f"cannot listen on {shown}: {_reason(error, port)}") from error
    return bound


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} needs root, or the capability CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return _strerror(error)


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def inherited(environment: MutableMapping[str, str] | None = None) -> list[socket.socket]:
    """The sockets that systemd opened for us (sd_listen_fds(3)); our children are not told of them."""
    environment = os.environ if environment is None else environment
    count = _inherited_count(environment)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    sockets = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + count):
        os.set_inheritable(descriptor, False)
        one = socket.socket(fileno=descriptor)
        one.setblocking(False)
        sockets.append(one)
    return sockets


def _inherited_count(environment: Mapping[str, str]) -> int:
    """How many descriptors are meant for this very process."""
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if not (pid.isdecimal() and count.isdecimal()) or int(pid) != os.getpid():
        return 0
    return int(count)


def raise_descriptor_limit() -> int:
    """Let this process have as many descriptors as it may, within reason; how many that are.

    Systems begin with 1024 and allow many times that: a thousand connections would leave none for the files of mail.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def tune_allocator() -> bool:
    """Let glibc keep what it freed, except the buffers that uvloop has for each TLS connection (256 KB, of which an
    idle one touches a few): those stay apart, or 28 KB a connection become 50. Call once, at start.

    False where the C library knows no such thing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 240 << 10)) and bool(mallopt(_M_TRIM_THRESHOLD, 8 << 20))
