"""Tells the URL of an object store from a folder of this machine. Standard library only."""


def is_url(storage_path: str) -> bool:
    """Whether a storage path names an object store, not a folder of this machine."""
    return "://" in storage_path
