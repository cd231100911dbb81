"""Children a GPU-hour, step by step from a plain loop to several children on one GPU.

    python -m benchmarks.gpu_children [options] [NETWORK]

Each step of the ladder adds one thing to the one before it: the data on the device, the channels-last layout, bfloat16,
CUDA graphs. Then comes what nascluster does with a child (`child_trainer.training.train`, all of them together), and
several processes that do it on one GPU at once. `torch.compile` is reported beside them, with what it costs to start:
a search trains a new network each time, so that each child would pay it.

The loops train the same network with the same budget, as `python -m benchmarks.child_speed` does, and take turns seed
by seed. Seconds are those of the clock for a training, evaluation and transfers included, after a short one that does
not count; the device has finished its work when the clock is read. A training whose steps cannot be recorded as a CUDA
graph says why on standard error. Without a GPU there is nothing to measure:
`--device cpu` only tries the command out, with a tenth of an epoch.
"""

import argparse
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.child_speed import CASES, CHECKOUT, prepared, train_plainly
from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.build import build
from child_trainer.outcome import Budget
from child_trainer.seeding import derive
from child_trainer.tasks.image import ImageTask
from child_trainer.training.epochs import computing_in, make_optimizer, set_rate
from child_trainer.training.image_classifier import PreparedImages, accuracy
from child_trainer.training.recorded_pass import cuda_graph, record
from child_trainer.training.train import train

NEEDS_GPU = (
    "benchmarks.gpu_children measures on a GPU, and PyTorch finds none here: run it where there is one; `--device cpu`"
    " only tries the command out"
)

READERS = 4
"""Processes that prepare the batches of the plain loop, on a GPU."""

TRIAL = Budget(epochs=1, batch_size=32, train_fraction=0.1)
"""Of a training on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How a step of the ladder trains.

    Attributes:
        channels_last: in that layout.
        bfloat16: with PyTorch's automatic mixed precision.
        graphs: each step's passes are one CUDA graph.
        compiled: by `torch.compile`.
    """

    channels_last: bool = False
    bfloat16: bool = False
    graphs: bool = False
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is trained, and where; the images of `task` are on the CPU."""

    task: ImageTask
    budget: Budget
    network: Architecture
    device: str

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")


Training = Callable[[int], float]
"""Trains with a seed; returns the accuracy after the last epoch."""


def train_on_device(work: Work, task: ImageTask, ways: Ways, seed: int) -> float:
    """Train by a loop over data that is on the device; return the last accuracy.

    Args:
        work: what is trained.
        task: with its images on the device.
        ways: how.
        seed: of the training.
    """
    budget, device = work.budget, torch.device(work.device)
    layout = torch.channels_last if ways.channels_last else torch.contiguous_format
    precision = "bfloat16" if ways.bfloat16 else "float32"
    network: nn.Module = build(work.network, task, generator=torch.Generator().manual_seed(derive(seed, "weights")))
    network.to(device)
    network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  (missing in PyTorch's stub)
    run = torch.compile(network) if ways.compiled else network
    training = PreparedImages(task.training.first(budget.train_fraction), task._upsampled)
    validation = PreparedImages(task.validation, task.centred)
    generator = torch.Generator(device).manual_seed(derive(seed, "order"))
    optimizer = make_optimizer(network, budget)
    size = min(budget.batch_size, len(training.images))
    steps = len(training.images) // size
    recorded = None

    def loss_of(inputs: Tensor, labels: Tensor) -> Tensor:
        with computing_in(precision, device):
            logits = run(inputs)
        return F.cross_entropy(logits.float(), labels)

    reached = 0.0
    for epoch in range(budget.epochs):
        order = torch.randperm(len(training.images), generator=generator, device=device)
        for step in range(steps):
            set_rate(optimizer, budget.regime.rate(budget.learning_rate, epoch + step / steps, budget.epochs))
            places = order[step * size : (step + 1) * size]
            inputs = task._changed(training.chosen(places), generator).contiguous(memory_format=layout)
            labels = training.images.labels[places]
            if ways.graphs and epoch == step == 0:
                recorded = record(network, loss_of, inputs, labels, partial(cuda_graph, device=device))
            if recorded is not None:
                recorded(inputs, labels)
            else:
                optimizer.zero_grad()
                loss_of(inputs, labels).backward()
            optimizer.step()
        reached = accuracy(network, validation, precision)
    return reached


def train_as_a_child(work: Work, task: ImageTask, precision: str, seed: int) -> float:
    """Train as nascluster trains a child; return the last accuracy. The arguments are of `train_on_device`."""
    budget = replace(work.budget, regime=replace(work.budget.regime, precision=precision))
    outcome = train(work.network, task, budget, seed=seed, device=work.device)
    assert outcome.failure is None, outcome.failure
    return outcome.curve[-1]


def ladder(work: Work) -> dict[str, Training]:
    """Return the loops, by what each adds to the one before it."""
    there = work.task.to(work.device)
    steps: dict[str, Ways] = {
        "+ data on the device": Ways(),
        "+ channels-last": Ways(channels_last=True),
        "+ bfloat16": Ways(channels_last=True, bfloat16=True),
    }
    if work.on_gpu:
        steps["+ CUDA graphs"] = Ways(channels_last=True, bfloat16=True, graphs=True)
    plainly = partial(
        train_plainly,
        work.network,
        work.task,
        work.budget,
        device=work.device,
        readers=READERS if work.on_gpu else 0,
    )
    return {
        "plain loop": lambda seed: plainly(seed)[-1],
        **{name: partial(train_on_device, work, there, ways) for name, ways in steps.items()},
        "a child, float32": partial(train_as_a_child, work, there, "float32"),
        "a child, bfloat16": partial(train_as_a_child, work, there, "bfloat16"),
    }


def timed(training: Training, seed: int, work: Work) -> tuple[float, float]:
    """Return the seconds of a training, and its accuracy."""
    if work.on_gpu:
        torch.cuda.synchronize(work.device)
    began = time.perf_counter()
    reached = training(seed)
    if work.on_gpu:
        torch.cuda.synchronize(work.device)
    return time.perf_counter() - began, reached


def show(name: str, seconds: float, before: float | None, plain: float, note: str) -> None:
    """Print a row: children a GPU-hour, and the factors to the row before it and to the plain loop."""
    step = "" if before is None else f"{before / seconds:.2f}"
    print(f"| {name} | {3600 / seconds:,.0f} | {step} | {plain / seconds:.2f} | {note} |", flush=True)


def measure_ladder(work: Work, seeds: int) -> float:
    """Train by each loop in turn, and print a row for each; return the seconds of the plain loop."""
    loops = ladder(work)
    short = ladder(replace(work, budget=replace(work.budget, epochs=1, train_fraction=work.budget.train_fraction / 10)))
    for training in short.values():
        training(0)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for seed in range(seeds):
        for name, training in loops.items():
            found[name].append(timed(training, seed, work))
    plain = statistics.median(seconds for seconds, _ in found["plain loop"])
    before = None
    for name, trainings in found.items():
        seconds = statistics.median(seconds for seconds, _ in trainings)
        show(name, seconds, before, plain, f"accuracy {100 * statistics.fmean(a for _, a in trainings):.1f} %")
        before = seconds
    return plain


def measure_compiled(work: Work, plain: float) -> None:
    """Print the row of `torch.compile`: a child with its start, and what a training takes after it."""
    training = partial(
        train_on_device, work, work.task.to(work.device), Ways(channels_last=True, bfloat16=True, compiled=True)
    )
    first, _ = timed(training, 0, work)
    later, _ = timed(training, 1, work)
    show(
        "torch.compile, instead of CUDA graphs",
        first,
        None,
        plain,
        f"{first - later:.1f} s to start; then {later:.1f} s",
    )


def measure_processes(work: Work, name: str, data: Path | None, count: int, seeds: int, plain: float) -> None:
    """Train in several processes at once, `seeds` children in each, and print the row."""
    words = [sys.executable, "-m", "benchmarks.gpu_children", name, "--device", work.device, "--serve", str(seeds)]
    words += ["--data", str(data)] if data else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words, cwd=CHECKOUT, **pipes) for _ in range(count)]
    try:
        for process in processes:
            _read(process)
        began = time.perf_counter()
        for process in processes:
            assert process.stdin
            process.stdin.write("train\n")
            process.stdin.flush()
        for process in processes:
            _read(process)
        seconds = (time.perf_counter() - began) / (count * seeds)
    finally:
        for process in processes:
            process.communicate()
    show(f"{count} such children at once, each in a process", seconds, None, plain, "bfloat16")


def _read(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    if not process.stdout.readline():
        raise SystemExit(f"the process of {process.args!r} has ended; its error is above")


def serve(work: Work, seeds: int) -> None:
    """Say when a short training is done; then, once a line is read, train with so many seeds, and say that."""
    there = work.task.to(work.device)
    train_as_a_child(replace(work, budget=replace(work.budget, epochs=1)), there, "bfloat16", 0)
    print("ready", flush=True)
    sys.stdin.readline()
    for seed in range(seeds):
        timed(partial(train_as_a_child, work, there, "bfloat16"), seed, work)
    print("done", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_children", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("network", nargs="?", choices=CASES, default="digits", help="default: digits")
    parser.add_argument("--data", type=Path, help="the folder that holds fashion-mnist/ and cifar10/; digits need none")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command out; default: cuda")
    parser.add_argument("--seeds", type=int, default=5, help="trainings by each loop; default: 5")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[2, 4, 8], help="children at once on the GPU; default: 2 4 8"
    )
    parser.add_argument("--serve", type=int, metavar="SEEDS", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(NEEDS_GPU, file=sys.stderr)
        return 2
    if given.seeds < 1 or min(given.processes) < 1:
        parser.error("--seeds and --processes must be at least 1")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("child_trainer").setLevel(logging.INFO)
    data = given.data and given.data.resolve()
    task, budget, network = prepared(given.network, data)
    work = Work(task=task, budget=budget, network=network, device=given.device)
    if not work.on_gpu:
        torch.set_num_threads(1)
        work = replace(work, budget=TRIAL)
    if given.serve:
        serve(work, given.serve)
        return 0
    where = torch.cuda.get_device_name(given.device) if work.on_gpu else "a CPU, which says nothing of a GPU"
    print(f"{given.network}, {work.budget.epochs} epochs, on {where}, PyTorch {torch.__version__}.\n")
    print("| training | children a GPU-hour | to the row before | to the plain loop | |")
    print("|---|---|---|---|---|")
    plain = measure_ladder(work, given.seeds)
    for count in given.processes:
        measure_processes(work, given.network, data, count, given.seeds, plain)
    if work.on_gpu:
        measure_compiled(work, plain)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
