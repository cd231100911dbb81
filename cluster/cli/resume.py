"""`nascluster resume`: resumes a search that was stopped or killed."""

import time
from dataclasses import replace
from typing import Annotated, Literal

import tyro

from cluster.cli.command import parse_command
from cluster.cli.launch import execute_run
from cluster.config.callback_options import CallbackOptions
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.log_options import LogFormat, LogLevel, LogOptions
from cluster.config.run_config import DEFAULT_STORAGE, check_unchanged
from cluster.monitoring.status import read_status
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import resumable_run

Where = Annotated[
    Literal["as-before", "local", "ray"],
    tyro.conf.arg(help="Where to resume: in this one process, on Ray, or as before."),
]


def resume(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        on: Where = "as-before",
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
        if folder.ledger.exists():
            status = read_status(folder, time.time())
            if status.unknown:
                raise RunFolderError(f"the run {name!r} cannot be resumed: {status.unknown_text}")
            if status.state == "running":
                raise UsageError(f"the run {name!r} is running; `nascluster status {name}` shows it")
            if status.state == "finished":
                raise UsageError(f"the run {name!r} has finished: all {status.max_children} children have ended")
        check_unchanged(config)
        if metrics_port is not None:  # another process may use the former port by now
            config = replace(config, metrics=replace(config.metrics, metrics_port=metrics_port))
        logs = LogOptions(log_format=log_format or config.logs.log_format, log_level=log_level or config.logs.log_level)
        config = replace(config, logs=logs)
        if callback:
            config = replace(config, callbacks=CallbackOptions(callback=callback))
        return execute_run(config if on == "as-before" else replace(config, local=on == "local"), folder)

    return parse_command("resume", run, arguments)
