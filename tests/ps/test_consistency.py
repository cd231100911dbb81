import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from ps.consistency import Consistency
from ps.store import Layout
from tests.contracts.parameter_store import LAYOUT, sgd_layout

SSP = Consistency(mode="ssp", members=("a", "b"), bound=3, stale="drop", max_staleness=5, lease_s=7)


def test_the_fingerprints_of_layouts_on_disk_stay_what_they_are():
    """Both fingerprints were recorded before layouts had a consistency."""
    assert (LAYOUT.fingerprint, sgd_layout().fingerprint) == ("5b1a151ea717f5df", "ea2fe8b8d0777de3")


@pytest.mark.parametrize(
    "consistency", [Consistency(), SSP, Consistency(mode="sync", members=("a",)), Consistency(stale="scale")]
)
def test_json_gives_back_an_equal_layout(consistency: Consistency):
    layout = replace(LAYOUT, consistency=consistency)
    again = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again == layout
    assert again.fingerprint == layout.fingerprint


def test_every_field_counts_in_the_fingerprint():
    changes = [{"bound": 1}, {"members": ("b", "a")}, {"lease_s": 8}, {"max_staleness": 4}]
    layouts = [replace(LAYOUT, consistency=replace(SSP, **change)) for change in ({}, *changes)]
    assert len({layout.fingerprint for layout in (LAYOUT, *layouts)}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "bsp"}, "`mode` must be one of async, ssp, sync, got 'bsp'"),
        ({"stale": "ignore"}, "`stale` must be one of apply, scale, drop, got 'ignore'"),
        ({"mode": "ssp"}, r"`members` must name the clients to wait for where `mode` is ssp, got \(\)"),
        ({"mode": "sync"}, "`members` must name the clients to wait for where `mode` is sync"),
        ({"members": ("a",)}, r"`members` must be empty where `mode` is async, got \('a',\)"),
        ({"mode": "ssp", "members": ("a", "a")}, "`members` must be unique, got a, a"),
        ({"mode": "ssp", "members": ("a", "")}, "each of `members` must be 1 to 200 printable characters"),
        ({"mode": "ssp", "members": "ab"}, "`members` must be a tuple of names, got 'ab'"),
        ({"mode": "ssp", "members": ("a",), "bound": -1}, "`bound` must be an integer of at least 0, got -1"),
        ({"mode": "ssp", "members": ("a",), "bound": True}, "`bound` must be an integer of at least 0, got True"),
        ({"bound": 1}, "`bound` must be 0 where `mode` is async, got 1"),
        ({"mode": "sync", "members": ("a",), "bound": 1}, "`bound` must be 0 where `mode` is sync, got 1"),
        ({"lease_s": 0}, "`lease_s` must be a finite number above 0, got 0"),
        ({"lease_s": float("inf")}, "`lease_s` must be a finite number above 0, got inf"),
        ({"lease_s": float("nan")}, "`lease_s` must be a finite number above 0, got nan"),
        ({"lease_s": "1"}, "`lease_s` must be a finite number above 0, got '1'"),
        ({"stale": "drop"}, "`max_staleness` must be an integer of at least 0 where `stale` is drop, got None"),
        ({"stale": "drop", "max_staleness": -1}, "of at least 0 where `stale` is drop, got -1"),
        ({"stale": "scale", "max_staleness": 1}, "`max_staleness` must be left out where `stale` is scale, got 1"),
    ],
)
def test_a_bad_consistency_is_refused_by_name_rule_and_value(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Consistency(**changes)


def test_a_synchronous_layout_does_not_accumulate():
    with pytest.raises(ValueError, match="`accumulate` must be 1 where `mode` is sync, got more in g"):
        replace(sgd_layout(accumulate=2), consistency=Consistency(mode="sync", members=("a",)))
    assert replace(sgd_layout(accumulate=2), consistency=SSP).consistency is SSP


@pytest.mark.parametrize("data", [3, {"modes": "ssp"}, {"mode": "bsp"}, {"bound": "1"}])
def test_json_that_is_no_consistency_is_refused(data: Any):
    with pytest.raises(ValueError, match=r"must be as|must be one of|must be an integer"):
        Layout.from_json(LAYOUT.to_json() | {"consistency": data})


def test_importing_consistency_imports_no_torch():
    """A run's configuration imports it, and must start without torch."""
    code = "import sys, ps.consistency; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
