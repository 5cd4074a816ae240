"""Faults by a seeded schedule, on the real parts: `python -m tests.chaos --help`."""
