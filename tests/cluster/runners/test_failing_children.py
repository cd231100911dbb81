"""Whole searches, on Ray and in one process, with children that crash, hang, diverge or do not fit into memory."""

import json
import signal
from typing import Any

import pytest

from child_trainer.tasks.fault_injection import drawn_fault
from cluster.search.seeding import child_seed
from tests.cluster.searches import finish, nascluster, select, status

pytestmark = pytest.mark.timeout(180)

FAULTS = ("--child-faults", "crashed=0.15,hang=0.1,out_of_memory=0.15,diverged=0.15")
POLICY = ("--max-attempts", 2, "--on-failure", "out_of_memory=smaller-batch,diverged=drop,timeout=reward:-1")
SHAPE = ("--max-children", 16, "--replicas", 2, "--children", 2, "--workers", 2, "--batch-size", 128)


def destined(faults: dict[str, float], seed: int, children: int) -> dict[int, str | None]:
    """Return the fault that each child's seed determines."""
    return {child: drawn_fault(faults, child_seed(seed, child)) for child in range(1, children + 1)}


def seed_with(faults: dict[str, float], children: int, wanted: dict[str, int]) -> int:
    """Return the first seed whose children have each fault exactly this often."""
    for seed in range(100_000):
        found = [fault for fault in destined(faults, seed, children).values() if fault]
        if {fault: found.count(fault) for fault in wanted} == wanted and len(found) == sum(wanted.values()):
            return seed
    raise AssertionError(f"no seed gives {wanted}")


def attempts(name: str) -> dict[int, list[tuple[str, str | None]]]:
    found: dict[int, list[tuple[str, str | None]]] = {}
    for child, verdict, cause in select(name, "SELECT child, verdict, cause FROM attempts ORDER BY child, number"):
        found.setdefault(child, []).append((verdict, cause))
    return found


def failures(name: str, *options: object) -> dict[str, Any]:
    return json.loads(finish(nascluster("failures", name, "--json", *options)))


PROBABLE = {"crashed": 0.15, "hang": 0.1, "out_of_memory": 0.15, "diverged": 0.15}
MET = {"crashed": 2, "hang": 1, "out_of_memory": 2, "diverged": 2}

EXPECTED: dict[str | None, list[tuple[str, str | None]]] = {
    None: [("outcome", None)],
    "crashed": [("retry", "crashed"), ("outcome", "crashed")],
    "hang": [("outcome", "timeout")],
    "out_of_memory": [("retry", "out_of_memory"), ("outcome", None)],
    "diverged": [("outcome", "diverged")],
}


def check_children(name: str, fates: dict[int, str | None]) -> None:
    """Each follows the policy of its cause, and is learnt from only as that says."""
    assert attempts(name) == {child: EXPECTED[fault] for child, fault in fates.items()}
    children = select(name, "SELECT id, state, cause, reward, batch_size, completion FROM children ORDER BY id")
    assert sorted(row[-1] for row in children) == list(range(1, len(fates) + 1))
    for child, state, cause, reward, batch_size, _ in children:
        match fates[child]:
            case "crashed":
                assert (state, cause, reward) == ("failed", "crashed", 0.0)
            case "hang":
                assert (state, cause, reward) == ("failed", "timeout", -1.0)
            case "diverged":
                assert (state, cause, reward) == ("failed", "diverged", None)
            case fault:
                assert (state, cause, batch_size) == ("finished", None, 64 if fault else None)
                assert reward > 0


@pytest.mark.xdist_group("ray")
def test_each_child_follows_the_policy_of_its_cause_and_the_search_ends(shared_ray: str) -> None:
    seed = seed_with(PROBABLE, 16, MET)
    fates = destined(PROBABLE, seed, 16)
    flags = [*SHAPE, *FAULTS, *POLICY, "--child-timeout", "10s", "--seed", seed]
    finish(nascluster("launch", "synthetic", "--name", "faults", *flags, address=shared_ray))
    check_children("faults", fates)
    assert select("faults", "SELECT count(*) FROM batches WHERE pushed = 1") == [(8,)]

    told = status("faults")
    assert told["state"] == "finished"
    assert told["failures"] == {"crashed": 2, "diverged": 2, "timeout": 1}
    assert told["retries"] == {"crashed": 2, "out_of_memory": 2}

    all_failures = failures("faults")
    assert all_failures["by_cause"] == {"crashed": 4, "diverged": 2, "out_of_memory": 2, "timeout": 1}
    by_child: dict[int, list[dict[str, Any]]] = {}
    for attempt in all_failures["attempts"]:
        by_child.setdefault(attempt["child_id"], []).insert(0, attempt)
    assert by_child.keys() == {child for child, fault in fates.items() if fault}
    for child, failed in by_child.items():
        if fates[child] == "hang":
            assert 10 < failed[0]["ended_at"] - failed[0]["started_at"] < 20
            assert "a child may take 10 s" in failed[0]["message"]
        if fates[child] == "crashed":
            for attempt in failed:
                assert attempt["message"].startswith("Fatal Python error: Segmentation fault")
                assert "fault_injection.py" in attempt["message"]
                assert "in _crash" in attempt["message"]
            assert failed[0]["worker"] != failed[1]["worker"]
    crashed = next(child for child, fault in fates.items() if fault == "crashed")
    assert failures("faults", "--child", crashed)["by_cause"] == {"crashed": 2}
    text = finish(nascluster("failures", "faults", "--child", crashed))
    assert f"child {crashed}, attempt 2: crashed, failed permanently" in text
    assert f"child {crashed}, attempt 1: crashed, retried" in text
    assert "in _crash" in text


def test_in_one_process_those_that_leave_it_alive_follow_the_same_policy() -> None:
    faults = {"out_of_memory": 0.2, "diverged": 0.2}
    seed = seed_with(faults, 16, {"out_of_memory": 3, "diverged": 3})
    flags = [*SHAPE[:6], "--batch-size", 128, *POLICY, "--seed", seed, "--local"]
    given = ["--child-faults", "out_of_memory=0.2,diverged=0.2"]
    finish(nascluster("launch", "synthetic", "--name", "faults-local", *flags, *given))
    check_children("faults-local", destined(faults, seed, 16))
    assert status("faults-local")["retries"] == {"out_of_memory": 3}
    assert failures("faults-local")["by_cause"] == {"diverged": 3, "out_of_memory": 3}


def test_a_segmentation_fault_in_one_process_is_retried_at_each_resume_then_fails() -> None:
    seed = seed_with({"crashed": 0.1}, 8, {"crashed": 1})
    (bad,) = [child for child, fault in destined({"crashed": 0.1}, seed, 8).items() if fault]
    flags = ["--max-children", 8, "--children", 2, "--max-attempts", 1, "--child-faults", "crashed=0.1"]
    run = ["launch", "synthetic", "--name", "deadly", "--local", "--seed", seed, *flags]
    for number in (1, 2, 3):
        process = nascluster(*run)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGSEGV, out
        assert attempts("deadly")[bad][: number - 1] == [("lost", None)] * (number - 1)
        assert status("deadly")["state"] == "failed"
        run = ["resume", "deadly"]
    finish(nascluster(*run))
    told = status("deadly")
    assert (told["state"], told["children"]["finished"], told["failures"]) == ("finished", 7, {"crashed": 1})
    assert attempts("deadly")[bad] == [("lost", None)] * 3
    assert all(tries == [("outcome", None)] for child, tries in attempts("deadly").items() if child != bad)
    ((outcome, reward),) = select("deadly", f"SELECT outcome, reward FROM children WHERE id = {bad}")
    assert json.loads(outcome)["failure"]["message"] == "the run died during 3 consecutive attempts at the child"
    assert reward == 0.0
    assert failures("deadly")["by_cause"] == {"crashed": 1}
    assert "the run died during 3 consecutive attempts" in finish(nascluster("failures", "deadly"))
