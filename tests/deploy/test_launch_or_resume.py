"""What a RayJob runs, run for real: killed, retried, finished, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.monitoring.status import Status, read_status
from cluster.storage.find_run import run_folder
from tests.deploy.files import DEPLOY, ROOT
from tests.waiting import until

SCRIPT = DEPLOY / "kuberay/launch-or-resume.sh"

PATIENCE_S = 90.0
"""For what takes some 3 s on a machine that has nothing else to do."""

pytestmark = pytest.mark.timeout(300)

SLOW = ["synthetic", "--local", "--child-seconds", "0.2", "--max-children", "24", "--replicas", "1", "--children", "2"]


class Pod:
    """Where the script runs: its home, and `nascluster` on its path as in the image."""

    def __init__(self, home: Path) -> None:
        self.storage = home / "bucket"
        command = home / "bin/nascluster"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m cluster "$@"\n')
        command.chmod(0o755)
        self._env = {**os.environ, "HOME": str(home), "PATH": f"{command.parent}:{os.environ['PATH']}"}
        self._home = home
        self._out, self._err = home / "out", home / "err"
        self._begun: list[subprocess.Popen[bytes]] = []

    def begin(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start the script as a job's supervisor does: as the head of a process group."""
        with open(self._out, "w") as out, open(self._err, "w") as err:
            process = subprocess.Popen(
                [SCRIPT, *map(str, arguments)],
                cwd=self._home, env=self._env, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        self._begun.append(process)
        return process

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Its exit status and what it said."""
        code = self.begin(*arguments).wait(timeout=PATIENCE_S)
        return code, self._out.read_text(), self._err.read_text()

    def status(self) -> Status:
        return read_status(run_folder(self.storage, "run"), time.time())

    def wait_for_children(self, count: int) -> None:
        until(
            lambda: run_folder(self.storage, "run").config.exists() and self.status().finished >= count,
            f"the end of {count} children",
            timeout_s=PATIENCE_S,
        )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the script and all that it has started, and wait until they are gone."""
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        until(lambda: self.status().state != "running", "the end of the run", timeout_s=PATIENCE_S)

    def close(self) -> None:
        for process in self._begun:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    found = Pod(tmp_path)
    yield found
    found.close()


def test_a_killed_run_is_resumed_and_a_finished_one_is_left_alone(pod: Pod) -> None:
    first = pod.begin("run", pod.storage, *SLOW)
    pod.wait_for_children(3)
    pod.kill(first)
    before = pod.status()
    assert before.state == "failed" and before.finished < 24

    code, out, _ = pod.run("run", pod.storage, *SLOW)
    after = pod.status()
    assert (code, after.state, after.sampled, after.finished) == (0, "finished", 24, 24)
    assert "24 children finished" in out
    assert after.seconds > before.seconds, "it is the same run, gone on with"

    assert pod.run("run", pod.storage, *SLOW)[:2] == (0, "The run run has finished before.\n")


def test_a_run_that_was_stopped_on_purpose_is_not_retried_and_goes_on_when_it_is_asked_for(pod: Pod) -> None:
    first = pod.begin("run", pod.storage, *SLOW)
    pod.wait_for_children(2)
    run_folder(pod.storage, "run").request_stop()  # what `nascluster stop` does
    assert first.wait(timeout=PATIENCE_S) == 0, "a failure would be retried"
    assert pod.status().message == "as asked"
    assert pod.run("run", pod.storage, *SLOW)[0] == 0
    assert pod.status().state == "finished"


def test_a_pod_that_must_go_stops_the_run_and_is_retried(pod: Pod) -> None:
    first = pod.begin("run", pod.storage, *SLOW)
    pod.wait_for_children(2)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(timeout=PATIENCE_S) == 130
    assert (pod.status().state, pod.status().message) == ("stopped", "interrupted")
    assert pod.run("run", pod.storage, *SLOW)[0] == 0


def test_what_cannot_be_is_said_and_fails(pod: Pod) -> None:
    code, _, err = pod.run("run", pod.storage, "synthetik")
    assert code == 2
    assert "unknown recipe 'synthetik'" in err
    assert pod.run("run", pod.storage)[0] == 2
    assert not pod.storage.exists()
