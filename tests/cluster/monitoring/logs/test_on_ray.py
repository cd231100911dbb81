"""Real Ray: what children print, in whatever way, and what one that is killed has printed last."""

from __future__ import annotations  # what a hook in another process has to do without

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from child_trainer.outcome import Outcome
from cluster.cli import main as cli
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.runners.on_ray.handles import PoolEvaluator
from cluster.search.evaluator import Assignment
from cluster.storage.run_folder import RunFolder
from tests.cluster.searches import end, open_pool
from tests.contracts.evaluator import assignment, gather

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(120)]

CONFIG = RunConfig(task=TaskOptions(task="synthetic"))

SPEAKS, DIES, IS_SILENT = 1, 2, 3


def speaking_trainer() -> None:
    """Run in each worker's process before anything else: its children speak."""
    from cluster.runners import trainer as training

    class Speaking:
        def train(
            self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
        ) -> Outcome:
            import ctypes

            if assignment.child_id == SPEAKS:
                print("by Python")
                os.write(2, b"by descriptor\n")
                ctypes.CDLL(None).puts(b"by C")
                subprocess.run([sys.executable, "-c", "print('by a process of its own')"], check=True)
            if assignment.child_id == DIES and not Path(os.environ["MARK"]).exists():
                Path(os.environ["MARK"]).touch()
                print("my last words")
                os.kill(os.getpid(), signal.SIGKILL)
            return Outcome(curve=(0.5,), seconds=0.1, parameters=1, flops=1, seed=assignment.seed)

    training.trainer_on = lambda *_, **__: Speaking()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def folder(shared_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run whose children have spoken, died and been silent."""
    path = tmp_path_factory.mktemp("runs")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker's process does not find the tests
    variables = {"MARK": str(path / "mark"), "PYTHONPATH": str(Path(__file__).parents[4])}
    environment: Any = {"worker_process_setup_hook": speaking_trainer, "env_vars": variables}
    ray.init(address=shared_ray, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    folder = RunFolder(path / "run")
    folder.create(CONFIG)
    pool, actors = open_pool(folder.path, CONFIG, workers=1)
    evaluator = PoolEvaluator(pool)
    for child in (SPEAKS, DIES, IS_SILENT):
        evaluator.submit(assignment(child))
    assert all(outcome.failure is None for _, outcome in gather(evaluator, 3))
    ray.get(pool.stop.remote(give_back=False))  # it has recorded the attempts, too, then
    yield folder
    end(actors)
    ray.shutdown()


def logs(folder: RunFolder, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.run(["logs", folder.name, *map(str, arguments), "--storage-path", str(folder.path.parent)]) == 0
    return capsys.readouterr().out


def test_all_output_of_a_child_is_kept_however_it_prints(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    head, _, text = logs(folder, capsys, SPEAKS).partition("--- attempt 1 printed:\n")
    assert "attempt 1: finished" in head
    assert sorted(text.splitlines()) == ["by C", "by Python", "by a process of its own", "by descriptor"]


def test_a_killed_childs_output_is_kept(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    out = logs(folder, capsys, DIES)
    assert "attempt 1: crashed, retried" in out
    assert "attempt 2: finished" in out
    assert out.endswith("\n--- attempt 1 printed:\nmy last words\n")
    assert "printed nothing" in logs(folder, capsys, DIES, "--attempt", 2)


def test_a_silent_child_has_no_file(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "It printed nothing." in logs(folder, capsys, IS_SILENT)
    assert sorted(file.name for file in folder.path.glob("outputs/*/*")) == ["1-1.log", "2-1.log"]
