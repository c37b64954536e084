"""Floor 5. The mailbox model: accounts' emails, placements, mailboxes, threads and their changes."""
