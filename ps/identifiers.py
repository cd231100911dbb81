"""Rules for the names of clients, tensors and runs, and for what pushes have beside them. Standard library only."""

import math
from collections.abc import Mapping

MAX_NAME_LENGTH = 200
"""Most characters of a run's, group's, tensor's or client's name."""

CORRUPT = ".corrupt"
"""Suffix of a shard's file that was corrupt and has been set aside."""

MAX_NOTE_LENGTH = 2**20
"""Most characters of a push's note."""

MAX_SEQUENCE = 2**63 - 1
"""The largest sequence number of a push, which travels as a signed 64-bit integer."""


def check_name(what: str, name: object) -> None:
    """Raise `ValueError` unless `name` is a string of 1 to `MAX_NAME_LENGTH` printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"{what} must be 1 to {MAX_NAME_LENGTH} printable characters, got {name!r}")


def check_client(client: object) -> None:
    """Raise `ValueError` unless this is a valid name of a client."""
    check_name("`client`", client)


def check_push_id(client: object, sequence: object) -> None:
    """Raise `ValueError` unless this is a valid client name and a sequence number from 1 to `MAX_SEQUENCE`."""
    check_client(client)
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"`sequence` must be an integer from 1 to 2^63 - 1, got {sequence!r}")


def check_note(note: object) -> None:
    """Raise `ValueError` unless a push's note is a string of at most `MAX_NOTE_LENGTH` printable ASCII characters."""
    if not isinstance(note, str) or len(note) > MAX_NOTE_LENGTH or not (note.isascii() and note.isprintable()):
        raise ValueError(f"`note` must be up to {MAX_NOTE_LENGTH} printable ASCII characters, got {str(note)[:100]!r}")


def check_rates(rates: Mapping[str, float]) -> None:
    """Raise `ValueError` unless every learning rate is a finite number of at least 0."""
    for group, rate in rates.items():
        if type(rate) not in (int, float) or not 0 <= rate < math.inf:
            raise ValueError(f"the rate of group {group!r} must be a finite number of at least 0, got {rate!r}")
