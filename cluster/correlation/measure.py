"""Measures how well the weights that a run's children share rank architectures."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from rich.console import Console

from child_trainer.outcome import Failure
from cluster.config.flags import UsageError
from cluster.config.run_config import RunConfig
from cluster.correlation.report import Correlation, Judged
from cluster.correlation.shared_scores import Sample, Scored, draw, score_all
from cluster.correlation.standalone import check_same, metrics_of, trainings
from cluster.correlation.truth import TableTruth, read_truth
from cluster.formatting import counted
from cluster.monitoring.status import Status, read_status
from cluster.runners.driver import execute
from cluster.runners.shared_weights import saved_weights
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import check_new, existing_run, resumable_run, run_folder
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import starting
from controller.decisions import Tokens
from ps.store import Snapshot

FEWEST = 5
"""Architectures with fewer of which a correlation says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked of a run.

    Attributes:
        name: the run's.
        storage_path: the folder of all runs, or its URL.
        children: how many different random architectures.
        seed: of their draws.
        table: where their accuracies are, see `read_truth`; `None`: they are trained.
        flags: of `nascluster launch`, for these trainings.

    Raises:
        UsageError: there are too few architectures, or flags for trainings and a table.
    """

    name: str
    storage_path: str
    children: int
    seed: int
    table: str | None
    flags: Sequence[str]

    def __post_init__(self) -> None:
        if self.children < FEWEST:
            raise UsageError(f"`--children` must be at least {FEWEST}, got {self.children}")
        if self.table is not None and self.flags:
            raise UsageError(
                f"`{self.flags[0]}` is for stand-alone trainings, which a table (`--data`) takes the place of"
            )


class Unfinished(NamedTuple):
    """How the stand-alone trainings ended before all of them had."""

    status: Status


def measure(request: Request, console: Console) -> Correlation | Unfinished:
    """Score random architectures with a run's shared weights, and compare the scores with the truth.

    Args:
        request: what is asked.
        console: where progress is shown.

    Raises:
        RunFolderError: the run does not exist, shares no weights, or has none yet.
        ValueError: the table or the trainings are not possible; nothing was written.
    """
    folder = existing_run(request.storage_path, request.name, with_files=True)
    config = folder.read_config()
    if config.measure.lower_is_better:
        raise RunFolderError(
            f"the children of the run {folder.name!r} are judged by their {config.measure}: correlations are for runs"
            " on images, whose children have an accuracy"
        )
    weights = _weights(config, folder)
    table = None if request.table is None else read_truth(request.table, config.search_space)
    samples = draw(config.search_space, request.children, request.seed, lambda sample: _is_known(table, sample))
    training = None if table else _Training(config, folder, samples, request)
    status = read_status(folder, time.time())
    if status.state == "running":
        console.print(f"The run {folder.name} is running: its weights are those of the last snapshot", highlight=False)
    found = _scores(config, weights, samples, console)
    if training is None:
        assert table is not None
        truths: Mapping[Tokens, float] = {s.tokens: value for s in samples if (value := table.of(s)) is not None}
        words = table.words
    else:
        ended = training.run(console)
        if ended.state != "finished":
            return Unfinished(ended)
        truths, words = metrics_of(training.folder), training.words
    judged = [Judged(scored, truths[tokens]) for scored in found if (tokens := scored.sample.tokens) in truths]
    if len(judged) < FEWEST:
        raise RunFolderError(
            f"only {len(judged)} of {len(samples)} architectures have a score and a truth, at least {FEWEST} are needed"
        )
    return Correlation(
        run=folder.name,
        task=config.task.task,
        # Not the shards' versions: two of them are one step where some weights wait for the end of a batch.
        steps=status.supernet.steps if status.supernet else 0,
        truth=words,
        judged=judged,
        unjudged=len(samples) - len(judged),
    )


def _weights(config: RunConfig, folder: RunFolder) -> Snapshot:
    weights = saved_weights(config, folder)
    if weights is None or not any(weights.versions):
        raise RunFolderError(
            f"the run {folder.name!r} has no trained weights yet: its shards write them every"
            f" {config.weights.weights_snapshot} (--weights-snapshot), and when it ends"
        )
    return weights


def _is_known(table: TableTruth | None, sample: Sample) -> bool:
    return table is None or table.of(sample) is not None


def _scores(config: RunConfig, weights: Snapshot, samples: Sequence[Sample], console: Console) -> list[Scored]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: list[Scored] = []
    with console.status("Scoring ...") as shown:
        for number, scored in enumerate(score_all(config, weights.values, samples, device=device), start=1):
            shown.update(f"Scored {number} of {len(samples)} architectures")
            if isinstance(scored, Failure):
                console.print(f"No score of architecture {number}: {scored.message}", highlight=False)
            else:
                found.append(scored)
    return found


def _note(text: str) -> None:
    """Print a message where it does not mix with the result, which may be JSON."""
    print(text, file=sys.stderr)


class _Training:
    """The run with the stand-alone trainings, which may have begun before.

    Raises:
        UsageError: it has begun with other architectures or options.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, samples: Sequence[Sample], request: Request) -> None:
        self._config = trainings(config, folder, samples, request.flags)
        name = str(self._config.name)
        self.folder = run_folder(request.storage_path, name)
        self.folder.check_name()
        try:
            check_new(self.folder)
            self._begun = False
        except RunFolderError:
            self.folder, self._begun = resumable_run(request.storage_path, name, _note), True
            recorded = self.folder.read_config()
            check_same(recorded, self._config, self.folder)
            self._config = replace(recorded, local=self._config.local)

    @property
    def words(self) -> str:
        """What its results are."""
        epochs = self._config.budget.epochs
        return f"validation accuracy after {counted(epochs, 'epoch')} from scratch, of the run {self.folder.name}"

    def run(self, console: Console) -> Status:
        """Train what has not been trained yet."""
        if self._begun:
            status = read_status(self.folder, time.time())
            return status if status.state == "finished" else execute(self._config, self.folder, console)
        with starting(self.folder):
            return execute(self._config, self.folder, console)
