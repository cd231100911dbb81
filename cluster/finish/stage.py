"""A run that is a stage of finishing a search: it is begun, or gone on with if it has begun."""

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from rich.console import Console

from cluster.config.ceilings import used_up
from cluster.config.flags import UsageError
from cluster.config.recipes import changed
from cluster.config.run_checks import check_unchanged
from cluster.config.run_config import RunConfig
from cluster.monitoring.status import Status, read_status, read_used
from cluster.runners.driver import execute
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import check_new, resumable_run, run_folder
from cluster.storage.ledger.queries.final_tests import final_tests
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.working_copy import is_copied
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import starting
from controller.spaces.settings import SettingsSpace

TAKEN = ("local", "failures", "logs", "metrics", "callbacks", "ceilings")
"""Fields that a stage that has begun goes on with as the command says: they do not change what a training reaches."""

FREE = (*TAKEN, "name", "storage_path", "topology", "recipe", "max_children", "files")
"""Fields in which it may differ."""


class Stage:
    """A run of trainings.

    Args:
        config: what it is to be; its name is the run's.
        storage_path: the folder of all runs, or its URL.
        report: called with a message if it takes a while to check that no other driver runs it.
        open_fields: fields whose values are not known yet.

    Attributes:
        config: what it is.
        folder: where it is.
        has_begun: whether an earlier command has begun it.

    Raises:
        UsageError: it has begun as another one.
        RunFolderError: its name is impossible, or another driver runs it.
    """

    def __init__(
        self,
        config: RunConfig,
        storage_path: str,
        report: Callable[[str], object],
        open_fields: Collection[str] = (),
    ) -> None:
        name = str(config.name)
        self.config, self.folder = config, run_folder(storage_path, name)
        self.folder.check_name()
        try:
            check_new(self.folder)
            self.has_begun = False
        except RunFolderError:
            self.folder, self.has_begun = resumable_run(storage_path, name, report), True
            recorded = self.folder.read_config()
            _check_same(recorded, config, self.folder, open_fields)
            check_unchanged(recorded)
            # With others of these the last bits of its trainings would be others.
            of_bits = ("threads_per_child", "fuse_seeds")
            same = {name: getattr(recorded.topology, name) for name in of_bits}
            self.config = replace(
                recorded,
                topology=replace(config.topology, **same),
                **{field: getattr(config, field) for field in TAKEN},
            )

    @property
    def is_whole(self) -> bool:
        """Whether all of its trainings have ended."""
        if not self.has_begun:
            return False
        status = read_status(self.folder, time.time())
        return status.ended >= status.max_children

    def run(self, console: Console) -> Status:
        """Train what has not been trained yet; return how it ended."""
        if self.has_begun:
            status = read_status(self.folder, time.time())
            done = status.ended >= status.max_children or used_up(
                self.config.ceilings, read_used(self.folder, time.time())
            )
            # Another start also writes what an earlier one has left on this machine only.
            if status.state == "finished" and done and is_copied(self.folder):
                return status
            return execute(self.config, self.folder, console)
        with starting(self.folder):
            return execute(self.config, self.folder, console)

    def check_copied(self) -> None:
        """Raise `RunFolderError` if the object store of the run lacks what this machine has, as after Ctrl-C."""
        if not is_copied(self.folder):
            raise RunFolderError(
                f"the trainings of the run {self.folder.name!r} have ended, but {self.folder.place} has not all of"
                " them, and nothing else was done: once it can be written, the same command goes on"
            )


def unfinished_text(status: Status, folder: RunFolder) -> str:
    """Return a sentence on a stage that has not trained all of its networks; empty if it has."""
    if status.state == "finished" and status.ended >= status.max_children:
        return ""
    done = f"{status.ended} of {status.max_children} trainings of the run {folder.name!r} have ended"
    if status.state == "finished" and (ceiling := status.used_up):
        return f"{done}, at its ceiling: the same command with a higher `{ceiling.flag}` goes on"
    return f"{done}: the same command goes on"


def _check_same(recorded: RunConfig, wanted: RunConfig, folder: RunFolder, open_fields: Collection[str]) -> None:
    """Raise `UsageError` if a stage that has begun is another one than is wanted."""
    others = [name for name in changed(recorded, wanted) if name not in FREE and name not in open_fields]
    if not others:
        return
    if "space_options" in others and _is_of_others(recorded, wanted):
        raise UsageError(
            f"the run {folder.name!r} has begun with other networks than those that are now the best of the search,"
            f" which has changed since: `{folder.command('children')}` lists what it has trained"
        )
    instead = or_remove(folder)
    if {"space", "space_options"} & set(others):
        raise UsageError(
            f"the run {folder.name!r} has begun with other networks or settings: give the same `--top`, `--grid` and"
            f" `--seeds`{instead}"
        )
    words = " and ".join(name.replace("_", " ") for name in others)
    raise UsageError(f"the run {folder.name!r} has begun with another {words}: give the same flags{instead}")


def or_remove(folder: RunFolder) -> str:
    """Return the end of a sentence on another way than the one that it names; empty if that would remove tests."""
    if folder.ledger.exists():
        with reading(folder) as db:
            if final_tests(db):
                return ""
    return f", or remove it with `{folder.command('remove')}`"


def _is_of_others(recorded: RunConfig, wanted: RunConfig) -> bool:
    """Return whether a stage that has begun is asked for in the same way, and with other networks."""
    ours, theirs = wanted.space_options, recorded.space_options
    if not isinstance(ours, SettingsSpace) or not isinstance(theirs, SettingsSpace):
        return False
    if (ours.settings, ours.seeds, len(ours.architectures)) != (
        theirs.settings,
        theirs.seeds,
        len(theirs.architectures),
    ):
        return False
    # A grid search may have chosen other settings of the same networks.
    bare, others = ({replace(one, hyperparameters=()) for one in space.networks} for space in (ours, theirs))
    return bare != others
