"""Balancing two poles on a cart (Stanley & Miikkulainen 2002, section 4.2; spec §15). Trains nothing.

Standard library only.
"""

from collections import deque
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.scalar_graph import ScalarGraph
from child_trainer.no_options import NoOptions
from child_trainer.outcome import Budget, Measure
from child_trainer.tasks.pole_cart import State, fell, moved
from child_trainer.training.task import Progress

WITH_VELOCITIES = "double-pole"
"""The name of the task with velocities; by any other name it is the one without."""

START: State = (0.0, 0.0, 0.07, 0.0, 0.0, 0.0)
"""The long pole leans by 4 degrees."""

LONG_STEPS = 100_000
"""Actions, of 0.02 s each, for which a network must balance both poles."""

SHORT_STEPS = 1_000
"""Actions of the trial that gives the fitness without velocities, and of the trials from other states."""

SHAKING_STEPS = 100
"""Actions at the end of a trial over which the movement is summed."""

STARTS = tuple(
    (x * 4.32 - 2.16, v * 2.7 - 1.35, a * 0.12566304 - 0.06283152, w * 0.30019504 - 0.15009752, 0.0, 0.0)
    for x, v, a, w in product((0.05, 0.25, 0.5, 0.75, 0.95), repeat=4)
)
"""The 625 states from which a solution is tried (Gruau et al. 1996)."""

MIN_BALANCED = 200
"""States from which a solution without velocities must balance the poles."""

PREEMPTION_STEPS = 1_000
"""Actions between two looks at whether the child must stop."""

SCALES = ((0, 4.8), (1, 2.0), (2, 0.52), (3, 2.0), (4, 0.52), (5, 2.0))
"""What a network is given with velocities: the places in the state, each with the number that it is divided by."""

SCALES_WITHOUT_VELOCITIES = SCALES[::2]

MIN_MOVEMENT = 1e-6
"""The least movement that the fitness tells from none."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt to balance the poles.

    Attributes:
        steps: the actions before a pole fell or the cart left the track; all of them if neither happened.
        movement: the sum of |x| + |x'| + |angle| + |angle'| of cart and long pole over the last hundred states.
    """

    steps: int
    movement: float


@dataclass(frozen=True, slots=True)
class PoleTask:
    """Judges a network by how long, and how quietly, it balances two poles.

    With velocities it gets all six numbers of the state, and its fitness is the number of actions that it balances the
    poles for, at most 100,000; that many solve the task. Without velocities it gets the cart's position and the two
    angles. Its fitness is Gruau's: a tenth for the share of 1,000 actions, and 0.9 for 0.75 divided by the movement in
    the last hundred, if it balances for more than a hundred. It solves the task if it also balances the poles for
    100,000 actions, and for 1,000 actions from at least 200 of 625 other states.
    """

    name: str = WITH_VELOCITIES

    @property
    def measure(self) -> Measure:
        """The fitness."""
        return Measure.FITNESS

    @property
    def velocities(self) -> bool:
        """Whether the network is given velocities."""
        return self.name == WITH_VELOCITIES

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Report the network's fitness; the budget and the seed change nothing. See `Task.fit`."""
        controller = Controller(architecture, self.name, velocities=self.velocities)
        progress.parameters = controller.num_weights
        if self.velocities:
            steps = balance(controller, START, LONG_STEPS, progress).steps
            progress.solved = steps == LONG_STEPS
            progress.finished_epoch(float(steps))
            return
        trial = balance(controller, START, SHORT_STEPS, progress)
        progress.solved = trial.steps == SHORT_STEPS and is_general(controller, progress)
        progress.finished_epoch(gruau_fitness(trial))


class Controller:
    """A network that is given the state of the cart, and gives the next action.

    Args:
        architecture: of 6 inputs with velocities, of 3 without, and of one output; it may be recurrent.
        task: the task's name, for messages.
        velocities: whether it is given velocities.

    Raises:
        InvalidArchitecture: it is not such a network.
    """

    def __init__(self, architecture: Architecture, task: str, *, velocities: bool) -> None:
        self._scales = SCALES if velocities else SCALES_WITHOUT_VELOCITIES
        self._recurrent = architecture.kind == "recurrent"
        size = len(self._scales)
        state = _state_size(architecture) if self._recurrent else 0
        self._network = ScalarGraph(architecture, {"image": size, "x": size, "h": state})
        outputs = self._network.num_outputs
        if outputs != (state or 1):
            raise InvalidArchitecture(f"the task {task!r} needs a network of 1 output, got {outputs}")
        self.num_weights = self._network.num_weights
        self._state = [0.0] * state

    def forget(self) -> None:
        """Begin a new trial: a recurrent network starts with a state of zeros."""
        self._state = [0.0] * len(self._state)

    def action(self, state: State) -> float:
        """Return the next action, from 0 to 1."""
        inputs = [state[place] / scale for place, scale in self._scales]
        if not self._recurrent:
            return self._network(inputs)[0]
        self._state = self._network(inputs, self._state)
        return self._state[0]


def _state_size(architecture: Architecture) -> int:
    """Return how many numbers a recurrent network of single numbers keeps: the inputs of the node that joins them."""
    last = next(n for n in architecture.nodes if n.name == architecture.outputs[0])
    return len(last.inputs) if last.op == "concat" else 1


def balance(controller: Controller, state: State, steps: int, progress: Progress) -> Trial:
    """Let a network balance the poles from this state for at most so many actions.

    Raises:
        Preempted: the child must stop.
    """
    controller.forget()
    last: deque[State] = deque(maxlen=SHAKING_STEPS)
    done = 0
    while done < steps and not fell(state):
        if done % PREEMPTION_STEPS == 0:
            progress.before_step(0)
        state = moved(state, controller.action(state))
        last.append(state)
        done += not fell(state)
    return Trial(done, sum(abs(x) + abs(v) + abs(angle) + abs(speed) for x, v, angle, speed, *_ in last))


def gruau_fitness(trial: Trial) -> float:
    """Return 0.1 steps / 1000 + 0.9 * 0.75 / movement, the second only after more than a hundred steps."""
    quiet = 0.75 / max(trial.movement, MIN_MOVEMENT) if trial.steps > SHAKING_STEPS else 0.0
    return 0.1 * trial.steps / SHORT_STEPS + 0.9 * quiet


def is_general(controller: Controller, progress: Progress) -> bool:
    """Return whether a network balances the poles for long, and from enough other states."""
    if balance(controller, START, LONG_STEPS, progress).steps < LONG_STEPS:
        return False
    balanced = 0
    for tried, start in enumerate(STARTS):
        if balanced + len(STARTS) - tried < MIN_BALANCED:
            return False
        balanced += balance(controller, start, SHORT_STEPS, progress).steps == SHORT_STEPS
        if balanced == MIN_BALANCED:
            return True
    return False


def check(name: str, data: Path | None, options: NoOptions, *, download: bool) -> None:
    """Do nothing: the task has no data and no options."""


def load(name: str, data: Path | None, options: NoOptions, *, seed: int, device: str) -> PoleTask:
    """Return the task of this name."""
    return PoleTask(name)
