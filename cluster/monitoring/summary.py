"""Texts about a run's best child and about how the run ended."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.nasbench201 import known_as
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Measure
from cluster.config.known_config import known_config
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.formatting import counted, duration, metric_name, number
from cluster.monitoring.benchmark_results import TableFacts, describe_seconds, describe_test, table_facts
from cluster.monitoring.front import SHOWN
from cluster.monitoring.live_view import failures
from cluster.monitoring.option_latency import latency_of, latency_text
from cluster.monitoring.parts import NO_PARTS, parts_of
from cluster.monitoring.status import Best, Status
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import data_folder
from cluster.storage.ledger.queries.continued import Continued, continued_text
from cluster.storage.run_folder import RunFolder
from controller.objectives import COSTS


def training_command(config: RunConfig, best: Best, file: str) -> str:
    """Return the command that retrains a child manually, from a file with its architecture."""
    budget, options = config.budget, config.task
    flags: dict[str, object] = {
        "task": options.task,
        "epochs": budget.epochs,
        "batch-size": best.batch_size or budget.batch_size,
        "learning-rate": budget.learning_rate,
        "weight-decay": budget.weight_decay,
        "momentum": budget.momentum,
        "train-fraction": budget.train_fraction,
        **budget.regime.flags(),
        "seed": best.seed,
        "split-seed": derive(config.seed, "split"),
    }
    if options.entry.trains:
        flags["device"] = best.device
    if options.all_training:
        flags["all-training"] = True
    if config.topology.threads_per_child != 1:
        flags["threads"] = config.topology.threads_per_child
    if options.data is not None:
        flags["data"] = shlex.quote(str(data_folder(options.data)))
    flags |= _language_flags(options.options) if options.entry.family == "language" else _own_flags(options)
    words = [f"--{flag}" if value is True else f"--{flag} {value}" for flag, value in flags.items()]
    if own_files.is_own(config.space):  # the architecture may name operations of the user's own
        words.append(f"--load {shlex.quote(own_files.file_of(config.space))}")
    return f"python -m child_trainer {file} {' '.join(words)}"


def run_of(continues: Sequence[Continued], best: Best) -> Continued | None:
    """Return the run in which a child ended, if that is one from which its own run goes on."""
    return next((one for one in continues if best.completion <= one.until), None)


def config_of(config: RunConfig, continues: Sequence[Continued], best: Best) -> RunConfig:
    """Return the configuration that a child was trained with.

    Args:
        config: the run's.
        continues: the runs that it goes on from.
        best: the child.
    """
    earlier = run_of(continues, best)
    return config if earlier is None else known_config(earlier.config).config


def _own_flags(options: TaskOptions) -> dict[str, object]:
    """Return the task's options that differ from the defaults of manual training, by flag name."""
    usual = options.entry.usual_options
    values = {f.name.replace("_", "-"): (getattr(options.options, f.name), f.name) for f in fields(options.options)}
    return {flag: _words(value) for flag, (value, name) in values.items() if value != getattr(usual, name)}


def _words(value: object) -> object:
    """Return an option's value as a shell takes it."""
    return " ".join(shlex.quote(str(item)) for item in value) if isinstance(value, tuple) else value


def _language_flags(language: LanguageOptions) -> dict[str, object]:
    flags = {
        name.replace("_", "-"): value
        for name, value in asdict(language).items()
        if value is not None and value is not False
    }
    if language.hidden_size is not None:
        del flags["target-parameters"]  # the explicit width takes precedence
    return flags


def name_of(architecture: Architecture) -> str:
    """Return an architecture's identity, with its published name if it has one."""
    published = known_as(architecture)
    return f"{architecture.id}, NAS-Bench-201's {published}" if published else architecture.id


def facts_of_best(status: Status, config: RunConfig) -> TableFacts | None:
    """Look up the best child in the task's table; return `None` without a best child or a table."""
    results = status.best and table_facts(config, [status.best], running=status.state == "running")
    return results[0] if results else None


def best_lines(status: Status, config: RunConfig) -> list[str]:
    """Return lines with the best child's drawing and figures, or that no child has finished."""
    best = status.best
    if best is None:
        return ["No child has finished yet."]
    facts = facts_of_best(status, config)
    seen = config.task.all_training
    test = describe_test(status.measure, facts) or test_text(status.measure, best.test)
    cost = [
        f"{best.parameters:,} parameters" if best.parameters is not None else "",
        f"{best.flops:,} FLOPs" if best.flops is not None else "",
        f"latency {COSTS['latency'].text(best.latency_ms)}" if best.latency_ms is not None else "",
        latency_text(config, best),
        describe_seconds(f"{best.seconds:.1f} s", facts, scored=best.scored)
        + (f" on {best.processor}" if best.processor else ""),
    ]
    return [
        *_drawing(best, config),
        *_where(status.continues, best),
        f"{metric_name(status.measure)} {best.metric:.4f}, reward {number(best.reward)}",
        *(["It has trained on the validation images, too: these figures say nothing of others"] if seen else []),
        *([test] if test else []),
        *([f"It was {best.stopped.text}"] if best.stopped else []),
        ", ".join(text for text in cost if text),
    ]


def _where(continues: Sequence[Continued], best: Best) -> list[str]:
    """Return a line on the runs that the best child's run goes on from, if there are any."""
    if not continues:
        return []
    earlier = run_of(continues, best)
    child = f"It ended in the run {earlier.run}: this" if earlier else "This"
    return [f"{child} run goes on from {continued_text(continues)}"]


def test_text(measure: Measure, test: float | None) -> str:
    """Return what a finished network reached on the test data; empty if it was not tested."""
    return "" if test is None else f"test {measure} {test:.4f}"


def _drawing(best: Best, config: RunConfig) -> list[str]:
    """Return lines with the child's name and the drawing of its parts, or of the whole network if it has none."""
    try:
        architecture = best.architecture
    except InvalidArchitecture as error:
        return [
            f"Best child: {best.child_id}",
            "",
            f"Its network is not known to this version of nascluster: {error}",
            "",
        ]
    parts = parts_of(config, best.tokens, architecture)
    return [
        f"Best child: {best.child_id} (architecture {name_of(architecture)})",
        *([f"It came {best.origin}"] if best.origin else []),
        "",
        *(list(parts.lines()) or [draw(architecture, whole=False), ""]),
        *parts.notes(),
    ]


def best_parts(config: RunConfig, best: Best) -> list[str]:
    """Return lines with the parts of a child's network; none if it has no parts, or is not known to this version."""
    try:
        parts = parts_of(config, best.tokens, best.architecture)
    except InvalidArchitecture:
        return []
    return [*parts.lines(), *parts.notes()]


def best_json(status: Status, config: RunConfig) -> dict[str, Any] | None:
    """Return the best child as plain data, with `table` if the task is a table; `None` without a best child."""
    if status.best is None:
        return None
    facts = facts_of_best(status, config)
    table = {} if facts is None else {"table": facts.to_json()}
    unknown = {"unknown": list(status.unknown)} if status.unknown else {}
    try:
        parts = parts_of(config, status.best.tokens, status.best.architecture)
    except InvalidArchitecture:
        parts = NO_PARTS
    notations = {"genotypes": dict(parts.genotypes)} if parts.genotypes else {}
    missing = {"missing": list(parts.missing)} if parts.missing else {}
    latency = latency_of(config, status.best)
    latencies = {} if latency is None else {"options_latency_us": latency}
    network = {"tokens": list(status.best.tokens), "architecture": dict(status.best.graph)}
    front = {"front": front.members_json()} if (front := status.front) else {}
    earlier = run_of(status.continues, status.best)
    ended_in = {"run": earlier.run} if earlier else {}
    return status.best.to_json() | ended_in | latencies | table | notations | missing | front | unknown | network


def front_lines(status: Status, folder: RunFolder) -> list[str]:
    """Return lines with the first members of the Pareto front; none if the search has one objective."""
    front = status.front
    if front is None or not front.members:
        return []
    more = len(front.members) - SHOWN
    rest = [f"... and {more:,} more: {folder.command('pareto')}"] if more > 0 else []
    return ["", front.title, *front.lines(SHOWN), *rest]


def gain_text(measure: Measure, difference: float) -> str:
    """Return how a metric differs from another, whose name is to follow: `+0.0482 against`, `82.1 lower than`.

    Where lower is better, a bare sign would be read the wrong way round.
    """
    if not measure.lower_is_better:
        return f"{difference:+.4f} against"
    return f"{abs(difference):.4f} {'higher (worse)' if difference > 0 else 'lower (better)'} than"


def gain_over_first(status: Status) -> str:
    """Return how the best metric differs from the first children's mean; empty with fewer than two that have one."""
    if status.best is None or status.first_metric is None or status.first_measured < 2:
        return ""
    gain = gain_text(status.measure, status.best.metric - status.first_metric)
    return f"{gain} the mean of the first {status.first_measured}"


def learnt(status: Status) -> str:
    """Return how often the search has learnt: the policy's updates, and steps of shared weights where there are any."""
    steps = status.supernet.steps if status.supernet else 0
    made = [f"{counted(steps, 'step')} of the shared weights"] if steps else []
    return ", ".join([*made, *([counted(status.updates, "update")] if status.updates or not made else [])])


def summary(status: Status, folder: RunFolder) -> str:
    """Return the closing text: best child, gain over the first children, how the run ended, and its folder."""
    lines = best_lines(status, folder.read_known().config)
    if gain := gain_over_first(status):
        lines.append(f"{gain} children, {number(status.first_metric)}")
    lines += front_lines(status, folder)
    ended = {"finished": "Finished", "stopped": "Stopped", "failed": "Failed"}.get(status.state, status.state)
    why = f" ({status.message})" if status.message else ""
    lines += [
        "",
        f"{ended} after {duration(status.seconds)}: {counted(status.finished, 'child')} finished, {failures(status)},"
        f" {learnt(status)}{why}",
        f"All files are in {folder.place}",
    ]
    if status.state == "failed":
        lines.insert(-1, f"The complete error is in {folder.error}")
    if status.last_failure:
        lines.insert(-1, f"Last failure: {status.last_failure}")
    if status.state == "finished" and (ceiling := status.used_up):
        lines.append(f"To go on: {folder.command('resume')} {ceiling.flag} N, with a higher number")
    if status.state in ("stopped", "failed"):
        lines.append(f"Resume with: {folder.command('resume')}")
    return "\n".join(lines)
