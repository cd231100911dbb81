"""A child's random streams, each from the child's one seed by its purpose. Standard library only."""

import hashlib

BITS = 56
"""A derived seed is below two to this power."""


def derive(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, so that no two streams of one child are alike."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[: BITS // 8])
