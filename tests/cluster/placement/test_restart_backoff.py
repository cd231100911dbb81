"""When others are started for workers that were lost."""

from cluster.placement.restart_backoff import FIRST_DELAY_S, MAX_DELAY_S, RestartBackoff
from cluster.runners.on_ray.worker_group import avoiding


def test_another_is_started_after_a_while_and_after_twice_as_long_each_time() -> None:
    losses, now = RestartBackoff(), 100.0
    waited: list[float] = []
    for _ in range(8):
        losses.record_loss(3, "bad", now)
        assert losses.is_waiting(3)
        began = now
        while not losses.due(now):
            now += 1.0
        waited.append(now - began)
        assert not losses.is_waiting(3)
        assert losses.due(now + 1e9) == []
    assert waited[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert waited[-1] == waited[-2] == MAX_DELAY_S


def test_each_worker_keeps_away_from_where_it_failed() -> None:
    losses = RestartBackoff()
    losses.record_loss(0, "bad", 0.0)
    losses.record_loss(1, None, 0.0)
    losses.record_loss(0, "worse", 10.0)
    assert losses.refused_by(0) == {"bad", "worse"}
    assert losses.refused_by(1) == losses.refused_by(2) == frozenset()
    assert losses.due(15.0) == [1]


def test_a_worker_goes_elsewhere_if_it_can_and_back_if_it_must() -> None:
    options = {"num_gpus": 1, "label_selector": {"nascluster/pool": "!stable"}}
    assert avoiding(options, ()) == options
    assert avoiding(options, {"b", "a"}) == {
        "num_gpus": 1,
        "label_selector": {"nascluster/pool": "!stable", "ray.io/node-id": "!in(a,b)"},
        "fallback_strategy": [{"label_selector": {"nascluster/pool": "!stable"}}],
    }
