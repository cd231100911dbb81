"""`Batch`: pushes that a shard applies together, and `PushQueue`, where they wait for that."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from ps.errors import NotDurable, StoreError
from ps.shard.messages import ShardAck, ShardPush, ShardState


@dataclass(slots=True)
class QueuedPush:
    """A push, and the reply that its sender waits for."""

    push: ShardPush
    reply: Future[ShardAck] = field(default_factory=Future)


@dataclass(slots=True)
class Batch:
    """Pushes that are applied together.

    Attributes:
        queued: the pushes.
        replies: each one's ack or error, once they are applied.
        state: the shard's state after them, which must become durable before they are acked; `None` if nothing must.
    """

    queued: list[QueuedPush]
    replies: list[ShardAck | StoreError] = field(default_factory=list)
    state: ShardState | None = None

    def reply(self) -> None:
        """Ack each push, or refuse it with its own error."""
        for one, reply in zip(self.queued, self.replies, strict=True):
            if isinstance(reply, StoreError):
                one.reply.set_exception(reply)
            else:
                one.reply.set_result(reply)

    def refuse(self, reason: str) -> None:
        """Refuse every push that has no answer: no thread may wait for ever for the one that does the work for all.

        Each gets an exception of its own, since raising one object in several threads would mix their tracebacks.
        """
        for one in self.queued:
            if not one.reply.done():
                one.reply.set_exception(NotDurable(reason))


class PushQueue:
    """The pushes that wait; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queued: list[QueuedPush] = []

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, push: ShardPush) -> Future[ShardAck]:
        """Add a push, and return its reply."""
        queued = QueuedPush(push)
        with self._lock:
            self._queued.append(queued)
        return queued.reply

    def take(self) -> Batch | None:
        """Remove all pushes and return them; `None` if there are none."""
        with self._lock:
            queued, self._queued = self._queued, []
        return Batch(queued) if queued else None
