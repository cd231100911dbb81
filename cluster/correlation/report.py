"""Rank correlations of what predicts how good architectures are with how good they are. Pure."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from cluster.correlation.shared_scores import Scored
from controller.statistics import kendall, kendall_by_chance, spearman

BEST_SHARE = 0.1
"""The share of the architectures, the best by the truth, within which correlations are computed besides."""

FEWEST_BEST = 5
"""Architectures with fewer of which within the best tenth no correlation is computed there."""

PREDICTORS: Mapping[str, tuple[str, Callable[[Scored], float]]] = MappingProxyType(
    {
        "refit": ("score, normalisation refit", lambda scored: scored.refit),
        "likelihood": ("likelihood, normalisation refit", lambda scored: scored.likelihood),
        "plain": ("score, as it is", lambda scored: scored.plain),
        "parameters": ("parameters", lambda scored: scored.parameters),
        "flops": ("FLOPs", lambda scored: scored.flops),
    }
)
"""What predicts, by its key: words for it, and its value."""


class Judged(NamedTuple):
    """A scored architecture, and its accuracy by the truth."""

    scored: Scored
    truth: float


@dataclass(frozen=True, slots=True)
class Correlations:
    """Rank correlations of a predictor with the truth; `None` where there are too few different values.

    Attributes:
        kendall, spearman: over all architectures.
        best_kendall, best_spearman: over the best of them, where these are `FEWEST_BEST` at least.
    """

    kendall: float | None
    spearman: float | None
    best_kendall: float | None
    best_spearman: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """How well shared weights rank architectures.

    Attributes:
        run: whose weights they are.
        task: that the weights were trained on.
        steps: that the children which have ended made on the weights.
        truth: what the truth is, in words.
        judged: the architectures, in the order in which they were drawn.
        unjudged: how many have no score or no truth.
    """

    run: str
    task: str
    steps: int
    truth: str
    judged: Sequence[Judged]
    unjudged: int

    @property
    def best(self) -> Sequence[Judged]:
        """The best tenth by the truth, the first ones of equal ones."""
        ranked = sorted(self.judged, key=lambda judged: -judged.truth)
        return ranked[: math.ceil(BEST_SHARE * len(ranked))]

    @property
    def has_best(self) -> bool:
        """Whether enough of them are within the best tenth for a correlation there."""
        return len(self.best) >= FEWEST_BEST

    @property
    def correlations(self) -> dict[str, Correlations]:
        """The correlations by the key of the predictor."""
        best = self.best if self.has_best else ()

        def pairs(judged: Sequence[Judged], value: Callable[[Scored], float]) -> list[tuple[float, float]]:
            return [(value(each.scored), each.truth) for each in judged]

        return {
            key: Correlations(*(f(pairs(part, value)) for part in (self.judged, best) for f in (kendall, spearman)))
            for key, (_, value) in PREDICTORS.items()
        }

    def lines(self) -> Iterator[str]:
        """Yield lines with a table for people."""
        yield (
            f"{self.run}: {len(self.judged)} random architectures, scored on {self.task} with the shared weights after"
            f" {self.steps:,} steps"
        )
        yield f"truth: {self.truth}"
        if self.unjudged:
            yield f"left out: {self.unjudged} whose score or training failed"
        yield ""
        width = max(len(words) for words, _ in PREDICTORS.values())
        inner = f"within the best {len(self.best)}:"
        head = f"{'':{width}}   Kendall  Spearman"
        yield f"{head}   {inner}  Kendall  Spearman" if self.has_best else head
        for key, one in self.correlations.items():
            over_all, over_best = (
                f"{_number(kendall):>8}  {_number(spearman):>8}"
                for kendall, spearman in ((one.kendall, one.spearman), (one.best_kendall, one.best_spearman))
            )
            row = f"{PREDICTORS[key][0]:{width}}  {over_all}"
            yield f"{row}   {'':{len(inner)}} {over_best}" if self.has_best else row
        yield ""
        yield self._chance()

    def _chance(self) -> str:
        """Return a sentence on what chance alone gives."""
        count, best = len(self.judged), len(self.best)
        text = (
            f"Without any relation, Kendall of {count} lies within ±{kendall_by_chance(count):.2f} in 95 of 100 cases"
        )
        if self.has_best:
            return f"{text}, and of {best} within ±{kendall_by_chance(best):.2f}."
        more = math.ceil((FEWEST_BEST - 1) / BEST_SHARE) + 1
        return f"{text}. Within the best tenth there are too few: {more} architectures have {FEWEST_BEST} there."

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return {
            "run": self.run,
            "task": self.task,
            "steps": self.steps,
            "truth": self.truth,
            "architectures": len(self.judged),
            "best": len(self.best),
            "left_out": self.unjudged,
            "predictors": {
                key: {
                    "kendall": one.kendall,
                    "spearman": one.spearman,
                    "best_kendall": one.best_kendall,
                    "best_spearman": one.best_spearman,
                }
                for key, one in self.correlations.items()
            },
            "samples": [
                {
                    "tokens": list(scored.sample.tokens),
                    "architecture_id": scored.sample.architecture.id,
                    "truth": truth,
                    **{key: value(scored) for key, (_, value) in PREDICTORS.items()},
                }
                for scored, truth in self.judged
            ],
        }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
