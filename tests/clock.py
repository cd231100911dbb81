"""The clock of a test: time moves when the test says so."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Returns `now`, in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
