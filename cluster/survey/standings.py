"""Summarises a survey: what each system's winners reach beside those of random search, over the seeds. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.survey.files import CellResult
from cluster.survey.plan import Plan
from cluster.survey.systems import LEFT_OUT, SURVEYED
from controller.statistics import Interval, bootstrap_band, bootstrap_draws, bootstrap_interval, step_function

DRAWS_SEED = 0
"""Seed of the bootstrap's draws, so that one survey has one set of intervals."""

NUM_POINTS = 60
"""Intervals into which the curves divide the budget."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The mean over seeds, and its interval; with one seed there is none."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A system, and random search in its space.

    Attributes:
        word: the system's.
        results, rivals: of the seeds of which both have an accuracy, in the same order.
        lost: why each seed is left out of which one of the two has none, by the seed.
        accuracy, rival: of the winners after the training that is alike for all.
        ahead: the difference of each seed.
    """

    word: str
    results: Sequence[CellResult]
    rivals: Sequence[CellResult]
    lost: Mapping[int, str]

    @property
    def name(self) -> str:
        """The system, for people."""
        return SURVEYED[self.word].name

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that count."""
        return tuple(result.seed for result in self.results)

    @property
    def accuracy(self) -> Bounds | None:
        """The accuracy of the system's winners; `None` without a seed."""
        return bounds(_accuracies(self.results))

    @property
    def rival(self) -> Bounds | None:
        """The accuracy of the winners of random search."""
        return bounds(_accuracies(self.rivals))

    @property
    def differences(self) -> list[float]:
        """How far the system is ahead of random search, for each seed."""
        return [a - b for a, b in zip(_accuracies(self.results), _accuracies(self.rivals), strict=True)]

    @property
    def ahead(self) -> Bounds | None:
        """The mean of the differences."""
        return bounds(self.differences)

    @property
    def by_validation(self) -> bool:
        """Whether the accuracy is of validation images."""
        return any(result.by_validation for result in self.results)

    @property
    def scored(self) -> bool:
        """Whether the search gives scores with shared weights."""
        return any(result.scored for result in self.results)

    def mean(self, name: str) -> float | None:
        """Return the mean over seeds of a number of the results: `children`, `parameters`, `spent`, `retrained_s`."""
        values = [value for result in self.results if (value := getattr(result, name)) is not None]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A survey.

    Attributes:
        plan: what was asked.
        standings: of each system of which a search has ended, in the plan's order.
        missing: names of the systems of which none has.
        grid: the core-seconds of the points of the curves.
        results: all results by the cell's kind.
    """

    plan: Plan
    standings: Sequence[Standing]
    missing: Sequence[str]
    grid: Sequence[float]
    results: Mapping[str, Sequence[CellResult]]

    def curve(self, of: str, seeds: Sequence[int]) -> list[Bounds | None]:
        """Return the best accuracy so far at each point of the grid; `None` where a seed has no child yet."""
        curves = [
            step_function(*_columns(result.curve), self.grid) for result in self.results[of] if result.seed in seeds
        ]
        if len(curves) > 1:
            band = bootstrap_band(curves, bootstrap_draws(len(curves), DRAWS_SEED))
            return [at and Bounds(mean=at.mean, interval=at) for at in band]
        return [None if value is None else Bounds(mean=value, interval=None) for curve in curves for value in curve]

    def verdicts(self) -> list[str]:
        """Return sentences on which systems are ahead of random search with every seed, and which lose to it."""
        several = [standing for standing in self.standings if len(standing.differences) > 1]
        if not several:
            return []
        ahead = [one.name for one in several if min(one.differences) > 0]
        behind = [one.name for one in several if max(one.differences) < 0]
        others = [one.name for one in several if one.name not in (*ahead, *behind)]
        sentences = [
            ("ahead of random search with every seed", ahead),
            ("behind it with every seed", behind),
            ("neither", others),
        ]
        return [f"{what.capitalize()}: {'; '.join(names) if names else 'none'}." for what, names in sentences]

    def fits(self) -> dict[str, str]:
        """Return how the budget has changed the schedules of the first seed, by the system's name."""
        return {one.name: one.results[0].fit for one in self.standings if one.results and one.results[0].fit}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        request = self.plan.request
        return {
            "task": request.task,
            "budget_core_seconds": request.budget_s,
            "retrain_epochs": request.epochs,
            "seeds": request.seeds,
            "systems": [_standing_json(one) for one in self.standings],
            "missing": list(self.missing),
            "left_out": dict(LEFT_OUT),
        }


def bounds(values: Sequence[float]) -> Bounds | None:
    """Return the mean of the values and its 95 % bootstrap interval, which needs two of them; `None` of none."""
    if len(values) > 1:
        interval = bootstrap_interval(values, bootstrap_draws(len(values), DRAWS_SEED))
        return Bounds(mean=interval.mean, interval=interval)
    return Bounds(mean=values[0], interval=None) if values else None


def summarize(plan: Plan, results: Mapping[str, Sequence[CellResult]]) -> Summary:
    """Summarise the results that are there.

    Args:
        plan: the survey.
        results: by the system's word, or by what random search is called.
    """
    standings = [_standing(plan, word, results) for word in plan.systems if results.get(word)]
    budget = plan.request.budget_s
    return Summary(
        plan=plan,
        standings=standings,
        missing=[SURVEYED[word].name for word in plan.systems if not results.get(word)],
        grid=[budget * step / NUM_POINTS for step in range(NUM_POINTS + 1)],
        results=results,
    )


def _standing(plan: Plan, word: str, results: Mapping[str, Sequence[CellResult]]) -> Standing:
    ours = {result.seed: result for result in results[word]}
    theirs = {result.seed: result for result in results.get(plan.rivals[word], ())}
    both = [seed for seed in ours if seed in theirs]
    whole = [seed for seed in both if ours[seed].accuracy is not None and theirs[seed].accuracy is not None]
    lost = {
        seed: " and ".join(
            f"{who} has no accuracy ({one.cause})"
            for who, one in (("its winner", ours[seed]), ("that of random search", theirs[seed]))
            if one.accuracy is None
        )
        for seed in both
        if seed not in whole
    }
    return Standing(
        word=word,
        results=[ours[seed] for seed in whole],
        rivals=[theirs[seed] for seed in whole],
        lost=lost,
    )


def _accuracies(results: Sequence[CellResult]) -> list[float]:
    return [result.accuracy for result in results if result.accuracy is not None]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [spent for spent, _ in points], [metric for _, metric in points]


def _standing_json(one: Standing) -> dict[str, Any]:
    surveyed = SURVEYED[one.word]
    return {
        "system": one.word,
        "name": one.name,
        "recipe": surveyed.recipe,
        "paper": surveyed.source,
        "reported": surveyed.reported,
        "seeds": list(one.seeds),
        "accuracy": _bounds_json(one.accuracy),
        "random": _bounds_json(one.rival),
        "ahead": _bounds_json(one.ahead),
        "of": "validation images" if one.by_validation else "test images",
        "children": one.mean("children"),
        "parameters": one.mean("parameters"),
        "core_seconds": one.mean("spent"),
        "training_core_seconds": one.mean("retrained_s"),
        "schedules": [result.fit for result in one.results],
        "lost": {str(seed): fault for seed, fault in one.lost.items()},
    }


def _bounds_json(value: Bounds | None) -> dict[str, float] | None:
    if value is None:
        return None
    ends = {} if value.interval is None else {"low": value.interval.low, "high": value.interval.high}
    return {"mean": value.mean, **ends}
