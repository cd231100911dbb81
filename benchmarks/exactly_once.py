"""Lost replies on Ray: an actor that applies each call, compared with one that pushes to our parameter server.

    python -m benchmarks.exactly_once

Ray delivers a call again when its reply is lost. Both actors are called 20 times on the same Ray, which loses 10 of
the replies to each (its own fault injection, `RAY_testing_rpc_failure`). Each call adds 1.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command_words import words as command_words

PUSHES, LOST = 20, 10

FAULTS = json.dumps(
    {"CoreWorkerService.grpc_client.PushTask": {"num_failures": LOST, "num_lower_bound_resp_failures": LOST}}
)
"""The first ten replies to calls of this process are lost, and none after them; see Ray's `rpc_chaos.cc`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Counts of the pushes of one actor.

    Attributes:
        who: the name of the actor.
        executed: number of times Ray ran the actor's method.
        applied: number of times a push changed the value.
        lost: pushes that were never applied.
        duplicated: repetitions that were applied again.
        value: the final value.
    """

    who: str
    executed: int
    applied: int
    lost: int
    duplicated: int
    value: float


def measure() -> list[Count]:
    """Return both actors' counts, measured on a temporary Ray of their own."""
    with isolated() as environment:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.exactly_once", "both"],
            cwd=Path(__file__).parents[1],
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the measurement ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return [Count(**count) for count in json.loads(done.stdout.splitlines()[-1])]


def table(counts: list[Count]) -> str:
    """Format the counts as a table for people."""
    head = ("", "executed", "applied", "lost", "duplicated", "value", "expected")
    rows = [
        (c.who, str(c.executed), str(c.applied), str(c.lost), str(c.duplicated), f"{c.value:g}", str(PUSHES))
        for c in counts
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join([f"{PUSHES} pushes of 1, {LOST} replies lost on the way to each actor", *lines])


@contextmanager
def isolated() -> Iterator[dict[str, str]]:
    """Yield an environment whose Ray is isolated from any other on this machine; sockets need the short path."""
    folder = Path(tempfile.mkdtemp(prefix="nc-", dir="/tmp"))
    (folder / "home").mkdir()
    try:
        yield {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN_PATH"} | {
            "HOME": str(folder / "home"),
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_ADDRESS": "local",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _both() -> list[Count]:
    """Start Ray, and call each actor from its own driver, because each driver counts its lost replies."""
    import ray

    from cluster.runners.on_ray.start_local_ray import start_ray

    address = start_ray(2, print)
    counts = []
    for who in ("plain", "ours"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.exactly_once", who, address],
            env=os.environ | {"RAY_testing_rpc_failure": FAULTS},
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        )
        counts.append(json.loads(done.stdout.splitlines()[-1]))
    ray.shutdown()
    return [Count(**count) for count in counts]


def _call(actor: Any) -> None:
    """Push from different clients, all concurrently, so that Ray repeats the lost calls together."""
    import ray

    ray.get([actor.push.remote(f"client-{number}") for number in range(PUSHES)])


def _plain() -> Count:
    """Measure an actor that holds the value itself."""
    import ray

    @ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    class Adder:
        def __init__(self) -> None:
            self._value = 0.0
            self._pushes: list[str] = []

        def push(self, client: str) -> None:
            self._value += 1.0
            self._pushes.append(client)

        def result(self) -> tuple[float, list[str]]:
            return self._value, self._pushes

    actor: Any = Adder.remote()
    _call(actor)
    value, pushes = ray.get(actor.result.remote())
    unique = len(set(pushes))
    return Count(
        who="a plain Ray actor",
        executed=len(pushes),
        applied=len(pushes),
        lost=PUSHES - unique,
        duplicated=len(pushes) - unique,
        value=value,
    )


def _ours() -> Count:
    """Measure an actor that pushes to a shard, as a replica does."""
    import ray
    import torch

    from cluster.runners.on_ray.actors import SURVIVES
    from ps.rpc.client import GrpcStore
    from ps.rpc.server import ShardServer
    from ps.store import Group, Layout, Push

    group = Group(name="value", shapes={"x": (1,)}, optimizer="sgd", options={"lr": 1.0})
    layout = Layout(run="exactly-once", groups=(group,), shards=1)

    @ray.remote(**SURVIVES)
    class Pusher:
        def __init__(self, address: str, token: str) -> None:
            self._store = GrpcStore(layout, [address], token=token)
            self._executed = 0

        def push(self, client: str) -> None:
            self._executed += 1
            minus_one = {"x": torch.tensor([-1.0])}  # a step of SGD subtracts it
            self._store.push(Push(client=client, sequence=1, gradients=minus_one, versions=(0,)))

        def executed(self) -> int:
            return self._executed

    folder = Path(os.environ["HOME"]) / "run"
    folder.mkdir()
    token = secrets.token_urlsafe(16)
    # Served in this process: calls to a host of shards would use up some of the lost replies.
    server = ShardServer(layout, [0], folder / "shards", token=token)
    store = GrpcStore(layout, [server.address], token=token)
    store.initialize({"x": torch.zeros(1)})
    actor: Any = Pusher.remote(server.address, token)
    _call(actor)
    executed: Any = ray.get(actor.executed.remote())
    (status,) = store.status()
    value = store.pull().values["x"].item()
    store.close()
    server.stop()
    return Count(
        who="ours",
        executed=executed,
        applied=status.pushes,
        lost=PUSHES - status.clients,
        duplicated=status.pushes - status.clients,
        value=value,
    )


def _driver(who: str, address: str) -> Count:
    import ray

    ray.init(address=address, log_to_driver=False)
    count = {"plain": _plain, "ours": _ours}[who]()
    ray.shutdown()
    return count


def main(arguments: list[str]) -> None:
    """Measure and print the table; with arguments, run a part of the measurement."""
    match arguments:
        case []:
            print(table(measure()))
        case ["both"]:
            print(json.dumps([asdict(count) for count in _both()]))
        case [who, address]:
            print(json.dumps(asdict(_driver(who, address))))
        case _:
            raise SystemExit(f"usage: python -m benchmarks.exactly_once, got the arguments {arguments}")


if __name__ == "__main__":
    main(command_words(__doc__))
