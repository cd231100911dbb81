"""The training settings that an architecture may have of its own (`Architecture.hyperparameters`). No torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Regime

OF_BUDGET = ("learning_rate", "weight_decay", "momentum")
"""Those that replace a field of the budget."""

OF_REGIME = (
    "decay",
    "decay_at",
    "decay_every",
    "warmup_epochs",
    "clip_norm",
    "label_smoothing",
    "cutout",
    "path_keep",
    "auxiliary_weight",
    "norm_epsilon",
    "norm_momentum",
    "rmsprop_decay",
    "optimizer_epsilon",
)
"""Those that replace a field of its regime."""

OF_LANGUAGE = ("embedding_dropout", "variational_dropout")
"""Those that replace an option of a language model."""

HYPERPARAMETERS = (*OF_BUDGET, *OF_REGIME, *OF_LANGUAGE)
"""All of them, in the order in which they are listed for people."""


def with_hyperparameters(budget: Budget, hyperparameters: Mapping[str, float]) -> Budget:
    """Return the budget with these settings in place of its own.

    `decay_at` is the one share of the training at which the learning rate is multiplied by `decay`: the schedule is
    `steps` then.

    Raises:
        ValueError: a name is no such setting, or a value is impossible.
    """
    if unknown := [name for name in hyperparameters if name not in HYPERPARAMETERS]:
        raise ValueError(f"a training has no setting {min(unknown)!r} of its own; it has {', '.join(HYPERPARAMETERS)}")
    own_language_options(LanguageOptions(), hyperparameters)
    own = {name: float(value) for name, value in hyperparameters.items() if name in OF_BUDGET}
    return replace(budget, regime=own_regime(budget.regime, hyperparameters), **own)


def own_regime(regime: Regime, hyperparameters: Mapping[str, float]) -> Regime:
    """Return the regime with those of these settings that it has; the others are ignored.

    Raises:
        ValueError: a value is impossible.
    """
    changes = {name: _of_regime(name, value) for name, value in hyperparameters.items() if name in OF_REGIME}
    schedule: dict[str, Any] = {"schedule": "steps"} if "decay_at" in changes else {}
    return replace(regime, **schedule, **changes) if changes else regime


def own_language_options(options: LanguageOptions, hyperparameters: Mapping[str, float]) -> LanguageOptions:
    """Return the options of a language model with those of these settings that it has; the others are ignored.

    Raises:
        ValueError: a value is impossible.
    """
    changes: dict[str, Any] = {name: float(value) for name, value in hyperparameters.items() if name in OF_LANGUAGE}
    return replace(options, **changes) if changes else options


def lacks_effect(name: str, budget: Budget, architecture: Architecture) -> str:
    """Return why a setting changes nothing in the training of a network, as a clause; empty if it may change it.

    Args:
        name: one of `HYPERPARAMETERS`.
        budget: of the training, with the other settings.
        architecture: the network.
    """
    regime = budget.regime
    schedules = {"decay": ("steps", "exponential"), "decay_every": ("exponential",)}.get(name)
    if schedules is not None and regime.schedule not in schedules:
        return f"the schedule {regime.schedule} has no such setting, only {' and '.join(schedules)}"
    optimizers = {
        "momentum": ("sgd", "rmsprop"),
        "rmsprop_decay": ("rmsprop",),
        "optimizer_epsilon": ("adam", "rmsprop"),
    }.get(name)
    if optimizers is not None and regime.optimizer not in optimizers:
        return f"the optimizer {regime.optimizer} has no such setting, only {' and '.join(optimizers)}"
    if name == "path_keep" and all(one.op != "drop_path" for one in architecture.nodes):
        return "it concerns networks with the operation drop_path"
    if name == "auxiliary_weight" and (architecture.kind != "feedforward" or len(architecture.outputs) == 1):
        return "it concerns networks with an auxiliary head"
    if name in OF_LANGUAGE and architecture.kind != "recurrent":
        return "it concerns language models"
    return ""


def _of_regime(name: str, value: float) -> Any:
    if name == "decay_at":
        return (float(value),)
    if name != "cutout":
        return float(value)
    if value != int(value):
        raise ValueError(f"`cutout` must be a whole number, got {value}")
    return int(value)
