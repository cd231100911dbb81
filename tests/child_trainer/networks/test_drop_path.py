"""ScheduledDropPath: what is dropped, how often, and when (spec §3.3, T3.5)."""

import pytest
import torch

from child_trainer.networks.operations import DropPath


def dropped(progress, depth=0.5, path_keep=0.6, count=20_000):
    torch.manual_seed(0)
    path = DropPath(depth).train()
    path.advance(path_keep, progress)
    return path(torch.full((count, 2, 3, 3), 2.0))


def test_a_path_is_dropped_per_example_and_its_expectation_is_its_input():
    values = dropped(progress=1.0)
    kept = values[:, 0, 0, 0] != 0
    assert torch.equal(values, (kept.float() * 2 / 0.8)[:, None, None, None].expand_as(values))
    assert kept.float().mean().item() == pytest.approx(0.8, abs=0.01)  # 1 - 0.5 (1 - 0.6)
    assert values.mean().item() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("progress", [0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("depth", [0.25, 1.0])
def test_the_dropped_share_grows_linearly_with_progress_and_depth(progress, depth):
    share = (dropped(progress, depth)[:, 0, 0, 0] == 0).float().mean().item()
    assert share == pytest.approx(min(1.0, progress) * depth * 0.4, abs=0.01)


def test_nothing_is_dropped_at_the_first_step_in_evaluation_or_without_a_regime():
    values, path = torch.randn(50, 3), DropPath(1.0).train()
    state = torch.get_rng_state()
    assert torch.equal(path(values), values)  # no regime: `advance` is never called
    path.advance(0.5, progress=0.0)
    assert torch.equal(path(values), values)
    path.advance(0.5, progress=1.0)
    assert torch.equal(path.eval()(values), values)
    assert torch.equal(torch.get_rng_state(), state)  # and nothing is drawn
    assert not torch.equal(path.train()(values), values)
