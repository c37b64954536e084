"""POP3 without I/O (RFC 1939): octets in, events out; answers in, octets out."""
