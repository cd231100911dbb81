"""What children are trained on: the options of the task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from child_trainer.language_options import LanguageOptions
from child_trainer.tasks.fault_injection import parse_faults
from child_trainer.tasks.summaries import TASKS


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What children are trained on."""

    task: Literal["digits", "fashion-mnist", "cifar10", "ptb", "wikitext2", "text", "synthetic", "nasbench201"] = (
        "digits"
    )
    """Data, loss, metric and preprocessing; `synthetic` trains nothing and scores the architecture itself;
    `nasbench201` looks it up in the benchmark's table."""
    data: str | Path | None = None
    """Folder with the data on every node (images in torchvision's layout; texts as train.txt, valid.txt and test.txt),
    or its URL in an object store (s3://...), from which each node fetches a copy once; digits, text and synthetic need
    none."""
    download: bool = False
    """Download the data into the folder first if it is not there."""
    child_seconds: float = 0.0
    """Seconds that a synthetic child pretends to train for."""
    child_spread: float = 0.0
    """How unlike synthetic children are in that: the sigma of a log-normal distribution around those seconds."""
    child_faults: str = ""
    """Faults that synthetic children rehearse: FAULT=PROBABILITY,... of crashed (a segmentation fault), hang,
    out_of_memory and diverged."""
    language: LanguageOptions = field(default_factory=LanguageOptions)
    """What a language model is around its cell"""

    @property
    def faults(self) -> Mapping[str, float]:
        """The rehearsed faults and their probabilities."""
        return parse_faults(self.child_faults)

    @property
    def instant(self) -> bool:
        """Whether a child takes no time and can come to no harm."""
        return not (TASKS[self.task].trains or self.child_seconds or self.faults)

    def __post_init__(self) -> None:
        for name in ("child_seconds", "child_spread"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}")
        parse_faults(self.child_faults)
