"""Floor 8. Carrying a message into local mailboxes."""
