"""Floor 11. The IMAP door."""
