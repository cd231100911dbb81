"""What a run may be told about callbacks."""

from dataclasses import dataclass

import tyro


@dataclass(frozen=True, kw_only=True)
class CallbackOptions:
    """Who is told of each child."""

    callback: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Who is told of each child: tensorboard, mlflow, or a class of your own as MODULE:CLASS; may be repeated."""

    def __post_init__(self) -> None:
        for name in self.callback:
            if self.callback.count(name) > 1:
                raise ValueError(f"`callback` must name each callback once, got {name!r} twice")
