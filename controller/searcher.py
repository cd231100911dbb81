"""The interface of a searcher, and the data that passes through it. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Outcome
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.jobs import Job, Steps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroup:
    """Named initial tensors that one optimizer steps.

    Attributes:
        name: the group's name, unique within the searcher.
        values: initial float32 tensors by name; names are unique over all groups.
        optimizer: `adam`, `sgd`, or `average` (an exponential moving average of what is pushed).
        options: the optimizer's settings, such as `lr` or `decay`.
    """

    name: str
    values: Mapping[str, Tensor]
    optimizer: str
    options: Mapping[str, float]


PREDICTED = "predicted"
"""The key of a child's notes for the reward that the searcher predicted when it proposed the child."""

SOURCE = "source"
"""The key of a child's notes for where its architecture is from, if that is another run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedWeights:
    """The weights that a searcher's children share: those of a supernet, each by its node's name.

    Attributes:
        supernet: the graph whose restrictions the children are.
        optimizer: what steps the weights on their shards: `sgd` or `adam`.
        options: the optimizer's settings.
        costs: what an option costs, for objectives that count costs: its `parameters`, its `flops`, or its `latency` as
            the run's configuration has it; `None`: nothing.
        generated: the size of the hypernetwork that generates the weights of 1x1 convolutions; `None`: there is none.
        log_costs: whether they count log(1 + cost) instead of the cost.
        moves_strengths: whether the children's steps move parameters of the searcher too, the strengths of the options.
    """

    supernet: Architecture
    optimizer: str
    options: Mapping[str, float]
    costs: Literal["parameters", "flops", "latency"] | None = None
    generated: HyperOptions | None = None
    log_costs: bool = False
    moves_strengths: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """An architecture that a searcher proposes to try, or steps on shared weights.

    Attributes:
        tokens: the decisions behind it; none if the job trains the supernet as a whole.
        architecture: what they decode to; `None` if there are none.
        log_prob: log-probability (nats) of the tokens when they were sampled, or `None` where the searcher has none.
        notes: JSON that the searcher reads back from the child's record, such as the child's parent or its generation.
            The displays know four keys: `parent`, the id of the child that it came from; `change`, a few words;
            `predicted`, the reward that the searcher predicted; and `source`, where it is from if not from this run.
        same_as: the id of an ended child with the same architecture. The new child takes its outcome and its reward,
            and is not trained.
        job: what a worker does with it on shared weights or on those of another child; `None`: it trains the
            architecture from scratch.

    Raises:
        ValueError: there is no architecture, and no job that can do without one.
    """

    tokens: tuple[int, ...]
    architecture: Architecture | None
    log_prob: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    same_as: int | None = None
    job: Job | None = None

    def __post_init__(self) -> None:
        if self.architecture is None and not isinstance(self.job, Steps):
            raise ValueError("a proposal without an architecture must have the job to make steps on shared weights")

    @property
    def architecture_id(self) -> str:
        """The architecture's canonical id; empty if there is none."""
        return self.architecture.id if self.architecture else ""


Read = Callable[[str, tuple[Any, ...]], Any]
"""Returns an attribute of a record, given its name and what `ChildRecord.reading_later` was given for it."""


class _ReadLater:
    """The places of what gives a record's rarer attributes when they are first asked for."""

    __slots__ = ("_given", "_read")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildRecord(_ReadLater):
    """What a searcher sees of a child. It has no graph: `SearchSpace.decode` gives that from the tokens.

    Attributes:
        id: the child's.
        tokens: the decisions behind it.
        architecture_id: the canonical id of what they decode to; empty if it has no architecture.
        log_prob: log-probability (nats) of the tokens when they were sampled, or `None` where the searcher has none.
        reward: to learn from; `None` while the child is in training, or if the searcher must not learn from it.
        outcome: the result of its training; `None` while it is in training.
        notes: those of the proposal.
        same_as: the id of the child whose outcome it took, or `None` if it is trained itself.
        job: that of the proposal.
    """

    id: int
    tokens: tuple[int, ...]
    architecture_id: str
    log_prob: float | None = None
    reward: float | None = None
    outcome: Outcome | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    same_as: int | None = None
    job: Job | None = None

    @classmethod
    def reading_later(
        cls, child: int, tokens: tuple[int, ...], architecture_id: str, reward: float | None, read: Read, given: Any
    ) -> ChildRecord:
        """Return the record of an ended child whose other attributes are read when they are first asked for.

        Few searchers ask for them, and to make all of them takes most of the time that a long history takes.

        Args:
            child: its id.
            tokens, architecture_id, reward: of the record.
            read: returns any other attribute.
            given: what it is called with.
        """
        record = _new(cls)  # a frozen dataclass is filled past its `__setattr__`
        _set_id(record, child)
        _set_tokens(record, tokens)
        _set_architecture_id(record, architecture_id)
        _set_reward(record, reward)
        _set_read(record, read)
        _set_given(record, given)
        return record

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Read an attribute that has no value yet."""
            if name not in _READ_LATER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = self._read(name, self._given)
            object.__setattr__(self, name, value)
            return value


_READ_LATER = frozenset(ChildRecord.__slots__) - {"id", "tokens", "architecture_id", "reward"}
_new = object.__new__
_set_id, _set_tokens, _set_architecture_id, _set_reward, _set_read, _set_given = (
    getattr(ChildRecord, name).__set__ for name in ("id", "tokens", "architecture_id", "reward", "_read", "_given")
)


def reward_of(child: ChildRecord) -> float:
    """Return the reward of a child that the searcher may learn from."""
    assert child.reward is not None, f"child {child.id} has no reward"
    return child.reward


@dataclass(frozen=True, slots=True)
class Lane:
    """The identity under which the steps of a child change the shared weights, wherever and how often they are made.

    A replica has as many lanes as it has children with steps at once. The steps along a lane are numbered from 1.

    Attributes:
        replica: the replica's index.
        number: of the lane. Of the replica's children that have not ended, no two have the same.
        steps_before: the number of the last step of the lane's earlier children, 0 if it has none.
    """

    replica: int
    number: int
    steps_before: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """A proposal with the id that it was recorded under.

    Attributes:
        id: the child's.
        proposal: what it is.
        outcome: the result, once it has ended.
        reward: to learn from, if it has ended and earned one.
        lane: of its steps on shared weights; `None` if its job is another one.
    """

    id: int
    proposal: Proposal
    outcome: Outcome | None = None
    reward: float | None = None
    lane: Lane | None = None

    @property
    def record(self) -> ChildRecord:
        """What a searcher sees of it."""
        return ChildRecord(
            id=self.id,
            tokens=self.proposal.tokens,
            architecture_id=self.proposal.architecture_id,
            log_prob=self.proposal.log_prob,
            reward=self.reward,
            outcome=self.outcome,
            notes=self.proposal.notes,
            same_as=self.proposal.same_as,
            job=self.proposal.job,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Everything that a searcher may use.

    Attributes:
        parameters: the tensors pulled from the shards, by name.
        completed: how many children of the search have ended, failed ones included.
        history: returns the ended children in completion order. It includes those without a reward, from which a
            searcher must not learn. It is a function because few searchers need it.
        pending: returns the children that were sampled and have not ended. No child is in both, and every child that
            was sampled before the step is in one of them.
        rng: seeded for this step, so that a repeated step repeats its draws.
        turn: which of the searcher's passes over a batch this is, from 0.
    """

    parameters: Mapping[str, Tensor]
    completed: int
    history: Callable[[], Sequence[ChildRecord]]
    pending: Callable[[], Sequence[ChildRecord]]
    rng: random.Random
    turn: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """The result of one learning step.

    Attributes:
        gradients: pushed to the shards, by tensor name; empty without learning by gradient.
        figures: finite numbers of this step for the displays, such as the baseline; one that has no value is left out.
    """

    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionValues:
    """What a searcher thinks of the options of one decision, after its best decisions before it.

    Attributes:
        kind, layer: what is decided, and where in the network (0: for the network as a whole).
        options: the options' names.
        values: of each, the reward expected with it or its probability; `None` for one that is not allowed there.
    """

    kind: str
    layer: int
    options: tuple[str, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ValuesAt:
    """What a searcher thought of the options when it proposed a child."""

    child: ChildRecord
    values: tuple[OptionValues, ...]


class Searcher(Protocol):
    """Decides what to try next, and learns from the outcomes.

    Rules, held by `tests/contracts/searcher.py`:
    1. It keeps no state but what follows from the views: two instances give the same results at any time.
    2. `ask` returns the same proposals for the same view, at most `n`. If it returns none while children are pending,
       the replica waits until one has ended, and asks again. If it returns none while none is pending, the search ends.
    3. `learn` returns gradients only of tensors of `parameters()`, finite and with their shapes; or none.
    4. Notes are JSON: they are equal to what is read back.

    A searcher may have three attributes more; see `passes_of`, `is_exclusive` and `shared_weights_of`; a method by
    which children begin with the weights of others, see `kept_children`; and methods for people, see
    `option_values_of`, `value_history_of` and `stop_reason_of`. If it cannot work on a space, its constructor raises
    `ValueError` with the reason.
    """

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the tensors that the shards must hold, drawn from `seed`; none if nothing is learnt by gradient."""
        ...

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return up to `n` architectures to try next; none to wait for pending children, or to end the search."""
        ...

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the update from these children, which have ended and have a reward."""
        ...


def passes_of(searcher: Searcher) -> int:
    """Return how many gradient steps the searcher makes on each batch: its attribute `passes`, or 1.

    The parameters are pulled before each step, and `View.turn` counts the steps.
    """
    return getattr(searcher, "passes", 1)


def option_values_of(searcher: Searcher, view: View) -> tuple[OptionValues, ...]:
    """Return the values that the searcher learnt of the options along its best sample; none if it learns no values."""
    values = getattr(searcher, "option_values", None)
    return () if values is None else tuple(values(view))


def value_history_of(searcher: Searcher, view: View) -> tuple[ValuesAt, ...]:
    """Return the values of the options over the search; none if the searcher's children do not tell them."""
    history = getattr(searcher, "value_history", None)
    return () if history is None else tuple(history(view))


def stop_reason_of(searcher: Searcher, view: View) -> str:
    """Return why the searcher ends the search early, by its method `stop_reason`; empty if it does not."""
    reason = getattr(searcher, "stop_reason", None)
    return "" if reason is None else reason(view)


def is_exclusive(searcher: Searcher) -> bool:
    """Return whether no two replicas may ask for children from one view: the attribute `exclusive`, or false.

    Of such a searcher, proposals are dropped if another replica's were recorded since the view, and the replica asks
    again. So a level or a generation has each of its members once.
    """
    return getattr(searcher, "exclusive", False)


def shared_weights_of(searcher: Searcher) -> SharedWeights | None:
    """Return the weights that the searcher's children share: its attribute `shared_weights`, or `None`.

    Only such a searcher may propose children that are steps or scores.
    """
    return getattr(searcher, "shared_weights", None)


def keeps_weights(searcher: Searcher) -> bool:
    """Return whether children may begin with the weights of others: the searcher has a method `keeps`."""
    return hasattr(searcher, "keeps")


def kept_children(searcher: Searcher, view: View) -> frozenset[int]:
    """Return the ended children whose weights the searcher may still need, by its method `keeps(view)`.

    The weights of all its children are kept until they have ended and it does not name them. A child that has ended
    and is not named once must not be named later, nor be the parent of a new child. Such a searcher must be exclusive.
    At the start and the end of a run the view has no parameters.
    Only it may propose trainings that begin with another child's weights.
    """
    keeps: Callable[[View], frozenset[int]] = getattr(searcher, "keeps", lambda view: frozenset())
    return keeps(view)
