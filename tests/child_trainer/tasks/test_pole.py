"""Two poles on a cart: the equations of motion, and what a network is judged by (spec §15)."""

import math
import random
from typing import Any

import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget, Cause, Outcome
from child_trainer.tasks import pole, pole_cart
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.pole import Trial, balance, gruau_fitness
from child_trainer.tasks.pole_cart import CART_MASS, GRAVITY, HINGE_FRICTION, POLES, State, accelerations, fell, step
from child_trainer.training.task import Progress
from child_trainer.training.train import train
from controller.genomes.genome import Genome, Link
from controller.spaces.genomes import GenomeSpace

SOLUTION = [-0.413, -0.301, -1.367, -1.381, 0.951, 0.302, 0.0]
"""Weights of a neuron that balances both poles: the linear-quadratic regulator at rest."""

FULL, PARTIAL = GenomeSpace(inputs=6), GenomeSpace(inputs=3, recurrent=True)


def energy(state: State) -> float:
    """The energy (J) of the cart and of two thin rods."""
    _, speed, *poles = state
    total = CART_MASS * speed**2 / 2
    for (length, mass), angle, turning in zip(POLES, poles[::2], poles[1::2], strict=True):
        along = speed + length * turning * math.cos(angle)
        up = -length * turning * math.sin(angle)
        total += mass * (along**2 + up**2) / 2 + mass * length**2 / 3 * turning**2 / 2
        total -= mass * GRAVITY * length * math.cos(angle)
    return total


def test_without_friction_and_force_the_energy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pole_cart, "HINGE_FRICTION", 0.0)
    state: State = (0.0, 0.3, 0.4, -0.2, -0.3, 0.5)
    before = energy(state)
    for _ in range(2000):
        state = step(state, 0.0, seconds=0.0005)
    assert energy(state) == pytest.approx(before, abs=1e-6)


def test_a_force_adds_the_energy_of_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pole_cart, "HINGE_FRICTION", 0.0)
    state: State = (0.0, 0.0, 0.1, 0.0, -0.1, 0.0)
    before = energy(state)
    for _ in range(1000):
        state = step(state, 5.0, seconds=0.0002)
    assert energy(state) - before == pytest.approx(5.0 * state[0], rel=1e-6)


def test_the_accelerations_are_wielands_as_the_paper_writes_them() -> None:
    rng = random.Random(0)
    for _ in range(20):
        state: Any = tuple(rng.uniform(-0.6, 0.6) for _ in range(6))
        force = rng.uniform(-10, 10)
        forces, masses = 0.0, 0.0
        for (length, mass), angle, turning in zip(POLES, state[2::2], state[3::2], strict=True):
            friction = HINGE_FRICTION * turning / (mass * length)
            forces += mass * length * turning**2 * math.sin(angle)
            forces += 3 / 4 * mass * math.cos(angle) * (friction + GRAVITY * math.sin(angle))
            masses += mass * (1 - 3 / 4 * math.cos(angle) ** 2)
        cart = (force + forces) / (CART_MASS + masses)
        expected = [cart] + [
            -3 / (4 * length)
            * (cart * math.cos(angle) + GRAVITY * math.sin(angle) + HINGE_FRICTION * turning / (mass * length))
            for (length, mass), angle, turning in zip(POLES, state[2::2], state[3::2], strict=True)
        ]  # fmt: skip
        assert accelerations(state, force) == pytest.approx(expected, rel=1e-12)


def test_upright_poles_stay_and_others_fall() -> None:
    state: State = (0.0,) * 6
    for _ in range(100):
        state = step(state, 0.0)
    assert state == (0.0,) * 6
    state = pole.START
    steps = 0
    while not fell(state):
        state, steps = step(state, 0.0), steps + 1
    assert state[4] > pole_cart.MAX_ANGLE  # the long pole pushes the cart, and the short one falls the other way
    assert 30 < steps < 60


def test_the_limits_are_those_of_the_track_and_of_36_degrees() -> None:
    assert not fell((2.39, 9.0, 0.62, 9.0, -0.62, 9.0))
    assert fell((-2.41, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert fell((0.0, 0.0, 0.629, 0.0, 0.0, 0.0))
    assert fell((0.0, 0.0, 0.0, 0.0, -0.629, 0.0))


def test_a_trial_from_625_states_of_which_none_has_fallen() -> None:
    assert len(set(pole.STARTS)) == 625
    assert not any(map(fell, pole.STARTS))


def test_the_fitness_without_velocities_is_gruaus() -> None:
    assert gruau_fitness(Trial(steps=100, movement=5.0)) == pytest.approx(0.01)
    assert gruau_fitness(Trial(steps=1000, movement=5.0)) == pytest.approx(0.1 + 0.9 * 0.15)
    assert math.isfinite(gruau_fitness(Trial(steps=1000, movement=0.0)))


def judged(architecture: Architecture, task: str) -> Outcome:
    return train(architecture, load_task(task), Budget(epochs=1), seed=0)


def linear(weights: list[float]) -> Architecture:
    """One neuron, which reads all of the state."""
    return FULL.network(Genome(7, 1, (), tuple(Link(n, n - 1, 7, w) for n, w in enumerate(weights, start=1))))


def test_a_network_with_velocities_is_judged_by_its_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pole, "LONG_STEPS", 300)
    idle = judged(linear([0.0] * 7), "double-pole")
    assert idle.metric is not None
    assert 20 < idle.metric < 100
    assert not idle.solved
    good = judged(linear(SOLUTION), "double-pole")
    assert good.metric == 300
    assert good.solved
    assert good.parameters == 7


def test_a_network_without_velocities_keeps_its_state_within_a_trial_only(monkeypatch: pytest.MonkeyPatch) -> None:
    links = (Link(1, 1, 4, 1.0), Link(2, 4, 4, 2.0, recurrent=True))
    architecture = PARTIAL.network(Genome(4, 1, (), links))
    controller = pole.Controller(architecture, "double-pole-no-velocities", velocities=False)
    first = balance(controller, pole.START, 1000, Progress())
    assert balance(controller, pole.START, 1000, Progress()) == first
    outcome = judged(architecture, "double-pole-no-velocities")
    assert outcome.metric == pytest.approx(gruau_fitness(first))


def test_a_solution_without_velocities_must_balance_for_long_and_from_other_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("LONG_STEPS", 20), ("SHORT_STEPS", 10), ("STARTS", (pole.START,) * 3), ("MIN_BALANCED", 2)):
        monkeypatch.setattr(pole, name, value)
    idle = PARTIAL.decode(())
    assert judged(idle, "double-pole-no-velocities").solved
    for name, value in (("LONG_STEPS", 1000), ("STARTS", (pole.START, (2.4, 9.0, 0.0, 0.0, 0.0, 0.0)) * 2)):
        with monkeypatch.context() as patch:
            patch.setattr(pole, name, value)
            patch.setattr(pole, "MIN_BALANCED", 3)
            assert not judged(idle, "double-pole-no-velocities").solved


def test_a_child_can_be_stopped_in_the_middle() -> None:
    looks = iter([False, True])
    progress_stops = train(
        linear(SOLUTION), load_task("double-pole"), Budget(epochs=1), seed=0, preempted=lambda: next(looks)
    )
    assert progress_stops.failure is not None
    assert progress_stops.failure.cause is Cause.PREEMPTED


def test_a_network_of_another_shape_is_invalid() -> None:
    for architecture, task in (
        (GenomeSpace(inputs=3).decode(()), "double-pole"),
        (FULL.decode(()), "double-pole-no-velocities"),
        (GenomeSpace(inputs=3, outputs=2).decode(()), "double-pole-no-velocities"),
    ):
        outcome = judged(architecture, task)
        assert outcome.failure is not None
        assert outcome.failure.cause is Cause.INVALID
