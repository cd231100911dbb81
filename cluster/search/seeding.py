"""All randomness of a run comes from one root seed, by name. Standard library only."""

import hashlib


def derive(root: int, *path: str | int) -> int:
    """A seed below 2^63 for what `path` names; different paths give unrelated seeds."""
    text = "/".join(map(str, (root, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def child_seed(root: int, child_id: int) -> int:
    """The seed that a child is trained with, whichever attempt it is."""
    return derive(root, "child", child_id)
