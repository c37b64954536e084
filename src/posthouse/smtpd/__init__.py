"""Floor 11. The SMTP doors: reception from strangers (MX, LMTP) and submission (MSA)."""
