"""A reward in a file of its own that lets a worker die at five points of its steps: every process of a run loads it."""

from collections.abc import Iterable
from pathlib import Path

POINTS = {
    "before the strengths are pulled": 5,
    "before the strengths are pushed": 15,
    "after the strengths are pushed": 25,
    "before the weights are pushed": 35,
    "after the weights are pushed": 45,
}
"""Where in a step, and in which step of its lane, counted from 0."""

TEXT = '''"""The accuracy, with a worker that dies at each point once."""

import os
import signal
from pathlib import Path

from cluster.search import steps

FOLDER, POINTS = Path({folder!r}), {points!r}
_make, _pull, _push = steps._Making.make, steps._Making._pull, steps._Making._push
_now = []


def die(point):
    if _now[-1] == POINTS.get(point):
        try:
            (FOLDER / point).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def make(self, step):
    _now.append(self.lane.steps_before + step)
    return _make(self, step)


def pull(self, store, names, step):
    if store is self.stores.policy:
        die("before the strengths are pulled")
    return _pull(self, store, names, step)


def push(self, store, step, gradients, pulled, rates):
    what = "strengths" if store is self.stores.policy else "weights"
    die(f"before the {{what}} are pushed")
    _push(self, store, step, gradients, pulled, rates)
    die(f"after the {{what}} are pushed")


steps._Making.make, steps._Making._pull, steps._Making._push = make, pull, push


def accuracy(outcome):
    """Return the accuracy."""
    return outcome.metric or 0.0
'''


def write_reward(folder: Path, points: Iterable[str] = POINTS) -> str:
    """Write the file into the folder, and return the reward's name.

    Args:
        folder: which also gets a file for each point that has been met.
        points: at which a worker is to die.
    """
    file = folder / "dying.py"
    file.write_text(TEXT.format(folder=str(folder), points={point: POINTS[point] for point in points}))
    return f"{file}:accuracy"


def met(folder: Path) -> list[str]:
    """Return the points at which a worker has died, in the order of the steps."""
    return [point for point in POINTS if (folder / point).exists()]
