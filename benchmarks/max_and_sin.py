"""The paper's first control experiment: the search for recurrent cells with max and sin among the functions.

    python -m benchmarks.max_and_sin [seeds] [RUNS]

Zoph & Le 2017, section 4.2: with max as a further combination and sin as a further activation, the search finds cells
as good as without, and the best does not use sin. Here the policy gradient searches cells of base 8 for the prose of
Python's own manual in both spaces: 200 children, each trained on 15 % of the text once. Printed are the perplexities of
the best 1, 5 and 15 distinct cells of each search, how often the policy chooses max and sin at first and at last, and
the test perplexity of each best cell after a longer training. RUNS keeps the searches as runs and the last trainings,
so that the same command continues after an interruption; without it they are not kept.
"""

import contextlib
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.runs import children
from benchmarks.text_models import train_and_test
from child_trainer.atomic_file import replace_file
from child_trainer.outcome import Budget
from child_trainer.seeding import derive
from child_trainer.tasks.language import LanguageTask
from cluster.config.recipes import RECIPES
from cluster.formatting import counted
from cluster.runners.trainer import loaded_task
from controller.decisions import Tokens
from controller.searcher import ChildRecord
from controller.spaces.recurrent import RecurrentSpace
from controller.statistics import TOPS, top_means

SEEDS = 3
CHILDREN = 200
PART = 50
"""The first and the last children of a search in which the policy's choices are counted."""

LAST = replace(RECIPES["text-rnn"]().budget, epochs=5)
"""How the best cell of each search is trained in the end: on the whole text."""

SPACES = {
    "the paper's functions": RecurrentSpace(),
    "with max and sin": RecurrentSpace(
        combinations=("elem_mult", "add", "max"), activations=("identity", "tanh", "sigmoid", "relu", "sin")
    ),
}

SEARCH = (
    *("launch", "text-rnn", "--local", "--replicas", "1", "--shards", "1"),
    *("--epochs", "1", "--train-fraction", "0.15"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What one search has found.

    Attributes:
        tops: mean validation perplexity of the best 1, 5 and 15 distinct cells.
        different: the distinct cells among the children.
        first: shares of max among the combinations and of sin among the activations of the first children.
        last: that of the last children.
        used: how often the best cell uses max and sin.
        test: its test perplexity after the longer training; infinite if it diverged.
        seconds: of all trainings of the search.
    """

    tops: tuple[float, ...]
    different: int
    first: tuple[float, float]
    last: tuple[float, float]
    used: tuple[int, int]
    test: float
    seconds: float


def flags(space: RecurrentSpace) -> tuple[str, ...]:
    """Return the flags that make a space."""
    functions = ("--combinations", *space.combinations, "--activations", *space.activations)
    return ("--base", str(space.base), *functions)


def found(
    name: str,
    seed: int,
    folder: Path,
    *,
    count: int = CHILDREN,
    search: Sequence[str] = SEARCH,
    last: Budget = LAST,
) -> Found:
    """Run what the folder lacks of a search and of the training of its best cell; return what it has found."""
    space = SPACES[name]
    label = f"{name.replace(' ', '-').replace(chr(39), '')}-{seed}"
    history = children(folder, label, seed, (*search, *flags(space)), count)[:count]
    judged = [(child, perplexity(child)) for child in history]
    best = min(judged, key=lambda each: each[1])[0]
    architecture = space.decode(best.tokens).pruned()
    ops = [node.op for node in architecture.nodes]
    return Found(
        tops=tuple(-mean for mean in top_means([(child.architecture_id, -value) for child, value in judged])),
        different=len({child.architecture_id for child in history}),
        first=shares(space, [child.tokens for child in history[:PART]]),
        last=shares(space, [child.tokens for child in history[-PART:]]),
        used=(ops.count("maximum"), ops.count("sin")),
        test=tested(folder / f"{label}.json", space, best.tokens, seed, last),
        seconds=sum(child.outcome.seconds for child in history if child.outcome),
    )


def perplexity(child: ChildRecord) -> float:
    """Return a child's validation perplexity; infinite if it failed."""
    metric = child.outcome.metric if child.outcome else None
    return math.inf if metric is None else metric


def shares(space: RecurrentSpace, samples: Sequence[Tokens]) -> tuple[float, float]:
    """Return the share of max among the combinations, and of sin among the activations, that cells have chosen."""
    chosen = [
        (choice.name, choice.options[token])
        for tokens in samples
        for choice, token in zip(space.decisions_of(len(tokens)), tokens, strict=True)
    ]
    each = [[value for name, value in chosen if kind in name] for kind in ("combination", "activation")]
    of_max, of_sin = (values.count(what) / len(values) for values, what in zip(each, ("max", "sin"), strict=True))
    return of_max, of_sin


def tested(stored: Path, space: RecurrentSpace, tokens: Tokens, seed: int, budget: Budget) -> float:
    """Return the test perplexity of a cell after the longer training; reuse what is stored."""
    if stored.exists():
        return json.loads(stored.read_text())["test"]
    task = loaded_task(RECIPES["text-rnn"]().task)
    assert isinstance(task, LanguageTask)
    test = train_and_test(space.decode(tokens), task, budget, derive(seed, "last training"), data=None)[1]
    replace_file(stored, json.dumps({"test": test}).encode(), durable=False)
    return test


def table(results: dict[str, list[Found]]) -> str:
    """Format a row for each space."""
    lines = [
        f"| functions | {' | '.join(f'best {top}' for top in TOPS)} | different | test | seconds |",
        f"|---|{'---|' * len(TOPS)}---|---|---|",
    ]
    for name, each in results.items():
        columns = [*zip(*(one.tops for one in each), strict=True), [one.test for one in each]]
        best = list(map(spread, columns))
        counts = ", ".join(str(one.different) for one in each)
        seconds = statistics.median(one.seconds for one in each)
        lines.append(f"| {' | '.join((name, *best[:-1], counts, best[-1], f'{seconds:.0f}'))} |")
    return "\n".join(lines)


def choices(results: Sequence[Found]) -> str:
    """Format a row for each function with how often the policy chooses it, and how often the best cells use it."""
    lines = ["| function | by chance | first children | last children | in the best cells |", "|---|---|---|---|---|"]
    for place, (function, chance) in enumerate((("max", 1 / 3), ("sin", 1 / 5))):
        first, last = [one.first[place] for one in results], [one.last[place] for one in results]
        used = ", ".join(str(one.used[place]) for one in results)
        lines.append(f"| {function} | {chance:.0%} | {percents(first)} | {percents(last)} | {used} |")
    return "\n".join(lines)


def percents(values: Sequence[float]) -> str:
    """Format shares one by one."""
    return ", ".join(f"{value:.0%}" for value in values)


def spread(values: Sequence[float]) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main(arguments: list[str]) -> None:
    """Run the searches and print both tables."""
    seeds = first_number(arguments, SEEDS)
    place = contextlib.nullcontext(arguments[1]) if len(arguments) > 1 else tempfile.TemporaryDirectory()
    with place as folder:
        by_seed = [{name: found(name, seed, Path(folder)) for name in SPACES} for seed in range(1, seeds + 1)]
    results = {name: [each[name] for each in by_seed] for name in SPACES}
    print(f"Perplexities; median of {counted(seeds, 'seed')} (lowest to highest), {CHILDREN} children each.\n")
    print(table(results))
    print(f"\nOf the first and the last {PART} children, and of the best cell, seed by seed:\n")
    print(choices(results["with max and sin"]))


if __name__ == "__main__":
    main(command_words(__doc__))
