"""What is advised, from estimates that are made up; and what is not where children are given up."""

import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.answer import LARGE_PART, Answer, Tried, help_table, to_json, verdicts
from cluster.simulation.results import Estimate, figures
from tests.cluster.simulation.test_results import course

RUN = RunConfig(
    max_children=3, task=TaskOptions(task="synthetic"), topology=Topology(replicas=1, children=2, workers=2)
)


def estimated(hours: float, gpu_hours: float, given_up: float = 0.0) -> Estimate:
    return Estimate(hours=hours, gpu_hours=gpu_hours, given_up=given_up)


def answer(unchanged: Estimate, **tried: Estimate) -> Answer:
    return Answer(
        recipe="synthetic",
        config=RUN,
        times="constant:7200",
        figures=figures(RUN, course()),
        price=None,
        unchanged=unchanged,
        tried=[Tried(flags=f"--{name}", estimate=one) for name, one in tried.items()],
        tried_children=3,
    )


def advised(found: Answer) -> dict[str, Any]:
    helps = to_json(found)["what_helps"]
    return {what: helps[what] and helps[what]["flags"] for what in ("shortest", "cheapest", "saves_children")}


def drawn(found: Answer) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(help_table(found))
    return capture.get()


def test_where_no_child_is_given_up_nothing_is_said_of_it() -> None:
    found = answer(estimated(10, 100), fast=estimated(5, 110), cheap=estimated(11, 80))
    assert advised(found) == {"shortest": "--fast", "cheapest": "--cheap", "saves_children": None}
    assert "given up" not in drawn(found)
    assert [line.split()[0] for line in verdicts(found)] == ["--fast", "--cheap"]


def test_a_change_that_gives_up_more_children_is_not_advised() -> None:
    found = answer(estimated(10, 100, 0.02), hasty=estimated(1, 10, 0.5), fast=estimated(5, 90, 0.025))
    assert advised(found) == {"shortest": "--fast", "cheapest": "--fast", "saves_children": None}
    assert "given up" in drawn(found)
    assert "50.0%" in drawn(found)
    only = answer(estimated(10, 100), hasty=estimated(1, 10, 0.5))
    assert advised(only) == {"shortest": None, "cheapest": None, "saves_children": None}
    assert verdicts(only) == ["None of these shortens the search", "None of these cuts the cost"]


def test_what_saves_children_is_said_beside_what_is_fast() -> None:
    found = answer(estimated(10, 100, 0.05), fast=estimated(5, 90, 0.05), saves=estimated(10, 100))
    assert advised(found) == {"shortest": "--fast", "cheapest": "--fast", "saves_children": "--saves"}
    assert verdicts(found)[0] == "--saves saves the most children: 0.0% are given up instead of 5.0%"


@pytest.mark.parametrize("part", [math.nextafter(LARGE_PART, 1), 0.5, 1.0])
def test_where_a_large_part_is_given_up_only_what_saves_children_is_advised(part: float) -> None:
    found = answer(estimated(10, 100, part), fast=estimated(1, 10, part))
    assert advised(found) == {"shortest": None, "cheapest": None, "saves_children": None}
    said = verdicts(found)
    assert said[0] == "None of these saves children from being given up"
    assert said[1].startswith(f"What is faster or cheaper is not said while {part:.1%} of the children are given up")
    saved = replace(found, tried=[*found.tried, Tried(flags="--saves", estimate=estimated(20, 200))])
    assert advised(saved) == {"shortest": None, "cheapest": None, "saves_children": "--saves"}
    assert verdicts(saved) == [f"--saves saves the most children: 0.0% are given up instead of {part:.1%}", said[1]]
