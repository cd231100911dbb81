"""Advice from made-up estimates, with and without failing children."""

import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.estimate import Estimate, compute_figures
from cluster.simulation.report import MAX_FAILED_SHARE, SimulationReport, TriedVariant, help_table, to_json, verdicts
from tests.cluster.simulation.test_estimate import result

RUN = RunConfig(
    max_children=3, task=TaskOptions(task="synthetic"), topology=Topology(replicas=1, children=2, workers=2)
)


def estimated(hours: float, gpu_hours: float, failed_share: float = 0.0) -> Estimate:
    return Estimate(hours=hours, gpu_hours=gpu_hours, failed_share=failed_share)


def answer(unchanged: Estimate, **tried: Estimate) -> SimulationReport:
    return SimulationReport(
        recipe="synthetic",
        config=RUN,
        times="constant:7200",
        figures=compute_figures(RUN, result()),
        price=None,
        unchanged=unchanged,
        tried=[TriedVariant(flags=f"--{name}", estimate=one) for name, one in tried.items()],
        tried_children=3,
    )


def advised(report: SimulationReport) -> dict[str, Any]:
    helps = to_json(report)["what_helps"]
    return {what: helps[what] and helps[what]["flags"] for what in ("shortest", "cheapest", "saves_children")}


def drawn(report: SimulationReport) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(help_table(report))
    return capture.get()


def test_without_failing_children_the_report_has_no_column_for_them() -> None:
    report = answer(estimated(10, 100), fast=estimated(5, 110), cheap=estimated(11, 80))
    assert advised(report) == {"shortest": "--fast", "cheapest": "--cheap", "saves_children": None}
    assert "failed" not in drawn(report)
    assert [line.split()[0] for line in verdicts(report)] == ["--fast", "--cheap"]


def test_a_change_with_more_failing_children_is_not_advised() -> None:
    report = answer(estimated(10, 100, 0.02), hasty=estimated(1, 10, 0.5), fast=estimated(5, 90, 0.025))
    assert advised(report) == {"shortest": "--fast", "cheapest": "--fast", "saves_children": None}
    assert "failed" in drawn(report)
    assert "50.0%" in drawn(report)
    only = answer(estimated(10, 100), hasty=estimated(1, 10, 0.5))
    assert advised(only) == {"shortest": None, "cheapest": None, "saves_children": None}
    assert verdicts(only) == ["None of these changes shortens the search", "None of these changes cuts the cost"]


def test_the_change_that_saves_children_is_reported_first() -> None:
    report = answer(estimated(10, 100, 0.05), fast=estimated(5, 90, 0.05), saves=estimated(10, 100))
    assert advised(report) == {"shortest": "--fast", "cheapest": "--fast", "saves_children": "--saves"}
    assert verdicts(report)[0] == "--saves saves the most children: 0.0% fail instead of 5.0%"


@pytest.mark.parametrize("part", [math.nextafter(MAX_FAILED_SHARE, 1), 0.5, 1.0])
def test_with_many_failing_children_only_saving_children_is_advised(part: float) -> None:
    report = answer(estimated(10, 100, part), fast=estimated(1, 10, part))
    assert advised(report) == {"shortest": None, "cheapest": None, "saves_children": None}
    sentences = verdicts(report)
    assert sentences[0] == "None of these changes makes fewer children fail"
    assert sentences[1].startswith(f"There is no advice on time or cost while {part:.1%} of the children fail")
    saved = replace(report, tried=[*report.tried, TriedVariant(flags="--saves", estimate=estimated(20, 200))])
    assert advised(saved) == {"shortest": None, "cheapest": None, "saves_children": "--saves"}
    assert verdicts(saved) == [f"--saves saves the most children: 0.0% fail instead of {part:.1%}", sentences[1]]
