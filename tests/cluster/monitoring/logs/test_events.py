"""One line an event: for people, and as JSON."""

import json
import logging

import pytest

from cluster.monitoring.logs.events import Event, as_json, as_text

FAILED = Event(
    time=1_764_054_000.1234,
    level=logging.WARNING,
    event="child failed",
    run="demo",
    replica=3,
    child=17,
    fields={"cause": "crashed", "message": 'said "no"\nand left', "seconds": 0.123456789},
)


def test_a_line_for_people() -> None:
    assert as_text(FAILED) == (
        "2025-11-25T07:00:00.123Z WARNING child failed run=demo replica=3 child=17"
        ' cause=crashed message="said \\"no\\"\\nand left" seconds=0.123457'
    )


def test_a_json_object_a_line() -> None:
    line = as_json(FAILED)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2025-11-25T07:00:00.123Z",
        "level": "warning",
        "event": "child failed",
        "run": "demo",
        "replica": 3,
        "child": 17,
        "cause": "crashed",
        "message": 'said "no"\nand left',
        "seconds": 0.123456789,
    }


def test_what_is_not_known_is_left_out_for_people_and_null_in_json() -> None:
    event = Event(time=0.0, event="run started", run="a run", fields={"seed": 0, "message": None})
    assert as_text(event) == '1970-01-01T00:00:00.000Z INFO    run started run="a run" seed=0'
    found = json.loads(as_json(event))
    assert (found["replica"], found["child"], found["message"]) == (None, None, None)


@pytest.mark.parametrize("name", ["time", "level", "event", "run", "replica", "child"])
def test_no_field_takes_the_place_of_what_every_line_has(name: str) -> None:
    event = Event(time=0.0, event="e", run="r", fields={name: "another"})
    assert json.loads(as_json(event))[name] != "another"
