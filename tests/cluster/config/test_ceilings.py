"""What a whole search may use: pure functions of options and of what is used."""

import math
from dataclasses import replace

import pytest

from cluster.config.ceilings import (
    CeilingOptions,
    Used,
    ceilings_of,
    cost_of,
    least_seconds,
    reason_of,
    used_up,
)
from cluster.config.idle_options import idle_options
from cluster.config.run_config import RunConfig
from tests.command_line import nascluster

ALL = CeilingOptions(max_hours=12, max_gpu_hours=200, max_cost=50, cost_per_gpu_hour=2.5)


@pytest.mark.parametrize(
    ("used", "reached"),
    [
        (Used(hours=11.99, gpu_hours=19.99), None),
        (Used(hours=12, gpu_hours=0), "--max-hours is reached: 12 of 12 hours"),
        (Used(hours=12.0312, gpu_hours=300), "--max-hours is reached: 12.03 of 12 hours"),
        (Used(hours=1, gpu_hours=200.5), "--max-gpu-hours is reached: 200.5 of 200 GPU hours"),
        (Used(hours=1, gpu_hours=20.1), "--max-cost is reached: a cost of 50.25 of 50"),
    ],
)
def test_a_ceiling_is_used_up_when_as_much_is_used(used: Used, reached: str | None) -> None:
    ceiling = used_up(ALL, used)
    assert (ceiling and reason_of(ceiling)) == (reached and f"its ceiling {reached}")


def test_without_ceilings_nothing_is_used_up() -> None:
    used = Used(hours=1e9, gpu_hours=1e9)
    none = CeilingOptions(cost_per_gpu_hour=3)
    assert not none.any and not none.counts_gpus
    assert used_up(none, used) is None and list(ceilings_of(none, used)) == []
    assert least_seconds(none, used, gpus=8) == math.inf
    assert cost_of(CeilingOptions(), used) == 0


@pytest.mark.parametrize("gpus", [0.0, 0.25, 8.0, 800.0])
@pytest.mark.parametrize("hours", [0.0, 5.0, 11.9])
def test_no_ceiling_is_reached_sooner_than_said(gpus: float, hours: float) -> None:
    """The naive truth: what is used after so many seconds with all GPUs busy."""
    for options in (ALL, replace(ALL, max_hours=None), CeilingOptions(max_hours=12), CeilingOptions(max_gpu_hours=200)):
        used = Used(hours=hours, gpu_hours=min(19.0, hours * gpus))
        least = least_seconds(options, used, gpus)
        if least == math.inf:
            assert not gpus and options.max_hours is None
            continue
        before, after = (
            Used(hours=hours + s / 3600, gpu_hours=used.gpu_hours + s / 3600 * gpus)
            for s in (least * 0.999 - 1e-6, least * 1.001 + 1e-6)
        )
        assert used_up(options, before) is None and used_up(options, after) is not None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--max-hours 0", "`max_hours` must be a number above 0, got 0"),
        ("--max-hours nan", "`max_hours` must be a number above 0, got nan"),
        ("--max-hours inf", "`max_hours` must be a number above 0, got inf"),
        ("--max-hours twelve", "--max-hours must be a number, got twelve"),
        ("--max-gpu-hours -1", "`max_gpu_hours` must be a number above 0, got -1"),
        ("--max-cost 50", "`max_cost` needs the price of a GPU hour: give `cost_per_gpu_hour`, too"),
        ("--max-cost 50 --cost-per-gpu-hour 0", "`cost_per_gpu_hour` must be a number above 0, got 0"),
        ("--max-gpu-hours 1", "--max-gpu-hours would never end the search, as its children have no GPU here"),
        ("--max-cost 1 --cost-per-gpu-hour 2", "--max-cost would never end the search"),
    ],
)
def test_what_makes_no_ceiling_is_refused_before_anything_starts(
    flags: str, message: str, tmp_path: object, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ("--name", "demo", "--storage-path", tmp_path)
    assert nascluster("launch", "synthetic", "--local", *flags.split(), *where) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"nascluster: {message}") and err.count("\n") == 1
    assert nascluster("status", "demo", "--storage-path", tmp_path) == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compare random --recipe synthetic --budget 5 --seeds 2", "--budget"),
        ("simulate synthetic --child-seconds constant:1", "are not for a simulation, which always comes to its end"),
    ],
)
def test_other_commands_have_no_ceilings(command: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster(*command.split(), "--max-hours", "1") == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_price_without_a_ceiling_is_told() -> None:
    config = RunConfig(ceilings=CeilingOptions(cost_per_gpu_hour=2.0))
    (told,) = idle_options(config, ["--cost-per-gpu-hour", "2"])
    assert told == "`--cost-per-gpu-hour` has no effect: without `--max-cost` no cost is counted"


def test_ceilings_are_kept_with_the_run() -> None:
    config = RunConfig(ceilings=ALL)
    assert RunConfig.from_json(config.to_json()) == config
    earlier = config.to_json()
    del earlier["ceilings"]
    assert RunConfig.from_json(earlier).ceilings == CeilingOptions()
