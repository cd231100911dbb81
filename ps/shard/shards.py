"""`Shards`: the shards of one process, which one call reaches together."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from ps.errors import NotDurable, StoreError
from ps.shard.batch import Batch
from ps.shard.durable_shard import DurableShard
from ps.shard.file_updates import FileUpdates
from ps.shard.journal import Journal
from ps.shard.messages import ShardAck, ShardPush, ShardValues
from ps.store import Layout

_MAX_TOGETHER_BYTES = 16 * 2**20
"""Largest size of the tensors of shards that step together and may share a journal. To write much more twice costs more
than it saves, and while large shards are written, others should not wait."""


@dataclass(slots=True, eq=False)
class _PushAndPull:
    """A push whose client pulls what there is after it.

    Attributes:
        client: whose push it is.
        acks: of the shards, to come.
        pulled: what each shard answers to the pull; `None` unless all of them have applied the push now.
        answered: nothing more comes.
    """

    client: str
    acks: Mapping[int, Future[ShardAck]]
    pulled: dict[int, ShardValues | StoreError] | None = None
    answered: bool = False

    @property
    def is_acked(self) -> bool:
        """Whether every shard has acked or refused the push."""
        return all(ack.done() for ack in self.acks.values())


class Shards(Mapping[int, DurableShard]):
    """Some shards of a layout, by index. Each answers for itself: an error of one does not disturb the others.

    With `journal` a push is durable when the journal that the shards share has it: one write for all of them. Their own
    files follow (`FileUpdates`), and have everything when the shards are closed.

    Args:
        layout: the layout of the whole run.
        indices: the shards to have here.
        directory, snapshot_interval_s, clock: see `DurableShard`.
        journal: whether small shards commit into a journal that they share, where there are several, with interval 0
            and a directory. Then no other object may write shards of the same indices, not even one that is abandoned.

    Raises:
        ValueError, WrongRun, CorruptSnapshot, NotDurable: see `DurableShard`.
    """

    def __init__(
        self,
        layout: Layout,
        indices: Iterable[int],
        directory: Path | None,
        snapshot_interval_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        journal: bool = False,
    ) -> None:
        self._shards = {
            index: DurableShard(layout, index, directory, snapshot_interval_s, clock=clock) for index in indices
        }
        self._turns = threading.Condition()  # for those who need all shards together
        self._has_turn = False
        self._pulling: list[_PushAndPull] = []  # those that are not answered; the condition's lock guards it
        self._clients_wait = layout.consistency.waits
        self._journal: Journal | None = None
        self._file_updates: FileUpdates | None = None
        size_bytes = 4 * sum(sum(shard.sizes.values()) for shard in self._shards.values())
        self._step_together = len(self._shards) > 1 and size_bytes <= _MAX_TOGETHER_BYTES
        if journal and directory is not None and snapshot_interval_s == 0 and self._step_together:
            self._journal = self._new_journal(directory)
            self._file_updates = FileUpdates(list(self._shards.values()), self._journal)

    def pull(
        self,
        names: Mapping[int, Sequence[str] | None],
        clients: Sequence[str] = (),
        *,
        catching_up: bool = False,
    ) -> dict[int, ShardValues | StoreError]:
        """Return for each shard the named slices, or its error; see `DurableShard.pull`.

        Args:
            names: shard -> the slices that are pulled from it; `None` for all of its slices.
            clients, catching_up: see `Shard.pull`.
        """
        # Between two commits; else it might meet another one at each shard.
        with self._turn() if self._step_together else nullcontext():
            return self._pull(names, clients, catching_up=catching_up)

    def push(self, pushes: Mapping[int, ShardPush]) -> dict[int, ShardAck | StoreError]:
        """Return for each shard its ack of its part, or its error; see `DurableShard.push`."""
        queued = self._submit(pushes)
        if self._step_together:
            with self._turn(lambda: all(reply.done() for reply in queued.values())) as has_turn:
                if has_turn:
                    self._handle_queues()
        else:
            for index in pushes:
                self._shards[index].handle_queue()
        return _replies(queued)

    def push_and_pull(
        self, pushes: Mapping[int, ShardPush], client: str
    ) -> tuple[dict[int, ShardAck | StoreError], dict[int, ShardValues | StoreError] | None]:
        """Do `push`, and `pull` all of these shards' values if each of them has applied the push now, else `None`.

        Pushes that share a commit share the pull after it, where no client ever waits. (A duplicate may be a copy that
        the network has delayed: it must not make its client a member again, as a pull does.)
        """
        if not self._step_together or self._clients_wait:
            acks = self.push(pushes)
            return acks, self.pull(dict.fromkeys(pushes), [client]) if all(map(_is_new, acks.values())) else None
        one = _PushAndPull(client, self._submit(pushes))
        with self._turns:
            self._pulling.append(one)
        try:
            with self._turn(lambda: one.answered) as has_turn:
                if has_turn:
                    self._handle_queues()
                    self._answer_pulls()
        finally:
            with self._turns:
                self._pulling = [other for other in self._pulling if other is not one]
        return _replies(one.acks), one.pulled

    def _submit(self, pushes: Mapping[int, ShardPush]) -> dict[int, Future[ShardAck]]:
        return {index: self._shards[index].submit(push) for index, push in pushes.items()}

    def _pull(
        self, names: Mapping[int, Sequence[str] | None], clients: Sequence[str], *, catching_up: bool = False
    ) -> dict[int, ShardValues | StoreError]:
        replies: dict[int, ShardValues | StoreError] = {}
        for index, part in names.items():
            try:
                replies[index] = self._shards[index].pull(part, clients, catching_up=catching_up)
            except StoreError as error:
                replies[index] = error
        return replies

    def _answer_pulls(self) -> None:
        """Pull for those whose pushes have just been committed, together for those of the same shards."""
        with self._turns:
            acked = [one for one in self._pulling if one.is_acked]
            self._pulling = [one for one in self._pulling if not one.is_acked]
        groups: dict[tuple[int, ...], list[_PushAndPull]] = {}
        for one in acked:
            if all(map(_is_new, _replies(one.acks).values())):
                groups.setdefault(tuple(one.acks), []).append(one)
        for shards, group in groups.items():
            pulled = self._pull(dict.fromkeys(shards), [one.client for one in group])
            for number, one in enumerate(group):
                one.pulled = {index: _of_client(answer, number) for index, answer in pulled.items()}
        for one in acked:
            one.answered = True

    def close(self) -> None:
        """Close every shard, whatever happens to the others.

        Raises:
            NotDurable: the last write of at least one failed.
        """
        failures: list[NotDurable] = []
        for shard in self._shards.values():
            try:
                shard.close()
            except NotDurable as error:
                failures.append(error)
        if self._file_updates is not None:
            self._file_updates.close()
        if failures:
            raise failures[0]

    def _new_journal(self, directory: Path) -> Journal:
        try:
            journal = Journal(directory, min(self._shards))
        except OSError as error:
            raise NotDurable(f"cannot start in {directory}: {error}") from error
        for shard in self._shards.values():
            assert shard.disk is not None
            shard.disk.write_into(journal)
        return journal

    @contextmanager
    def _turn(self, is_done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Wait until nobody else has a turn, or `is_done`; yield whether this one has it."""
        with self._turns:
            self._turns.wait_for(lambda: is_done() or not self._has_turn)
            takes = not is_done()
            self._has_turn |= takes
        try:
            yield takes
        finally:
            if takes:
                with self._turns:
                    self._has_turn = False
                    self._turns.notify_all()

    def _handle_queues(self) -> None:
        """Apply all queued pushes, make them durable, and ack or refuse each."""
        batches: list[tuple[DurableShard, Batch]] = []
        failure: BaseException | None = None
        try:
            for shard in self._shards.values():
                if (batch := shard.open_batch()) is not None:
                    batches.append((shard, batch))
            DurableShard.complete(batches)
            if self._journal is not None:
                written = [(shard.disk, batch.state) for shard, batch in batches]
                contents = [(disk.index, disk.content(state)) for disk, state in written if disk and state]
                if contents:
                    self._journal.append(contents)
        except BaseException as error:
            failure = error
        failures = [self._close(shard, batch, failure) for shard, batch in batches]
        for error in (failure, *failures):
            if error is not None and not isinstance(error, OSError):
                raise error

    def _close(self, shard: DurableShard, batch: Batch, failure: BaseException | None) -> BaseException | None:
        """Close a batch, after writing its shard's file where there is no journal; return what went wrong with it."""
        if failure is None and self._journal is None:
            try:
                shard.write(batch)
            except BaseException as error:
                failure = error
        try:
            shard.close_batch(batch, failure)
        except BaseException as error:  # the others are locked until they are closed, too
            failure = error
        return failure

    def __getitem__(self, index: int) -> DurableShard:
        return self._shards[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


def _replies(queued: Mapping[int, Future[ShardAck]]) -> dict[int, ShardAck | StoreError]:
    """Return each shard's ack or error, once it is there."""
    replies: dict[int, ShardAck | StoreError] = {}
    for index, reply in queued.items():
        try:
            replies[index] = reply.result()
        except StoreError as error:
            replies[index] = error
    return replies


def _is_new(ack: ShardAck | StoreError) -> bool:
    """Return whether a shard has applied a push now."""
    return isinstance(ack, ShardAck) and not ack.duplicate


def _of_client(pulled: ShardValues | StoreError, number: int) -> ShardValues | StoreError:
    """Return what a shard answers to one of the clients that share a pull; the values are the same object."""
    return replace(pulled, applied=(pulled.applied[number],)) if isinstance(pulled, ShardValues) else pulled
