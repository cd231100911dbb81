"""EAS (spec §9.1): stages, what the policy decides, what is learnt from it, and whose weights are kept."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.changes import Deepen, Repeat, Widen
from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import TrainOn
from controller.policies.eas import EasPolicy, GrowingNetwork
from controller.reward import REWARDS
from controller.searcher import ChildRecord, is_exclusive
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.transformations.eas import Eas
from controller.searchers.transformations.options import EasOptions
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.densenet import DIGITS as DENSENETS
from controller.spaces.layer_chains import WidensAndDeepens
from controller.spaces.plain import DIGITS, PlainSpace
from tests.contracts.searcher import SearcherContract
from tests.controller.searchers.transformations.driven import Search, outcome, view

OPTIONS = EasOptions(stage_children=(4, 3), wider_steps=2, deeper_steps=2, layer_embedding=4, encoder_units=5)


class TestContract(SearcherContract):
    draws = False  # the first children are the start

    def make(self) -> Eas:
        return Eas(DIGITS, replace(OPTIONS, starts=8))


def test_each_stage_grows_from_the_best_of_those_before_and_waits_for_them() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    (start,) = search.ask(3)
    assert (start.job, start.notes) == (None, {"stage": 0})
    assert search.ask(3) == []  # nothing grows from a start that is not trained
    search.end(0.5)
    first = search.ask(3)
    assert [p.notes["parent"] for p in first] == [1, 1, 1]
    assert len(search.ask(3, seed=1)) == 1  # four children in this stage
    assert search.ask(3) == []
    search.end(0.6, 0.9, 0.7)
    assert search.ask(3) == []
    search.end(0.8)
    second = search.ask(9, seed=2)
    assert [(p.notes["stage"], p.notes["parent"]) for p in second] == [(2, 3)] * 9  # the last stage has no end
    assert is_exclusive(search.searcher)


def test_a_child_says_whose_weights_it_begins_with_and_what_was_changed() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    search.ask(1)
    search.end(0.5)
    grew = 0
    for proposal in search.ask(4):
        assert isinstance(proposal.job, TrainOn)
        assert (proposal.job.parent, proposal.job.checksum) == (1, "ab1")
        assert proposal.architecture == DIGITS.decode(proposal.tokens)
        assert changed(DIGITS.decode(()), proposal.job.changes) == proposal.architecture
        kinds = [type(change) for change in proposal.job.changes]
        assert kinds[-2:] == [Deepen, Deepen]
        assert set(kinds[:-2]) <= {Widen}
        grew += len(kinds) - 2
        assert "2 layers more" in proposal.notes["change"]
    assert grew


def test_a_densenet_grows_and_its_transitions_follow_when_all_changes_are_made() -> None:
    search = Search(Eas(DENSENETS, replace(OPTIONS, wider_steps=3)))
    search.ask(1)
    search.end(0.5)
    followed = 0
    for proposal in search.ask(4):
        assert isinstance(proposal.job, TrainOn)
        assert changed(DENSENETS.decode(()), proposal.job.changes) == proposal.architecture
        kinds = [type(change) for change in proposal.job.changes]
        assert kinds.count(Repeat) == 2
        last = max(place for place, kind in enumerate(kinds) if kind is Repeat)
        assert set(kinds) == {Widen, Repeat}
        names = [change.node for change in proposal.job.changes[last + 1 :] if isinstance(change, Widen)]
        assert all(name.startswith(("stem", "transition")) for name in names)
        followed += len(names)
        wide = {change.node for change in proposal.job.changes if isinstance(change, Widen)}
        decided = len([name for name in wide if name in ("dense2", "dense4")])  # the layers of the start
        assert proposal.notes["change"] == f"{decided} layer{'s' * (decided > 1)} wider, 2 layers more"
        wider = sum(isinstance(change, Widen) for change in proposal.job.changes[:last])
        assert wider == 2 * sum(map(len, proposal.notes["wider"]))  # a layer and its bottleneck
    assert followed


def test_on_a_task_that_keeps_no_weights_children_begin_from_scratch() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    search.ask(1)
    search.end(0.5, weights=None)
    assert [proposal.job for proposal in search.ask(2)] == [None, None]


def test_a_network_that_was_trained_takes_the_known_outcome() -> None:
    space = PlainSpace(start=("conv-8-3",), filters=(8,), window_sizes=(3,), max_layers=2, max_block_layers=2)
    search = Search(Eas(space, replace(OPTIONS, deeper_steps=1, wider_steps=0)))
    search.ask(1)
    search.end(0.5)
    (first,) = search.ask(1)  # the only network that it can grow to
    search.end(0.6)
    (again,) = search.ask(1, seed=1)
    assert (first.same_as, again.same_as, again.job) == (None, 2, None)
    search.end(0.6)
    assert search.kept == {1, 2}  # not 3, which has no weights of its own


def test_a_stage_grows_from_the_best_network_that_can_still_grow() -> None:
    space = PlainSpace(start=("conv-8-3",), filters=(8,), window_sizes=(1, 3), max_layers=2, max_block_layers=2)
    search = Search(Eas(space, replace(OPTIONS, stage_children=(1, 3), deeper_steps=1)))
    search.ask(1)
    search.end(0.5)
    search.ask(1)
    search.end(0.9)  # two layers of the only width
    assert [proposal.notes["parent"] for proposal in search.ask(3, seed=1)] == [1, 1, 1]
    assert search.kept == {1, 2}


def test_a_start_that_cannot_grow_is_refused() -> None:
    space = PlainSpace(start=("conv-8-3",), filters=(8, 16), window_sizes=(3,), max_layers=1, max_block_layers=1)
    Eas(space, OPTIONS)
    with pytest.raises(ValueError, match="the start network must have something that can grow"):
        Eas(space, replace(OPTIONS, wider_steps=0))


def test_the_noise_of_new_layers_is_that_of_the_space_unless_one_is_given() -> None:
    """0.001 of an identity's weights (Deepen), 0.01 of a copy's (Repeat)."""
    found = set[tuple[float | None, type, float]]()
    for space in (DIGITS, DENSENETS):
        for given in (None, 0.5):
            search = Search(Eas(space, replace(OPTIONS, deeper_noise=given)))
            search.ask(1)
            search.end(0.5)
            (proposal,) = search.ask(1)
            assert isinstance(proposal.job, TrainOn)
            new = [change for change in proposal.job.changes if isinstance(change, Deepen | Repeat)]
            found |= {(given, type(change), change.noise) for change in new}
    assert found == {(None, Deepen, 1e-3), (None, Repeat, 1e-2), (0.5, Deepen, 0.5), (0.5, Repeat, 0.5)}


def test_only_the_stages_parent_and_the_best_are_kept() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    assert search.kept == frozenset()
    search.ask(1)
    search.end(0.5)
    assert search.kept == {1}
    search.ask(4)
    search.end(0.4)
    assert search.kept == {1}
    search.end(0.9, 0.9, 0.3)
    assert search.kept == {1, 3}  # with more children the search may go on with this stage; 3 is the next one's parent
    search.ask(3)
    assert search.kept == {3}
    search.end(0.95)
    assert search.kept == {3, 6}


def test_no_stage_comes_back_when_the_search_gets_more_children() -> None:
    """Stages that follow from the number of children are others then; the start's weights are gone."""
    search = grown_search()[0]
    search.ask(3)
    search.end(0.9)
    search.searcher = Eas(DIGITS, replace(OPTIONS, stage_children=(40, 40)))
    assert {(p.notes["stage"], p.notes["parent"]) for p in search.ask(3)} == {(2, 5)}
    assert search.kept == {5, 6}


def test_a_search_that_ended_with_its_first_stage_goes_on_with_it_if_it_gets_more_children() -> None:
    search = Search(
        Eas(DIGITS, EasOptions(layer_embedding=4, encoder_units=5).for_children(3))
    )  # stages of one child each
    search.ask(1)
    search.end(0.5)
    search.ask(1)
    search.end(0.9)
    kept = search.kept  # at the end of a search of two children
    search.searcher = Eas(DIGITS, EasOptions(layer_embedding=4, encoder_units=5).for_children(25))
    (proposal,) = search.ask(1)
    assert (proposal.notes["stage"], proposal.notes["parent"]) == (1, 1)
    assert kept == {1, 2}


def test_a_start_that_failed_is_trained_again() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    search.ask(1)
    failed = Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=0)
    search.ended.append(replace(search.pending.pop(), outcome=failed, reward=0.0))
    assert [proposal.notes for proposal in search.ask(4)] == [{"stage": 0}]


def grown_search(space: WidensAndDeepens = DIGITS) -> tuple[Search, list[ChildRecord]]:
    search = Search(Eas(space, OPTIONS))
    search.ask(1)
    search.end(0.5)
    search.ask(4)
    search.end(0.1, 0.2, 0.3, 0.8)
    return search, search.ended[1:]


@pytest.mark.parametrize("space", [DIGITS, DENSENETS], ids=["plain", "densenet"])
def test_the_recorded_log_probability_is_computed_again_from_the_notes(space: WidensAndDeepens) -> None:
    """T0.1: also of parents of other depths in one batch."""
    search, children = grown_search(space)
    search.ask(3, seed=5)
    search.end(0.2, 0.4, 0.6)
    deeper = search.ended[-3:]
    mixed = [*children, *deeper]
    search.searcher.learn(mixed, view(search.parameters, search.ended))
    assert search.score(mixed).log_prob.tolist() == pytest.approx([child.log_prob for child in mixed], abs=1e-4)


def test_learning_follows_the_rewards_above_a_baseline_that_has_them_already() -> None:
    search, children = grown_search()
    update = search.searcher.learn(children, view(search.parameters, search.ended))
    mean = 0.35
    assert update.figures["baseline"] == pytest.approx(0.95 * mean)
    assert update.gradients[BASELINE].tolist() == pytest.approx([mean, 1.0])
    # The naive gradient: each child by itself, its log-probability written out.
    policy = search.searcher._grower.policy
    policy.load(search.parameters)
    total: Any = 0.0
    for child in children:
        judged = search.score([child])
        assert child.reward is not None
        total = total - (child.reward - 0.95 * mean) * judged.log_prob[0] / 4 - 1e-5 * judged.entropy[0] / 4
    for name, gradient in policy.gradients(total).items():
        assert torch.allclose(update.gradients[name], gradient, atol=1e-5), name


def test_starts_alone_teach_nothing() -> None:
    search = Search(Eas(DIGITS, OPTIONS))
    search.ask(1)
    search.end(0.5)
    assert search.searcher.learn(search.ended, view(search.parameters, search.ended)).gradients == {}


NETWORK = GrowingNetwork(
    layers=(0, 5, 2), can_widen=(True, False, False), places=(1, 0, 2), has_window=((True,), (), (True, False))
)
FULL = GrowingNetwork(layers=(1,), can_widen=(False,), places=(0, 0, 0), has_window=((), (), ()))


def test_all_decisions_of_a_network_have_the_probability_one_together() -> None:
    """T0.2, with the masks: no wide layer, no full block, no window for a fully connected layer."""
    policy = EasPolicy(vocabulary=6, blocks=3, places=4, windows=2, embedding=3, units=4)
    policy.draw_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        wider = policy.score_wider([NETWORK] * 2, [(), (0,)]).log_prob.exp().sum()
        places = [(0, 0, 0), (0, 0, 1), (2, 0, 0), (2, 0, 1), (2, 1, 0)]
        deeper = policy.score_deeper([NETWORK] * 5, places).log_prob.exp().sum()
        forced = policy.score_deeper([FULL, NETWORK], [None, (0, 0, 0)])
    assert (wider.item(), deeper.item()) == (pytest.approx(1), pytest.approx(1))
    assert (forced.log_prob[0], forced.entropy[0]) == (0, 0)
    generator = torch.Generator().manual_seed(0)
    drawn = {policy.sample_deeper([NETWORK, FULL], generator)[0] for _ in range(60)}
    assert {d[:2] for d in drawn if d} == {(0, 0), (2, 0), (2, 1)}
    assert policy.sample_deeper([NETWORK, FULL], generator)[1] is None
    assert {policy.sample_wider([NETWORK, FULL], generator)[0] for _ in range(30)} == {(), (0,)}


def test_the_reward_is_the_tangent_of_the_accuracy() -> None:
    """T9.3."""
    compute = REWARDS["tangent-accuracy"].compute
    assert compute(outcome(0.9)) == pytest.approx(6.314, abs=1e-3)
    assert compute(outcome(0.95)) == pytest.approx(12.706, abs=1e-3)
    assert compute(outcome(1.0)) == pytest.approx(math.tan(0.999 * math.pi / 2))


def test_another_space_and_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="use --space plain or densenet, got the space 'convolutional'"):
        Eas(ConvolutionalSpace(), OPTIONS)
    with pytest.raises(ValueError, match="not both 0, got 0 and 0"):
        EasOptions(wider_steps=0, deeper_steps=0)
    with pytest.raises(ValueError, match="`stage_children` must be at least 1 child for each stage"):
        EasOptions(stage_children=(3, 0))


def test_stages_that_are_not_given_share_the_search() -> None:
    assert EasOptions().for_children(24).stage_children == (11, 12)
    assert EasOptions(stage_children=(5,)).for_children(24).stage_children == (5,)
