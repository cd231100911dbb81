"""Seeds by name: all randomness of a run comes from one root seed. Standard library only."""

import hashlib


def derive(root: int, *path: str | int) -> int:
    """Return a seed below 2^63 for what `path` names; different paths give unrelated seeds."""
    text = "/".join(map(str, (root, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def child_seed(root: int, child_id: int) -> int:
    """Return the seed that a child is trained with, the same in every attempt."""
    return derive(root, "child", child_id)
