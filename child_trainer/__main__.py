"""Trains one architecture by hand, to debug a child: `python -m child_trainer ARCHITECTURE.json`."""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from child_trainer import portable_json
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.folding import folded
from child_trainer.command_line import chosen_budget, chosen_options, parse, read_architecture
from child_trainer.outcome import ACCURACY_BEFORE, Cause, Outcome
from child_trainer.tasks.catalogue import find_task, load_task
from child_trainer.threads import check_threads
from child_trainer.training.checkpoint import Checkpoint, CheckpointError, Identity, identity
from child_trainer.training.checkpoint_file import CheckpointFile
from child_trainer.training.train import train
from child_trainer.weights_flags import check_weights, read_start, weights_file

MAX_LINES = 200
"""Upper bound for the lines of a network that is drawn layer by layer although it is made of cells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one child from the command line's arguments.

    Returns:
        The exit status: 0, 1 if the child failed, 2 on bad input, 128 and the signal's number if one stopped it, or if
        the reader of standard output has gone.
    """
    try:
        return _main(arguments)
    except BrokenPipeError:
        # Otherwise Python flushes the rest of the buffer at exit, and prints an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _main(arguments: Sequence[str] | None) -> int:
    options = parse(arguments)
    try:
        architecture = read_architecture(options.architecture)
        budget, entry = chosen_budget(options), find_task(options.task)
        entry.check_budget(budget)
        threads = check_threads(options.threads, "--threads")
        device = _device(options.device, trains=entry.trains)
        split = options.seed if options.split_seed is None else options.split_seed
        child = identity(architecture, options.task, budget, seed=options.seed, device=device, threads=threads)
        start, keep = read_start(options.start), weights_file(options.save_weights)
        checkpoints = _checkpoints(options.checkpoint, {**child, "start": start.digest} if start else child)
        task = load_task(
            options.task,
            data=options.data,
            seed=split,
            device=device,
            download=options.download,
            options=chosen_options(options),
            all_training=options.all_training,
        )
        check_weights(architecture, task, budget.regime, start, keep)
    except ValueError as error:
        return _refuse(str(error))
    if not options.json:
        print(_drawing(architecture), end="\n\n", flush=True)
    announcer = _Announcer(budget.epochs)
    with _stopped_by_signals(checkpoints is not None) as signals:
        outcome = train(
            architecture,
            task,
            budget,
            seed=options.seed,
            device=device,
            threads=threads,
            on_epoch=None if options.json else announcer,
            checkpoints=checkpoints,
            preempted=lambda: bool(signals or announcer.error),
            start=start,
            keep=keep,
        )
    if announcer.error:
        raise announcer.error
    if entry.trains:
        outcome = replace(outcome, processor=_processor(device))
    return _print_outcome(options, architecture, outcome, signals)


def _processor(device: str) -> str:
    from child_trainer.training.processor import processor_kind

    return processor_kind(device)


def _drawing(architecture: Architecture) -> str:
    """Return the network layer by layer, or as rows of equal cells if it is very deep and made of cells."""
    drawing = draw(architecture)
    rows = folded(architecture) if drawing.count("\n") > MAX_LINES else []
    return "\n".join(row.text() for row in rows) or drawing


def _print_outcome(options: Namespace, architecture: Architecture, outcome: Outcome, signals: Sequence[int]) -> int:
    """Print the outcome, and return the exit status."""
    if outcome.failure and outcome.failure.cause is Cause.INVALID:
        return _refuse(outcome.failure.message)
    if options.json:
        print(portable_json.dumps({"architecture": architecture.id} | outcome.to_json()), flush=True)
    else:
        _report(outcome)
    if signals and outcome.failure and outcome.failure.cause is Cause.PREEMPTED:
        if options.checkpoint.exists():
            print(f"the same command resumes from {options.checkpoint}", file=sys.stderr)
        return 128 + signals[0]
    return 1 if outcome.failure else 0


def _checkpoints(path: Path | None, child: Identity) -> CheckpointFile | None:
    """Return the checkpoint file, after checking that it holds no other child's state."""
    if path is None:
        return None
    if not path.parent.is_dir():
        raise ValueError(f"`--checkpoint` {path} cannot be written, because {path.parent} is not a folder")
    slot = CheckpointFile(path)
    try:
        if (data := slot.load()) is not None:
            Checkpoint.from_bytes(data, child)
    except OSError as error:
        raise ValueError(f"`--checkpoint` {path} cannot be read ({error.strerror}); give a file") from error
    except CheckpointError as error:
        raise ValueError(f"`--checkpoint` {path} is in the way: {error}; remove it or give another file") from error
    return slot


@contextmanager
def _stopped_by_signals(enabled: bool) -> Iterator[list[int]]:
    """Yield the signals that asked the training to stop; a second one ends the process as usual."""
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if enabled else {}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    for number in usual:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()


def _device(requested: str, *, trains: bool) -> str:
    if requested == "cpu" or not trains:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if requested == "cuda":
        raise ValueError("`--device cuda` needs a GPU that PyTorch can use, and there is none; use `--device cpu`")
    return "cpu"


class _Announcer:
    """Prints a line an epoch.

    Attributes:
        error: the error of a line that could not be written. It is kept, because it is not a failure of the child.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self.error: BrokenPipeError | None = None

    def __call__(self, epoch: int, metric: float) -> None:
        try:
            print(f"epoch {epoch}/{self._epochs}  validation metric {metric:.4f}", flush=True)
        except BrokenPipeError as error:
            self.error = error


def _report(outcome: Outcome) -> None:
    if outcome.failure:
        print(f"failed ({outcome.failure.cause}): {outcome.failure.message}", file=sys.stderr)
        return
    size = "" if outcome.parameters is None else f", {outcome.parameters:,} parameters"
    work = "" if outcome.flops is None else f", {outcome.flops / 1e6:,.1f} MFLOPs a forward pass"
    if ACCURACY_BEFORE in outcome.measurements:
        print(f"\naccuracy before the training {outcome.measurements[ACCURACY_BEFORE]:.4f}", end="")
    best = f"best {outcome.measure} {outcome.metric:.4f}"
    epochs = "1 epoch" if len(outcome.curve) == 1 else f"{len(outcome.curve)} epochs"
    print(f"\n{best} after {epochs} in {outcome.seconds:.1f} s{size}{work}", flush=True)


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
