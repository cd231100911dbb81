"""What clients, tensors and runs may be called, and how pushes are numbered. Standard library only."""

MAX_NAME_LENGTH = 200
"""Characters of a run's, group's, tensor's or client's name."""

CORRUPT = ".corrupt"
"""What the name of a shard's file ends in that was found corrupt and is kept out of the way."""

MAX_SEQUENCE = 2**63 - 1
"""The largest sequence number of a push: it travels as a signed 64-bit integer."""


def check_name(what: str, name: object) -> None:
    """Raise `ValueError` unless `name` is a string of 1 to `MAX_NAME_LENGTH` printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"{what} must be 1 to {MAX_NAME_LENGTH} printable characters, got {name!r}")


def check_client(client: object) -> None:
    """Raise `ValueError` unless a client can be called this."""
    check_name("`client`", client)


def check_push_id(client: object, sequence: object) -> None:
    """Raise `ValueError` unless the pair can be remembered: a usable name, and a number that grows from 1."""
    check_client(client)
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"`sequence` must be an integer from 1 to 2^63 - 1, got {sequence!r}")
