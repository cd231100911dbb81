"""Fits the schedule of a search to a budget, where it depends on how many children there are. Pure.

A schedule that says what each child is for (the steps of a supernet, the levels of PNAS, the epsilon of MetaQNN) would
end long before a budget, or long after it. A few children of each kind are run first, the probe; from what they take
follows how long the schedule may be. Likewise a population is no larger than the search allows. What a searcher does
without a schedule goes on until the budget ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from cluster.config.run_checks import MAX_CHILDREN
from cluster.config.run_config import RunConfig
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.transformations.options import EasOptions
from controller.searchers.weight_sharing.gradient_options import GradientOptions, ProxylessOptions
from controller.searchers.weight_sharing.options import TrainThenScoreOptions
from controller.searchers.weight_sharing.path_options import EnasOptions, SmashOptions

PROBED = 2
"""Children of a probe where all children are of one kind."""

PROBED_STEPS, PROBED_SCORES = 2, 3
"""Children of a probe that train a supernet, and that score a path."""

RANDOM_SHARE = 3
"""One child of so many, at most, is random as it is one of the first: of a population, or before a surrogate."""

GRADIENT_STEPS = 10
"""Steps of an epoch of a probe where strengths are learnt by gradient, which takes longer."""

TRAINED = "trained"
"""The kind of children that are trained by themselves."""

HALVINGS = 40
"""How often the bounds of the factor are halved: to the last bit that matters."""

MAX_FACTOR = 1_000.0
"""How many times longer than in its named run a schedule becomes at most."""

SharedOptions = EnasOptions | TrainThenScoreOptions | GradientOptions
"""The options of searchers whose children share weights."""


class Work(NamedTuple):
    """What a child does: children of one kind take as long for one unit of it.

    Attributes:
        kind: the kind.
        amount: the steps that it makes; 1 of another kind.
    """

    kind: str
    amount: int


def works(config: RunConfig) -> list[Work]:
    """Return what each child of a search does, in the order in which they are sampled."""
    options = config.searcher_options
    if not isinstance(options, SharedOptions):
        return [Work(TRAINED, 1)] * config.max_children
    found: list[Work] = []
    for number in range(config.max_children):
        slot = options.slot(number)
        if slot is None:
            break
        what = "steps" if slot.steps else "score"
        found.append(Work(f"{what}{_stage(options, slot.phase)}", slot.steps or 1))
    return found


def _stage(options: SharedOptions, phase: int) -> str:
    """Return what distinguishes children of two phases that both make steps, or score."""
    match options:
        case ProxylessOptions() if phase // 2 < options.weights_only_epochs:
            return " of the weights alone"
        case EnasOptions() if phase >= 2 * options.search_epochs:
            return " at last"
    return ""


def costs(done: Iterable[tuple[Work, float]]) -> dict[str, float]:
    """Return the seconds of a unit of each kind, as the children of a probe show.

    Args:
        done: what each child does, and the seconds that it took.
    """
    amounts, seconds = dict[str, int](), dict[str, float]()
    for work, took in done:
        amounts[work.kind] = amounts.get(work.kind, 0) + work.amount
        seconds[work.kind] = seconds.get(work.kind, 0.0) + took
    return {kind: seconds[kind] / amounts[kind] for kind in amounts}


def probe(config: RunConfig) -> RunConfig | None:
    """Return a search of a few children of each kind that the search has; `None` if it has no such schedule."""
    match config.searcher_options:
        case EnasOptions() | TrainThenScoreOptions() | GradientOptions() as options:
            return _shared_probe(config, options)
        case ProgressiveOptions():  # at random: its own first children are the smallest
            return replace(config.with_searcher("random"), max_children=PROBED)
        case QLearningOptions() | EasOptions() | EvolutionOptions() | BayesianOptions():
            return replace(config, max_children=PROBED)
    return None


def _shared_probe(config: RunConfig, options: SharedOptions) -> RunConfig:
    match options:
        case SmashOptions():
            scores = {"random_paths": PROBED_SCORES - 1}
            return _train_then_score(config, PROBED_STEPS, PROBED_SCORES, **scores)
        case TrainThenScoreOptions():
            return _train_then_score(config, PROBED_STEPS, PROBED_SCORES)
        case EnasOptions():
            steps = PROBED_STEPS * options.steps_per_child
            changes = {"search_epochs": 1, "steps_per_epoch": steps, "policy_children": PROBED_SCORES}
            return _shared(config, replace(options, **changes), PROBED_SCORES)
        case ProxylessOptions():
            first = min(1, options.weights_only_epochs)
            changes = {"search_epochs": 1, "weights_only_epochs": first, "steps_per_epoch": GRADIENT_STEPS}
            return _shared(config, replace(options, **changes), 0)
        case _:
            return _shared(config, replace(options, search_epochs=1, steps_per_epoch=GRADIENT_STEPS), 0)


def fitted(config: RunConfig, unit_s: Mapping[str, float], seconds: float) -> RunConfig:
    """Return the search with the longest schedule that takes no more than so many seconds, at the least the shortest.

    Args:
        config: the search as it is in its named run.
        unit_s: from `costs`.
        seconds: what the search may take.
    """
    options: Any = config.searcher_options
    if not isinstance(options, SharedOptions):
        return _of_children(config, options, max(1, int(seconds / unit_s[TRAINED])))
    low, high = 0.0, MAX_FACTOR
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(scaled(config, middle), unit_s) <= seconds else (low, middle)
    return scaled(config, low)


def cost(config: RunConfig, unit_s: Mapping[str, float]) -> float:
    """Return the seconds of a whole search with shared weights; kinds that no probe has shown cost nothing.

    It equals the sum over `works`, without a list of the children, which may be millions.
    """
    options: Any = config.searcher_options
    match options:
        case EnasOptions():
            amounts = {
                "steps": options.search_epochs * options.steps_per_epoch,
                "score": options.search_epochs * options.policy_children,
                "score at last": config.max_children - options.searching_children,
            }
        case TrainThenScoreOptions():
            amounts = {"steps": options.supernet_steps, "score": config.max_children - options.training_children}
        case _:
            alone = options.epochs - options.search_epochs
            amounts = {
                "steps": options.search_epochs * options.steps_per_epoch,
                "steps of the weights alone": alone * options.steps_per_epoch,
                "score": options.search_epochs,
                "score of the weights alone": alone,
            }
    return sum(amount * unit_s.get(kind, 0.0) for kind, amount in amounts.items())


def scaled(config: RunConfig, factor: float) -> RunConfig:
    """Return a search with shared weights that has so many times the steps, and as many times the scores.

    The number of epochs stays, and with it the shape of all learning rates.
    """
    options: Any = config.searcher_options

    def times(count: int, least: int) -> int:
        return max(least, round(factor * count))

    match options:
        case SmashOptions():
            random = times(options.random_paths, 1)
            others = times(config.max_children - options.training_children - options.random_paths, 1)
            return _train_then_score(config, times(options.training_children, 1), random + others, random_paths=random)
        case TrainThenScoreOptions():
            scores = times(config.max_children - options.training_children, 1)
            return _train_then_score(config, times(options.training_children, 1), scores)
        case EnasOptions():
            changes = {
                "steps_per_epoch": times(options.steps_per_epoch, 1),
                "policy_children": times(options.policy_children, 1),
            }
            last = times(config.max_children - options.searching_children, 1)
            return _shared(config, replace(options, **changes), last)
        case _:
            return _shared(config, replace(options, steps_per_epoch=times(options.steps_per_epoch, 1)), 0)


def _train_then_score(config: RunConfig, training: int, scores: int, **changes: int) -> RunConfig:
    """Return a search of which so many children train the supernet, and so many score its paths."""
    options = config.searcher_options
    changed = replace(options, supernet_steps=training * options.steps_per_child, **changes)
    return replace(config, searcher_options=changed, max_children=training + scores)


def _shared(config: RunConfig, options: EnasOptions | GradientOptions, last: int) -> RunConfig:
    """Return a search with these options, and so many scores after its epochs."""
    epochs = options.searching_children if isinstance(options, EnasOptions) else options.num_children
    return replace(config, searcher_options=options, max_children=epochs + last)


def _of_children(config: RunConfig, options: Any, children: int) -> RunConfig:
    """Return a search whose schedule is for so many children; where they cost less, the search has more."""
    match options:
        case QLearningOptions():
            options = replace(options, schedule_models=children)
        case EvolutionOptions() if options.population is not None:
            population = max(2, min(options.population, children // RANDOM_SHARE))
            drawn = options.tournament and max(1, options.tournament * population // options.population)
            options = replace(options, population=population, tournament=drawn)
        case BayesianOptions():
            options = replace(options, random_starts=max(2, min(options.random_starts, children // RANDOM_SHARE)))
        case EasOptions():
            options = replace(options, stage_children=()).for_children(children)
        case ProgressiveOptions():
            levels = config.space_options.blocks - 1
            first = config.max_children - levels * options.beam  # all cells of one block
            options = replace(options, beam=max(1, (children - first) // levels))
    return replace(config, searcher_options=options, max_children=MAX_CHILDREN)


def open_ended(config: RunConfig) -> RunConfig:
    """Return a search without a schedule, which only its budget ends."""
    return replace(config, max_children=MAX_CHILDREN)


def fit_text(config: RunConfig, recipe: RunConfig) -> str:
    """Return in which options a search differs from its named run by its budget, such as `beam 9`; may be empty."""
    ours, theirs = config.searcher_options, recipe.searcher_options
    if type(ours) is not type(theirs):
        return ""
    names = (
        "supernet_steps",
        "random_paths",
        "steps_per_epoch",
        "policy_children",
        "schedule_models",
        "beam",
        "population",
    )
    names += ("tournament", "random_starts")
    changed = [
        f"{name.replace('_', ' ')} {getattr(ours, name):,}"
        for name in names
        if getattr(ours, name, None) != getattr(theirs, name, None)
    ]
    stages = getattr(ours, "stage_children", ())
    if stages != getattr(theirs, "stage_children", ()):
        changed.append(f"stages of {' and '.join(map(str, stages))} children")
    return ", ".join(changed)
