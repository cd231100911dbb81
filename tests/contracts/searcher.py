"""The rules of `controller.searcher.Searcher`. An implementation subclasses and supplies `make`."""

import json
import random
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from child_trainer.outcome import Cause, Failure, Outcome
from controller.searcher import Child, ChildRecord, Proposal, Searcher, View, passes_of


def view(
    parameters: Mapping[str, Tensor], *, completed: int = 0, seed: int = 0, ended: Sequence[ChildRecord] = ()
) -> View:
    return View(
        parameters=parameters,
        completed=completed,
        history=lambda: ended,
        pending=lambda: (),
        rng=random.Random(seed),
    )


def initial(searcher: Searcher, seed: int = 0) -> dict[str, Tensor]:
    return {name: value for group in searcher.parameters(seed) for name, value in group.values.items()}


def recorded(number: int, proposal: Proposal, outcome: Outcome, reward: float | None) -> ChildRecord:
    """What a searcher sees of a child that has ended."""
    return Child(id=number, proposal=proposal, outcome=outcome, reward=reward).record


def end(searcher: Searcher, parameters: Mapping[str, Tensor], n: int = 4, completed: int = 0) -> list[ChildRecord]:
    proposals = searcher.ask(n, view(parameters, completed=completed))
    return [
        recorded(i, proposal, Outcome(curve=(i / n,), seconds=1.0, parameters=1, flops=1, seed=0), reward=i / n)
        for i, proposal in enumerate(proposals, start=1)
    ]


def searched(searcher: Searcher, parameters: Mapping[str, Tensor], count: int) -> list[ChildRecord]:
    """Return the children of a search, at least so many unless it ends before; every seventh has no reward."""
    rng, ended = random.Random(0), list[ChildRecord]()
    while len(ended) < count:
        begun = len(ended)
        proposals = searcher.ask(rng.randint(1, 4), view(parameters, completed=begun, seed=begun, ended=tuple(ended)))
        if not proposals:
            break
        for number, proposal in enumerate(proposals, start=begun + 1):
            reward = None if number % 7 == 0 else rng.randrange(10) / 10
            failure = Failure(cause=Cause.DIVERGED, message="") if reward is None else None
            curve = () if reward is None else (reward,)
            outcome = Outcome(curve=curve, seconds=1.0, parameters=1, flops=1, seed=number, failure=failure)
            ended.append(recorded(number, proposal, outcome, reward))
    return ended


class SearcherContract:
    samples_after = 0
    """How many children must have ended before the searcher samples architectures."""
    draws = True
    """Whether these depend on chance."""
    searched = 16
    """How many children the search has of which the history is read in several ways."""

    @pytest.fixture
    def searcher(self) -> Searcher:
        return self.make()

    def make(self) -> Searcher:
        raise NotImplementedError

    def test_initial_parameters_are_fixed_by_the_seed(self, searcher: Searcher) -> None:
        first, again = initial(searcher, 1), initial(self.make(), 1)
        assert first.keys() == again.keys()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in first.values())

    def test_names_are_unique_over_all_groups(self, searcher: Searcher) -> None:
        names = [name for group in searcher.parameters(0) for name in group.values]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("n", [1, 5])
    def test_begins_with_as_many_as_wanted(self, searcher: Searcher, n: int) -> None:
        """No child is pending: a searcher that returns fewer than it can would let workers idle."""
        assert len(searcher.ask(n, view(initial(searcher)))) == n

    def test_notes_are_equal_to_what_is_read_back(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        children = end(searcher, parameters, n=12)
        for proposal in searcher.ask(3, view(parameters, completed=12, ended=children)):
            assert json.loads(json.dumps(dict(proposal.notes), allow_nan=False)) == proposal.notes

    def test_a_known_outcome_is_that_of_the_same_architecture(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        children = end(searcher, parameters, n=12)
        known = {child.id: child.architecture_id for child in children}
        for proposal in searcher.ask(3, view(parameters, completed=12, ended=children)):
            assert proposal.same_as is None or known[proposal.same_as] == proposal.architecture_id

    def test_makes_at_least_one_step_on_a_batch(self, searcher: Searcher) -> None:
        assert passes_of(searcher) >= 1

    def test_the_same_view_gives_the_same_proposals_from_any_instance(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        searcher.ask(3, view(parameters, seed=7))  # must leave no trace
        assert searcher.ask(5, view(parameters, seed=1)) == self.make().ask(5, view(parameters, seed=1))

    def test_a_history_gives_the_same_proposals_however_it_is_read(self, searcher: Searcher) -> None:
        """One instance sees the history grow child by child, one in pieces, and one all at once, as after a resume."""
        parameters = initial(searcher)
        history, by_child, in_pieces = searched(searcher, parameters, self.searched), self.make(), self.make()
        rng = random.Random(1)
        for count in range(len(history) + 1):

            def ask(asked: Searcher, count: int = count) -> list[Proposal]:
                return asked.ask(2, view(parameters, completed=count, seed=count, ended=history[:count]))

            proposals = ask(by_child)
            if rng.random() < 0.3 or count == len(history):
                assert ask(in_pieces) == proposals
                assert ask(self.make()) == proposals

    def test_another_seed_gives_other_proposals(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        views = [view(parameters, completed=self.samples_after, seed=seed) for seed in (1, 2)]
        assert (searcher.ask(8, views[0]) != searcher.ask(8, views[1])) == self.draws

    def test_learning_is_repeatable_and_names_only_its_parameters(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        children = end(searcher, parameters, completed=self.samples_after)
        update, again = (s.learn(children, view(parameters, ended=children)) for s in (searcher, self.make()))
        assert update.figures == again.figures
        assert update.gradients.keys() == again.gradients.keys() <= parameters.keys()
        for name, gradient in update.gradients.items():
            assert torch.equal(gradient, again.gradients[name])
            assert gradient.shape == parameters[name].shape
            assert gradient.isfinite().all()

    def test_asking_and_learning_leave_the_view_and_the_global_generator_alone(self, searcher: Searcher) -> None:
        parameters = initial(searcher)
        before, state = {name: value.clone() for name, value in parameters.items()}, torch.get_rng_state()
        searcher.learn(end(searcher, parameters, completed=self.samples_after), view(parameters))
        assert all(torch.equal(before[name], parameters[name]) for name in before)
        assert torch.equal(state, torch.get_rng_state())
