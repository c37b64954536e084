"""Floor 5. Who vouches for a message: SPF, DKIM, DMARC, and the policies of transport."""
