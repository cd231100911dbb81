"""Looks at the test data, once for each finished network: what it reaches is recorded before anybody is told."""

import time
from collections.abc import Callable

import torch

from child_trainer.inheritance.trained_weights import TrainedWeights, WeightsError
from child_trainer.networks.build import build
from child_trainer.networks.weights import WrongWeights, load
from child_trainer.tasks.catalogue import load_test
from child_trainer.tasks.image import ImageTask
from child_trainer.threads import computing_with
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import Diverged
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.formatting import utc_time
from cluster.pool.child_weights import WeightsFolder, load_weights
from cluster.runners.trainer import loaded_task
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import local_data
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.final_tests import FinalTest, FinishedNetwork, final_tests, finished_networks
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.driver_lease import LeaseLost
from cluster.storage.object_store.working_copy import driving
from cluster.storage.run_folder import RunFolder

Report = Callable[[str], object]
"""Called with a message for the user."""


class AlreadyTested(RunFolderError):
    """A network has looked at the test data before; the message says when, and what it reached."""


class Judge:
    """Computes what networks reach on the test images of a run's task.

    Args:
        config: of the run whose children they are.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
    """

    def __init__(self, config: RunConfig) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        task = loaded_task(config.task, seed=derive(config.seed, "split"), device=device)
        assert isinstance(task, ImageTask)  # `plan` refuses others
        self._task, self._device = task, device
        self._images = load_test_images(config.task, device)
        self._regime, self._threads = config.budget.regime, config.topology.threads_per_child

    @property
    def examples(self) -> int:
        """How many images there are."""
        return len(self._images)

    def __call__(self, weights: TrainedWeights) -> float:
        """Return the share of the images that a network gets right, prepared as validation images are.

        Raises:
            WrongWeights: these are not the weights of their network.
            Diverged: an output is not finite.
        """
        network = build(weights.architecture, self._task, generator=torch.Generator(), regime=self._regime)
        load(network, weights.tensors)
        network.to(self._device)
        with computing_with(self._threads):
            return self._task.accuracy(network, self._images)


def load_test_images(options: TaskOptions, device: str = "cpu") -> Images:
    """Return the test images of a run's task.

    Raises:
        TaskError, StorageError: they are missing or corrupt.
    """
    data = local_data(options.data)
    with options.own_file():
        options.check_files(data)
        return load_test(options.task, data=data, device=device, options=options.options)


def look_once(
    ledger: Ledger, folder: RunFolder, network: FinishedNetwork, judge: Judge, now: Callable[[], float] = time.time
) -> FinalTest:
    """Return what a finished network reaches on the test images, once that is recorded, durably.

    Args:
        ledger: of the network's run, whose only writer this is.
        folder: of the run, with the network's weights.
        network: has weights.
        judge: looks at the images.
        now: returns the Unix time.

    Raises:
        AlreadyTested: it has looked before, and does not look again.
        RunFolderError: its weights are gone, or the record cannot be written; nobody knows what it reaches.
    """
    _refuse_second(folder, network.child_id)
    what = f"child {network.child_id} of the run {folder.name!r}"
    try:
        assert network.weights is not None
        weights = load_weights(WeightsFolder(folder.child_weights), network.child_id, network.weights)
        metric = judge(weights)
    except WeightsError as error:
        raise RunFolderError(f"{what} cannot be tested: the file of its weights {error}") from error
    except (WrongWeights, Diverged) as error:
        raise RunFolderError(f"{what} cannot be tested: {error}") from error
    test = FinalTest(
        child_id=network.child_id, metric=metric, examples=judge.examples, weights=network.weights, tested_at=now()
    )
    try:
        if not ledger.record_test(test):
            _refuse_second(folder, network.child_id)
    except LedgerError as error:
        raise RunFolderError(
            f"the test of {what} cannot be recorded in {folder.ledger} ({error}), so that it is not told: mend the disk"
            " or make room, and the same command goes on"
        ) from error
    return test


def _refuse_second(folder: RunFolder, child_id: int) -> None:
    """Raise `AlreadyTested` if the child has a test."""
    with reading(folder) as db:
        known = final_tests(db).get(child_id)
    if known is not None:
        raise AlreadyTested(
            f"child {child_id} of the run {folder.name!r} was tested at {utc_time(known.tested_at)} and reached"
            f" {known.metric:.4f}: each network is tested once, as a choice by test data makes their result too good"
        )


def tested(folder: RunFolder, config: RunConfig, report: Report) -> dict[int, FinalTest]:
    """Test the networks of a run that have not been tested, and return the tests of all by the child's id.

    No test is told before all are recorded, for a run in an object store also there.

    Args:
        folder: of the run, whose trainings have ended.
        config: the run's.
        report: called with a message for the user.

    Raises:
        RunFolderError: another driver holds the run or has taken it over, or as `look_once`.
        TaskError, StorageError: the test images cannot be loaded.
    """
    with reading(folder) as db:
        known, networks = final_tests(db), finished_networks(db)
    left = [network for network in networks if network.weights is not None and network.child_id not in known]
    if left:
        judge = Judge(config)
        lost: list[LeaseLost] = []
        with driving(folder, config, report, lost.append):
            ledger = Ledger(folder.ledger, config.seed, config.max_children)
            try:
                for network in left:
                    look_once(ledger, folder, network, judge)
            finally:
                ledger.close()
        if lost:
            raise lost[0]
    with reading(folder) as db:
        return final_tests(db)
