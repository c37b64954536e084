"""Floor 5. What a message, its sender and the way it travels may be believed: signatures, and security in transport."""
