"""Whoever serves MTA-STS policies, by the standard library (RFC 8461 §3.3)."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def policy_server(address: str, policies: Mapping[str, str], context: ssl.SSLContext) -> Iterator[int]:
    """Serve these, {"mta-sts.example.org": text}, over HTTPS; the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            policy = policies.get(self.headers["Host"])
            found = policy is not None and self.path == "/.well-known/mta-sts.txt"
            body = (policy or "").encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer((address, 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(60)
