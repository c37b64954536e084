"""Mail that comes from elsewhere, and goes there: mbox, Maildir, a remote IMAP account."""
