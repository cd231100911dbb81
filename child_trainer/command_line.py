"""The words of `python -m child_trainer ...`, and what they mean."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.tasks.summaries import IMAGE_BUDGET, TASKS, TEXT_BUDGET

BUDGET_HELP = {
    "epochs": "passes over the training data",
    "batch_size": "images a step, or streams of text side by side",
    "learning_rate": "step size, unless the architecture has its own",
    "weight_decay": "L2 penalty",
    "momentum": "Nesterov momentum",
    "train_fraction": "share of the training data to use",
}

LANGUAGE_HELP = {
    "cell_layers": "layers of the language model",
    "target_parameters": "parameters of the whole model, from which its width follows",
    "hidden_size": "units of each layer, instead of --target-parameters",
    "tied_embeddings": "one matrix both embeds words and predicts them",
    "embedding_dropout": "share of the words whose embedding is dropped",
    "variational_dropout": "share of the units that are dropped, alike at every step",
    "unroll": "words through which gradients are propagated",
    "clip_norm": "gradients are scaled down to this norm",
    "decay_after": "epochs after which the learning rate shrinks",
    "learning_rate_decay": "what it is multiplied by at each of these epochs",
    "max_vocabulary": "most words that are told apart",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage above it: `--help` has that."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """For one architecture and all that may be said of its training."""
    parser = _Parser(
        prog="python -m child_trainer",
        description="Train one architecture and print what came of it.",
        epilog="Tasks: " + "; ".join(f"{name} ({task.what})" for name, task in TASKS.items()) + ".",
    )
    add = parser.add_argument
    add(
        "architecture",
        metavar="ARCHITECTURE",
        help="a JSON file with an architecture, or with what `nascluster best NAME --json` prints; or one of the"
        f" literature: {', '.join(REFERENCE_CELLS)}",
    )
    add("--task", default="digits", metavar="NAME", help=f"{', '.join(TASKS)} (default: digits)")
    add("--seed", type=int, default=1, metavar="N", help="of the split, the weights and the order (default: 1)")
    add("--split-seed", type=int, metavar="N", help="of the split alone (default: the seed)")
    add("--data", type=Path, metavar="DIR", help="folder with the images, laid out as torchvision does, or the texts")
    add("--download", action="store_true", help="fetch into --data what is missing there")
    for name, what in BUDGET_HELP.items():
        image, text = getattr(IMAGE_BUDGET, name), getattr(TEXT_BUDGET, name)
        usual = f"{image}" if image == text else f"{image}; of texts {text}"
        add(_flag(name), type=type(image), metavar=_metavar(image), help=f"{what} (default: {usual})")
    add("--device", choices=("cpu", "cuda", "auto"), default="auto", help="where to train (default: auto)")
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="save the training here after each epoch and on Ctrl-C, and go on from it if it is there",
    )
    add("--json", action="store_true", help="print the outcome as one line of JSON and nothing else")
    _add_language(parser.add_argument_group("language models, of texts"))
    return parser


def _add_language(group: argparse._ArgumentGroup) -> None:
    for name, what in LANGUAGE_HELP.items():
        usual = getattr(LanguageOptions(), name)
        if isinstance(usual, bool):
            group.add_argument(_flag(name), action="store_true", default=None, help=what)
            continue
        kind = int if usual is None else type(usual)
        own = getattr(TASKS["text"].language, name)
        known = [] if usual is None else [str(usual)]
        known += [f"of the task 'text' {own}"] if own != usual else []
        default = f" (default: {'; '.join(known)})" if known else ""
        group.add_argument(_flag(name), type=kind, metavar=_metavar(kind()), help=what + default)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(value: object) -> str:
    return "N" if isinstance(value, int) else "X"


def read_architecture(text: str) -> Architecture:
    """The reference cell of this name, or what the file of this name holds.

    Raises:
        ValueError: there is no such file, or it holds no architecture; the message says what is wrong.
    """
    path = Path(text)
    if text in REFERENCE_CELLS and not path.exists():
        return REFERENCE_CELLS[text]()
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


def chosen_budget(options: argparse.Namespace) -> Budget:
    """The task's usual budget, with what the command line says instead."""
    usual = TASKS[options.task].usual if options.task in TASKS else IMAGE_BUDGET
    return replace(usual, **_given(options, BUDGET_HELP))


def chosen_language(options: argparse.Namespace) -> LanguageOptions:
    """The task's usual model around a cell, likewise."""
    usual = TASKS[options.task].language if options.task in TASKS else LanguageOptions()
    given = _given(options, LANGUAGE_HELP)
    if "target_parameters" in given:
        if "hidden_size" in given:
            raise ValueError("give `--hidden-size` or `--target-parameters`, from which the width follows, not both")
        given["hidden_size"] = None
    return replace(usual, **given)


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
