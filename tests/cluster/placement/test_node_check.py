"""Whether a node can take part: versions, code, data; and how the driver's code reaches it. No Ray."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from child_trainer.training.task import TaskError
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.placement.capacity import Node
from cluster.placement.node_check import SILENT, NodeReport, check_node, check_without_data, complaints
from cluster.placement.versions import DRIVER_VARIABLE, NodeError, Versions, check_driver, digest, mismatches, versions
from cluster.runners.on_ray.code_shipping import JOB_VARIABLE, Home, home, runtime_env, shipped
from cluster.runners.on_ray.node_checks import EXCUSES, judge, training_nodes
from cluster.runners.trainer import trainer_on

DRIVER = Versions(python="3.11", ray="2.60.0", torch="2.13.0", code="aaa")
WELL = NodeReport(versions=DRIVER, problem="", shm_free=1, disk_free=1)
FOLDERS = tuple(Path("/src") / name for name in ("child_trainer", "cluster", "controller", "ps"))
UNPACKED = tuple(Path("/tmp/ray/session/runtime_resources/working_dir_files/x") / folder.name for folder in FOLDERS)
EMPTY = Path("/empty")


def node(number: int, cores: float = 1, gpus: float = 0, **more: Any) -> Node:
    return Node(id=str(number), address=f"10.0.0.{number}", cores=cores, gpus=gpus, **more)


def test_equal_code_has_an_equal_digest_wherever_it_is(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "ps").mkdir(parents=True)
        (tmp_path / place / "ps" / "a.py").write_text("a = 1\n")
    here, there = tmp_path / "here" / "ps", tmp_path / "there" / "ps"
    assert digest((here,)) == digest((there,))
    (there / "notes.txt").write_text("no code")
    assert digest((here,)) == digest((there,))
    (there / "a.py").write_text("a = 2\n")
    assert digest((here,)) != digest((there,))
    (there / "a.py").rename(there / "b.py")
    (there / "b.py").write_text("a = 1\n")
    assert digest((here,)) != digest((there,))


def test_what_differs_is_told_with_both_sides() -> None:
    assert mismatches(DRIVER, DRIVER) == []
    other = replace(DRIVER, ray="2.48.0", code="bbb")
    assert mismatches(DRIVER, other) == [
        "has Ray 2.48.0, the driver 2.60.0",
        "has nascluster code bbb, the driver aaa",
    ]
    found = complaints(DRIVER, replace(WELL, versions=other, problem="no data"))
    assert found[-1] == "no data"
    assert found[-2].endswith("start its Ray from an environment equal to the driver's")


def test_a_process_that_joined_late_compares_itself() -> None:
    check_driver({})
    check_driver({DRIVER_VARIABLE: versions().to_json()})
    with pytest.raises(NodeError, match=r"^has PyTorch .*, the driver 0\.1;"):
        check_driver({DRIVER_VARIABLE: replace(versions(), torch="0.1").to_json()})


def test_a_worker_that_cannot_start_names_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(task=TaskOptions(task="fashion-mnist", data=tmp_path / "gone"))
    with pytest.raises(NodeError, match=r"^node 10\.0\.0\.7 cannot train: `--data` .*gone is not a folder"):
        trainer_on("10.0.0.7", config, gpu=False, slots=None)
    monkeypatch.setenv(DRIVER_VARIABLE, replace(versions(), ray="1.0").to_json())
    with pytest.raises(NodeError, match=r"^node 10\.0\.0\.7 cannot train: has Ray .*, the driver 1\.0"):
        trainer_on("10.0.0.7", RunConfig(task=TaskOptions(task="synthetic")), gpu=False, slots=None)


@pytest.mark.parametrize(
    ("cuda", "fit"),
    [(None, "install a CUDA build"), ("13.0", "have an NVIDIA driver that is new enough for CUDA 13.0")],
)
def test_a_gpu_that_pytorch_cannot_use_is_told_with_what_would_fit(
    cuda: str | None, fit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(
        NodeError, match=rf"^node 10\.0\.0\.7 cannot train: .* cannot use it: {fit}, or train on the CPU"
    ):
        trainer_on("10.0.0.7", RunConfig(task=TaskOptions(task="digits")), gpu=True, slots=None)


def test_a_node_says_what_it_lacks(tmp_path: Path) -> None:
    assert check_node(None).problem == ""
    assert check_node(TaskOptions(task="synthetic")).problem == ""
    report = check_node(TaskOptions(task="fashion-mnist", data=tmp_path / "gone", download=True))
    assert "gone is not a folder" in report.problem
    assert not (tmp_path / "gone").exists()  # a node downloads nothing
    assert report.versions == versions()
    assert report.shm_free > 0
    assert report.disk_free > 0


def test_a_driver_that_trains_nothing_needs_no_data(tmp_path: Path) -> None:
    gone = TaskOptions(task="fashion-mnist", data=tmp_path / "gone")
    check_without_data(gone)
    check_without_data(replace(gone, data=f"file://{tmp_path}/gone"))
    for wrong, why in (
        (replace(gone, data=None), "needs `--data DIR`"),
        (replace(gone, data="s3://bucket/data", download=True), "leave out `--download`"),
    ):
        with pytest.raises(TaskError, match=why):
            check_without_data(wrong)


def test_nodes_that_cannot_take_part_are_named() -> None:
    nodes = [node(i) for i in range(1, 7)]
    judge(nodes, {n.id: SILENT if n.id == "2" else WELL for n in nodes}, DRIVER)
    for excuse in EXCUSES:  # one that comes or goes keeps nobody from starting
        judge(nodes, {n.id: excuse if n.id == "2" else WELL for n in nodes}, DRIVER)
    with pytest.raises(NodeError, match=r"^node 10\.0\.0\.2 cannot take part: cannot run a check: no torch$"):
        judge(nodes, {n.id: "cannot run a check: no torch" if n.id == "2" else WELL for n in nodes}, DRIVER)
    bad = replace(WELL, problem="`--data` /d is not a folder")
    with pytest.raises(NodeError) as caught:
        judge(nodes, {n.id: WELL if n.id == "1" else bad for n in nodes}, DRIVER)
    assert str(caught.value) == (
        "; ".join(f"node 10.0.0.{i} cannot take part: `--data` /d is not a folder" for i in (2, 3, 4))
        + " (and 2 more nodes)"
    )


def test_only_nodes_that_train_need_the_data() -> None:
    nodes = [node(1, cores=8), node(2, cores=0, gpus=4), node(3, cores=0)]
    assert training_nodes(nodes, None) == {"2"}
    assert training_nodes(nodes, 0.5) == {"2"}
    assert training_nodes(nodes, 0) == {"1"}
    assert training_nodes(nodes[:1], None) == {"1"}


def test_stable_nodes_need_no_data_unless_there_are_no_others() -> None:
    stable, children = ({"nascluster/pool": pool} for pool in ("stable", "children"))
    kept, free = node(1, cores=8, gpus=1, labels=stable), node(2, cores=8, gpus=1, labels=children)
    for gpus in (None, 0, 0.5):
        assert training_nodes([kept, free], gpus) == {"2"}
        assert training_nodes([kept], gpus) == {"1"}
        assert training_nodes([kept, replace(free, draining=True)], gpus) == frozenset()
    assert training_nodes([kept, node(3, gpus=0, labels=children)], 1) == {"1"}


def test_code_from_a_checkout_or_a_wheel_is_carried_and_shadowed_by_nothing() -> None:
    env = runtime_env(Home(folders=FOLDERS, module=Path("/src/nascluster.py"), job=None), DRIVER, EMPTY)
    assert env["py_modules"] == [*map(str, FOLDERS), "/src/nascluster.py"]
    assert env["working_dir"] == str(EMPTY)
    assert Versions.from_json(env["env_vars"][DRIVER_VARIABLE]) == DRIVER


def test_a_job_that_brought_the_code_is_not_overridden() -> None:
    job = {"working_dir": "gcs://_ray_pkg_x.zip"}
    env = runtime_env(Home(folders=UNPACKED, module=None, job=job), DRIVER, EMPTY)
    assert env.keys() == {"env_vars"}


def test_a_job_without_the_code_gets_it_beside_its_own_files() -> None:
    job = {"working_dir": "gcs://_ray_pkg_x.zip"}
    env = runtime_env(Home(folders=FOLDERS, module=None, job=job), DRIVER, EMPTY)
    assert env.keys() == {"env_vars", "py_modules"}  # Ray refuses what job and driver both name
    assert runtime_env(Home(folders=FOLDERS, module=None, job={"py_modules": []}), DRIVER, EMPTY).keys() == {"env_vars"}
    assert "working_dir" in runtime_env(Home(folders=FOLDERS, module=None, job={}), DRIVER, EMPTY)


def test_this_process_has_a_home() -> None:
    here = home({})
    assert [folder.name for folder in here.folders] == ["child_trainer", "cluster", "controller", "ps"]
    assert here.module is not None
    assert here.job is None
    job = {"working_dir": "gcs://x.zip"}
    assert home({JOB_VARIABLE: json.dumps({"runtime_env": job})}).job == job
    with shipped(os.environ) as env:
        assert os.listdir(env["working_dir"]) == []
