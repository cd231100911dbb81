"""Ray's own fault injection: what it delivers twice is done twice by a plain actor, and once by ours."""

import pytest

from benchmarks.exactly_once import LOST, PUSHES, Count, measure, table

pytestmark = pytest.mark.xdist_group("ray")


def test_ours_applies_each_push_once_where_a_plain_actor_does_not() -> None:
    plain, ours = measure()
    assert plain.executed > PUSHES, "no reply was lost"
    assert plain.value == plain.applied == plain.executed
    assert plain.duplicated > 0
    assert ours.executed > PUSHES, "no reply was lost"
    assert (ours.applied, ours.lost, ours.duplicated, ours.value) == (PUSHES, 0, 0, PUSHES)


def test_the_table_says_what_was_counted() -> None:
    count = Count(who="somebody", executed=31, applied=29, lost=2, duplicated=11, value=29.0)
    first, head, row = table([count]).splitlines()
    assert f"{PUSHES} pushes" in first
    assert f"{LOST} replies" in first
    assert dict(zip(head.split(), row.split()[1:], strict=True)) == {
        "executed": "31",
        "applied": "29",
        "lost": "2",
        "duplicated": "11",
        "value": "29",
        "expected": "20",
    }
