"""What a run has to say when it ends, as text."""

import shlex
from dataclasses import asdict, fields
from typing import Any

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.nasbench201 import known_as
from child_trainer.language_options import LanguageOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.formatting import counted, duration, metric_name, number
from cluster.monitoring.benchmark_results import TableFacts, table_facts, told_seconds, told_test
from cluster.monitoring.live_view import failures
from cluster.monitoring.status import FIRST, Best, Status
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import data_folder
from cluster.storage.run_folder import RunFolder


def training_command(config: RunConfig, best: Best, file: str) -> str:
    """The command that trains a child once more by hand, from a file with its architecture."""
    budget, options = config.budget, config.task
    flags: dict[str, object] = {
        "task": options.task,
        "epochs": budget.epochs,
        "batch-size": best.batch_size or budget.batch_size,
        "learning-rate": budget.learning_rate,
        "weight-decay": budget.weight_decay,
        "momentum": budget.momentum,
        "train-fraction": budget.train_fraction,
        "seed": best.seed,
        "split-seed": derive(config.seed, "split"),
    }
    if config.topology.threads_per_child != 1:
        flags["threads"] = config.topology.threads_per_child
    if options.data is not None:
        flags["data"] = shlex.quote(str(data_folder(options.data)))
    flags |= _language_flags(options.options) if options.entry.family == "language" else _own_flags(options)
    words = [f"--{flag}" if value is True else f"--{flag} {value}" for flag, value in flags.items()]
    if own_files.is_own(config.space):  # the architecture may name operations of the user's own
        words.append(f"--load {shlex.quote(own_files.file_of(config.space))}")
    return f"python -m child_trainer {file} {' '.join(words)}"


def _own_flags(options: TaskOptions) -> dict[str, object]:
    """Return the options of the task that differ from those of a child trained by hand, by the flags' names."""
    usual = options.entry.usual_options
    return {
        f.name.replace("_", "-"): value
        for f in fields(options.options)
        if (value := getattr(options.options, f.name)) != getattr(usual, f.name)
    }


def _language_flags(language: LanguageOptions) -> dict[str, object]:
    flags = {
        name.replace("_", "-"): value
        for name, value in asdict(language).items()
        if value is not None and value is not False
    }
    if language.hidden_size is not None:
        del flags["target-parameters"]  # only the width is taken then
    return flags


def name_of(architecture: Architecture) -> str:
    """Its identity, and the name that others know it by, if there is one."""
    cell = known_as(architecture)
    return f"{architecture.id}, NAS-Bench-201's {cell}" if cell else architecture.id


def facts_of_best(status: Status, config: RunConfig) -> TableFacts | None:
    """What a table knows of the best child, or `None` if there is none or the run's task is no table."""
    found = status.best and table_facts(config, [status.best.architecture], running=status.state == "running")
    return found[0] if found else None


def best_lines(status: Status, config: RunConfig) -> list[str]:
    """The best child, drawn, with its figures; or that there is none."""
    best = status.best
    if best is None:
        return ["No child has finished yet."]
    told = facts_of_best(status, config)
    test = told_test(status.measure, told)
    cost = [
        f"{best.parameters:,} parameters" if best.parameters is not None else "",
        f"{best.flops:,} FLOPs" if best.flops is not None else "",
        told_seconds(f"{best.seconds:.1f} s", told),
    ]
    return [
        f"Best child: {best.child_id} (architecture {name_of(best.architecture)})",
        "",
        draw(best.architecture, whole=False),
        "",
        f"{metric_name(status.measure)} {best.metric:.4f}, reward {best.reward:.4f}",
        *([test] if test else []),
        ", ".join(text for text in cost if text),
    ]


def best_json(status: Status, config: RunConfig) -> dict[str, Any] | None:
    """The best child as plain data, with `table` where the task is one; `None` if there is no child."""
    if status.best is None:
        return None
    told = facts_of_best(status, config)
    table = {} if told is None else {"table": told.to_json()}
    return status.best.to_json() | table | {"architecture": status.best.architecture.to_json()}


def summary(status: Status, folder: RunFolder) -> str:
    """The whole closing word: the best child, what the search gained, how it ended, where everything is."""
    lines = best_lines(status, folder.read_config())
    if status.best is not None and status.first_metric is not None and status.finished > 1:
        gain = status.best.metric - status.first_metric
        count = min(FIRST, status.finished)
        lines.append(f"{gain:+.4f} against the mean of the first {count} children, {number(status.first_metric)}")
    ended = {"finished": "Finished", "stopped": "Stopped", "failed": "Failed"}.get(status.state, status.state)
    why = f" ({status.message})" if status.message else ""
    lines += [
        "",
        f"{ended} after {duration(status.seconds)}: {counted(status.finished, 'child')} finished, {failures(status)},"
        f" {counted(status.updates, 'update')}{why}",
        f"Everything is in {folder.place}",
    ]
    if status.state == "failed":
        lines.insert(-1, f"The whole error is in {folder.error}")
    if status.last_failure:
        lines.insert(-1, f"Last failure: {status.last_failure}")
    if status.state in ("stopped", "failed"):
        lines.append(f"Go on with: {folder.command('resume')}")
    return "\n".join(lines)
