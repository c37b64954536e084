"""IMAP, RFC 9051 and RFC 3501, without I/O."""
