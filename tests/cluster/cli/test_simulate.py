"""The command `nascluster simulate`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from child_trainer.tasks import nasbench201_table as nasbench201
from tests.cluster.compare.tables import made_up
from tests.command_line import nascluster

Nascluster = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")

SMALL = ("--replicas", 4, "--children", 4, "--max-children", 64)
TIMES = ("--child-seconds", "lognormal:3600:0.5")


@pytest.fixture
def simulate() -> Nascluster:
    def simulate(*arguments: object) -> int:
        return nascluster("simulate", *arguments)

    return simulate


def read_json(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capfd.readouterr().out)


def test_the_report_has_figures_and_advice(
    simulate: Nascluster, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lost = ("--preempt", "0.2/h", "--shard-mtbf", "20h", "--replica-mtbf", "20h", "--delay", "0.01s", "--cost", 2.5)
    assert simulate("zoph2017-cifar10", *TIMES, *SMALL, *lost, "--workers", 12) == 0
    text = capfd.readouterr().out
    assert "64 children (lognormal:3600:0.5) on 12 workers, 4 replicas of 4 (barrier), 20 shards" in text
    for word in ("to 64 children", "an hour", "GPU hours", "goodput", "staleness mean", "preemptions", "for children"):
        assert word in text
    assert "What would help, estimated from 64 children each" in text
    for flags in ("--batching stream", "--replicas 8 --workers 12", "--workers 16", "--checkpoint-children"):
        assert f"│ {flags} " in text
    assert text.count("shortens the search most") == 1
    assert text.count("cuts the cost most") == 1
    assert list(folder.iterdir()) == []


def test_steps_on_shared_weights_have_their_lines(simulate: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        simulate("darts-digits", "--step-seconds", "0.1s", "--child-seconds", "constant:2", "--search-epochs", 2) == 0
    )
    text = capfd.readouterr().out
    assert "30 children (steps of 0.1s, scores of constant:2) on 1 worker" in text
    assert "  steps     60, " in text
    assert "0.08 MB pulled and 0.08 MB pushed in a step; each of 1 shard has" in text
    assert "one with strengths" in text
    assert "│ --weights-shards 2 " in text


def test_nothing_is_advised_while_half_of_the_children_fail(
    simulate: Nascluster, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("zoph2017-cifar10", *TIMES, *SMALL, "--child-timeout", 3600)
    assert simulate(*flags) == 0
    text = capfd.readouterr().out
    assert "│ failed │" in text.replace("┃", "│")
    assert "shortens the search" not in text
    assert "cuts the cost" not in text
    assert "There is no advice on time or cost while" in text
    assert simulate(*flags, "--json") == 0
    found = read_json(capfd)
    assert found["what_helps"]["unchanged"]["failed_share"] == found["failed"] / 64 > 0.3
    assert (found["what_helps"]["shortest"], found["what_helps"]["cheapest"]) == (None, None)


def test_one_seed_gives_one_report(simulate: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    def answer(*flags: object) -> str:
        assert simulate("zoph2017-cifar10", *TIMES, *SMALL, "--preempt", "0.1/h", "--json", *flags) == 0
        return capfd.readouterr().out

    first = answer()
    assert answer() == first
    assert answer("--seed", 1) != first


def test_json_has_the_same_figures_as_the_text(simulate: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert simulate("zoph2017-cifar10", "--child-seconds=constant:3600", *SMALL, "--json", "--cost", 3) == 0
    found = read_json(capfd)
    assert (found["children"], found["workers"], found["replicas"], found["pushes"]) == (64, 16, 4, 16)
    assert found["seconds"] == pytest.approx(4 * 3600, abs=5)
    assert found["gpu_hours"] == pytest.approx(64, abs=0.1)
    assert found["cost"] == pytest.approx(3 * found["gpu_hours"])
    assert found["utilisation"] == pytest.approx(1.0, abs=0.001)
    assert 0 < found["staleness"]["mean"] <= 3
    helps = found["what_helps"]
    assert helps["shortest"]["flags"] == "--replicas 8 --workers 32"
    assert helps["shortest"]["hours"] == pytest.approx(2, abs=0.01)
    assert helps["cheapest"] is None
    assert helps["unchanged"]["hours"] == pytest.approx(found["seconds"] / 3600)


def test_a_table_has_the_times_of_children(
    simulate: Nascluster, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    data = made_up(tmp_path_factory.mktemp("table"))
    assert simulate("nasbench201", "--data", data, "--max-children", 64, "--json", "--as-is") == 0
    found = read_json(capfd)
    # The made-up cells take 20 to 77.5 s.
    assert 20 * 64 / 3600 < found["useful_hours"] < 77.5 * 64 / 3600
    assert found["pushes"] == 16
    assert found["what_helps"]["unchanged"] is None
    assert simulate("nasbench201", "--data", data, "--max-children", 64, "--json", "--as-is", *TIMES) == 0
    assert read_json(capfd)["useful_hours"] > 32


def test_a_table_without_times_is_refused_unless_times_are_given(
    simulate: Nascluster, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    data = made_up(tmp_path_factory.mktemp("table"))
    model = json.loads((data / nasbench201.TIME_MODEL).read_text())
    model["models"] = {name: {"intercept": 0.0, "coef": [[0.0] * 4] * 6} for name in model["models"]}
    (data / nasbench201.TIME_MODEL).write_text(json.dumps(model))
    head, first, *others = (data / nasbench201.TIMES).read_text().splitlines()
    free = [re.sub(",.*", ",0,0", line) for line in (first, *others)]
    (data / nasbench201.TIMES).write_text("\n".join([head, *free]))
    flags = ("nasbench201", "--data", data, "--searcher", "random", "--max-children", 16, "--as-is", "--json")
    assert simulate(*flags) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "all children of this search take 0 s" in err
    assert "--child-seconds lognormal:3600:0.5" in err
    assert simulate(*flags, *TIMES) == 0
    assert read_json(capfd)["useful_hours"] > 8
    # A table that has some children of no time may be searched, but not where the search has none of the others.
    (data / nasbench201.TIMES).write_text("\n".join([head, first, *free[1:]]))
    assert simulate(*flags) == 2
    assert "all children of this search take 0 s" in capfd.readouterr().err


def test_a_search_whose_children_all_fail_is_reported(simulate: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ("--child-seconds", "constant:3600", "--child-timeout", "30m", "--max-children", "400")
    assert simulate("zoph2017-cifar10", *flags) == 0
    assert "400 of them failed" in capfd.readouterr().out


def test_without_arguments_it_prints_its_usage(simulate: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert simulate() == 2
    assert "nascluster simulate RECIPE" in capfd.readouterr().out
    assert simulate("--help") == 0
    text = " ".join(capfd.readouterr().out.split())
    for word in ("--child-seconds", "--preempt", "--shard-mtbf", "--as-is", "nascluster launch RECIPE"):
        assert word in text


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["nowhere", *TIMES], "unknown recipe 'nowhere'"),
        (["zoph2017-cifar10"], "the training times of the task 'cifar10' are unknown: set them, as in --child-sec"),
        (["zoph2017-cifar10", "--child-seconds", "an hour"], "`child_seconds` must be lognormal:MED"),
        (["zoph2017-cifar10", *TIMES, "--preempt", "often"], "a rate must be a number with /s"),
        (["zoph2017-cifar10", *TIMES, "--shard-mtbf", "0h"], "`shard_mtbf` must be a time above 0"),
        (["zoph2017-cifar10", *TIMES, "--shard-mtbf", "40s"], "`shard_mtbf` must be above 48 s, or some shard is"),
        (["zoph2017-cifar10", *TIMES, "--replica-mtbf", "1s"], "`replica_mtbf` must be above 2 s"),
        (["zoph2017-cifar10", *TIMES, "--delay", "slow"], "`delay` must be a time above 0"),
        (["zoph2017-cifar10", *TIMES, "--cost", "-1"], "`cost` must be from 0 to 1,000,000,000 for an hour of one GPU"),
        (["zoph2017-cifar10", *TIMES, "--workers", "0"], "`workers` must be at least 1, got 0"),
        (["zoph2017-cifar10", *TIMES, "--preempt", "1/s"], "would lose more than a trillion (with `checkpoint_childr"),
        # A child of an hour is had in one piece after 2,202 hours on average.
        (["zoph2017-cifar10", "--child-seconds=constant:3600", "--preempt", "10/h"], "would lose some"),
        (["zoph2017-cifar10", "--child-seconds=constant:360000", "--shard-mtbf", "49s"], "in all, and would lose some"),
        (["zoph2017-cifar10", *TIMES, "--max-children", "2000000"], "must be at most 1,000,000, got 2000000"),
        (["zoph2017-cifar10", *TIMES, "--name", "mine"], "the options of `name` are not for a simulation"),
        (
            ["zoph2017-cifar10", *TIMES, "--early-stop", "median"],
            "a simulation, whose children have no learning curves",
        ),
        (["zoph2017-cifar10", *TIMES, "--shards", "99999"], "`shards` must be"),
        (["zoph2017-cifar10", *TIMES, "--workes", "9"], "did you mean --workers?"),
        (["nasbench201"], "nasbench201"),
        (["darts-digits", *TIMES], "whose times are unknown: set what a worker computes in one, as in --step-seconds"),
        (["darts-digits", "--step-seconds", "1s"], "the training times of the task 'digits' are unknown"),
        (["zoph2017-cifar10", *TIMES, "--step-seconds", "1s"], "`step_seconds` is for shared weights, which"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    simulate: Nascluster, flags: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*flags) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
