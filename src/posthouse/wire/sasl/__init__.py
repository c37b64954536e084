"""SASL (RFC 4422), both halves, without I/O: `mechanisms.py` begins an exchange, `exchange.py` says how it goes on."""
