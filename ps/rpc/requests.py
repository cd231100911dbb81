"""A client's requests as protobuf messages. Large ones are streams; only the first message has the other fields."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from ps.codec import chunks, encode
from ps.shard.messages import ShardPush
from ps.store import Layout
from ps.wire import ps_pb2


def target_of(layout: Layout, shard: int) -> ps_pb2.Target:
    """Return the run, layout and shard that a request is for."""
    return ps_pb2.Target(run=layout.run, fingerprint=layout.fingerprint, shard=shard)


def initialize_requests(target: ps_pb2.Target, values: Mapping[str, Tensor]) -> Iterator[ps_pb2.InitializeRequest]:
    """Yield the messages that initialize a shard with its slices of the values."""
    data = encode(values)
    for number, chunk in enumerate(chunks(data)):
        head = {} if number else {"target": target, "size_bytes": len(data)}
        yield ps_pb2.InitializeRequest(chunk=chunk, **head)


def push_requests(target: ps_pb2.Target, push: ShardPush) -> Iterator[ps_pb2.PushRequest]:
    """Yield the messages of a shard's part of a push."""
    data = encode(push.gradients)
    head = {
        "target": target,
        "client": push.client,
        "sequence": push.sequence,
        "seen_version": push.seen_version,
        "seen_applied": push.seen_applied,
        "size_bytes": len(data),
        "rates": push.rates,
    }
    for number, chunk in enumerate(chunks(data)):
        yield ps_pb2.PushRequest(chunk=chunk, **({} if number else head))


def pull_request(
    target: ps_pb2.Target, names: list[str], client: str | None, *, catching_up: bool
) -> ps_pb2.PullRequest:
    """Return the request for a shard's slices of these tensors; see `Shard.pull`."""
    return ps_pb2.PullRequest(target=target, names=names, client=client or "", catching_up=catching_up)
