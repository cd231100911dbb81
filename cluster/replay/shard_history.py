"""`ShardHistory`: applies the recorded pushes of one shard again, in the order in which each incarnation applied them.

A shard that falls back to an older snapshot begins another branch from there. The states of the branch that was lost
are needed, too: replicas had sampled from them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cluster.replay.difference import Difference
from ps.shard.messages import ShardAck, ShardPush, ShardState, ShardValues
from ps.shard.order import Applied
from ps.shard.order_log import Lineage, reach
from ps.shard.shard import Shard
from ps.slices import Slices
from ps.store import Layout

END = -1
"""The branch that stands for the shard's newest snapshot."""

Seen = tuple[int, int]
"""What a pull had seen of a shard: its incarnation and version."""


@dataclass(slots=True)
class _Branch:
    """One incarnation, as far as it has come.

    Attributes:
        shard: in its present state.
        done: how many of the shard's recorded pushes it has.
        left: the pushes that it has not applied, the next one last.
        children: the incarnations that go on from it, by how many pushes they begin with.
    """

    shard: Shard
    done: int
    left: list[Applied]
    children: Mapping[int, list[int]]


@dataclass
class ShardHistory:
    """The states of one shard, as they were pulled.

    Args:
        layout_of: returns the layout that an incarnation has, in which no client waits.
        index: the shard's.
        lineages: what each incarnation has applied; `END` is the shard's newest snapshot.
        initial: the shard's slices of the initial values.
        needed: how often each state is needed.
    """

    layout_of: Callable[[int], Layout]
    index: int
    lineages: Mapping[int, Lineage]
    initial: Slices
    needed: Counter[Seen]
    _kept: dict[Seen, ShardValues] = field(default_factory=dict, init=False)
    _branches: dict[int, _Branch] = field(default_factory=dict, init=False)
    _end: ShardState | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        roots = [one for one in self.lineages.values() if one.before is None]
        for lineage in roots:
            self._begin(lineage, self._new_shard().state())
        for incarnation, version in self.needed:
            if incarnation not in self.lineages and version == 0:  # it died before anything was pushed to it
                self._kept[incarnation, version] = self._new_shard().pull()

    def next_pushes(self) -> dict[int, Applied]:
        """Return the next push of each branch that has begun and has one left."""
        return {incarnation: branch.left[-1] for incarnation, branch in self._branches.items() if branch.left}

    def apply(self, incarnation: int, push: ShardPush) -> ShardAck:
        """Apply a branch's next push.

        Raises:
            Difference: the shard's version is another one than it was.
        """
        branch = self._branches[incarnation]
        recorded = branch.left.pop()
        ack = branch.shard.push(push)
        if ack.duplicate:
            raise Difference(f"{self._what(recorded)} is in the order of shard {self.index} twice")
        branch.done += 1
        if ack.version != recorded.version:
            raise Difference(
                f"after {self._what(recorded)} shard {self.index} had the version {recorded.version}, and has"
                f" {ack.version} in the replay"
            )
        self._keep(incarnation, branch)
        self._fork(branch)
        return ack

    def has(self, seen: Seen) -> bool:
        """Return whether a state has been reached."""
        return seen in self._kept

    def take(self, seen: Seen) -> ShardValues:
        """Return a state, for one of those who need it."""
        values = self._kept[seen]
        self.needed[seen] -= 1
        if not self.needed[seen]:
            del self._kept[seen]
        return values

    @property
    def end(self) -> ShardState:
        """The state that the newest snapshot must have."""
        assert self._end is not None, "not all pushes have been applied"
        return self._end

    def _what(self, recorded: Applied) -> str:
        return f"update {recorded.sequence} of {recorded.client}"

    def _new_shard(self) -> Shard:
        shard = Shard(self.layout_of(1), self.index)
        shard.initialize(self.initial)
        return shard

    def _begin(self, lineage: Lineage, state: ShardState) -> None:
        if lineage.incarnation == END:
            self._end = state
            return
        shard = Shard(self.layout_of(lineage.incarnation), self.index)
        shard.restore(state)
        children: dict[int, list[int]] = {}
        for other in self.lineages.values():
            if other.before == lineage.incarnation and other.incarnation != lineage.incarnation:
                children.setdefault(other.inherited, []).append(other.incarnation)
        branch = _Branch(shard, lineage.inherited, lineage.pushes[::-1], children)
        self._branches[lineage.incarnation] = branch
        self._keep(lineage.incarnation, branch)
        self._fork(branch)

    def _keep(self, incarnation: int, branch: _Branch) -> None:
        seen = incarnation, branch.shard.status().version
        if self.needed[seen] and seen not in self._kept:
            self._kept[seen] = branch.shard.pull()

    def _fork(self, branch: _Branch) -> None:
        """Begin the incarnations that go on from the branch's present state."""
        for incarnation in branch.children.get(branch.done, ()):
            self._begin(self.lineages[incarnation], branch.shard.state())


def normalised(lineages: Mapping[int, Lineage], end: Lineage) -> dict[int, Lineage]:
    """Return the lineages with the newest snapshot, each after the one that applied the last push it begins with.

    An incarnation that began and ended without a push passes on what it had inherited.
    """
    found = {one.incarnation: one for one in (*lineages.values(), end)}
    for lineage in found.values():
        while lineage.before is not None and lineage.before in found:
            parent = found[lineage.before]
            if lineage.inherited > parent.inherited or parent.before is None:
                break
            lineage.before = parent.before
        if lineage.before is not None and lineage.before not in found:
            lineage.before = None
    return found


def end_of(lineages: Mapping[int, Lineage], incarnation: int, count: int) -> Lineage:
    """Return the branch that stands for a snapshot of this incarnation with so many pushes."""
    lineage = lineages.get(incarnation)
    if lineage is None:
        return Lineage(END, None, 0)
    return Lineage(END, incarnation, min(count, reach(lineage)))
