"""Floor 3. Messages as octets: header, MIME tree, text, composing, reports. RFC 5322, 2045-2049, 3464."""
