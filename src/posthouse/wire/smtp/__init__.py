"""SMTP, both halves: RFC 5321 and its extensions, without I/O."""
