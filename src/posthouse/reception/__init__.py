"""Floor 9. Reception: from the first octet of a message to the answer behind its final dot."""
