"""Starting a Ray of one's own on a machine that is too busy. Ray itself is stood in for; its processes are real."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import ray

from cluster.runners.on_ray.probe_head import ClusterError
from cluster.runners.on_ray.start_local_ray import TOO_SLOW, start_ray


class Context:
    def __init__(self) -> None:
        self.address_info = {"address": "127.0.0.1:6379"}


@pytest.fixture
def begun() -> list[subprocess.Popen[bytes]]:
    return []


def too_slow(begun: list[subprocess.Popen[bytes]], times: int) -> Callable[..., Any]:
    """`ray.init`, which begins a process that stays, and gives up so many times as Ray does."""

    def init(**_: object) -> Context:
        begun.append(subprocess.Popen(["sleep", "60"]))
        if len(begun) <= times:
            raise Exception(f"The current node {TOO_SLOW}. This could happen because")
        return Context()

    return init


def test_it_is_tried_once_more_and_nothing_stays_of_the_first(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", too_slow(begun, times=1))
    said: list[str] = []
    assert start_ray(2, said.append) == "127.0.0.1:6379"
    assert begun[0].wait(timeout=5) == -9
    assert begun[1].poll() is None
    begun[1].kill()
    begun[1].wait()
    assert len(said) == 1 and "trying again" in said[0]


def test_the_second_failure_is_raised(begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", too_slow(begun, times=9))
    with pytest.raises(ClusterError, match="twice: this machine is too busy"):
        start_ray(2, lambda _: None)
    assert [process.wait(timeout=5) for process in begun] == [-9, -9]


def test_what_else_is_wrong_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("Maybe you called ray.init twice by accident?")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match="twice by accident"):
        start_ray(2, lambda _: None)


def test_rays_words_are_still_these() -> None:
    import inspect

    from ray._private.node import Node

    assert TOO_SLOW in inspect.getsource(Node)
