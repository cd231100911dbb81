"""From the name of a callback to the callback."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

OURS = {
    "tensorboard": ("cluster.monitoring.callbacks.tensorboard:TensorBoardCallback", "tensorboard"),
    "mlflow": ("cluster.monitoring.callbacks.mlflow:MlflowCallback", "mlflow"),
}
"""By name: the class, and the package that it needs, which is also the name of the extra that brings it."""

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
    """There is no such callback, or it lacks what it needs."""


def load_callback(name: str) -> Any:
    """The callback of this name: one of ours, or an object of a user's class, made without arguments.

    The class need not be a `Callback`: hooks that it does not have are not called. Modules are found as Python finds
    them, and in the folder that the command was typed in.

    Raises:
        CallbackError: there is none, or it cannot be made.
    """
    where, package = OURS.get(name, (name, ""))
    if package and importlib.util.find_spec(package) is None:
        raise CallbackError(f"`callback` {name} needs a package: pip install nascluster[{name}]")
    module, colon, cls = where.partition(":")
    if not (colon and module and cls):
        raise CallbackError(f"`callback` must be {', '.join(OURS)} or MODULE:CLASS, got {name!r}")
    made = _made(name, module, cls)
    if not any(callable(getattr(made, hook, None)) for hook in HOOKS):
        raise CallbackError(f"`callback` {name} has none of the hooks {', '.join(HOOKS)}")
    return made


def _made(name: str, module: str, cls: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        made: Callable[[], Any] = getattr(importlib.import_module(module), cls)
        return made()
    except Exception as error:  # whatever a user's module raises
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CallbackError(f"`callback` {name} cannot be made ({reason})") from error
