"""Checks of a run's configuration: that each number is possible, and that the parts fit together."""

from typing import TYPE_CHECKING

from child_trainer import own_files, portable_json
from child_trainer.own_files import OwnFileError
from cluster.config.objective_options import check_objectives
from cluster.config.topology import AUTO
from controller.catalogue import SEARCHERS
from controller.reward import REWARDS

if TYPE_CHECKING:
    from cluster.config.run_config import RunConfig

MAX_CHILDREN = 1_000_000_000
"""Upper bound for `max_children`; a larger number is taken for a typo."""


def check_seed(seed: int) -> None:
    """Refuse a seed that config.json, read as JSON by other programs, would change."""
    if abs(seed) > portable_json.MAX_INTEGER:
        raise ValueError(f"`seed` must be from {-portable_json.MAX_INTEGER} to {portable_json.MAX_INTEGER}, got {seed}")


def check_max_children(number: int) -> None:
    """Refuse a number of children that no search has."""
    if not 1 <= number <= MAX_CHILDREN:
        limit = "at least 1" if number < 1 else f"at most {MAX_CHILDREN:,}"
        raise ValueError(f"`max_children` must be {limit}, got {number}")


def check_name(name: str | None) -> None:
    """Refuse a name that is no folder's, or that a command line would take for an option."""
    if name is not None and (not name or name[0] in ".-" or set(name) & set("/\\\0")):
        raise ValueError(f"`name` must be a folder's name without slashes or a leading dot or dash, got {name!r}")


def check_parts(config: "RunConfig") -> None:
    """Raise `ValueError` unless the configuration's parts fit together, each of which is possible by itself."""
    _check_task(config)
    check_objectives(
        config.objectives,
        config.task,
        config.searcher,
        config.searcher_entry,
        gpus=bool(config.topology.gpus_per_child),
    )
    _check_start(config)
    _check_stopping(config)
    _check_shared_processes(config)
    if config.topology.gpus_per_child == AUTO and not config.task.entry.trains:
        raise ValueError(
            f"`gpus_per_child` auto is for tasks that train networks, and the task {config.task.task!r} trains"
            " nothing: leave it out"
        )


def _check_task(config: "RunConfig") -> None:
    """Raise `ValueError` unless the task takes the space's architectures, and the reward the task's metric."""
    task, name = config.task.entry, config.task.task
    kind = config.search_space.kind
    if kind not in task.kinds:
        raise ValueError(
            f"the task {name!r} trains {' and '.join(task.kinds)} architectures; the space {config.space!r} has"
            f" {kind} ones"
        )
    if config.measure not in config.reward_entry.measures:
        fitting = [reward for reward, entry in REWARDS.items() if config.measure in entry.measures]
        raise ValueError(
            f"the reward {config.reward!r} does not judge the {config.measure} of the task {name!r}; use"
            f" {' or '.join(fitting)}"
        )
    task.check_budget(config.budget)
    # Of given architectures each may be in a table or not, which its answer says.
    if not (task.family == "table" and config.space == "listed"):
        task.check_space(name, config.space, vars(config.search_space))


def _check_start(config: "RunConfig") -> None:
    """Raise `ValueError` unless the searcher can go on after the given architectures; one of the user's own may."""
    if not config.start_with:
        return
    if not (config.searcher_entry.learns_from_any or own_files.is_own(config.searcher)):
        able = ", ".join(name for name, entry in SEARCHERS.items() if entry.learns_from_any)
        raise ValueError(
            "`start_with` is for searchers that learn from any architecture, also one that they did not propose"
            f" ({able}); {config.searcher!r} learns only from its own"
        )
    _ = config.given_start


def _check_stopping(config: "RunConfig") -> None:
    """Raise `ValueError` if children cannot be stopped early: they are not trained epoch by epoch, or too few.

    The same error is raised if more than their metric counts. Whether they share weights is known only of a
    searcher that is made, and is checked at the launch, `cluster.runners.build.check_layout`.
    """
    if config.stopping.early_stop is None:
        return
    if not config.task.entry.trains:
        raise ValueError(
            f"`early_stop` is for tasks that train networks epoch by epoch, and the task {config.task.task!r} trains"
            " nothing"
        )
    if config.objectives.costs:
        raise ValueError(
            "`early_stop` is for searches that compare children by their metric alone, and `objective`"
            f" {config.objectives.costs[0].name} counts beside it: leave one of the two out"
        )
    config.stopping.check(config.budget.epochs, config.max_children)


def _check_shared_processes(config: "RunConfig") -> None:
    """Raise `ValueError` if workers that need a process each share one."""
    shared = config.topology.workers_per_process
    alone = {
        "`task` that trains": config.task.entry.trains,
        "`child_faults`": bool(config.task.faults),
        "`child_timeout`": config.failures.child_timeout is not None,
        "`recycle_after`": config.failures.recycle_after is not None,
        "`gpus_per_child`": bool(config.topology.gpus_per_child),
    }
    if shared > 1 and (needs := next((what for what, is_set in alone.items() if is_set), None)):
        raise ValueError(
            f"`workers_per_process` must be 1 with a {needs}, which needs one process for each worker, got {shared}"
        )


def check_unchanged(config: "RunConfig") -> None:
    """Raise `OwnFileError` if one of the user's own files differs from the text that the run keeps.

    Raises:
        OwnFileError: one has changed; with another searcher or task it would be another run. A missing file is allowed.
    """
    for file, text in config.files.items():
        try:
            now = own_files.text_of(file)
        except OwnFileError:
            continue  # the file is missing: the run has its text
        if now != text:
            raise OwnFileError(
                f"{file!r} has changed since the run was launched (digest {own_files.digest(text)}, now"
                f" {own_files.digest(now)}): restore it, or resume from a folder without it, to use the text"
                " that the run keeps; with the changed file, launch a new run, which begins with this one's best by"
                f" `--warm-start {config.name}`"
            )
