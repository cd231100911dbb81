"""A client's requests as protobuf messages. Large ones are streams; only the first message has the other fields."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor

from ps.codec import chunks, encode, flat_chunks
from ps.rpc.frames import Frame
from ps.shard.messages import ShardPush
from ps.slices import as_slices
from ps.store import Layout
from ps.wire import ps_pb2

METHODS = f"/{ps_pb2.DESCRIPTOR.services_by_name['ParameterShards'].full_name}/"
"""The prefix of the names of the shards' methods, which the health service does not have."""

_DEADLINE_BYTES = 32 * 2**20
"""Bytes that a call carries in one deadline; a larger one has as many deadlines as it needs."""


def call_deadline(deadline_s: float, size_bytes: int) -> float:
    """Return the deadline in seconds of a call that carries so many bytes of tensors; both ends agree on it."""
    return deadline_s * max(1.0, size_bytes / _DEADLINE_BYTES)


def target_of(layout: Layout, shard: int) -> ps_pb2.Target:
    """Return the run, layout and shard that a request is for."""
    return ps_pb2.Target(run=layout.run, fingerprint=layout.fingerprint, shard=shard)


def tensors_of(layout: Layout, names: Collection[str]) -> ps_pb2.Tensors:
    """Return which tensors of the layout have these names."""
    wanted = frozenset(names)
    if len(wanted) == len(layout.shapes):
        return ps_pb2.Tensors(all=True)
    return ps_pb2.Tensors(positions=[number for number, name in enumerate(layout.shapes) if name in wanted])


def initialize_requests(target: ps_pb2.Target, values: Mapping[str, Tensor]) -> Iterator[ps_pb2.InitializeRequest]:
    """Yield the messages that initialize a shard with its slices of the values."""
    data = encode(values)
    for number, chunk in enumerate(chunks(data)):
        head = {} if number else {"target": target, "size_bytes": len(data)}
        yield ps_pb2.InitializeRequest(chunk=chunk, **head)


def push_requests(
    layout: Layout, names: Collection[str], pushes: Mapping[int, ShardPush], *, pull: bool = False
) -> Iterator[Frame[ps_pb2.PushRequest]]:
    """Yield the messages of one client's push to several shards of a server.

    Args:
        layout: the layout.
        names: the tensors that are pushed, of which a shard may have no part.
        pushes: shard -> its part, in increasing order.
        pull: whether the answer is to have the values after the push.
    """
    first, push = next(iter(pushes.items()))
    buffers = [as_slices(part.gradients).flat for part in pushes.values()]
    head = {
        "target": target_of(layout, first),
        "client": push.client,
        "sequence": push.sequence,
        "rates": push.rates,
        "note": push.note,
        "parts": [
            ps_pb2.PushPart(shard=shard, seen_version=part.seen_version, seen_applied=part.seen_applied)
            for shard, part in pushes.items()
        ],
        "tensors": tensors_of(layout, names),
        "size_bytes": 4 * sum(buffer.numel() for buffer in buffers),
        "pull": pull,
    }
    for number, chunk in enumerate(flat_chunks(buffers)):
        yield Frame(ps_pb2.PushRequest(**({} if number else head)), chunk)


def pull_request(
    layout: Layout, tensors: ps_pb2.Tensors, shards: Sequence[int], clients: Sequence[str], *, catching_up: bool
) -> ps_pb2.PullRequest:
    """Return the request for slices of these tensors from several shards of a server; see `Shards.pull`."""
    client, *others = clients or [""]
    return ps_pb2.PullRequest(
        target=target_of(layout, shards[0]),
        shards=shards,
        tensors=tensors,
        client=client,
        others=others,
        catching_up=catching_up,
    )
