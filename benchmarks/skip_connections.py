"""The paper's network of 15 layers with its skip connections, with all of them, and with none, at a small budget.

    python -m benchmarks.skip_connections [seeds] [RESULTS]

The ablation of Zoph & Le 2017, section 4.1: on CIFAR-10 the network has 5.50 % errors, 5.56 % with all skip connections
and 7.97 % as a chain. Here all three have a quarter of the filters and are trained alike, for 10 epochs on the 1,437
handwritten digits of training and validation; printed are the errors on the 360 test images. RESULTS keeps each
training, so that the same command continues after an interruption; without it they are not kept.
"""

import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from child_trainer.architectures.architecture import Architecture
from child_trainer.atomic_file import replace_file
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.outcome import Cause
from child_trainer.training.train import train
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.finish.judges import make_judge
from cluster.formatting import counted
from cluster.runners.trainer import loaded_task
from cluster.survey.plan import RETRAINING
from controller.decisions import Subset, Tokens, offsets
from controller.spaces.layers import Skips
from controller.zoo import zoph2017

SEEDS = 3
EPOCHS = 10
DIVISOR = 4
"""What the paper's numbers of filters are divided by: 9 and 12 instead of 36 and 48."""

VARIANTS: dict[str, Skips | None] = {"as published": None, "all skip connections": "dense", "a chain": "chain"}
PUBLISHED = {"as published": 5.50, "all skip connections": 5.56, "a chain": 7.97}
"""The paper's errors on CIFAR-10 in percent."""


@dataclass
class Kept:
    """Keeps the weights of one training in memory."""

    data: bytes = b""

    def save(self, checksum: str, data: bytes) -> None:
        """See `child_trainer.inheritance.trained_weights.WeightsSlot`."""
        self.data = data


def sample(skips: Skips | None) -> Tokens:
    """Return a variant of the published network as a sample of its space."""
    return zoph2017.SPACE.with_skips(zoph2017.tokens(), skips) if skips else zoph2017.tokens()


def num_inputs(skips: Skips | None) -> int:
    """Return how many inputs the layers of a variant have in all, the image not counted."""
    tokens, decisions = sample(skips), zoph2017.SPACE.decisions(0)
    subsets = [(d, start) for d, start in zip(decisions, offsets(decisions), strict=False) if isinstance(d, Subset)]
    return sum(sum(tokens[start : start + subset.width]) for subset, start in subsets)


def network(skips: Skips | None, divisor: int = DIVISOR) -> Architecture:
    """Return a variant of the network, its numbers of filters divided."""
    narrow = replace(zoph2017.SPACE, num_filters=tuple(number // divisor for number in zoph2017.SPACE.num_filters))
    return narrow.decode(sample(skips))


def measured(
    variant: str, seed: int, folder: Path, *, epochs: int = EPOCHS, divisor: int = DIVISOR
) -> dict[str, float]:
    """Return parameters, seconds and the errors on test images in percent of one training; reuse what is stored.

    A training that diverges has as many errors as a network that always answers the same.
    """
    stored = folder / f"{variant.replace(' ', '-')}-{seed}.json"
    if stored.exists():
        return json.loads(stored.read_text())
    budget = replace(RETRAINING, epochs=epochs)
    config = RunConfig(local=True, seed=seed, budget=budget, task=TaskOptions(task="digits", all_training=True))
    kept = Kept()
    outcome = train(network(VARIANTS[variant], divisor), loaded_task(config.task), budget, seed=seed, keep=kept)
    if outcome.failure and outcome.failure.cause is not Cause.DIVERGED:
        sys.exit(f"the training of {variant!r} failed: {outcome.failure.message}")
    accuracy = 0.1 if outcome.failure else make_judge(config)(TrainedWeights.from_bytes(kept.data))
    result: dict[str, Any] = {"errors": 100 * (1 - accuracy)}
    result |= {"parameters": outcome.parameters, "seconds": outcome.seconds}
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(stored, json.dumps(result).encode(), durable=False)
    return result


def row(variant: str, results: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]]) -> str:
    """Return a variant's row; the difference is that to the published network with the same seed."""
    errors = [result["errors"] for result in results]
    more = [ours - theirs["errors"] for ours, theirs in zip(errors, baseline, strict=True)]
    seconds = statistics.median(result["seconds"] for result in results)
    cells = (
        variant,
        str(num_inputs(VARIANTS[variant])),
        f"{results[0]['parameters']:,.0f}",
        f"{seconds:.0f}",
        spread(errors),
        spread(more),
        f"{PUBLISHED[variant]:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(arguments: list[str]) -> None:
    """Train what is missing, and print the table."""
    seeds = first_number(arguments, SEEDS)
    place = contextlib.nullcontext(arguments[1]) if len(arguments) > 1 else tempfile.TemporaryDirectory()
    with place as folder:
        numbers = range(1, seeds + 1)
        by_seed = [{variant: measured(variant, seed, Path(folder)) for variant in VARIANTS} for seed in numbers]
    results = {variant: [each[variant] for each in by_seed] for variant in VARIANTS}
    print("| network | inputs of its layers | parameters | seconds | errors, % | more than as published | the paper |")
    print("|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        print(row(variant, results[variant], results["as published"]))
    seeds_words = f"median of {counted(seeds, 'seed')} (lowest to highest)"
    print(f"\nErrors on test images of digits after {EPOCHS} epochs; {seeds_words}.")


if __name__ == "__main__":
    main(command_words(__doc__))
