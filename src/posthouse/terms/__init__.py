"""Floor 1. The words of the field as values: address, envelope, reply, keyword. Imports nothing of ours and does no
I/O.
"""
