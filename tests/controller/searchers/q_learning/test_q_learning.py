"""Q-learning (Baker et al. 2017, arXiv 1611.02167; spec §7.2)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from child_trainer.architectures.architecture import Architecture, Kind, node
from child_trainer.outcome import Cause, Failure, Outcome
from controller.decisions import Choice, Decisions, InvalidTokens, Tokens, check_tokens, enumerate_samples
from controller.searcher import ChildRecord, Proposal, Searcher, View
from controller.searchers.q_learning.options import SCHEDULE, QLearningOptions
from controller.searchers.q_learning.q_learning import QLearning
from controller.searchers.q_learning.q_table import QTable
from controller.space import SearchSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.hierarchical import HierarchicalSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.searcher import SearcherContract, recorded

CELLS = NasBench201Space(cells_per_stage=1)
CHAINS = ChainSpace(image_size=8, num_filters=(4, 8), units=(16, 8), max_layers=3)


class TestOnChains(SearcherContract):
    def make(self) -> Searcher:
        return QLearning(CHAINS, QLearningOptions(schedule_models=4))


class TestOnCells(SearcherContract):
    def make(self) -> Searcher:
        return QLearning(CELLS, QLearningOptions(schedule_models=4, repeats="refuse"))


class TestOnSkipConnections(SearcherContract):
    def make(self) -> Searcher:
        return QLearning(ConvolutionalSpace(initial_depth=3), QLearningOptions(repeats="train", state_tokens=None))


class TestOnMotifs(SearcherContract):
    def make(self) -> Searcher:
        return QLearning(HierarchicalSpace(initial_mutations=10, channels=2), QLearningOptions())


@dataclass(frozen=True)
class Toy:
    """Two or three decisions, each of a few options."""

    sizes: tuple[int, ...]
    kind: Kind = "feedforward"

    def decisions(self, completed: int) -> Decisions:
        return tuple(Choice("layer", tuple(range(size)), place) for place, size in enumerate(self.sizes))

    def choice_sizes(self) -> dict[str, int]:
        return {f"layer_{place}": size for place, size in enumerate(self.sizes)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        if num_tokens != len(self.sizes):
            raise InvalidTokens("another number of tokens")
        return self.decisions(0)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        check_tokens(self.decisions(0), tokens)
        return Architecture(
            "feedforward",
            (node("a", "conv", "image", height=tokens[0] + 1, width=sum(t * 10**i for i, t in enumerate(tokens)) + 1,
                  filters=1),),
            ("a",),
        )  # fmt: skip


def ended(
    number: int, tokens: Tokens, reward: float | None, space: SearchSpace = CELLS, *, failed: bool = False
) -> ChildRecord:
    failure = Failure(cause=Cause.DIVERGED, message="it did") if failed else None
    return recorded(
        number,
        Proposal(tokens=tokens, architecture=space.decode(tokens)),
        Outcome(curve=(reward or 0.0,), seconds=1.0, parameters=None, flops=None, seed=number, failure=failure),
        reward,
    )


@dataclass
class Search:
    """A search of one child after another, as a replica would have it."""

    searcher: Searcher
    reward: Callable[[Tokens], float]
    space: SearchSpace
    history: list[ChildRecord] = field(default_factory=list)

    def view(self, pending: Sequence[ChildRecord] = (), seed: int | None = None) -> View:
        return View(
            parameters={},
            completed=len(self.history),
            history=lambda: self.history,
            pending=lambda: pending,
            rng=random.Random(len(self.history) if seed is None else seed),
        )

    def run(self, children: int) -> "Search":
        for _ in range(children):
            (proposal,) = self.searcher.ask(1, self.view())
            number = len(self.history) + 1
            outcome = Outcome(curve=(0.0,), seconds=1.0, parameters=None, flops=None, seed=number)
            self.history.append(recorded(number, proposal, outcome, self.reward(proposal.tokens)))
        return self


def test_q_values_of_two_layers_converge_to_the_optimum() -> None:
    """Spec T7.2: Q of the first decision becomes the best reward that it can lead to."""
    space = Toy((3, 3))
    rng = random.Random(0)
    rewards = {tokens: rng.random() for tokens in enumerate_samples(space.decisions(0))}
    options = QLearningOptions(schedule_models=9, q_learning_rate=0.1, repeats="train")
    search = Search(QLearning(space, options), lambda tokens: rewards[tokens], space).run(150)
    table = QTable(space, options).after(search.history)
    for (first, second), reward in rewards.items():
        assert table.q(table.state((first,)), second) == pytest.approx(reward, abs=0.02)
    for first in range(3):
        best = max(reward for tokens, reward in rewards.items() if tokens[0] == first)
        assert table.q(table.state(()), first) == pytest.approx(best, abs=0.02)
    assert table.sample(space.decisions(0), 0.0, random.Random(0)) == max(rewards, key=lambda tokens: rewards[tokens])
    assert table.start_value(space.decisions(0)) == pytest.approx(max(rewards.values()), abs=0.02)


def test_one_pass_carries_a_reward_to_the_first_decision() -> None:
    """Spec T7.3: alpha 1/2 and Q 0 at the start, a chain of three; forward order would leave the first two at 0."""
    space, options = Toy((1, 1, 1)), QLearningOptions(q_learning_rate=0.5, initial_q=0.0, replays=0)
    table = QTable(space, options).after([ended(1, (0, 0, 0), 1.0, space)])
    assert [table.q(table.state((0,) * place), 0) for place in range(3)] == [0.125, 0.25, 0.5]


def test_replay_learns_from_each_again() -> None:
    space, options = Toy((2,)), QLearningOptions(q_learning_rate=0.5, initial_q=0.0, replays=1)
    one, two = ended(1, (0,), 1.0, space), ended(2, (1,), 0.6, space)
    table = QTable(space, options).after([one])
    assert table.q(table.state(()), 0) == 0.75
    again = random.Random(2).choice((one, two))
    table = QTable(space, options).after([one, two])
    assert (table.q(table.state(()), 0), table.q(table.state(()), 1)) == (
        (0.875, 0.3) if again is one else (0.75, pytest.approx(0.45))
    )


def test_a_discount_makes_earlier_decisions_worth_less() -> None:
    space = Toy((1, 1))
    options = QLearningOptions(q_learning_rate=1.0, initial_q=0.0, replays=0, discount=0.5)
    table = QTable(space, options).after([ended(1, (0, 0), 0.8, space)])
    assert (table.q(table.state(()), 0), table.q(table.state((0,)), 0)) == (0.4, 0.8)


def test_with_a_whole_trace_every_decision_learns_the_reward_itself() -> None:
    """Two samples that share their last state only: the first decisions keep the rewards of each."""
    space = Toy((2, 1, 1))
    options = QLearningOptions(q_learning_rate=0.5, initial_q=0.0, replays=0, trace=1.0)
    history = [ended(1, (0, 0, 0), 1.0, space), ended(2, (1, 0, 0), 0.2, space)]
    table = QTable(space, options).after(history)
    assert [table.q(table.state(()), token) for token in (0, 1)] == [0.5, 0.1]
    assert table.q(table.state((0, 0)), 0) == pytest.approx(0.35)
    half = QTable(space, QLearningOptions(q_learning_rate=0.5, initial_q=0.0, replays=0, trace=0.5)).after(history[:1])
    # The last learns 1, the second half of its 0.5 and half of 1, the first half of its 0.375 and half of 0.75.
    assert [half.q(half.state((0,) * place), 0) for place in (2, 1, 0)] == [0.5, 0.375, 0.28125]


def test_the_schedule_is_the_papers() -> None:
    """Spec T7.4, golden value G12."""
    assert sum(models for _, models in SCHEDULE) == 2_700
    options = QLearningOptions()
    epsilons = [options.epsilon(models) for models in range(2_700)]
    assert [(epsilon, epsilons.count(epsilon)) for epsilon, _ in SCHEDULE] == list(SCHEDULE)
    assert epsilons == sorted(epsilons, reverse=True)
    assert options.epsilon(5_000) == 0.1


def test_the_schedule_can_be_shortened() -> None:
    options = QLearningOptions(schedule_models=27)
    epsilons = [options.epsilon(models) for models in range(27)]
    assert [epsilons.count(epsilon) for epsilon, _ in SCHEDULE] == [15, 1, 1, 1, 2, 1, 2, 1, 2, 1]
    assert QLearningOptions(schedule_models=1).epsilon(1) == 0.1


def test_epsilon_counts_unique_models_that_have_ended_or_are_in_training() -> None:
    """With epsilon at 0.1 after the first two models, almost every proposal is the best; before, few are."""
    options = QLearningOptions(schedule_models=2, repeats="train", replays=500, q_learning_rate=0.5)
    searcher = QLearning(CELLS, options)
    best, other = (3,) * 6, (0, 1, 2, 3, 4, 0)
    search = Search(searcher, lambda _: 0.0, CELLS, [ended(1, best, 1.0), ended(2, best, 1.0)])

    def greedy(pending: Sequence[ChildRecord]) -> int:
        return sum(searcher.ask(1, search.view(pending, seed))[0].tokens == best for seed in range(60))

    assert greedy(()) < 10
    assert greedy([ended(3, best, None)]) == 0  # which is in training, and no other model is
    assert greedy([ended(3, other, None)]) > 20


def test_an_architecture_that_was_trained_is_not_trained_again() -> None:
    """Spec T7.5: a repetition takes the outcome of the first child that has one."""
    options = QLearningOptions(schedule_models=1, replays=500, q_learning_rate=0.5)
    searcher = QLearning(CELLS, options)
    failed, first, again = ended(1, (3,) * 6, None, failed=True), ended(2, (3,) * 6, 1.0), ended(3, (3,) * 6, 1.0)
    search = Search(searcher, lambda _: 0.0, CELLS, [failed, first, again])
    proposals = [searcher.ask(1, search.view(seed=seed))[0] for seed in range(40)]
    assert {p.same_as for p in proposals if p.tokens == (3,) * 6} == {2}
    assert {p.same_as for p in proposals if p.tokens != (3,) * 6} == {None}
    search.history = [failed]
    assert all(searcher.ask(1, search.view(seed=seed))[0].same_as is None for seed in range(40))


@pytest.mark.parametrize(("repeats", "repeated"), [("train", True), ("refuse", False)])
def test_repetitions_can_be_trained_again_or_refused(repeats: Any, repeated: bool) -> None:
    searcher = QLearning(CELLS, QLearningOptions(schedule_models=1, q_learning_rate=0.5, repeats=repeats))
    search = Search(searcher, lambda _: 0.0, CELLS, [ended(1, (3,) * 6, 1.0)])
    proposals = [searcher.ask(1, search.view(seed=seed))[0] for seed in range(40)]
    assert {p.same_as for p in proposals} == {None}
    assert ((3,) * 6 in {p.tokens for p in proposals}) == repeated


def test_children_in_training_are_not_proposed_again() -> None:
    searcher = QLearning(CELLS, QLearningOptions(schedule_models=1, q_learning_rate=0.5))
    search = Search(searcher, lambda _: 0.0, CELLS, [ended(1, (2,) * 6, 0.9)])
    pending = [ended(2, (2, 2, 2, 2, 2, 3), None)]
    for seed in range(40):
        proposals = searcher.ask(4, search.view(pending, seed))
        assert len({p.tokens for p in proposals} | {pending[0].tokens}) == 5


def test_a_space_that_is_used_up_is_repeated() -> None:
    space = Toy((1, 2))
    searcher = QLearning(space, QLearningOptions(repeats="refuse"))
    history = [ended(number, (0, number - 1), 0.5, space) for number in (1, 2)]
    search = Search(searcher, lambda _: 0.0, space, history)
    assert len(searcher.ask(3, search.view())) == 3


@pytest.mark.parametrize("space", [CELLS, CHAINS], ids=["cells", "chains"])
def test_two_instances_have_the_same_values_to_the_bit(space: SearchSpace) -> None:
    """One has seen the history child by child, the other sees it whole; a third saw another one before."""
    options = QLearningOptions(schedule_models=20)
    search = Search(QLearning(space, options), lambda tokens: sum(tokens) % 7 / 7, space).run(40)
    other = Search(QLearning(space, options), lambda tokens: sum(tokens) % 5 / 5, space).run(12).history
    step_by_step, whole, changed = (QTable(space, options) for _ in range(3))
    for count in range(41):
        step_by_step.after(search.history[:count])
    whole.after(search.history)
    changed.after(other)
    changed.after(search.history)
    assert step_by_step._rows == whole._rows == changed._rows
    assert step_by_step.num_states == whole.num_states > 10


def test_children_without_a_reward_are_counted_and_not_learnt_from() -> None:
    table = QTable(CELLS, QLearningOptions()).after([ended(1, (1,) * 6, None), ended(2, (2,) * 6, None, failed=True)])
    assert (table.models, table.num_states) == (2, 0)
    assert table.trained(CELLS.decode((1,) * 6).id) == 1
    assert table.trained(CELLS.decode((2,) * 6).id) is None


def test_on_chains_the_table_has_the_spaces_own_states() -> None:
    tokens = CHAINS.tokens_of("C(8,3,1) P(2,2) FC(8) SM")
    table = QTable(CHAINS, QLearningOptions()).after([ended(1, tokens, 0.9, CHAINS)])
    assert list(table._rows) == ["3 FC(8) 4 1", "2 P(2,2) 4 0", "1 C(8,3,1) 8 0", "0 start 8 0"]


def test_a_search_can_end_with_its_schedule() -> None:
    searcher = QLearning(CELLS, QLearningOptions(schedule_models=4, ends_with_schedule=True))
    history = [ended(1, (1,) * 6, 0.9), ended(2, (2,) * 6, 0.9), ended(3, (2,) * 6, 0.9)]
    search = Search(searcher, lambda _: 0.0, CELLS, history)
    assert len(searcher.ask(4, search.view())) == 2
    assert len(searcher.ask(4, search.view([ended(4, (3,) * 6, None)]))) == 1
    assert len(searcher.ask(4, search.view([ended(4, (3,) * 6, None), ended(5, (4,) * 6, None)]))) == 0


def test_what_it_has_learnt_is_shown() -> None:
    searcher = QLearning(CELLS, QLearningOptions(schedule_models=2))
    history = [ended(1, (1,) * 6, 0.9), ended(2, (1,) * 6, 0.9)]
    figures = searcher.learn(history, Search(searcher, lambda _: 0.0, CELLS, history).view()).figures
    assert (figures["epsilon"], figures["unique_models"], figures["known_states"]) == (1.0, 1.0, 6.0)
    assert 0.5 < figures["start_value"] < 0.9


def test_it_finds_better_chains_than_random_search() -> None:
    """The more filters the better, up to the end; a chain that is learnt of is as good as can be."""

    def reward(tokens: Tokens) -> float:
        words = CHAINS.genotypes(tokens)["MetaQNN"].split()
        return sum(word.startswith("C(8") for word in words) / 3

    def last(options: QLearningOptions) -> float:
        history = Search(QLearning(CHAINS, options), reward, CHAINS).run(200).history
        return sum(child.reward or 0 for child in history[-50:]) / 50

    assert last(QLearningOptions(schedule_models=60)) > 0.7
    assert last(QLearningOptions(schedule_models=10_000)) < 0.4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule_models": 0}, "`schedule_models` must be at least 1, got 0"),
        ({"replays": -1}, "`replays` must be at least 0, got -1"),
        ({"state_tokens": -1}, "`state_tokens` must be at least 0, got -1"),
        ({"q_learning_rate": 0.0}, "`q_learning_rate` must be above 0 and at most 1, got 0.0"),
        ({"trace": -0.1}, "`trace` must be from 0 to 1, got -0.1"),
        ({"discount": 1.5}, "`discount` must be from 0 to 1, got 1.5"),
        ({"initial_q": float("inf")}, "`initial_q` must be a finite number, got inf"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QLearningOptions(**wrong)


def test_a_search_too_short_for_the_schedule_is_cautioned_against() -> None:
    assert QLearningOptions().caution(2_700) is None
    assert QLearningOptions(schedule_models=100).caution(96) is None
    assert QLearningOptions().caution(100) == (
        "the first 1,500 unique models of a search are random; with schedule-models=100 epsilon would fall to 0.1"
    )


def test_option_values_are_the_tables_along_its_best_sample() -> None:
    options = QLearningOptions(q_learning_rate=0.5, replays=3)
    given = [((3, 3, 1, 2, 0, 4), 0.9), ((0, 1, 1, 2, 0, 4), 0.1)]
    history = [
        ChildRecord(id=child_id, tokens=tokens, architecture_id=CELLS.decode(tokens).id, reward=reward)
        for child_id, (tokens, reward) in enumerate(given, start=1)
    ]
    view = View(parameters={}, completed=2, history=lambda: history, pending=tuple, rng=random.Random(0))
    rows = QLearning(CELLS, options).option_values(view)
    table = QTable(CELLS, options).after(history)
    best: list[int] = []
    for place, row in enumerate(rows, start=1):
        assert (row.kind, row.layer, row.options[3]) == ("edge", place, "nor_conv_3x3")
        assert row.values == tuple(table.q(table.state(best), token) for token in range(5))
        best.append(row.values.index(max(value for value in row.values if value is not None)))
    assert best == [3, 3, 1, 2, 0, 4]


def test_option_values_name_what_is_not_allowed_and_each_token_of_a_subset() -> None:
    view = View(parameters={}, completed=0, history=tuple, pending=tuple, rng=random.Random(0))
    chain = QLearning(CHAINS, QLearningOptions()).option_values(view)
    assert any(None in row.values for row in chain) and all(set(row.values) <= {0.5, None} for row in chain)
    skips = QLearning(ConvolutionalSpace(initial_depth=3), QLearningOptions()).option_values(view)
    assert [(row.kind, row.layer, row.options) for row in skips if "skip" in row.kind] == [
        ("skip 1", 2, ("no", "yes")),
        ("skip 1", 3, ("no", "yes")),
        ("skip 2", 3, ("no", "yes")),
    ]
