"""Plans a survey: which searches there are, in which order, and how each is configured. No torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from cluster.config.durations import parse_seconds
from cluster.config.flags import UsageError
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.storage.dataset_cache import located
from cluster.survey.schedules import open_ended
from cluster.survey.systems import SURVEYED, TASKS
from controller.catalogue import find_entry
from controller.searchers.weight_sharing.gradient_options import GradientOptions
from controller.searchers.weight_sharing.options import SharedWeightsOptions

RANDOM = "random"
"""The searcher beside every system, and how the names of its searches begin."""

RANDOM_EPOCHS = 10
"""Epochs of a child of random search in the space of a supernet, whose own children are not trained from scratch."""

RETRAINING = Budget(
    batch_size=32, learning_rate=0.05, weight_decay=1e-4, momentum=0.9, regime=Regime(schedule="cosine", clip_norm=5.0)
)
"""How all winners are trained from scratch; not for how many epochs."""

OWN_RATES = {"subnetworks": 1.0}
"""The learning rate of the final training in spaces whose networks have a loss of their own, as in their named run."""

MAX_SEEDS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        task: one of `TASKS`.
        budget_s: core-seconds of each search.
        seeds: searches of each system, with the seeds 1, 2 and so on.
        systems: words of `SURVEYED`; none: all.
        retrain_epochs: for how many epochs the winners are trained; `None`: as `TASKS` says.
        data: the folder with the images, or its URL.
        download: whether images that the folder lacks are fetched.
    """

    task: str
    budget_s: float
    seeds: int
    systems: tuple[str, ...] = ()
    retrain_epochs: int | None = None
    data: str | Path | None = None
    download: bool = False

    def __post_init__(self) -> None:
        find_entry(TASKS, self.task, "task of a survey")
        for word in self.systems:
            find_entry(SURVEYED, word, "system")
        if twice := next((word for place, word in enumerate(self.systems) if word in self.systems[:place]), None):
            raise UsageError(f"the system {twice!r} is named twice: name each once")
        for name, number, most in (("seeds", self.seeds, MAX_SEEDS), ("retrain-epochs", self.epochs, 100_000)):
            if not 1 <= number <= most:
                raise UsageError(f"`--{name}` must be 1 to {most:,}, got {number}")

    @property
    def epochs(self) -> int:
        """For how many epochs the winners are trained."""
        return TASKS[self.task].retrain_epochs if self.retrain_epochs is None else self.retrain_epochs


def parse_budget(text: str) -> float:
    """Return the core-seconds of a budget such as 30m; raises `ValueError` if it is none."""
    return parse_seconds("budget", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One search of the survey, with the training of its winner.

    Attributes:
        name: the name of its run, such as `darts-2`.
        of: the system's word, or `random-` and the space.
        seed: the search's.
        recipe: the search as its named run has it, but for the task.
    """

    name: str
    of: str
    seed: int
    recipe: RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A survey.

    Attributes:
        request: what is asked.
        systems: words of the systems.
        rivals: the random search beside each, in its space, by the system's word.
        cells: all searches, those of the first seed first.
    """

    request: Request
    systems: tuple[str, ...]
    rivals: Mapping[str, str]
    cells: tuple[Cell, ...]


def make_plan(request: Request) -> Plan:
    """Return the plan of a survey.

    Raises:
        ValueError: a system cannot search on the task.
    """
    systems = request.systems or tuple(SURVEYED)
    searches: dict[str, RunConfig] = {}
    rivals: dict[str, str] = {}
    for word in systems:
        config = system_config(word, request)
        searches[word] = config
        rival = random_config(config)
        known = next((name for name, other in searches.items() if other == rival), None)
        rivals[word] = known or _free(f"{RANDOM}-{rival.space}", searches)
        searches[rivals[word]] = rival
    cells = [
        Cell(name=f"{of}-{seed}", of=of, seed=seed, recipe=replace(config, seed=seed))
        for seed in range(1, request.seeds + 1)
        for of, config in searches.items()
    ]
    return Plan(request=request, systems=tuple(systems), rivals=rivals, cells=tuple(cells))


def _free(name: str, taken: Collection[str]) -> str:
    others = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in others if other not in taken)


def system_config(word: str, request: Request) -> RunConfig:
    """Return a system's search on the task, as its named run has it otherwise."""
    surveyed, task = SURVEYED[word], TASKS[request.task]
    config = RECIPES[surveyed.recipe]()
    if surveyed.searcher:
        config = config.with_searcher(surveyed.searcher)
    kept = config.task.task.partition("digits")[2]  # such as -subnetworks
    options = replace(config.task, task=f"{request.task}{kept}", data=located(request.data), download=request.download)
    problem, space = options.entry.problem, config.space_options
    assert problem is not None  # all tasks of a survey are of images
    if any(f.name == "image_size" for f in fields(space)):
        space = replace(space, image_size=problem.shape[1])
    return replace(
        config,
        local=True,
        task=options,
        space_options=space,
        budget=replace(config.budget, train_fraction=task.train_fraction),
        # The search ends at its budget rather than with the child that passes it.
        failures=replace(config.failures, checkpoint_children=True),
    )


def random_config(config: RunConfig) -> RunConfig:
    """Return random search in the space of a system, whose children it trains from scratch."""
    shared = isinstance(config.searcher_options, SharedWeightsOptions | GradientOptions)
    budget = replace(config.budget, epochs=RANDOM_EPOCHS) if shared else config.budget
    topology = replace(config.topology, replicas=1, shards=1, children=4, batching="stream")
    random = replace(config.with_searcher(RANDOM), budget=budget, topology=topology, reward="accuracy")
    return open_ended(random)


def retraining(config: RunConfig, epochs: int) -> Budget:
    """Return how the winner of a search is trained from scratch: all of them alike."""
    return replace(RETRAINING, epochs=epochs, learning_rate=OWN_RATES.get(config.space, RETRAINING.learning_rate))


def flags_of(budget: Budget) -> list[str]:
    """Return the flags of `nascluster launch` that set a whole budget, whatever the recipe's is."""
    settings: dict[str, Any] = {f.name: getattr(budget, f.name) for f in fields(budget) if f.name != "regime"}
    settings |= {f.name: getattr(budget.regime, f.name) for f in fields(budget.regime)}
    words: list[str] = []
    for name, value in settings.items():
        if value == ():
            continue
        words.append(f"--{name.replace('_', '-')}")
        words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return words


def estimate(cells: Sequence[Cell], plan: Plan, processes: int) -> str:
    """Return about how long these searches take, as a sentence."""
    systems, rivals = len(plan.systems), len(set(plan.rivals.values()))
    seconds = len(cells) * plan.request.budget_s / processes
    return (
        f"{counted(systems, 'system')} and random search in {counted(rivals, 'space')}, "
        f"{counted(plan.request.seeds, 'seed')}: {len(cells):,} {'search' if len(cells) == 1 else 'searches'}"
        f" of {duration(plan.request.budget_s)} of a core each, about {duration(seconds)} on"
        f" {counted(processes, 'core')}, and the training of {'the winner' if len(cells) == 1 else 'each winner'} for"
        f" {counted(plan.request.epochs, 'epoch')} after it"
    )
