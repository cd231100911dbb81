"""Loads a callback by its name."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

BUILT_IN = {
    "tensorboard": ("cluster.monitoring.callbacks.tensorboard:TensorBoardCallback", "tensorboard"),
    "mlflow": ("cluster.monitoring.callbacks.mlflow:MlflowCallback", "mlflow"),
}
"""Class and required package of our own callbacks, by name; the package is also the name of our extra."""

HOOKS = (
    "setup",
    "on_trial_start",
    "on_trial_result",
    "on_trial_complete",
    "on_trial_error",
    "on_step_end",
    "on_experiment_end",
)


class CallbackError(ValueError):
    """A callback does not exist, cannot be created, or lacks a package."""


def load_callback(name: str) -> Any:
    """Return the callback of this name: one of ours, or an object of a user's class, created without arguments.

    The class need not be a `Callback`: missing hooks are not called. Modules are found on Python's path and in the
    current folder.

    Raises:
        CallbackError: the callback does not exist or cannot be created.
    """
    where, package = BUILT_IN.get(name, (name, ""))
    if package and importlib.util.find_spec(package) is None:
        raise CallbackError(f"`callback` {name} needs a package: in a checkout of nascluster, pip install '.[{name}]'")
    module, colon, cls = where.partition(":")
    if not (colon and module and cls):
        raise CallbackError(f"`callback` must be {', '.join(BUILT_IN)} or MODULE:CLASS, got {name!r}")
    if module.endswith(".py") or not all(part.isidentifier() for part in (*module.split("."), cls)):
        raise CallbackError(
            f"`callback` must be MODULE:CLASS, such as my_module:Best for the file my_module.py, got {name!r}"
        )
    callback = _create(name, module, cls)
    if not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
        raise CallbackError(f"`callback` {name} has none of the hooks {', '.join(HOOKS)}")
    return callback


def _create(name: str, module: str, cls: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        create: Callable[[], Any] = getattr(importlib.import_module(module), cls)
        return create()
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        if isinstance(error, ModuleNotFoundError):
            reason += f"; modules are found on Python's path and in {here}"
        raise CallbackError(f"`callback` {name} cannot be created ({reason})") from error
