"""What a search is for beside its metric: options, and whether a run can have them. No torch, no Ray."""

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from child_trainer import own_files
from child_trainer.close_names import suggestion
from child_trainer.field_types import check_types
from child_trainer.outcome import Measure
from cluster.config.task_options import TaskOptions
from controller.catalogue import SEARCHERS, SearcherEntry
from controller.objectives import COSTS, MNASNET_WEIGHT, Cost, Target

METRICS = tuple(str(measure) for measure in Measure)

MAX_WEIGHT = 10.0
"""A target's exponent is at least the negative of this."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What a search is for.

    The metric always counts. With a target, a cost is a factor of the reward; without one, evolution selects by Pareto
    rank.

    Raises:
        ValueError: an objective or a target is unknown, or cannot be understood.
    """

    objective: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    """What counts beside the metric, as `latency=min`; may be repeated: parameters, flops, seconds, latency of one
    image, or memory of the GPU."""
    target: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    """What a cost should be at most, such as latency=5ms or parameters=1M; may be repeated. The reward is multiplied by
    (cost / target) ** w (MnasNet)."""
    target_weights: tuple[float, float] = (MNASNET_WEIGHT, MNASNET_WEIGHT)
    """MnasNet's exponents w for a cost up to its target and for one above it; 0 -1 makes the target a hard one."""

    def __post_init__(self) -> None:
        check_types(self)
        names = [_objective_name(text) for text in self.objective]
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise ValueError(f"`objective` names {twice} twice: name each objective once")
        if not all(-MAX_WEIGHT <= weight <= 0 and math.isfinite(weight) for weight in self.target_weights):
            raise ValueError(
                f"`target_weights` must be two numbers from {-MAX_WEIGHT:g} to 0, so that a higher cost earns less, got"
                f" {' '.join(map(str, self.target_weights))}"
            )
        targeted = [target.cost.name for target in self.targets]
        if twice := next((name for place, name in enumerate(targeted) if name in targeted[:place]), None):
            raise ValueError(f"`target` has {twice} twice: give one target for each cost")
        if missing := next((name for name in targeted if name not in names), None):
            raise ValueError(f"`target` has {missing}, which is no objective: give `--objective {missing}=min`, too")

    @property
    def metric(self) -> str | None:
        """The metric that is named among the objectives, if one is."""
        return next((name for name in map(_objective_name, self.objective) if name in METRICS), None)

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The costs that count, in the order in which they were given."""
        return tuple(COSTS[name] for name in map(_objective_name, self.objective) if name in COSTS)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of costs, each with its exponents."""
        below, above = self.target_weights
        return tuple(Target(cost=cost, value=value, below=below, above=above) for cost, value in self._amounts())

    @property
    def ranked_costs(self) -> tuple[Cost, ...]:
        """The costs without a target, which can only be compared by Pareto rank."""
        targeted = {target.cost.name for target in self.targets}
        return tuple(cost for cost in self.costs if cost.name not in targeted)

    def _amounts(self) -> list[tuple[Cost, float]]:
        amounts: list[tuple[Cost, float]] = []
        for text in self.target:
            name, equals, amount = text.partition("=")
            if name not in COSTS or not equals:
                raise ValueError(
                    f"`target` must be one of {', '.join(COSTS)} with an amount, such as latency=5ms, got {text!r}"
                    + suggestion(name, COSTS)
                )
            try:
                amounts.append((COSTS[name], COSTS[name].amount(amount)))
            except ValueError as error:
                raise ValueError(f"`target` {error}") from error
        return amounts


NO_OBJECTIVES = ObjectiveOptions()


def check_objectives(
    objectives: ObjectiveOptions, task: TaskOptions, searcher: str, entry: SearcherEntry, *, gpus: bool
) -> None:
    """Raise `ValueError` if the children of the task lack an objective, or the searcher cannot go by it.

    Args:
        objectives: of the run.
        task: of the run.
        searcher: its name.
        entry: the searcher's.
        gpus: whether the run says that its children have GPUs.
    """
    if objectives.metric not in (None, str(task.entry.measure)):
        raise ValueError(
            f"`objective` {objectives.metric} is not of the task {task.task!r}, whose metric is the"
            f" {task.entry.measure}"
        )
    known = (*task.entry.costs_with(task.options), *(("memory",) if gpus and task.entry.trains else ()))
    if unknown := next((cost.name for cost in objectives.costs if cost.name not in known), None):
        raise ValueError(
            f"`objective` {unknown} is not known of the children of the task {task.task!r}{_lacking(unknown, task)};"
            f" these have {', '.join(known) or 'no costs'}"
        )
    if objectives.costs and entry.several_objectives == "refused":
        raise ValueError(
            f"`objective` is not for the searcher {searcher!r}, which follows the gradient of a loss and no reward: its"
            " option `--cost` holds costs down"
        )
    ranked = objectives.ranked_costs
    if ranked and entry.several_objectives == "by-target" and not own_files.is_own(searcher):
        able = ", ".join(name for name, other in SEARCHERS.items() if other.several_objectives == "by-rank")
        raise ValueError(
            f"`objective` {ranked[0].name} needs a `target`, such as `--target {ranked[0].example}`: the searcher"
            f" {searcher!r} learns from one number; {able} selects by Pareto rank without one, and random takes any"
        )


def _lacking(cost: str, task: TaskOptions) -> str:
    """Return what would make a cost known, as the end of a clause; empty if nothing would."""
    if cost == "latency" and hasattr(task.options, "latency_device"):
        return " without `--latency-device`"
    if cost == "memory" and task.entry.trains:
        return " without `--gpus-per-child`, which says that they have a GPU"
    return ""


def _objective_name(text: str) -> str:
    """Return the name in `NAME` or `NAME=min` or `NAME=max`.

    Raises:
        ValueError: there is no such objective, or its best is at the other end.
    """
    name, equals, direction = text.partition("=")
    if name not in (*METRICS, *COSTS):
        known = (*METRICS, *COSTS)
        raise ValueError(
            f"`objective` must be the task's metric or one of {', '.join(COSTS)}, got {text!r}{suggestion(name, known)}"
        )
    right = "min" if name in COSTS or Measure(name).lower_is_better else "max"
    if equals and direction != right:
        raise ValueError(f"`objective` {name} must be {name}={right}, got {text!r}")
    return name
