"""Names folders of this machine after URLs. Standard library only."""

import hashlib
import re


def url_folder(url: str, hash_digits: int) -> str:
    """Return the folder name of a URL: a readable part, then the first digits of its hash.

    Names must never change: users' caches and working copies are found by them.

    Args:
        url: with or without a slash at its end.
        hash_digits: how many hexadecimal digits of the URL's SHA-256 the name has.
    """
    readable = re.sub(r"[^A-Za-z0-9]+", "-", url).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:hash_digits]}"
