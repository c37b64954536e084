"""Many clients on one mailbox for minutes, each checking every word it hears: `python -m tests.stress`."""
