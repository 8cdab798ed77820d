"""Broken videos by the thousand, each by its number, through the decode pool: `python -m tests.fuzz`."""
