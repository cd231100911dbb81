"""What early stopping saves on digits, and whether the same best child is found.

    python -m benchmarks.early_stopping [seeds] [DIR]
    python -m benchmarks.early_stopping record DIR FILE
    python -m benchmarks.early_stopping judge FILE [orders]
    python -m benchmarks.early_stopping time FILE

The first command searches at random, with each seed without early stopping and with each rule. Random search samples
the same children whatever has become of others, and so the only difference is which of them are stopped. Printed are
the children that were stopped, the epochs of training and the seconds, decisions included, that are left, and the best
child's validation accuracy, and how often it is the child that the search without early stopping finds. DIR keeps the
searches, so that the same command continues after an interruption; without it they are not kept.

The second command writes the curves of one longer search, in the order in which its children ended, into a CSV file:
those in `tests/controller/stopping/digits_curves.csv`.

The third command judges recorded curves by each rule, as a search would that trains the children one after another:
in their own order, and in random ones. Printed are the children that were stopped though they would have been the best
so far, of all that would have been, the orders in which the best child of all was trained to its end, and the epochs of
training that are left; all of the children after the first 100.

The fourth command prints the seconds of one core that a decision takes: the fit of a model of `curve` to the first 100
and 200 recorded curves, and questions to each of the other rules with 100 children, with 12,800, as many as the paper
of REINFORCE has, and with a million. The first question is that of a run that was resumed.
"""

import contextlib
import csv
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.runs import children
from cluster.monitoring.status import read_status
from cluster.storage.find_run import run_folder
from controller.searcher import ChildRecord
from controller.stopping.options import Rule, StoppingOptions
from controller.stopping.rules import make_stopper
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper

SEEDS, MIN_SEEDS = 3, 2
CHILDREN, RECORDED = 64, 300
"""Children of each search, and of the one that is recorded; each is trained for 8 epochs."""

COMMON = ("--local", "--searcher", "random", "--replicas", "1", "--initial-depth", "3", "--max-depth", "3")
DIGITS = ("launch", "digits", *COMMON, "--train-fraction", "0.5")
"""Small children, of which many are trained in minutes: three layers, and half of the training images."""

RULES: dict[str, tuple[str, ...]] = {
    "none": (),
    "median": ("--early-stop", "median"),
    "halving": ("--early-stop", "halving", "--halving-factor", "2"),
    "curve": ("--early-stop", "curve", "--stop-min-epochs", "1", "--stop-min-children", "20"),
}
"""The flags of each rule. A search of 64 children is too short for the usual 100 curves, and `curve`
predicts from the first epoch, whose accuracy says too little to compare children by it."""


KNOWN, DECISIONS = (100, 12_800, 1_000_000), 1_000
"""Children that have ended when decisions are timed, and how many decisions."""

ORDERS, FIRST = 5, 100
"""Orders of recorded children, and the first ones of each, which do not count: `curve` learns from them."""

JUDGES = {
    "curve, 1 epoch": StoppingOptions(early_stop="curve", stop_min_epochs=1),
    "median, 1 epoch": StoppingOptions(early_stop="median", stop_min_epochs=1),
    "median": StoppingOptions(early_stop="median"),
    "halving by 2, 1 epoch": StoppingOptions(early_stop="halving", halving_factor=2, stop_min_epochs=1),
    "halving by 2": StoppingOptions(early_stop="halving", halving_factor=2),
    "halving by 4": StoppingOptions(early_stop="halving"),
}
"""The rules that judge recorded curves."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search trained, its seconds with all decisions, and its best child."""

    stopped: int
    epochs: int
    seconds: float
    best: int
    metric: float


def found(history: Sequence[ChildRecord], seconds: float) -> Found:
    """Return the figures of a search that took so many seconds."""
    outcomes = [(child.id, child.outcome) for child in history if child.outcome and child.outcome.metric is not None]
    best, outcome = max(outcomes, key=lambda one: (one[1].metric or 0.0, -one[0]))
    return Found(
        stopped=sum(one.stopped is not None for _, one in outcomes),
        epochs=sum(len(one.curve) for _, one in outcomes),
        seconds=seconds,
        best=best,
        metric=outcome.metric or 0.0,
    )


def rows(seeds: int, folder: Path) -> dict[str, list[Found]]:
    """Return what each rule gave with each seed."""

    def one(rule: str, seed: int) -> Found:
        name = f"{rule}-{seed}"
        history = children(folder, name, seed, (*DIGITS, *RULES[rule]), CHILDREN)
        return found(history, read_status(run_folder(folder, name), 0.0).seconds)

    return {rule: [one(rule, seed) for seed in range(1, seeds + 1)] for rule in RULES}


def row(rule: str, ours: Sequence[Found], without: Sequence[Found]) -> str:
    """Return a row of the table, with means and standard deviations over the seeds."""
    pairs = list(zip(ours, without, strict=True))
    figures = (
        _spread([one.stopped for one in ours], ".1f"),
        _spread([100 * one.epochs / whole.epochs for one, whole in pairs], ".1f"),
        _spread([100 * one.seconds / whole.seconds for one, whole in pairs], ".1f"),
        _spread([100 * one.metric for one in ours], ".2f"),
        f"{sum(one.best == whole.best for one, whole in pairs)} of {len(pairs)}",
    )
    return f"| {' | '.join((rule, *figures))} |"


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.fmean(values):{form}} ± {statistics.stdev(values):{form}}"


def record(folder: Path, file: Path) -> None:
    """Write the curves of one search as CSV."""
    history = children(folder, "recorded", 1, DIGITS, RECORDED)
    with file.open("w", newline="") as out:
        write = csv.writer(out, lineterminator="\n").writerow
        write(("child", "parameters", "flops", "decisions", "curve"))
        for child in history:
            if child.outcome and not child.outcome.failure:
                curve = " ".join(f"{value:g}" for value in child.outcome.curve)
                write((child.id, child.outcome.parameters, child.outcome.flops, len(child.tokens), curve))


def recorded(file: Path) -> list[KnownCurve]:
    """Return the curves that `record` wrote."""
    with file.open() as lines:
        return [
            KnownCurve(
                child_id=int(row["child"]),
                values=tuple(map(float, row["curve"].split())),
                parameters=int(row["parameters"]),
                flops=int(row["flops"]),
                decisions=int(row["decisions"]),
            )
            for row in csv.DictReader(lines)
        ]


def judged(curves: Sequence[KnownCurve], stopper: Stopper) -> list[KnownCurve]:
    """Return what is known of the children at the end of a search that trains one after another."""
    known = KnownCurves()
    for curve in curves:
        end = len(curve.values)
        parts = (replace(curve, values=curve.values[:epoch], ended=False) for epoch in range(1, end))
        answers = (stopper.judge(part, known) for part in parts)
        stopped = next((answer for answer in answers if answer), None)
        known.add(replace(curve, values=curve.values[: stopped.epoch], stopped=True) if stopped is not None else curve)
    return known.ended


def judge(file: Path, orders: int) -> None:
    """Print the table of the rules on recorded curves."""
    curves, rng = recorded(file), random.Random(0)
    sequences = [curves, *(rng.sample(curves, len(curves)) for _ in range(orders - 1))]
    sequences = [[replace(curve, child_id=number) for number, curve in enumerate(each, 1)] for each in sequences]
    best = max(curve.best for curve in curves)
    print(f"{len(curves)} curves in {orders} orders")
    print("| rule | would have been the best, stopped | orders with the best of all | epochs, % |")
    print("|---|---|---|---|")
    for rule, options in JUDGES.items():
        lost = bests = found_best = 0
        epochs: list[float] = []
        for each in sequences:
            stopper = make_stopper(options, len(each[0].values), 0, lower_is_better=False)
            assert stopper is not None
            known, record_so_far = judged(each, stopper), 0.0
            for curve, child in zip(each, known, strict=True):
                if curve.best > record_so_far and child.child_id > FIRST:
                    bests += 1
                    lost += child.stopped
                record_so_far = max(record_so_far, child.best)
            found_best += record_so_far == best
            whole = sum(len(curve.values) for curve in each[FIRST:])
            epochs.append(100 * sum(len(child.values) for child in known[FIRST:]) / whole)
        print(f"| {rule} | {lost} of {bests} | {found_best} of {orders} | {_spread(epochs, '.1f')} |", flush=True)


def time_decisions(file: Path) -> None:
    """Print what decisions take."""
    from controller.stopping.curve_model import CurveModel

    curves = recorded(file)
    epochs = range(2, len(curves[0].values))
    for count in (100, 200):
        seconds = [_seconds(partial(CurveModel.fitted, curves[:count], epoch, 0)) for epoch in epochs]
        print(f"a model of {count} curves: {_spread(seconds, '.1f')} s, the longest {max(seconds):.1f} s", flush=True)
    for rule in ("median", "halving"):
        for count in KNOWN:
            first, later = _milliseconds(rule, curves, count)
            print(
                f"a decision by {rule} with {count:,} children: the first {first:.1f} ms, each of {len(later):,} more,"
                f" each after another child has ended, {_spread(later, '.3f')} ms",
                flush=True,
            )


def _milliseconds(rule: Rule, curves: Sequence[KnownCurve], count: int) -> tuple[float, list[float]]:
    """Return what the first decision with so many ended children takes, and what others take as more children end."""
    ended = (replace(curves[number % len(curves)], child_id=number + 1) for number in range(count + DECISIONS))
    known = KnownCurves(next(ended) for _ in range(count))
    child = KnownCurve(child_id=count + DECISIONS + 1, values=(0.0, 0.0), ended=False)
    stopper = make_stopper(StoppingOptions(early_stop=rule), len(curves[0].values), 0, lower_is_better=False)
    assert stopper is not None

    def decide(another: KnownCurve) -> None:
        known.add(another)
        stopper.judge(child, known)

    first = 1_000 * _seconds(partial(stopper.judge, child, known))
    return first, [1_000 * _seconds(partial(decide, another)) for another in ended]


def _seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main(arguments: list[str]) -> None:
    """Print a table, or record the curves."""
    if arguments[:1] == ["judge"]:
        if len(arguments) not in (2, 3):
            sys.exit("give the file of the curves: judge FILE [orders]")
        judge(Path(arguments[1]), max(MIN_SEEDS, int(arguments[2]) if len(arguments) > 2 else ORDERS))
        return
    if arguments[:1] == ["time"]:
        if len(arguments) != 2:
            sys.exit("give the file of the curves: time FILE")
        time_decisions(Path(arguments[1]))
        return
    if arguments[:1] == ["record"]:
        if len(arguments) != 3:
            sys.exit("give the folder of the search and the file to write: record DIR FILE")
        record(Path(arguments[1]), Path(arguments[2]))
        return
    seeds = seeds_of(arguments)
    place = contextlib.nullcontext(arguments[1]) if len(arguments) > 1 else tempfile.TemporaryDirectory()
    with place as folder:
        results = rows(seeds, Path(folder))
    print_table(results)


def seeds_of(arguments: Sequence[str]) -> int:
    """Return the number of seeds that the first argument gives."""
    seeds = first_number(arguments, SEEDS)
    if seeds < MIN_SEEDS:
        sys.exit(f"give at least {MIN_SEEDS} seeds: one seed has no deviation, got {seeds}")
    return seeds


def print_table(results: Mapping[str, Sequence[Found]]) -> None:
    """Print what each rule gave."""
    print("| rule | stopped | epochs, % | seconds, % | best, % | the same best child |")
    print("|---|---|---|---|---|---|")
    for rule, ours in results.items():
        print(row(rule, ours, results["none"]))


if __name__ == "__main__":
    main(command_words(__doc__))
