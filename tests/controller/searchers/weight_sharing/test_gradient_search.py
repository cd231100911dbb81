"""DARTS, SNAS and ProxylessNAS as searchers (spec §12 to §14): epochs of steps, then what they favour."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from child_trainer.architectures.cells.cell import Block, Cell, Genotype
from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from controller.searcher import (
    ChildRecord,
    Proposal,
    Searcher,
    View,
    is_exclusive,
    shared_weights_of,
    stop_reason_of,
    value_history_of,
)
from controller.searchers.weight_sharing.darts import Darts
from controller.searchers.weight_sharing.gradient_options import (
    DartsOptions,
    GradientOptions,
    ProxylessOptions,
    SnasOptions,
)
from controller.searchers.weight_sharing.gradient_search import STRENGTHS
from controller.searchers.weight_sharing.option_names import option_names
from controller.searchers.weight_sharing.proxyless import Proxyless
from controller.searchers.weight_sharing.snas import Snas
from controller.spaces import darts, mbconv
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.darts import DartsSpace
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.strengths import strengths_in, strengths_name
from tests.contracts.searcher import SearcherContract, initial

CELLS = NasBench201Space(cells_per_stage=1, stem_channels=2)
SIZE: dict[str, Any] = {"search_epochs": 3, "steps_per_epoch": 22, "steps_per_child": 4}
"""Of an epoch, five children make 4 steps and one makes 2."""

MAKE: Mapping[str, Callable[[], Any]] = {
    "darts": lambda: Darts(darts.DIGITS, DartsOptions(**SIZE)),
    "snas": lambda: Snas(CELLS, SnasOptions(**SIZE)),
    "proxyless": lambda: Proxyless(mbconv.DIGITS, ProxylessOptions(**SIZE, weights_only_epochs=1)),
}


class TestDartsContract(SearcherContract):
    draws = False

    def make(self) -> Darts:
        return MAKE["darts"]()


def recurrent_darts(**options: Any) -> Darts:
    return Darts(DartsRnnSpace(layers=3), DartsOptions(**(SIZE | {"strengths_beta1": 0.9} | options)))


class TestDartsOnRecurrentCellsContract(SearcherContract):
    draws = False

    def make(self) -> Darts:
        return recurrent_darts()


class TestSnasContract(SearcherContract):
    draws = False

    def make(self) -> Snas:
        return MAKE["snas"]()


class TestProxylessContract(SearcherContract):
    draws = False

    def make(self) -> Proxyless:
        return MAKE["proxyless"]()


def record(number: int, proposal: Proposal, outcome: Outcome | None = None) -> ChildRecord:
    return ChildRecord(
        id=number,
        tokens=proposal.tokens,
        architecture_id=proposal.architecture_id,
        outcome=outcome,
        notes=proposal.notes,
        job=proposal.job,
    )


class Search:
    """A search whose children end when a test says so."""

    def __init__(self, searcher: Any) -> None:
        self.searcher, self.parameters = searcher, initial(searcher)
        self.ended: list[ChildRecord] = []
        self.pending: list[Proposal] = []

    @property
    def view(self) -> View:
        pending = [record(len(self.ended) + i, each) for i, each in enumerate(self.pending, start=1)]
        return View(
            parameters=self.parameters,
            completed=len(self.ended),
            history=lambda: self.ended,
            pending=lambda: pending,
            rng=random.Random(0),
        )

    def ask(self, n: int) -> list[Proposal]:
        asked = self.searcher.ask(n, self.view)
        self.pending += asked
        return asked

    def end(self, **measurements: float) -> None:
        outcome = Outcome(curve=(), parameters=None, flops=None, seconds=1.0, seed=0, measurements=measurements)
        self.ended += [record(len(self.ended) + 1, child, outcome) for child in self.pending]
        self.pending.clear()


def jobs(proposals: Sequence[Proposal]) -> list[Steps]:
    return [proposal.job for proposal in proposals if isinstance(proposal.job, Steps)]


@pytest.mark.parametrize("name", MAKE)
def test_each_epoch_is_steps_and_then_one_architecture_and_the_search_ends_after_the_last(name: str) -> None:
    search = Search(MAKE[name]())
    options: GradientOptions = search.searcher._options
    made = 0
    for epoch in range(options.epochs):
        first, rest = search.ask(4), search.ask(4)
        assert [job.count for job in jobs([*first, *rest])] == [4, 4, 4, 4, 4, 2]
        assert search.ask(4) == []  # the epoch's steps must end first
        for job in jobs([*first, *rest]):
            assert (job.first, job.total, job.rate) == (made, options.epochs * 22, options.rate(epoch))
            made += job.count
        search.end()
        (score,) = search.ask(4)
        assert isinstance(score.job, Score)
        assert search.ask(4) == []  # while it is scored, the weights stay as they are
        search.end()
    assert search.ask(4) == []
    assert len(search.ended) == options.num_children


@pytest.mark.parametrize("name", MAKE)
def test_the_architecture_that_is_scored_is_the_one_that_the_strengths_favour(name: str) -> None:
    search = Search(MAKE[name]())
    space = search.searcher._space
    tokens = tuple(decision.count - 1 if hasattr(decision, "count") else 1 for decision in space.decisions(0))
    planted = {strengths_name(gate): torch.tensor(vector) for gate, vector in space.gates(tokens).items()}
    for _ in range(2):
        search.ask(4)
    search.end()
    search.parameters |= {planted_name: 5 * value for planted_name, value in planted.items()}
    (score,) = search.ask(1)
    assert score.architecture_id == space.decode(tokens).id
    assert space.decode(score.tokens).id == score.architecture_id
    assert score.notes[STRENGTHS] == {gate: value.tolist() for gate, value in strengths_in(search.parameters).items()}


def strengths(searcher: Searcher) -> Tensor:
    return torch.cat(list(strengths_in(initial(searcher)).values()))


def test_strengths_begin_as_in_the_papers() -> None:
    assert strengths(MAKE["darts"]()).abs().max() < 0.006
    assert strengths(MAKE["darts"]()).std() == pytest.approx(1e-3, rel=0.2)
    assert strengths(MAKE["snas"]()).mean() == pytest.approx(1.0, abs=0.01)
    assert strengths(MAKE["snas"]()).std() == pytest.approx(0.01, rel=0.4)


def rule_of(searcher: Searcher) -> tuple[str, Mapping[str, float]]:
    group = searcher.parameters(0)[0]
    return group.optimizer, group.options


def test_strengths_and_weights_have_the_papers_optimizers() -> None:
    adam = {"lr": 3e-4, "beta1": 0.5, "beta2": 0.999, "weight_decay": 1e-3}
    assert rule_of(MAKE["darts"]()) == rule_of(MAKE["snas"]()) == ("adam", adam)
    assert rule_of(MAKE["proxyless"]()) == ("adam", {"lr": 1e-3, "beta1": 0.0, "beta2": 0.999, "weight_decay": 0.0})
    two = Proxyless(mbconv.DIGITS, ProxylessOptions(mode="two", strengths_learning_rate=0.2))
    assert rule_of(two) == ("sgd", {"lr": 0.2})
    assert two.objective(40)[1]["rate"] == 0.2
    for name, options in (
        ("darts", {"lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4}),
        ("proxyless", {"lr": 0.025, "momentum": 0.9, "weight_decay": 4e-5, "nesterov": 1.0}),
    ):
        shared = shared_weights_of(MAKE[name]())
        assert shared is not None
        assert (shared.optimizer, shared.options) == ("sgd", options)


def test_only_a_searcher_whose_sample_moves_both_keeps_what_the_strengths_were() -> None:
    names = {name: [group.name for group in make().parameters(0)] for name, make in MAKE.items()}
    assert names == {"darts": ["strengths"], "snas": ["strengths", "before"], "proxyless": ["strengths"]}
    now, before = MAKE["snas"]().parameters(0)
    assert all(torch.equal(a, b) for a, b in zip(now.values.values(), before.values.values(), strict=True))


def test_learning_rates_fall_along_a_cosine() -> None:
    darts_options = DartsOptions()
    assert [darts_options.rate(epoch) for epoch in (0, 25)] == pytest.approx([0.025, 0.013])
    assert darts_options.rate(49) > 0.001
    proxyless = ProxylessOptions()
    assert [proxyless.rate(epoch) for epoch in (0, 20, 40, 100)] == pytest.approx([0.05, 0.025, 0.025, 0.0125])


@pytest.mark.parametrize(
    "searcher",
    [
        *(make() for make in MAKE.values()),
        Darts(darts.DIGITS, DartsOptions(order=2)),
        Darts(darts.DIGITS, DartsOptions(strengths_objective="weighted")),
        Snas(CELLS, SnasOptions(cost="parameters")),
        *(Proxyless(mbconv.DIGITS, ProxylessOptions(mode=mode, cost="flops")) for mode in ("full", "two", "reinforce")),
        *(Proxyless(mbconv.DIGITS, ProxylessOptions(mode=mode)) for mode in ("full", "two", "reinforce")),
    ],
)
def test_objectives_take_the_settings_of_every_epoch(searcher: Any) -> None:
    for epoch in (0, searcher._options.epochs - 1):
        name, settings = searcher.objective(epoch)
        assert OBJECTIVES[name].reads_strengths
        OBJECTIVES[name].settings_of(settings)


def test_a_searcher_that_counts_costs_has_its_workers_make_the_table() -> None:
    def table(searcher: Any) -> tuple[str | None, bool]:
        return searcher.shared_weights.costs, searcher.shared_weights.log_costs

    assert [table(make()) for make in MAKE.values()] == [(None, False)] * 3
    assert table(Snas(CELLS, SnasOptions(cost="parameters"))) == ("parameters", True)
    assert table(Proxyless(CELLS, ProxylessOptions(cost="flops"))) == ("flops", False)


def test_the_second_order_looks_ahead_by_the_step_that_the_weights_will_take() -> None:
    searcher = Darts(darts.DIGITS, DartsOptions(order=2))
    settings = searcher.objective(25)[1]
    assert (settings["rate"], settings["decay"]) == (pytest.approx(0.013), 3e-4)


def test_the_weighted_objective_has_its_weight_and_no_second_order() -> None:
    searcher = Darts(darts.DIGITS, DartsOptions(strengths_objective="weighted", validation_weight=3.0))
    assert searcher.objective(0) == ("weighted", {"validation_weight": 3.0, "clip_norm": 5.0})
    with pytest.raises(ValueError, match="`order` must be 1 where `strengths_objective` is weighted, got 2"):
        DartsOptions(strengths_objective="weighted", order=2)


def test_proxyless_begins_with_the_weights_alone() -> None:
    searcher = MAKE["proxyless"]()
    assert [searcher.objective(epoch)[0] for epoch in range(2)] == ["proxyless-warm-up", "proxyless"]


def test_the_loss_with_a_cost_has_the_options_numbers() -> None:
    own = {"cost_loss": "add", "cost_weight": 0.3, "cost_scale": 0.4, "cost_power": 0.5, "cost_reference": 600.0}
    searcher = Proxyless(mbconv.DIGITS, ProxylessOptions(**SIZE, cost="flops", weights_only_epochs=0, **own))
    settings = searcher.objective(0)[1]
    assert {name: settings[name] for name in own} == own


def test_figures_tell_of_the_strengths() -> None:
    search = Search(MAKE["darts"]())
    names = option_names(darts.DIGITS.supernet())
    search.parameters |= {
        strengths_name(gate): torch.tensor([9.0 * (name == "identity") for name in options])
        for gate, options in names.items()
    }
    figures = search.searcher.learn(search.ended, search.view).figures
    assert (figures["skip_share"], figures["normal_skips"]) == (1.0, 6)
    p = math.exp(9) / (math.exp(9) + 4)
    rest = (1 - p) / 4
    assert figures["strengths_entropy"] == pytest.approx(-p * math.log(p) - 4 * rest * math.log(rest))


def test_an_identity_of_recurrent_cells_is_no_skip_connection() -> None:
    """And their strengths have Adam's usual betas (spec §12.4)."""
    search = Search(recurrent_darts())
    assert search.searcher.learn(search.ended, search.view).figures.keys() == {"strengths_entropy"}
    assert rule_of(search.searcher)[1]["beta1"] == 0.9
    with pytest.raises(ValueError, match="`early_stop_skips` must be 0 with the space 'darts-rnn'"):
        recurrent_darts(early_stop_skips=2)


def test_options_are_called_as_the_spaces_call_them() -> None:
    assert option_names(CELLS.supernet())["0-1"] == (
        "none",
        "skip_connect",
        "nor_conv_1x1",
        "nor_conv_3x3",
        "avg_pool_3x3",
    )
    names = option_names(darts.DIGITS.supernet())
    every = ("none", "max_3x3", "identity", "sep_3x3", "dil_sep_3x3")
    assert names["normal.0-2"] == names["reduction.0-2"] == every
    assert option_names(mbconv.DIGITS.supernet())["block2"] == ("k3e3", "k3e6", "k5e3", "k5e6", "identity")


def test_values_are_the_probabilities_by_the_strengths_that_were_noted_last() -> None:
    search = Search(MAKE["snas"]())
    assert search.searcher.option_values(search.view) == ()
    for _ in range(2):
        search.ask(4)
    search.end()
    search.parameters[strengths_name("0-1")] = torch.tensor([0.0, math.log(2), 0.0, 0.0, 0.0])
    search.ask(1)
    search.end()
    values = {row.kind: row for row in search.searcher.option_values(search.view)}
    assert values["0-1"].options[1] == "skip_connect"
    assert values["0-1"].values == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 6, 1 / 6])
    assert all(sum(value or 0 for value in row.values) == pytest.approx(1) for row in values.values())


@pytest.mark.parametrize("make", [Darts, Snas, Proxyless])
def test_refuses_a_space_without_exclusive_choices(make: Any) -> None:
    options = {Darts: DartsOptions, Snas: SnasOptions, Proxyless: ProxylessOptions}[make]()
    with pytest.raises(
        ValueError, match="a choice of the space 'enas-macro' may have several options at once: use a space"
    ):
        make(EnasMacroSpace(layers=3, filters=2), options)
    with pytest.raises(ValueError, match="the space 'convolutional' has none"):
        make(ConvolutionalSpace(), options)


def test_no_two_replicas_ask_from_one_view() -> None:
    assert all(is_exclusive(make()) for make in MAKE.values())


def test_a_search_must_have_children_for_all_epochs() -> None:
    options = DartsOptions(**SIZE)
    assert options.for_children(21) == options
    with pytest.raises(ValueError, match="`max_children` must be at least 21: each of 3 epochs takes 6 children for"):
        options.for_children(20)


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (DartsOptions, "search_epochs", 0),
        (DartsOptions, "steps_per_epoch", 0),
        (DartsOptions, "steps_per_child", 0),
        (DartsOptions, "weights_learning_rate", 0.0),
        (DartsOptions, "weights_last_learning_rate", -1.0),
        (DartsOptions, "weights_momentum", 1.0),
        (DartsOptions, "weights_decay", math.inf),
        (DartsOptions, "strengths_learning_rate", math.nan),
        (DartsOptions, "refit_batches", -1),
        (DartsOptions, "order", 3),
        (DartsOptions, "strengths_objective", "training"),
        (DartsOptions, "validation_weight", -1.0),
        (SnasOptions, "last_temperature", 0.0),
        (SnasOptions, "cost_weight", -1.0),
        (ProxylessOptions, "weights_only_epochs", -1),
        (ProxylessOptions, "weights_only_learning_rate", 0.0),
        (ProxylessOptions, "weights_momentum", 0.0),
        (ProxylessOptions, "weights_label_smoothing", 1.0),
        (ProxylessOptions, "strengths_period", 0),
        (ProxylessOptions, "paths_per_step", 1),
        (ProxylessOptions, "cost_scale", 0.0),
        (ProxylessOptions, "cost_power", -1.0),
        (ProxylessOptions, "cost_reference", 1.0),
    ],
)
def test_an_impossible_option_is_named(make: Any, option: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        make(**{option: value})


def test_two_paths_take_plain_steps() -> None:
    with pytest.raises(ValueError, match="`strengths_decay` must be 0 where `mode` is two"):
        ProxylessOptions(mode="two", strengths_decay=0.1)


def planted(space: DartsSpace, genotype: Genotype) -> dict[str, Tensor]:
    """Return strengths that favour these cells."""
    gates = space.gates(space.tokens_of(genotype))
    return {strengths_name(gate): 5 * torch.tensor(vector) for gate, vector in gates.items()}


def cell_with(skips: int) -> Cell:
    """Return a cell of three blocks, six connections, of which so many are skip connections."""
    operations = ["identity"] * skips + ["sep_3x3"] * (6 - skips)
    blocks = tuple(Block((0, 1), (operations[2 * place], operations[2 * place + 1])) for place in range(3))
    return Cell(blocks, (2, 3, 4))


@pytest.mark.parametrize(("skips", "stops"), [(1, False), (2, True), (6, True)])
def test_early_stopping_ends_a_search_whose_normal_cell_has_too_many_skip_connections(skips: int, stops: bool) -> None:
    """DARTS+, arXiv 1909.06035, section 3.2; skip connections of the reduction cell do not count."""
    search = Search(Darts(darts.DIGITS, DartsOptions(**SIZE, early_stop_skips=2)))
    search.parameters |= planted(darts.DIGITS, Genotype(cell_with(skips), cell_with(6)))
    assert search.searcher.stop_reason(search.view) == ""
    for _ in range(2):
        search.ask(4)
        search.ask(4)
        search.end()
    asked, reason = search.ask(4), stop_reason_of(search.searcher, search.view)
    assert (asked == [], reason != "") == (stops, stops)
    if stops:
        assert f"has {skips} skip connections, and --early-stop-skips is 2" in reason
        never = Darts(darts.DIGITS, DartsOptions(**SIZE))
        assert (stop_reason_of(never, search.view), len(never.ask(4, search.view))) == ("", 4)


def test_the_values_of_the_options_are_known_at_each_architecture_that_was_scored() -> None:
    search = Search(MAKE["darts"]())
    for skips in (0, 6):
        search.parameters |= planted(darts.DIGITS, Genotype(cell_with(skips), cell_with(0)))
        search.ask(4)
        search.ask(4)
        search.end()
        search.ask(4)
        search.end()
    first, last = value_history_of(search.searcher, search.view)
    assert (first.child.id, last.child.id) == (7, 14)
    assert last.values == search.searcher.option_values(search.view)
    assert [len(at.values) for at in (first, last)] == [18, 18]
    favoured = [
        dict(zip(v.options, v.values, strict=True)) for at in (first, last) for v in at.values if v.kind == "normal.0-2"
    ]
    assert [max(each, key=lambda name, each=each: each[name] or 0) for each in favoured] == ["sep_3x3", "identity"]
    assert all(sum(each.values()) == pytest.approx(1) for each in favoured)  # type: ignore[arg-type]
