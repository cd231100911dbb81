"""Words per second in training one layer: fused, stepped node by node, and PyTorch's own LSTM.

    python -m benchmarks.recurrent_speed [rounds]

For the published cell and the LSTM as cells, at several widths: forward and backward over a stretch of 35 words in 20
streams, on one thread, as a worker with one core does. The three alternate, so that other load slows all equally;
the ratio is the median over the rounds of the ratio within a round.
"""

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.networks.build import Graph, build_cell
from child_trainer.networks.fused_cell import FusedCell

ROUNDS = 40
WORDS, STREAMS = 35, 20
WIDTHS = (32, 64, 128, 256)


def stepped(graph: Graph, inputs: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
    """Run the naive loop: every map of every leaf separately, at every step."""
    h = c = zeros
    hidden = []
    for x in inputs:
        h, c = graph(x, h, c)
        hidden.append(h)
    return torch.stack(hidden)


def seconds(run: Callable[[], torch.Tensor]) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    run().square().mean().backward()
    return time.perf_counter() - start


def measure(name: str, width: int, rounds: int) -> None:
    """Measure one cell at one width, and print its row."""
    graph = build_cell(REFERENCE_CELLS[name](), width, width)
    fused, theirs = FusedCell(graph), torch.nn.LSTM(width, width)
    inputs, zeros = torch.randn(WORDS, STREAMS, width), torch.zeros(STREAMS, width)
    runs = {
        "fused": lambda: fused(inputs, (zeros, zeros))[0],
        "naive": lambda: stepped(graph, inputs, zeros),
        "nn.LSTM": lambda: theirs(inputs)[0],
    }
    for run in runs.values():
        seconds(run)
    rounds_seconds = [{what: seconds(run) for what, run in runs.items()} for _ in range(rounds)]
    rates = [f"{WORDS * STREAMS / statistics.median(times[what] for times in rounds_seconds):,.0f}" for what in runs]
    columns = [
        *rates,
        *(_ratio([times[other] / times["fused"] for times in rounds_seconds]) for other in ("naive", "nn.LSTM")),
    ]
    print(f"| {name} | {width} | {' | '.join(columns)} |")


def _ratio(values: list[float]) -> str:
    lower, middle, upper = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({lower:.2f} to {upper:.2f})"


def main(arguments: list[str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = first_number(arguments, ROUNDS)
    print(f"Words a second of one layer, forward and backward: medians of {rounds} rounds, ratios with middle half.\n")
    print(
        "| cell | width | fused | naive | nn.LSTM | fused to naive | fused to nn.LSTM |\n|---|---|---|---|---|---|---|"
    )
    for name in REFERENCE_CELLS:
        for width in WIDTHS:
            measure(name, width, rounds)


if __name__ == "__main__":
    main(command_words(__doc__))
