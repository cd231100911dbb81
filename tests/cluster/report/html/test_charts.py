"""Axes and plots: ticks are round numbers, and values are at their positions."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.report.facts import ChildPoint
from cluster.report.html.axis import Axis, axis, short, time_unit
from cluster.report.html.charts import LEFT, RIGHT, WIDTH, Line, bands, line_chart
from cluster.report.read_children import thinned
from tests.cluster.report.well_formed import read_page

numbers = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False).map(lambda x: round(x, 6))


@given(st.lists(numbers, max_size=6), st.booleans(), st.booleans())
def test_an_axis_holds_every_value_and_has_a_few_round_numbers(values: list[float], zero: bool, whole: bool) -> None:
    found = axis("what", values, zero=zero, whole=whole)
    assert found.low < found.high
    assert all(-1e-9 <= found.share(value) <= 1 + 1e-9 for value in values)
    ticks = found.ticks()
    assert len(ticks) <= 8
    assert all(-1e-6 <= found.share(tick) <= 1 + 1e-6 for tick in ticks)


@given(st.floats(min_value=1e-6, max_value=1e12), st.floats(min_value=20, max_value=1e6))
def test_a_logarithmic_axis_too(low: float, factor: float) -> None:
    found = axis("what", [low, low * factor], log=True)
    assert 1 <= len(found.ticks()) <= 10
    assert all(0 <= found.share(tick) <= 1 for tick in found.ticks())
    assert found.share((low * low * factor) ** 0.5) == pytest.approx(0.5)


FAR = ([40.0, sys.float_info.max], [2e155, 1.7e308], [3.0, 2e155])


@pytest.mark.parametrize(
    ("values", "log"), [([sys.float_info.max], False), *((values, log) for values in FAR for log in (False, True))]
)
def test_an_axis_of_perplexities_that_are_hardly_finite_holds_them(values: list[float], log: bool) -> None:
    found = axis("perplexity", values, log=log)
    assert all(0 <= found.share(value) <= 1 for value in values)
    assert 2 <= len(found.ticks()) <= 8
    assert all(len(short(tick)) <= 9 for tick in found.ticks())


def test_round_numbers() -> None:
    assert Axis(label="", low=0, high=10).ticks() == [0, 2, 4, 6, 8, 10]
    assert Axis(label="", low=0.4, high=1.1).ticks() == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert Axis(label="", low=0, high=2, whole=True).ticks() == [0, 1, 2]
    assert [short(v) for v in (0, 0.25, 96, 1234, 25_600, 7.14e6, 999_600)] == [
        "0", "0.25", "96", "1.23k", "25.6k", "7.14M", "1000k",
    ]  # fmt: skip
    assert [short(v) for v in (999e12, 2e155, -1.7e308)] == ["999T", "2e+155", "-1.7e+308"]
    assert [time_unit(s)[1] for s in (10, 300, 10_000, 1e6)] == ["seconds", "minutes", "hours", "days"]


def test_a_curve_is_at_its_values_and_is_described() -> None:
    x, y = Axis(label="children", low=0, high=10), Axis(label="accuracy", low=0, high=1)
    chart = line_chart("Best", x, y, [Line(name="best", points=[(0, 0.0), (5, 0.5), (10, 1.0)])])
    path = re.search(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)" class="curve', chart)
    assert path is not None
    x0, y0, x1, y1, x2, y2 = map(float, path.groups())
    assert (x0, x1, x2) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    assert y0 > y1 > y2
    assert y1 == pytest.approx((y0 + y2) / 2)
    found = read_page(f"<!DOCTYPE html>\n{chart}")
    assert found.named("svg")[0]["aria-label"] == "Best: accuracy against children. best ends at 1."


def test_bands_describe_the_last_shares_and_omit_unused_options() -> None:
    chart = bands("layer 1", ("3", "5", "7"), [(0.5, 0.5, 0.0), None, (0.25, 0.75, 0.0)])
    found = read_page(f"<!DOCTYPE html>\n{chart}")
    assert found.named("svg")[0]["aria-label"] == "layer 1, in the last window: 3: 25 %, 5: 75 %, 7: 0 %"
    assert [path["d"] == "" for path in found.classed("band")] == [False, False, True]


def test_thinning_keeps_both_ends() -> None:
    children = [ChildPoint(id=i, cost=i, metric=0.5) for i in range(1000)]
    few = thinned(children, 7)
    assert len(few) == 7
    assert (few[0], few[-1]) == (children[0], children[-1])
    assert thinned(children[:5], 7) == children[:5]


def test_a_line_of_one_point_is_a_visible_dot() -> None:
    x, y = Axis(label="children", low=0, high=10), Axis(label="accuracy", low=0, high=1)
    lines = [Line(name=f"line {style}", points=[(5, 0.5)], style=style) for style in (0, 2)]
    found = read_page(f"<!DOCTYPE html>\n{line_chart('Best', x, y, lines)}")
    below, above = found.classed("point")
    assert (below["class"], above["class"]) == ("point s0", "point s2")
    assert float(below["cx"] or 0) == float(above["cx"] or 0) == (LEFT + WIDTH - RIGHT) / 2
    assert float(below["r"] or 0) > float(above["r"] or 0) >= 2
    assert not found.classed("curve")
