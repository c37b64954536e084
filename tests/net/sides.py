"""Both sides of a TLS session, without a network."""

import ssl


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Server and client in memory, to the end of the handshake; `name`: of the host that the client asks for."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    left: list[ssl.SSLObject] = [theirs, ours]
    for _ in range(10):
        for side in list(left):
            try:
                side.do_handshake()
                left.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not left
    # The session ticket of TLS 1.3 comes with the first octets.
    ours.write(b"x")
    assert theirs.read(1) == b"x"
    return ours, theirs
