"""What is requested of an autoscaler while runs start, end and crash."""

from cluster.placement.autoscaler_demand import DEMAND_TTL_S, REPEAT_INTERVAL_S, NodeDemand, NodeDemands

SOME = NodeDemand(3, {"GPU": 0.5}, {"nascluster/pool": "!stable"})
MORE = NodeDemand(8, {"GPU": 1.0}, {})


def test_runs_have_demands_of_their_own() -> None:
    demands = NodeDemands(0.0)
    demands.put("a", SOME, 1.0)
    demands.put("b", MORE, 2.0)
    assert demands.all(3.0) == [SOME, MORE]
    demands.put("a", MORE, 4.0)
    assert demands.all(5.0) == [MORE, MORE]
    demands.drop("a")
    demands.drop("a")
    assert demands.all(6.0) == [MORE]


def test_a_demand_expires_unless_its_driver_repeats_it() -> None:
    demands = NodeDemands(0.0)
    demands.put("killed", SOME, 0.0)
    now = 0.0
    for _ in range(10):
        demands.put("lives", MORE, now)
        now += REPEAT_INTERVAL_S
    assert demands.all(DEMAND_TTL_S) == [MORE]
    assert demands.all(now) == [MORE]
    assert demands.all(now - REPEAT_INTERVAL_S + DEMAND_TTL_S) == []


def test_idle_only_a_while_after_the_last_demand() -> None:
    demands = NodeDemands(100.0)
    assert not demands.is_idle(
        100.0
    )  # it was just started, maybe again, and drivers may be about to repeat their demands
    assert demands.is_idle(100.0 + DEMAND_TTL_S)
    demands.put("a", SOME, 200.0)
    assert not demands.is_idle(200.0 + REPEAT_INTERVAL_S)
    demands.drop("a")
    assert not demands.is_idle(200.0 + REPEAT_INTERVAL_S)
    assert demands.is_idle(200.0 + DEMAND_TTL_S)
