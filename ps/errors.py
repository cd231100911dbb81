"""The errors of a parameter store. The client raises the same exception as the server."""

from collections.abc import Mapping
from typing import Any


class StoreError(Exception):
    """Base class of every error that a store raises about a request, its state, or its availability."""


class NotInitialized(StoreError):
    """The shard has no values yet: call `initialize` before `pull` and `push`."""


class UnknownParameter(StoreError):
    """A name is not in the layout, or `initialize` lacks one that is."""


class ShapeMismatch(StoreError):
    """A tensor's shape or dtype differs from the layout's, or it is not a dense tensor."""


class NonFinite(StoreError):
    """A tensor has a NaN, an infinity, or a value so large that its square overflows float32."""


class TooLarge(StoreError):
    """The layout, or the tensors of a request, take more bytes than the limit."""


class WrongRun(StoreError):
    """The request or file belongs to another run, another layout or another shard."""


class Unauthenticated(StoreError):
    """The request carries no token, or a wrong one."""


class MalformedMessage(StoreError):
    """A request or reply breaks the protocol: for example truncated, too long, or with an unknown dtype."""


class StoreUnavailable(StoreError):
    """A shard could not be reached within the retry timeout, or the store is closed."""


class NotDurable(StoreError):
    """The shard could not write its state, so it acked nothing. Sending the same push again is safe."""


class TooFarAhead(StoreError):
    """The client must wait for slower ones before it pulls for its next push. The server never blocks: poll.

    Attributes:
        applied: the client's highest sequence that the refusing shard has applied.
    """

    def __init__(self, message: str, applied: int = 0) -> None:
        super().__init__(message)
        self.applied = applied


class LostPushes(StoreError):
    """The shard fell back to an older snapshot, and lacks pushes that the client saw applied.

    The refused push was not applied. The client pulls again, pushes what `applied` then shows to be missing, and then
    repeats this push.
    """


class CorruptSnapshot(StoreError):
    """A snapshot file is corrupt. A shard fails to start with it only if no previous file is valid either."""


ERRORS: dict[str, type[StoreError]] = {error.__name__: error for error in StoreError.__subclasses__()}
"""Class name -> class. The server sends the name, and the client raises the class."""


def named_error(metadata: Mapping[str, Any], details: str) -> StoreError | None:
    """Return the error that a server's trailing metadata names, or `None` if it names none of these."""
    name = metadata.get("ps-error")
    if name == TooFarAhead.__name__:
        return TooFarAhead(details, applied=int(metadata["ps-applied"]))
    return ERRORS[name](details) if name in ERRORS else None
