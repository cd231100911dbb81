"""Everything that a parameter store refuses, by name. The same exception arrives on both sides of the wire."""

from collections.abc import Mapping
from typing import Any


class StoreError(Exception):
    """Base of every error that a store raises about a request, its state, or its reachability."""


class NotInitialized(StoreError):
    """The shard has no values yet: `initialize` comes before `pull` and `push`."""


class UnknownParameter(StoreError):
    """The names do not fit the layout: one is not in it, or `initialize` misses one that is."""


class ShapeMismatch(StoreError):
    """A tensor's shape or dtype differs from the layout's, or it is no dense tensor at all."""


class NonFinite(StoreError):
    """A tensor holds NaN, an infinity, or a value so large that its square overflows float32."""


class TooLarge(StoreError):
    """More bytes than the limit allows."""


class WrongRun(StoreError):
    """The request or file belongs to another run, another layout or another shard."""


class Unauthenticated(StoreError):
    """The request carries no token, or not this server's."""


class MalformedMessage(StoreError):
    """Bytes that do not follow the protocol: cut short, running on, or with an unknown dtype."""


class StoreUnavailable(StoreError):
    """A shard could not be reached within the caller's patience, or the store is closed."""


class NotDurable(StoreError):
    """The shard could not write its state, so nothing was acked. The same push may be sent again."""


class TooFarAhead(StoreError):
    """The client must wait for slower ones before it pulls for its next push. Nothing waits on the server: ask again.

    Attributes:
        applied: the client's highest sequence that the refusing shard has applied.
    """

    def __init__(self, message: str, applied: int = 0) -> None:
        super().__init__(message)
        self.applied = applied


class LostPushes(StoreError):
    """The shard lacks pushes that the client has seen applied: it fell back to an older snapshot. Nothing was applied.

    The client pulls again, pushes what `applied` then says is missing, and then this push once more.
    """


class CorruptSnapshot(StoreError):
    """A snapshot file, and the one before it, cannot be read back as they were written."""


ERRORS: dict[str, type[StoreError]] = {error.__name__: error for error in StoreError.__subclasses__()}
"""The family by name: how the wire says which one it is."""


def named_error(metadata: Mapping[str, Any], details: str) -> StoreError | None:
    """The error that a server's trailing metadata names, or `None` if it names none of ours."""
    name = metadata.get("ps-error")
    if name == TooFarAhead.__name__:
        return TooFarAhead(details, applied=int(metadata["ps-applied"]))
    return ERRORS[name](details) if name in ERRORS else None
