"""Costs beside the metric, and MnasNet's product of them."""

import pytest

from child_trainer.outcome import LATENCY, Cause, Outcome
from controller.objectives import COSTS, Cost, Target, point_of, product
from controller.searcher import ChildRecord


def outcome(latency: float | None = None, parameters: int | None = 100) -> Outcome:
    measurements = {} if latency is None else {LATENCY: latency}
    return Outcome(
        curve=(0.5,),
        seconds=2.0,
        parameters=parameters,
        flops=None,
        seed=1,
        gpu_bytes=3_000_000,
        measurements=measurements,
    )


def target(value: float, below: float = -0.07, above: float = -0.07, cost: str = "latency") -> Target:
    return Target(cost=COSTS[cost], value=value, below=below, above=above)


def test_the_product_is_acc_times_t_over_t0_to_the_w() -> None:
    # MnasNet, section 3: with w = -0.07, twice the latency is worth 5 % of the accuracy.
    assert product(0.8, outcome(10.0), [target(5.0)]) == pytest.approx(0.8 * (10 / 5) ** -0.07)
    assert product(0.8, outcome(10.0), [target(5.0)]) == pytest.approx(0.8 * 0.9526, abs=1e-4)
    assert product(0.8, outcome(5.0), [target(5.0)]) == 0.8
    rewards = [product(0.8, outcome(latency), [target(5.0)]) for latency in (1.0, 4.0, 5.0, 6.0, 50.0)]
    assert rewards == sorted(rewards, key=lambda reward: -(reward or 0.0))
    assert len(set(rewards)) == 5


def test_a_hard_target_costs_nothing_up_to_it() -> None:
    hard = [target(5.0, 0.0, -1.0)]
    assert [product(0.8, outcome(latency), hard) for latency in (1.0, 5.0, 10.0)] == [0.8, 0.8, pytest.approx(0.4)]


def test_a_reward_below_0_is_lower_the_more_a_child_costs() -> None:
    slow, quick = (product(-0.8, outcome(latency), [target(5.0)]) for latency in (10.0, 2.0))
    assert slow is not None
    assert quick is not None
    assert slow < -0.8 < quick < 0


def test_several_targets_multiply_and_a_cost_that_is_unknown_gives_no_product() -> None:
    both = [target(5.0), target(50, cost="parameters")]
    assert product(1.0, outcome(10.0), both) == pytest.approx(2**-0.14)
    assert product(1.0, outcome(None), both) is None
    assert product(0.8, outcome(None), []) == 0.8
    assert product(1.0, outcome(0.0), [target(5.0)]) == pytest.approx(1e6**0.07)  # a cost of 0 is no division by 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("latency=5ms", 5.0), ("latency=250us", 0.25), ("latency=0.01s", 10.0), ("seconds=2m", 120.0)),
        *(("parameters=1.5M", 1.5e6), ("parameters=4000", 4000.0), ("flops=3e8", 3e8), ("memory=2GB", 2000.0)),
    ],
)
def test_amounts_have_units(text: str, value: float) -> None:
    name, _, amount = text.partition("=")
    assert COSTS[name].amount(amount) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["latency=5", "latency=-5ms", "latency=0ms", "latency=5MB", "latency=ms", "parameters=5ms", "parameters=-1"]
)
def test_an_amount_without_its_unit_or_not_above_0_is_refused(text: str) -> None:
    name, _, amount = text.partition("=")
    with pytest.raises(ValueError, match=f"must be a number above 0 with .* such as {name}=.*, got {text}$"):
        COSTS[name].amount(amount)


def test_every_cost_is_read_from_the_outcome_and_shown_with_its_unit() -> None:
    child = outcome(5.0)
    values: dict[str, float | None] = {cost.name: cost.of(child) for cost in COSTS.values()}
    assert values == {"parameters": 100, "flops": None, "seconds": 2.0, "latency": 5.0, "memory": 3.0}
    assert [COSTS[name].text(value) for name, value in values.items() if value] == ["100", "2 s", "5 ms", "3 MB"]
    assert all(cost.amount(cost.example.partition("=")[2]) > 0 for cost in COSTS.values())


def test_a_childs_point_has_lower_values_for_the_better() -> None:
    costs: list[Cost] = [COSTS["latency"], COSTS["parameters"]]
    record = ChildRecord(id=1, tokens=(), architecture_id="", reward=0.4, outcome=outcome(5.0))
    assert point_of(record, costs) == (-0.4, 5.0, 100)
    lacking = (
        ChildRecord(id=2, tokens=(), architecture_id="", reward=0.4, outcome=outcome(None)),
        ChildRecord(
            id=3, tokens=(), architecture_id="", reward=0.0, outcome=Outcome.failed(Cause.TIMEOUT, "late", seed=1)
        ),
        ChildRecord(id=4, tokens=(), architecture_id="", outcome=outcome(5.0)),
    )
    assert [point_of(child, costs) for child in lacking] == [None, None, None]
