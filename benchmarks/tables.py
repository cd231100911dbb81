"""Further tables for measurements: NAS-Bench-201's other data sets, and additive ones of any size.

They are parts of a user's own kind (docs/extending.md): `--task benchmarks/tables.py:CIFAR100`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from child_trainer.architectures.nasbench201 import cell_name, cell_of
from child_trainer.tasks.lookup_table import read_rows
from nascluster import (
    Answer,
    Architecture,
    Choice,
    Decisions,
    InvalidTokens,
    Measure,
    Table,
    TaskEntry,
    check_tokens,
    node,
)

MEAN = 0.92
"""Mean accuracy of an additive table."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Chains of convolutions, of which each has one of some numbers of filters."""

    layers: int = 8
    """Convolutions."""
    widths: int = 3
    """Numbers of filters that each may have."""

    @property
    def kind(self) -> str:
        """The kind of its architectures."""
        return "feedforward"

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of the numbers of filters."""
        return tuple(Choice("filters", tuple(range(1, self.widths + 1)), layer + 1) for layer in range(self.layers))

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice."""
        return {choice.name: len(choice.options) for choice in self.decisions(0) if isinstance(choice, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, one for each layer."""
        if num_tokens != self.layers:
            raise InvalidTokens(f"a chain takes {self.layers} tokens, got {num_tokens}")
        return self.decisions(0)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the chain of these tokens."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        names = ["image", *(f"conv{layer}" for layer in range(self.layers))]
        nodes = tuple(
            node(names[layer + 1], "conv", names[layer], filters=token + 1, height=3, width=3)
            for layer, token in enumerate(tokens)
        )
        return Architecture("feedforward", nodes, (names[-1],))


@dataclass(frozen=True, kw_only=True)
class AdditiveOptions:
    """Options of an additive table."""

    sizes: tuple[int, int] = (8, 3)
    """Layers and widths of the `Chain`."""
    deviation: float = 0.01
    """Standard deviation of the additive part of the accuracies."""
    interaction: float = 0.3
    """Standard deviation of what is not additive in an accuracy, as a share of that of the sums."""
    table_seed: int = 0
    """Seed of its accuracies."""


def check(name: str, data: Path | None, options: Any, *, download: bool) -> None:
    """Load the table, which reads its file."""
    load(name, data, options, seed=0, device="cpu")


def load(name: str, data: Path | None, options: Any, *, seed: int, device: str) -> Table:
    """Return the table of the data set that the task's name ends with, or the additive one of these options."""
    if isinstance(options, AdditiveOptions):
        return Table(name=name, answers=dict(additive_answers(options)), key=widths_of)
    validation, test = COLUMNS[name.rpartition(":")[2]]
    rows = read_rows((data or Path()) / "nasbench201.csv", ("arch", validation, test))
    answers = {
        row.text("arch"): Answer(row.number(validation, 100) / 100, 1.0, test=row.number(test, 100) / 100)
        for row in rows
    }
    return Table(name=name, answers=answers, key=lambda architecture: cell_name(cell_of(architecture)))


def widths_of(architecture: Architecture) -> str:
    """Return the key of a chain: its numbers of filters."""
    return " ".join(str(layer.attribute("filters")) for layer in architecture.nodes)


def additive_answers(options: AdditiveOptions) -> Iterator[tuple[str, Answer]]:
    """Yield key and answer of each chain.

    An accuracy is the sum of one normal number for each layer's width and one for the whole chain; `test` is the
    accuracy without the latter.
    """
    layers, widths = options.sizes
    rng = random.Random(options.table_seed)
    worth = [[rng.gauss(0, 1) for _ in range(widths)] for _ in range(layers)]
    worth = [[value - fmean(choices) for value in choices] for choices in worth]
    scale = options.deviation / sum(pstdev(choices) ** 2 for choices in worth) ** 0.5
    for tokens in product(range(widths), repeat=layers):
        accuracy = MEAN + scale * sum(choices[token] for choices, token in zip(worth, tokens, strict=True))
        observed = accuracy + rng.gauss(0, options.interaction * options.deviation)
        yield (
            " ".join(str(token + 1) for token in tokens),
            Answer(min(observed, 1.0), 1.0, test=min(accuracy, 1.0)),
        )


COLUMNS = {"CIFAR100": ("c100_valid_12", "c100_test_200"), "IMAGENET16": ("in16_valid_12", "in16_test_200")}
"""Columns of the validation and the test accuracy, in percent."""


def _entry(summary: str, space: str | None, options: type | None = None) -> TaskEntry:
    return TaskEntry(
        summary=summary,
        family="table",
        kinds=("feedforward",),
        measure=Measure.ACCURACY,
        spaces=None if space is None else (space,),
        trains=False,
        instant=lambda options: True,
        module=__name__,
        **({} if options is None else {"options": options}),
    )


CIFAR100 = _entry("NAS-Bench-201's CIFAR-100 after 12 epochs", "nasbench201")
IMAGENET16 = _entry("NAS-Bench-201's ImageNet16-120 after 12 epochs", "nasbench201")
ADDITIVE = _entry("chains of convolutions whose accuracy is nearly additive", None, AdditiveOptions)
