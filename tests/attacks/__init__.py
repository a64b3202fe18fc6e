"""Hostile inputs, and a fuzzer for each reader: `python -m tests.attacks.fuzz --seconds 3600`."""
