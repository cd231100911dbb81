"""The options of a run's callbacks."""

from dataclasses import dataclass

import tyro

from child_trainer.field_types import check_types


@dataclass(frozen=True, kw_only=True)
class CallbackOptions:
    """What is called with each event of the run."""

    callback: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A callback: tensorboard, mlflow or MODULE:CLASS; may be repeated. It is called with the run's events, and
    MODULE:CLASS names a class of your own."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in self.callback:
            if self.callback.count(name) > 1:
                raise ValueError(f"`callback` must name each callback once, got {name!r} twice")
