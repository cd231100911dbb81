"""Distinguishes URLs of object stores from local folders. Standard library only."""

import re
from pathlib import Path


def is_url(storage_path: str) -> bool:
    """Return whether a storage path names an object store, not a local folder."""
    return "://" in storage_path


def local_folder(storage_path: str | Path) -> Path:
    """Return the absolute folder of this machine that a storage path names.

    Raises:
        ValueError: it is empty, a URL with a typing error, or in the home of an unknown user.
    """
    if not isinstance(storage_path, str | Path):
        raise ValueError(f"`storage_path` must be a folder or a URL, got {storage_path!r}")
    text = str(storage_path)
    if not text.strip():
        raise ValueError("`storage_path` must be a folder or a URL, got nothing")
    if mistyped := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]", text):
        rest = text[mistyped.end() :].lstrip("/\\")
        raise ValueError(f"`storage_path` must be a folder or a URL such as {mistyped[1]}://{rest}, got {text!r}")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"`storage_path` must be in the home of a known user, got {text!r}") from error
