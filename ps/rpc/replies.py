"""What one shard answers, as a part of a protobuf reply and back."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from ps.codec import FlatReceiver
from ps.errors import ERRORS, MalformedMessage, StoreError, TooFarAhead
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


def pulled_answers(
    parts: Sequence[ps_pb2.PulledPart], chunks: Iterable[bytes | memoryview], sizes: Sequence[Mapping[str, int]]
) -> dict[int, ShardValues | StoreError]:
    """Return what shards answered to a pull; raise `MalformedMessage` unless the data are theirs.

    Args:
        parts: their answers without the elements.
        chunks: the elements, until there are more than there must be.
        sizes: of each shard, the tensors that are pulled and the elements of its part.
    """
    sent = [part.shard for part in parts if not part.HasField("error")]
    elements = [sum(sizes[shard].values()) for shard in sent]
    data = FlatReceiver(sum(elements))
    fits = all(data.add(chunk) for chunk in chunks)
    if not fits or not data.complete:
        raise MalformedMessage(
            f"the shards {sent} must answer with {data.size_bytes} bytes, got "
            + (f"{data.received}" if fits else "more")
        )
    flat = iter(data.elements.split(elements))
    return {
        part.shard: error_of(part.error)
        if part.HasField("error")
        else pulled_values(part, sizes[part.shard], next(flat))
        for part in parts
    }


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
