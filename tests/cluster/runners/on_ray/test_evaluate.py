"""Given architectures on real Ray: the driver is killed, and the same call goes on; a child that hangs is reported."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.runners.evaluation.test_evaluate import network
from tests.cluster.searches import nascluster, select, wait_for
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300), LONG]


def evaluated(words: tuple[object, ...], address: str, code: int = 0) -> list[dict[str, Any]]:
    process = nascluster("evaluate", *words, "--json", address=address)
    out, error = process.communicate(timeout=150)
    assert process.returncode == code, error
    return [json.loads(line) for line in out.splitlines()]


def test_a_call_that_is_killed_goes_on_and_trains_nothing_twice(cluster: str, tmp_path: Path) -> None:
    file = tmp_path / "networks.json"
    file.write_text(json.dumps([network(filters) for filters in range(1, 9)]))
    words = (file, "--task", "synthetic", "--child-seconds", "0.5", "--workers", "2", "--name", "killed-call")
    killed = nascluster("evaluate", *words, address=cluster)
    wait_for("killed-call", 3)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    found = evaluated(words, cluster)
    assert [each["status"] for each in found] == ["finished"] * 8
    assert sum(each["known"] for each in found) >= 3
    twice = "SELECT child FROM attempts WHERE verdict = 'outcome' GROUP BY child HAVING count(*) > 1"
    assert select("killed-call", "SELECT count(*) FROM children WHERE state = 'finished'") == [(8,)]
    assert select("killed-call", twice) == []


def test_a_child_that_hangs_is_timed_out_and_told(cluster: str, tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps(network(3)))
    flags = ("--child-faults", "hang=1", "--child-timeout", "2s", "--max-attempts", "1", "--workers", "1")
    words = (file, "--task", "synthetic", *flags, "--name", "hanging")
    (found,) = evaluated(words, cluster, code=1)
    assert (found["status"], found["cause"]) == ("failed", "timeout")
    assert "2 s" in found["failure"]
    (known,) = evaluated(words, cluster, code=1)
    assert known == found | {"known": True}
