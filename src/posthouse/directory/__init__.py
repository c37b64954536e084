"""Floor 6. Who is served here: domains, accounts, addresses, aliases, credentials."""
