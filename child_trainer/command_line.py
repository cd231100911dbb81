"""Parses the flags of `python -m child_trainer`."""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.field_docs import field_docs
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.tasks.catalogue import TASKS, find_task
from child_trainer.tasks.entry import TaskEntry
from child_trainer.training.task import TaskError

DEFAULT_TASK = "digits"

BUDGET_HELP = {
    "epochs": "passes over the training data",
    "batch_size": "images a step, or streams of text side by side",
    "learning_rate": "step size, unless the architecture has its own",
    "weight_decay": "L2 penalty",
    "momentum": "Nesterov momentum",
    "train_fraction": "share of the training data to use",
}


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one sentence, without the usage text, which `--help` prints."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, in which only the chosen task's options are flags. Exits with 2 on bad input."""
    chooser = _Parser(add_help=False)
    chooser.add_argument("--task", default=DEFAULT_TASK)
    chooser.add_argument("--load", action="append", default=[])
    chosen = chooser.parse_known_args(arguments)[0]
    name = chosen.task
    try:
        for file in chosen.load:
            own_files.load_module(file)
        parser = make_parser(name)
    except (TaskError, own_files.OwnFileError) as error:
        chooser.error(str(error))
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_refusal(name, unknown))
    return options


def make_parser(task: str = DEFAULT_TASK) -> argparse.ArgumentParser:
    """Return the parser for one architecture, its training, and the options of one task.

    Raises:
        TaskError: the task is unknown.
    """
    entry = find_task(task)
    parser = _Parser(
        prog="python -m child_trainer",
        description="Train one architecture and print the outcome.",
        epilog="Tasks: " + "; ".join(f"{name} ({entry.summary})" for name, entry in TASKS.items()) + ".",
    )
    add = parser.add_argument
    add(
        "architecture",
        metavar="ARCHITECTURE",
        help="a JSON file with an architecture, or the output of `nascluster best NAME --json`; or a reference"
        f" cell: {', '.join(REFERENCE_CELLS)}",
    )
    add(
        "--task",
        default=DEFAULT_TASK,
        metavar="NAME",
        help=f"{', '.join(TASKS)}, or FILE.py:NAME (default: {DEFAULT_TASK}); each task has its own options, which"
        " --task NAME --help lists",
    )
    add("--seed", type=int, default=1, metavar="N", help="seed of the split, the weights and the order (default: 1)")
    add("--split-seed", type=int, metavar="N", help="seed of the split alone (default: the seed)")
    add(
        "--data",
        type=lambda text: Path(text).expanduser(),
        metavar="DIR",
        help="folder with the task's data, such as images in torchvision's layout",
    )
    add("--download", action="store_true", help="download missing files into --data")
    add("--all-training", action="store_true", help="train on the validation images, too, as after a search")
    for name, what in BUDGET_HELP.items():
        usual = getattr(entry.usual, name)
        add(_flag(name), type=type(usual), metavar=_metavar(type(usual)), help=f"{what} (default: {usual})")
    add("--device", choices=("cpu", "cuda", "auto"), default="auto", help="where to train (default: auto)")
    add(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="CPU threads; the last bits of the results depend on their number (default: 1)",
    )
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="save the training here after each epoch and on Ctrl-C, and resume from it if it exists",
    )
    add(
        "--from",
        dest="start",
        type=Path,
        metavar="FILE",
        help="begin with the weights in this file, which --save-weights wrote, instead of random ones; those of nodes"
        " with the same names, all of them",
    )
    add("--save-weights", type=Path, metavar="FILE", help="write the weights here after the training (safetensors)")
    add(
        "--load",
        action="append",
        metavar="FILE.py",
        help="a file of your own whose OPERATIONS the architecture may name; may be repeated",
    )
    add("--json", action="store_true", help="print the outcome as one line of JSON and nothing else")
    _add_options(parser.add_argument_group("how the child is trained"), entry.usual.regime)
    _add_options(parser.add_argument_group(f"options of the task {task!r}"), entry.usual_options)
    return parser


def _add_options(group: argparse._ArgumentGroup, usual: Any) -> None:
    """Add a flag for each field of a dataclass, of which `usual` has the defaults."""
    texts, hints = field_docs(type(usual)), get_type_hints(type(usual))
    for field in fields(usual):
        value, text = getattr(usual, field.name), texts.get(field.name, "").rstrip(".").replace("%", "%%")
        if value not in (None, "", ()) and not isinstance(value, bool):
            text += f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"
        group.add_argument(_flag(field.name), default=None, help=text, **_reading(hints[field.name]))


def _reading(hint: Any) -> dict[str, Any]:
    """Return how argparse reads a value of the annotated type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        kind, *others = get_args(hint)
        several = others == [Ellipsis]
        return {"type": kind, "nargs": "+" if several else 1 + len(others), "metavar": _metavar(kind)}
    kind = next(kind for kind in get_args(hint) or (hint,) if kind is not NoneType)
    return {"action": "store_true"} if kind is bool else {"type": kind, "metavar": _metavar(kind)}


def option_names(entry: TaskEntry) -> tuple[str, ...]:
    """Return the names of a task's own options."""
    return tuple(f.name for f in fields(entry.options))


def _refusal(task: str, unknown: Sequence[str]) -> str:
    """Return why these words are rejected, and which tasks have the first flag as an option."""
    for word in unknown:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        tasks = [other for other, entry in TASKS.items() if name in option_names(entry)]
        if word.startswith("--") and tasks:
            return f"the task {task!r} has no option `{_flag(name)}`; these have it: {', '.join(tasks)}"
    return f"unrecognized arguments: {' '.join(unknown)}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(kind: type) -> str:
    return {int: "N", float: "X"}.get(kind, "TEXT")


def read_architecture(text: str) -> Architecture:
    """Return the reference cell of this name, or the architecture in the file of this name.

    Raises:
        ValueError: there is no such file, or it holds no architecture; the message says what is wrong.
    """
    path = Path(text)
    if text in REFERENCE_CELLS and not path.exists():
        return REFERENCE_CELLS[text]()
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
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
    # The output of `nascluster best --json` is accepted, too.
    return Architecture.from_json(data["architecture"] if isinstance(data, dict) and "architecture" in data else data)


def chosen_budget(options: argparse.Namespace) -> Budget:
    """Return the task's usual budget, changed by the command line.

    Raises:
        ValueError: a value is impossible.
    """
    usual = find_task(options.task).usual
    regime = replace(usual.regime, **_given(options, [f.name for f in fields(Regime)]))
    return replace(usual, regime=regime, **_given(options, BUDGET_HELP))


def chosen_options(options: argparse.Namespace) -> Any:
    """Return the task's usual options, changed by the command line.

    Raises:
        ValueError: an option is impossible, or both a width and a parameter count are given.
    """
    entry = find_task(options.task)
    given = _given(options, option_names(entry))
    if entry.options is LanguageOptions and "target_parameters" in given:
        if "hidden_size" in given:
            raise ValueError("give `--hidden-size` or `--target-parameters`, from which the width follows, not both")
        given["hidden_size"] = None
    return replace(entry.usual_options, **given)


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
