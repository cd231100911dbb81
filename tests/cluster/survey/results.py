"""Made-up results of a survey."""

from typing import Any

from cluster.survey.files import CellResult


def made(of: str, seed: int, accuracy: float | None = 0.9, **changes: Any) -> CellResult:
    """Return the result of a search that has found its best child after two seconds of three."""
    values: dict[str, Any] = {
        "cell": f"{of}-{seed}",
        "of": of,
        "seed": seed,
        "spent": 3.0,
        "children": 4,
        "failed": 0,
        "ended": "budget",
        "fit": "",
        "curve": ((1.0, 0.5), (2.0, 0.75)),
        "scored": False,
        "architecture": None,
        "parameters": 1_000,
        "accuracy": accuracy,
        "by_validation": False,
        "cause": None if accuracy is not None else "diverged",
        "retrained_s": 1.0,
    }
    return CellResult(**(values | changes))
