"""What one shard answers, as a part of a protobuf reply and back."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from ps.errors import ERRORS, StoreError, TooFarAhead
from ps.shard.messages import ShardAck, ShardValues
from ps.slices import Slices
from ps.wire import ps_pb2


def error_message(error: StoreError) -> ps_pb2.Error:
    """Return a shard's error as a message."""
    applied = error.applied if isinstance(error, TooFarAhead) else 0
    return ps_pb2.Error(name=type(error).__name__, message=str(error), applied=applied)


def error_of(error: ps_pb2.Error) -> StoreError:
    """Return the error that `error_message` was given; a plain `StoreError` if its class is unknown."""
    if error.name == TooFarAhead.__name__:
        return TooFarAhead(error.message, applied=error.applied)
    return ERRORS.get(error.name, StoreError)(error.message)


def pulled_part(shard: int, values: ShardValues | StoreError) -> ps_pb2.PulledPart:
    """Return a shard's answer to a pull, without the elements, as a message."""
    if isinstance(values, StoreError):
        return ps_pb2.PulledPart(shard=shard, error=error_message(values))
    return ps_pb2.PulledPart(
        shard=shard, version=values.version, incarnation=values.incarnation, applied=values.applied
    )


def pulled_values(part: ps_pb2.PulledPart, sizes: Mapping[str, int], elements: Tensor) -> ShardValues:
    """Return the answer that `pulled_part` was given, with its elements."""
    return ShardValues(Slices(sizes, elements), part.version, part.incarnation, tuple(part.applied))


def pushed_part(shard: int, ack: ShardAck | StoreError) -> ps_pb2.PushedPart:
    """Return a shard's answer to a push as a message."""
    if isinstance(ack, StoreError):
        return ps_pb2.PushedPart(shard=shard, error=error_message(ack))
    return ps_pb2.PushedPart(
        shard=shard,
        version=ack.version,
        incarnation=ack.incarnation,
        staleness=ack.staleness,
        duplicate=ack.duplicate,
        dropped=ack.dropped,
    )


def push_ack(part: ps_pb2.PushedPart) -> ShardAck | StoreError:
    """Return the answer that `pushed_part` was given."""
    if part.HasField("error"):
        return error_of(part.error)
    return ShardAck(part.version, part.incarnation, part.staleness, part.duplicate, part.dropped)


def increasing(numbers: Sequence[int]) -> bool:
    """Return whether every number is above the one before it."""
    return all(before < after for before, after in pairwise(numbers))
