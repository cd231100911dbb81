"""The rules of `child_trainer.supernets.objectives`. A subclass supplies `objective`, `values` and the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.objective import Costs, Draw, HalfStep, Objective, Step


@dataclass(frozen=True)
class Data:
    """One batch of each kind."""

    images: Tensor
    labels: Tensor

    def training(self) -> tuple[Tensor, Tensor]:
        half = len(self.labels) // 2
        return self.images[:half], self.labels[:half]

    def validation(self) -> tuple[Tensor, Tensor]:
        half = len(self.labels) // 2
        return self.images[half:], self.labels[half:]


class ObjectiveContract:
    STEP = 0
    """A step at which every half-step is due."""

    @pytest.fixture
    def objective(self) -> Objective[Any]:
        raise NotImplementedError

    @pytest.fixture
    def values(self) -> Mapping[str, Any]:
        """Settings other than the defaults."""
        return {}

    @pytest.fixture
    def network(self) -> SupernetNetwork:
        raise NotImplementedError

    @pytest.fixture
    def data(self) -> Data:
        raise NotImplementedError

    @pytest.fixture
    def given(self, network: SupernetNetwork) -> Gates:
        """The strengths, or a path's gates."""
        raise NotImplementedError

    @pytest.fixture
    def costs(self, network: SupernetNetwork) -> Costs:
        return {name: tuple(2.0 + place for place in range(size)) for name, size in network.gate_sizes.items()}

    @pytest.fixture
    def halves(self, objective: Objective[Any], values: Mapping[str, Any]) -> tuple[HalfStep[Any], ...]:
        due = objective.due(self.STEP, objective.settings_of(values))
        assert due
        return due

    @pytest.fixture
    def run(
        self,
        objective: Objective[Any],
        values: Mapping[str, Any],
        network: SupernetNetwork,
        data: Data,
        given: Gates,
        costs: Costs,
    ) -> Any:
        settings = objective.settings_of(values)

        def run(
            half: HalfStep[Any], seed: int = 0, weights: Mapping[str, Tensor] | None = None
        ) -> tuple[Step, Draw, list[str]]:
            draw = half.draw(network.gate_sizes, given, settings, Generator().manual_seed(seed))
            names = half.names(network, draw)
            weights = weights or network.initial(0)
            # Only what a worker has pulled.
            pulled = {name: weights[name].clone() for name in names}
            step = half.step(network, data, pulled, draw, settings, costs)
            assert all(torch.equal(pulled[name], weights[name]) for name in names), "weights are not changed in place"
            return step, draw, names

        return run

    def test_gradients_are_finite_and_have_the_names_and_shapes_of_what_they_move(
        self, halves: Any, run: Any, network: SupernetNetwork, given: Gates
    ) -> None:
        for half in halves:
            step, _, names = run(half)
            assert bool(step.weights) == ("weights" in half.learns)
            assert bool(step.strengths) == ("strengths" in half.learns)
            assert set(step.weights) <= set(names) <= set(network.shapes)
            assert not step.strengths or set(step.strengths) == set(given)
            for name, gradient in step.weights.items():
                assert gradient.shape == network.shapes[name]
            for name, gradient in step.strengths.items():
                assert gradient.shape == (network.gate_sizes[name],)
            for gradient in (*step.weights.values(), *step.strengths.values()):
                assert gradient.isfinite().all()
                assert not gradient.requires_grad
            assert step.loss > 0
            assert 0 <= step.accuracy <= 1

    def test_the_weights_behind_every_path_are_moved_by_exactly_one_half_step(self, halves: Any, run: Any) -> None:
        moved = [half for half in halves if run(half)[0].weights.get("head/weight", torch.zeros(1)).any()]
        assert len(moved) == 1

    def test_equal_seeds_give_equal_draws_and_gradients_to_the_bit(self, halves: Any, run: Any) -> None:
        for half in halves:
            (first, draw, names), (second, again, others) = run(half), run(half)
            assert names == others
            assert draw.seed == again.seed
            assert numbers(draw) == numbers(again)
            assert first.loss == second.loss
            assert first.weights.keys() == second.weights.keys()
            for one, other in ((first.weights, second.weights), (first.strengths, second.strengths)):
                assert all(torch.equal(one[name], other[name]) for name in one)

    def test_the_global_generator_is_left_alone(self, halves: Any, run: Any) -> None:
        before = torch.get_rng_state()
        for half in halves:
            run(half)
        assert torch.equal(torch.get_rng_state(), before)

    def test_strengths_are_not_changed_in_place(self, halves: Any, run: Any, given: Gates) -> None:
        before = {name: torch.as_tensor(gate).clone() for name, gate in given.items()}
        for half in halves:
            run(half)
        for name, gate in given.items():
            assert torch.equal(torch.as_tensor(gate), before[name])
            assert not (isinstance(gate, Tensor) and gate.requires_grad)

    def test_unknown_and_impossible_settings_are_refused(self, objective: Objective[Any]) -> None:
        with pytest.raises(ValueError, match="the objective has no setting 'colour'; it has progress, "):
            objective.settings_of({"colour": 1})
        with pytest.raises(ValueError, match=r"`progress` must be from 0 to 1, got 1\.5"):
            objective.settings_of({"progress": 1.5})
        with pytest.raises(ValueError, match="`progress` must be a number, got 'half'"):
            objective.settings_of({"progress": "half"})


def numbers(draw: Draw) -> list[list[float]]:
    return [[torch.as_tensor(number).item() for number in gate] for gates in draw.gates for gate in gates.values()]
