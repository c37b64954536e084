"""Floor 3. Sockets, TLS and DNS: the transport under every engine."""
