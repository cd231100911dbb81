"""Looks at the test data, once for each finished network: what it reaches is recorded before it is printed."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from child_trainer.architectures.architecture import InvalidArchitecture
from child_trainer.inheritance.trained_weights import WeightsError
from child_trainer.networks.weights import WrongWeights
from child_trainer.training.task import Diverged
from cluster.config.run_config import RunConfig
from cluster.finish.judges import Judge, make_judge
from cluster.formatting import utc_time
from cluster.pool.child_weights import WeightsFolder, load_weights
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.final_tests import FinalTest, FinishedNetwork, final_tests, finished_networks
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.driver_lease import LeaseLost
from cluster.storage.object_store.working_copy import driving, is_copied
from cluster.storage.run_folder import RunFolder

Report = Callable[[str], object]
"""Called with a message for the user."""


class AlreadyTested(RunFolderError):
    """A network has looked at the test data before; the message says when, and what it reached."""


class Untestable(RunFolderError):
    """A network cannot look at the test data, and has not: the message says why."""


def look_once(
    ledger: Ledger, folder: RunFolder, network: FinishedNetwork, judge: Judge, now: Callable[[], float] = time.time
) -> FinalTest:
    """Return what a finished network reaches on the test data, once that is recorded, durably.

    A network whose outputs are not finite has looked, too: its record has the fault in place of a metric.

    Args:
        ledger: of the network's run, whose only writer this is.
        folder: of the run, with the network's weights.
        network: has weights.
        judge: looks at the data.
        now: returns the Unix time.

    Raises:
        AlreadyTested: it has looked before, and does not look again.
        Untestable: its weights are gone, damaged, or of another network.
        RunFolderError: the record cannot be written; nobody knows what it reaches.
    """
    _refuse_second(folder, network.child_id)
    what = f"child {network.child_id} of the run {folder.name!r}"
    metric, fault = None, None
    assert network.weights is not None
    try:
        weights = load_weights(WeightsFolder(folder.child_weights), network.child_id, network.weights)
        metric = judge(weights)
    except WeightsError as error:
        raise Untestable(f"{what} cannot be tested: the file of its weights {error}") from error
    except (InvalidArchitecture, WrongWeights) as error:
        raise Untestable(f"{what} cannot be tested: {error}") from error
    except Diverged as error:
        fault = str(error)
    test = FinalTest(
        child_id=network.child_id,
        metric=metric,
        examples=judge.examples,
        weights=network.weights,
        tested_at=now(),
        fault=fault,
    )
    try:
        if not ledger.record_test(test):
            _refuse_second(folder, network.child_id)
    except LedgerError as error:
        raise RunFolderError(
            f"the test of {what} cannot be recorded in {folder.ledger} ({error}), so that it is not shown: mend the"
            " disk or make room, and the same command goes on"
        ) from error
    return test


def _refuse_second(folder: RunFolder, child_id: int) -> None:
    """Raise `AlreadyTested` if the child has a test."""
    with reading(folder) as db:
        known = final_tests(db).get(child_id)
    if known is not None:
        reached = f"reached {known.metric:.4f}" if known.metric is not None else f"reached nothing ({known.fault})"
        raise AlreadyTested(
            f"child {child_id} of the run {folder.name!r} was tested at {utc_time(known.tested_at)} and {reached}: each"
            " network is tested once, as a choice by test data makes their result too good"
        )


class Tests(NamedTuple):
    """What is known of the networks of a run.

    Attributes:
        by_child: their tests by the child's id.
        untested: a sentence on each network that could not be tested, by the child's id.
    """

    by_child: Mapping[int, FinalTest]
    untested: Mapping[int, str]


def tested(folder: RunFolder, config: RunConfig, report: Report) -> Tests:
    """Test the networks of a run that have not been tested, and return the tests of all.

    No test is printed before all are recorded, for a run in an object store also there. A network that cannot be tested
    keeps no other one from its test.

    Args:
        folder: of the run, whose trainings have ended.
        config: the run's.
        report: called with a message for the user.

    Raises:
        RunFolderError: another driver holds the run or has taken it over, a test cannot be recorded, or the object
            store has not all of them.
        TaskError, StorageError: the test data cannot be loaded.
    """
    with reading(folder) as db:
        known, networks = final_tests(db), finished_networks(db)
    left = [network for network in networks if network.weights is not None and network.child_id not in known]
    untested: dict[int, str] = {}
    if left or not is_copied(folder):
        judge = make_judge(config) if left else None
        lost: list[LeaseLost] = []
        with driving(folder, config, report, lost.append):
            if judge is not None:
                untested = _look(folder, config, left, judge)
        if lost:
            raise lost[0]
        if not is_copied(folder):
            raise RunFolderError(
                f"the tests of the run {folder.name!r} are on this machine only, as {folder.place} has not all of them,"
                " so that they are not shown: once it can be written, the same command goes on"
            )
    with reading(folder) as db:
        return Tests(final_tests(db), untested)


def _look(folder: RunFolder, config: RunConfig, networks: Sequence[FinishedNetwork], judge: Judge) -> dict[int, str]:
    """Test networks, and return a sentence on each that cannot be tested, by the child's id; raises as `look_once`."""
    untested: dict[int, str] = {}
    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    try:
        for network in networks:
            try:
                look_once(ledger, folder, network, judge)
            except Untestable as error:
                untested[network.child_id] = str(error)
    finally:
        ledger.close()
    return untested
