"""Trains random architectures of a run from scratch, as a run of its own, to know how good they are."""

from collections.abc import Sequence
from dataclasses import replace

from cluster.config.flags import UsageError, parse_run, value_of
from cluster.config.recipes import changed
from cluster.config.run_config import RunConfig
from cluster.config.trained_alone import trained_alone
from cluster.correlation.shared_scores import Sample
from cluster.storage.ledger.queries.candidates import candidates
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.decisions import Tokens
from controller.searchers.given import GivenOptions, sample_text

SUFFIX = "-correlation"
"""What the name of the run has behind that of the run whose architectures it trains."""

GIVEN = ("name", "storage_path", "searcher", "searcher_options", "space", "max_children", "reward", "task")
"""Fields that follow from the run, and that no flag may change."""

FREE = (
    *("local", "topology", "failures", "logs", "metrics", "callbacks", "max_children", "ceilings", "searcher_options"),
    "recipe",
)
"""Fields in which a resumed run may differ: they do not change what a child reaches, or are looked at by themselves."""


def trainings(config: RunConfig, folder: RunFolder, samples: Sequence[Sample], flags: Sequence[str]) -> RunConfig:
    """Return the run that trains the samples from scratch, on the task of another run.

    Args:
        config: of the other run.
        folder: of the other run.
        samples: what to train.
        flags: of `nascluster launch`, for this run.

    Raises:
        UsageError: a flag is unknown, or changes what must stay.
        ValueError: a value is invalid.
    """
    options = GivenOptions(samples=tuple(sample_text(sample.tokens) for sample in samples))
    if value_of(flags, "--early-stop") is not None:
        raise UsageError(
            "`early-stop` is for searches, and `correlation` trains each architecture to its last epoch: leave it out"
        )
    base = replace(
        trained_alone(config, children=len(samples)),
        name=f"{folder.name}{SUFFIX}",
        searcher="given",
        searcher_options=options,
        max_children=len(samples),
        reward="accuracy",
    )
    made = parse_run(base, list(flags), "RECIPE")
    if wrong := [name for name in changed(base, made) if name in GIVEN]:
        raise UsageError(
            f"`{wrong[0].replace('_', '-')}` of the stand-alone trainings follows from the run {folder.name!r}: leave"
            " it out"
        )
    return made


def check_same(recorded: RunConfig, wanted: RunConfig, folder: RunFolder) -> None:
    """Raise `UsageError` if trainings that have begun are others than those wanted now.

    Args:
        recorded: how they were begun.
        wanted: what is wanted; fewer samples are allowed.
        folder: of the trainings.
    """
    theirs, ours = (config.searcher_options for config in (recorded, wanted))
    if not isinstance(theirs, GivenOptions) or theirs.samples[: len(ours.samples)] != ours.samples:
        raise UsageError(
            f"the run {folder.name!r} trains other architectures: give the `--children` and `--seed` that it was begun"
            f" with, or remove {folder.place}"
        )
    if others := [name for name in changed(recorded, wanted) if name not in (*FREE, *GIVEN)]:
        raise UsageError(
            f"the run {folder.name!r} was begun with another {' and '.join(others)}: give the same flags, or remove"
            f" {folder.place}"
        )


def metrics_of(folder: RunFolder) -> dict[Tokens, float]:
    """Return what each sample's training has reached."""
    with reading(folder) as db:
        return {candidate.tokens: candidate.metric for candidate in candidates(db)}
