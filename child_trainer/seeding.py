"""Derives the seeds of a child's random streams from the child's seed. Standard library only."""

import hashlib

BITS = 56
"""Bits of a derived seed."""


def derive(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, so that a child's streams are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[: BITS // 8])
