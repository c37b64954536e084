"""Floor 3. Protocol engines without I/O: octets in, events out; answers in, octets out."""
