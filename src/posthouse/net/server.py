"""Servers: connections accepted, asked about, introduced, and handed to a handler, each as a Stream.

Promises: each connection is counted in once, before anything of it is read and before any handshake, and counted out
once, however it ends. Behind a balancer the one whom the PROXY header names is counted, and no one else may connect.
`stop` lets the sessions say goodbye.
Refuses: to know any mail protocol, and to decide who may connect; a Gate is asked.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from posthouse import observe
from posthouse.net import proxy
from posthouse.net.stream import HANDSHAKE_SECONDS, Stopping, Stream, StreamTimeout, endpoint_of, plain
from posthouse.net.tls import TlsFailed, reason
from posthouse.terms.reply import Reply
from posthouse.written import Endpoint

Handler = Callable[[Stream], Awaitable[None]]

# A balancer sends its header at once (PROXY protocol §2: "immediately").
PROXY_SECONDS: Final = 5.0
# What may come between two turns of the loop; the kernel caps it at net.core.somaxconn.
_BACKLOG: Final = 1024
_ACCEPTS_A_TURN: Final = 64


class Gate(Protocol):
    """Who may come in. Asked once a connection, with the peer's IP address, before anything of it is read."""

    def arrive(self, peer: str) -> Reply | None:
        """Count somebody in. None: welcome; else why not, which a door tells in its own words (`Stream.unwelcome`).

        Where TLS comes first nobody is told. `depart` follows in each case.
        """
        ...

    def depart(self, peer: str) -> None:
        """Count somebody out."""
        ...


class Server:
    """What listens for one handler: its sockets, and the connections there are.

    `proxies` are networks: where there are any, connections are taken from them alone, and each must begin with a PROXY
    header, which says who the peer is.
    """

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext | None = None,
        gate: Gate | None = None,
        proxies: Iterable[str] = (),
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._gate = gate
        self._proxies = [ipaddress.ip_network(network) for network in proxies]
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.AbstractServer] = []
        self._accepting: list[socket.socket] = []
        self._sessions: dict[asyncio.Task[None], Stream | None] = {}
        self._counted: dict[asyncio.Task[None], str] = {}
        self.endpoints: tuple[Endpoint, ...] = ()

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Listen on these."""
        for bound in sockets:
            self.endpoints += (endpoint_of(bound.getsockname()),)
            if self._tls is not None or self._proxies:
                # uvloop reads before we could begin a handshake or look for a PROXY header: so we accept ourselves,
                # which also lets the gate be asked before a stranger has cost us a handshake.
                bound.listen(_BACKLOG)
                self._accepting.append(bound)
                self._loop.add_reader(bound, self._accept, bound)
            else:
                self._servers.append(await self._listen(bound))

    async def _listen(self, bound: socket.socket) -> asyncio.AbstractServer:
        if bound.family == socket.AF_UNIX:
            return await self._loop.create_unix_server(self._stream, sock=bound, backlog=_BACKLOG)
        return await self._loop.create_server(self._stream, sock=bound, backlog=_BACKLOG)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def _stream(self) -> Stream:
        return Stream(self._loop, self._connected)

    def _connected(self, stream: Stream) -> None:
        task = self._begin(self._converse(stream), stream)
        stream.unwelcome = self._count(task, stream.peer.host)

    def _begin(self, session: Coroutine[Any, Any, None], stream: Stream | None = None) -> asyncio.Task[None]:
        task = self._loop.create_task(session)
        self._sessions[task] = stream
        task.add_done_callback(self._forget)
        return task

    def _count(self, task: asyncio.Task[None], peer: str) -> Reply | None:
        """Ask the gate; however the task ends, the peer is counted out then."""
        if self._gate is None:
            return None
        self._counted[task] = peer
        return self._gate.arrive(peer)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._sessions.pop(task, None)
        peer = self._counted.pop(task, None)
        if peer is not None and self._gate is not None:
            self._gate.depart(peer)

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                accepted, name = bound.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors or memory: those who wait in the backlog are better served in a while.
                observe.tell("accept.failed", level=observe.ERROR, error=plain(error))
                self._loop.remove_reader(bound)
                self._loop.call_later(1, self._accept_again, bound)
                return
            accepted.setblocking(False)
            self._take_in(accepted, endpoint_of(name))

    def _accept_again(self, bound: socket.socket) -> None:
        if bound in self._accepting:
            self._loop.add_reader(bound, self._accept, bound)

    def _take_in(self, accepted: socket.socket, peer: Endpoint) -> None:
        if self._proxies:
            if self._is_proxy(peer.host):
                self._begin(self._introduce(accepted, peer))
            else:
                accepted.close()
                observe.tell("proxy.refused", peer=str(peer), error="this address is no configured proxy")
        elif self._gate is not None and self._gate.arrive(peer.host) is not None:
            self._gate.depart(peer.host)
            accepted.close()
        else:
            task = self._begin(self._shake_hands(accepted, Stream(self._loop), peer))
            if self._gate is not None:
                self._counted[task] = peer.host

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False  # a socket that is a file
        return any(address in network for network in self._proxies)

    async def _introduce(self, accepted: socket.socket, proxied: Endpoint) -> None:
        """Who is there, says a balancer; the gate is asked about him."""
        try:
            async with asyncio.timeout(PROXY_SECONDS):
                header = await proxy.receive(accepted)
        except (proxy.BadHeader, OSError) as error:
            # TimeoutError is an OSError, too.
            accepted.close()
            why = str(error) or f"no PROXY header within {PROXY_SECONDS:g} s"
            observe.tell("proxy.refused", level=observe.WARNING, peer=str(proxied), error=why)
            return
        except BaseException:
            accepted.close()
            raise
        peer, task = header.source or proxied, asyncio.current_task()
        assert task is not None
        stream = Stream(self._loop)
        stream.unwelcome = self._count(task, peer.host)
        if stream.unwelcome is not None and self._tls is not None:
            accepted.close()
            return
        await self._shake_hands(accepted, stream, peer, header.destination)

    async def _shake_hands(
        self, accepted: socket.socket, stream: Stream, peer: Endpoint, local: Endpoint | None = None
    ) -> None:
        """Give the connection its stream, in TLS where that comes first, and serve it."""
        seconds = None if self._tls is None else HANDSHAKE_SECONDS
        try:
            await self._loop.connect_accepted_socket(
                lambda: stream, accepted, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except (OSError, ssl.SSLError) as error:
            accepted.close()
            observe.tell("tls.failed", level=observe.DEBUG, peer=str(peer), error=reason(error))
            return
        stream.peer, stream.local = peer, local or stream.local
        task = asyncio.current_task()
        assert task is not None
        self._sessions[task] = stream
        await self._converse(stream)

    async def _converse(self, stream: Stream) -> None:
        try:
            await self._handler(stream)
            await stream.close()
        except (ConnectionError, StreamTimeout, Stopping, TlsFailed) as error:
            name = type(error).__name__
            observe.tell("connection.ended", level=observe.DEBUG, peer=str(stream.peer), error=f"{name}: {error}")
        except Exception as error:
            observe.fault("session.failed", error, peer=str(stream.peer))
        finally:
            stream.abort()

    async def stop(self, seconds: float) -> None:
        """Listen no more, tell the sessions, and wait for them; after `seconds` end those that are left."""
        for server in self._servers:
            server.close()
        for bound in self._accepting:
            self._loop.remove_reader(bound)
            bound.close()
        self._servers.clear()
        self._accepting.clear()
        for task, stream in list(self._sessions.items()):
            if stream is None:
                task.cancel()
            else:
                stream.stop()
        if not self._sessions:
            return
        _, late = await asyncio.wait(set(self._sessions), timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=5)
        # Who ended in the very turn in which the time was over is counted out behind it.
        await asyncio.sleep(0)


async def serve(
    handler: Handler,
    sockets: Iterable[socket.socket],
    tls: ssl.SSLContext | None = None,
    *,
    gate: Gate | None = None,
    proxies: Iterable[str] = (),
) -> Server:
    """Run `handler` for each connection to these sockets; with `tls`, in TLS from the first octet.

    The gate is asked before anything is read, and before any handshake; `proxies` as with Server. A handler that
    returns has its connection closed; an error it lets out ends it too, and is logged.
    """
    server = Server(handler, tls, gate, proxies)
    await server.start(sockets)
    return server
