"""Distinguishes URLs of object stores from local folders. Standard library only."""


def is_url(storage_path: str) -> bool:
    """Return whether a storage path names an object store, not a local folder."""
    return "://" in storage_path
