"""What is asked of an autoscaler while runs come, go and die."""

from cluster.placement.autoscaler_demand import LASTS_S, REPEAT_S, Want, Wants

SOME = Want(3, {"GPU": 0.5}, {"nascluster/pool": "!stable"})
MORE = Want(8, {"GPU": 1.0}, {})


def test_runs_want_side_by_side_and_the_end_of_one_is_not_the_others() -> None:
    wants = Wants(0.0)
    wants.put("a", SOME, 1.0)
    wants.put("b", MORE, 2.0)
    assert wants.all(3.0) == [SOME, MORE]
    wants.put("a", MORE, 4.0)
    assert wants.all(5.0) == [MORE, MORE]
    wants.drop("a")
    wants.drop("a")
    assert wants.all(6.0) == [MORE]


def test_a_want_lasts_while_its_driver_repeats_it_and_no_longer() -> None:
    wants = Wants(0.0)
    wants.put("killed", SOME, 0.0)
    now = 0.0
    for _ in range(10):
        wants.put("lives", MORE, now)
        now += REPEAT_S
    assert wants.all(LASTS_S) == [MORE]
    assert wants.all(now) == [MORE]
    assert wants.all(now - REPEAT_S + LASTS_S) == []


def test_who_asks_is_needed_until_a_while_after_the_last_want() -> None:
    wants = Wants(100.0)
    assert not wants.over(100.0)  # it was just started, maybe again, and drivers may be about to repeat what they want
    assert wants.over(100.0 + LASTS_S)
    wants.put("a", SOME, 200.0)
    assert not wants.over(200.0 + REPEAT_S)
    wants.drop("a")
    assert not wants.over(200.0 + REPEAT_S)
    assert wants.over(200.0 + LASTS_S)
