"""Train one architecture by hand: `python -m child_trainer ARCHITECTURE.json`, the debugger of every bad child."""

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from child_trainer.architecture import Architecture
from child_trainer.checkpoint import Checkpoint, CheckpointError, Identity, identity
from child_trainer.checkpoint_file import CheckpointFile
from child_trainer.drawing import draw
from child_trainer.outcome import Budget, Cause, Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.summaries import TASKS
from child_trainer.tasks.task import OnEpoch
from child_trainer.train import train


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage above it: `--help` has that."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one child as the command line says.

    Returns:
        The exit status: 0, 1 if the child failed, 2 on bad input, 128 and the signal's number if one stopped it.
    """
    options = _parser().parse_args(arguments)
    try:
        architecture = _read(options.architecture)
        budget = _budget(options)
        if options.task in TASKS:  # another one is refused below, with what there is
            TASKS[options.task].check_budget(budget)
        device = _device(options.device, options.task)
        split = options.seed if options.split_seed is None else options.split_seed
        child = identity(architecture, options.task, budget, seed=options.seed, device=device)
        checkpoints = _checkpoints(options.checkpoint, child)
        task = load_task(options.task, data=options.data, seed=split, device=device, download=options.download)
    except ValueError as error:
        return _refuse(str(error))
    if not options.json:
        print(draw(architecture), end="\n\n", flush=True)
    on_epoch = None if options.json else _announce(budget.epochs)
    with _stopped_by_signals(checkpoints is not None) as signals:
        outcome = train(
            architecture,
            task,
            budget,
            seed=options.seed,
            device=device,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
            preempted=lambda: bool(signals),
        )
    if outcome.failure and outcome.failure.cause is Cause.INVALID:
        return _refuse(outcome.failure.message)
    if options.json:
        print(json.dumps({"architecture": architecture.id} | outcome.to_json()))
    else:
        _report(outcome)
    if signals and outcome.failure and outcome.failure.cause is Cause.PREEMPTED:
        if options.checkpoint.exists():
            print(f"the same command goes on from {options.checkpoint}", file=sys.stderr)
        return 128 + signals[0]
    return 1 if outcome.failure else 0


def _parser() -> argparse.ArgumentParser:
    default = Budget()
    parser = _Parser(
        prog="python -m child_trainer",
        description="Train one architecture and print what came of it.",
        epilog="Tasks: " + "; ".join(f"{name} ({task.what})" for name, task in TASKS.items()) + ".",
    )
    add = parser.add_argument
    add(
        "architecture",
        type=Path,
        metavar="ARCHITECTURE.json",
        help="an architecture, or what `nascluster best NAME --json` prints",
    )
    add("--task", default="digits", metavar="NAME", help=f"{', '.join(TASKS)} (default: digits)")
    add("--epochs", type=int, default=3, metavar="N", help="passes over the training data (default: 3)")
    add("--seed", type=int, default=1, metavar="N", help="of the split, the weights and the order (default: 1)")
    add("--split-seed", type=int, metavar="N", help="of the split alone (default: the seed)")
    add("--data", type=Path, metavar="DIR", help="folder with the images, laid out as torchvision does")
    add("--download", action="store_true", help="fetch into --data what is missing there")
    add("--batch-size", type=int, default=default.batch_size, metavar="N", help="images a step (default: %(default)s)")
    add(
        "--learning-rate",
        type=float,
        default=default.learning_rate,
        metavar="X",
        help="step size, unless the architecture has its own (default: %(default)s)",
    )
    for name, what in (("--weight-decay", "L2 penalty"), ("--momentum", "Nesterov momentum")):
        usual = getattr(default, name[2:].replace("-", "_"))
        add(name, type=float, default=usual, metavar="X", help=f"{what} (default: %(default)s)")
    add("--train-fraction", type=float, default=1.0, metavar="F", help="share of the training data to use (default: 1)")
    add("--device", choices=("cpu", "cuda", "auto"), default="auto", help="where to train (default: auto)")
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="save the training here after each epoch and on Ctrl-C, and go on from it if it is there",
    )
    add("--json", action="store_true", help="print the outcome as one line of JSON and nothing else")
    return parser


def _read(path: Path) -> Architecture:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a JSON file with an architecture") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8; give a JSON file with an architecture") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be an architecture") from error
    # What `nascluster best --json` prints will do as well.
    return Architecture.from_json(data["architecture"] if isinstance(data, dict) and "architecture" in data else data)


def _budget(options: argparse.Namespace) -> Budget:
    return Budget(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        train_fraction=options.train_fraction,
    )


def _checkpoints(path: Path | None, child: Identity) -> CheckpointFile | None:
    """The slot, once it is sure that what a save would replace is this child's own."""
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
def _stopped_by_signals(wanted: bool) -> Iterator[list[int]]:
    """The signals that asked the training to stop; a second one ends the process as ever."""
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if wanted else {}

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


def _device(wish: str, task: str) -> str:
    if wish == "cpu" or (task in TASKS and not TASKS[task].trains):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wish == "cuda":
        raise ValueError("`--device cuda` needs a GPU that PyTorch can use, and there is none; use `--device cpu`")
    return "cpu"


def _announce(epochs: int) -> OnEpoch:
    return lambda epoch, metric: print(f"epoch {epoch}/{epochs}  validation metric {metric:.4f}", flush=True)


def _report(outcome: Outcome) -> None:
    if outcome.failure:
        print(f"failed ({outcome.failure.cause}): {outcome.failure.message}", file=sys.stderr)
        return
    size = "" if outcome.parameters is None else f", {outcome.parameters:,} parameters"
    work = "" if outcome.flops is None else f", {outcome.flops / 1e6:,.1f} MFLOPs a forward pass"
    print(f"\nbest {outcome.metric:.4f} after {len(outcome.curve)} epochs in {outcome.seconds:.1f} s{size}{work}")


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
