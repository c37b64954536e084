"""Servers that others wrote, each in a private root, for benchmarks and interoperability tests."""
