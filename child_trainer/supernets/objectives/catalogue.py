"""Every objective by its name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from child_trainer.supernets.objectives import darts, path, proxyless, snas
from child_trainer.supernets.objectives.objective import Objective

OBJECTIVES: Mapping[str, Objective[Any]] = MappingProxyType(
    {
        "path": path.PATH,
        "dropout": path.DROPOUT,
        "darts": darts.DARTS,
        "weighted": darts.WEIGHTED,
        "snas": snas.SNAS,
        "proxyless": proxyless.FULL,
        "proxyless-two": proxyless.TWO,
        "proxyless-reinforce": proxyless.REINFORCE,
        "proxyless-warm-up": proxyless.WARM_UP,
    }
)
"""The objectives; SMASH trains along given paths, with a network whose weights are generated (`hypernetwork.py`)."""
