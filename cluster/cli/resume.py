"""`nascluster resume`: resumes a search that was stopped or killed."""

import time
from dataclasses import replace
from typing import Annotated, Literal

import tyro

from cluster.cli.command import parse_command
from cluster.cli.launch import execute_run
from cluster.config.callback_options import CallbackOptions
from cluster.config.ceilings import used_up
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.log_options import LogFormat, LogLevel
from cluster.config.run_checks import check_unchanged
from cluster.config.run_config import DEFAULT_STORAGE, RunConfig
from cluster.formatting import counted
from cluster.monitoring.status import read_status, read_used
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import resumable_run
from cluster.storage.run_folder import RunFolder

Where = Annotated[
    Literal["as-before", "local", "ray"],
    tyro.conf.arg(help="Where to resume: in this one process, on Ray, or as before."),
]

MaxHours = Annotated[float | None, tyro.conf.arg(help="Another ceiling on the hours of all starts; unset: as before.")]
MaxGpuHours = Annotated[
    float | None, tyro.conf.arg(help="Another ceiling on the children's GPU hours; unset: as before.")
]
MaxCost = Annotated[float | None, tyro.conf.arg(help="Another ceiling on what these cost; unset: as before.")]
Price = Annotated[float | None, tyro.conf.arg(help="Another price of a GPU hour, for all of them; unset: as before.")]


def resume(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(  # noqa: PLR0913  (all but the first are options)
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        on: Where = "as-before",
        max_children: Annotated[
            int | None, tyro.conf.arg(help="Another number of children after which the search ends; unset: as before.")
        ] = None,
        max_hours: MaxHours = None,
        max_gpu_hours: MaxGpuHours = None,
        max_cost: MaxCost = None,
        cost_per_gpu_hour: Price = None,
        metrics_port: Annotated[int | None, tyro.conf.arg(help="Another port for metrics; unset: as before.")] = None,
        log_format: Annotated[LogFormat | None, tyro.conf.arg(help="Events as text or json; unset: as before.")] = None,
        log_level: Annotated[
            LogLevel | None, tyro.conf.arg(help="Lowest level that is logged; unset: as before.")
        ] = None,
        callback: Annotated[
            tyro.conf.UseAppendAction[tuple[str, ...]],
            tyro.conf.arg(help="tensorboard, mlflow or MODULE:CLASS, repeatedly; unset: as before."),
        ] = (),
    ) -> int:
        """Resume a search that was stopped or killed, from its folder alone."""
        folder = resumable_run(storage_path, name, print)
        config = folder.read_config()
        if max_children is not None:
            config = replace(config, max_children=max_children)
        given = {
            "max_hours": max_hours,
            "max_gpu_hours": max_gpu_hours,
            "max_cost": max_cost,
            "cost_per_gpu_hour": cost_per_gpu_hour,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        config = replace(config, ceilings=replace(config.ceilings, **changed))
        if folder.ledger.exists():
            _check_unfinished(folder, config)
        check_unchanged(config)
        if metrics_port is not None:  # another process may use the former port by now
            config = replace(config, metrics=replace(config.metrics, metrics_port=metrics_port))
        logs = replace(
            config.logs,
            log_format=log_format or config.logs.log_format,
            log_level=log_level or config.logs.log_level,
        )
        config = replace(config, logs=logs)
        if callback:
            config = replace(config, callbacks=CallbackOptions(callback=callback))
        return execute_run(config if on == "as-before" else replace(config, local=on == "local"), folder)

    return parse_command("resume", run, arguments)


def _check_unfinished(folder: RunFolder, config: RunConfig) -> None:
    """Raise `UsageError` if the run is running, or has nothing to do within these limits.

    Raises:
        RunFolderError: the run has parts that this version does not know.
    """
    status, max_children = read_status(folder, time.time()), config.max_children
    if status.unknown:
        raise RunFolderError(f"the run {folder.name!r} cannot be resumed: {status.unknown_text}")
    if status.state == "running":
        raise UsageError(f"the run {folder.name!r} is running; `{folder.command('status')}` shows it")
    if max_children < status.sampled:
        raise UsageError(
            f"`max_children` must be at least {status.sampled}, the children that the run {folder.name!r} has sampled,"
            f" got {max_children}"
        )
    if ceiling := used_up(config.ceilings, read_used(folder, time.time())):
        raise UsageError(
            f"the run {folder.name!r} has used up a ceiling, {ceiling.text}: give `{ceiling.flag}` a number above"
            f" {ceiling.used:.4g} to go on with it"
        )
    if status.state == "finished" and status.ended >= max_children:
        raise UsageError(
            f"the run {folder.name!r} has finished: all {counted(status.ended, 'child')} have ended; give"
            f" `--max-children` a number above {status.ended} to go on with it"
        )
