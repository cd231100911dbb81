"""Pulls and pushes of the parameter server, beside plain Ray actors and beside gRPC that only echoes the bytes.

    python -m benchmarks.store_throughput [--rounds 10] [--against CHECKOUT]
    python -m benchmarks.store_throughput --service      # processor time of a call, for `nascluster simulate`

Each system serves from one process, and is called from another, on this machine; 20 shards are 20 shards of that one
process. The systems take turns, a few calls each, so that they share whatever else the machine does: the ratios within
one run mean more than the times. `--against` adds the parameter server of another checkout of this repository. Ray's
actor holds the same tensors, adds each gradient to them, and writes nothing to a disk. gRPC's echo sends as many bytes
to the server as a push does, and gets as many back as a pull does.

With `--service`, one client calls one process with a shard or 20 of them, and the processor time of both is measured,
which other load on the machine changes little: what a process with shards takes for a call, and how many it can serve.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

CALLS = 5
"""Pulls, and pushes, of one system in one round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Float32 tensors of one size, on how many shards they are, and whether a push is written to the disk."""

    size_bytes: int
    tensors: int
    shards: int
    optimizer: str
    durable: bool

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:g} MB" if self.size_bytes >= 1e6 else f"{self.size_bytes / 1e3:g} KB"
        shards = "1 shard" if self.shards == 1 else f"{self.shards} shards of one process"
        return f"{size} in {self.tensors} tensors, {shards}{', durable' if self.durable else ''}"


CASES = {
    "large-1": Case(size_bytes=3_000_000, tensors=300, shards=1, optimizer="sgd", durable=False),
    "large-20": Case(size_bytes=3_000_000, tensors=300, shards=20, optimizer="sgd", durable=False),
    "policy-20": Case(size_bytes=100_000, tensors=193, shards=20, optimizer="adam", durable=True),
}

SERVICE = {
    "bytes-1k": Case(size_bytes=1_000, tensors=10, shards=1, optimizer="sgd", durable=False),
    "bytes-100k": Case(size_bytes=100_000, tensors=100, shards=1, optimizer="sgd", durable=False),
    "bytes-1m": Case(size_bytes=1_000_000, tensors=200, shards=1, optimizer="sgd", durable=False),
    "bytes-8m": Case(size_bytes=8_000_000, tensors=800, shards=1, optimizer="sgd", durable=False),
    "durable-1k": Case(size_bytes=1_000, tensors=10, shards=1, optimizer="adam", durable=True),
    "durable-100k": Case(size_bytes=100_000, tensors=193, shards=1, optimizer="adam", durable=True),
    "durable-100k-20": Case(size_bytes=100_000, tensors=193, shards=20, optimizer="adam", durable=True),
}
"""What processor time is measured of: shared weights (SGD), strengths and a policy (Adam, durable)."""

SERVICE_CALLS = 200
"""Pulls, and pushes, of each of these cases."""

Times = list[tuple[float, float]]
"""Seconds of a pull and of a push, of each pair."""


@dataclass(slots=True)
class System:
    """A system in a process of its own, which measures on request."""

    name: str
    process: subprocess.Popen[str]
    times: Times

    def measure(self) -> None:
        """Make some pulls and pushes."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.times += [tuple(pair) for pair in json.loads(self.answer())]

    def answer(self) -> str:
        """Return the process' next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}")
        return line


@contextmanager
def started(role: str, case: str, name: str, environment: dict[str, str], *more: str) -> Iterator[System]:
    """Yield a process with this role of this module, which imports the parameter server that its environment has."""
    command = [sys.executable, str(Path(__file__).resolve()), role, case, *more]
    process = subprocess.Popen(
        command, env=environment, cwd=environment["HOME"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield System(name, process, [])
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def compare(name: str, rounds: int, against: Path | None) -> dict[str, Times]:
    """Return the times of each system."""
    from benchmarks.exactly_once import isolated

    here = str(Path(__file__).resolve().parents[1])
    with isolated() as environment, ExitStack() as stack:
        roles = [("shards", "this code", here), ("ray", "Ray actor", here), ("echo", "gRPC echo", here)]
        if against is not None:
            roles.insert(1, ("shards", "other checkout", str(against)))
        systems = [
            stack.enter_context(started(role, name, title, environment | {"PYTHONPATH": path}))
            for role, title, path in roles
        ]
        for system in systems:
            assert system.answer() == "ready\n"
        for number in range(rounds + 1):
            for system in systems:
                system.measure()
                if number == 0:  # connections and caches are cold
                    system.times.clear()
        return {system.name: system.times for system in systems}


def table(case: Case, results: dict[str, Times]) -> str:
    """Format a Markdown table of a case: medians, with the range of the middle 80 % in brackets."""
    rows = [[str(case), *results], ["---"] * (len(results) + 1)]
    for number, title in enumerate(("pull, ms", "push, ms")):
        cells = {name: _cell([pair[number] * 1e3 for pair in times]) for name, times in results.items()}
        rows.append([title, *(cells | {"gRPC echo": ""}).values()])
    totals = {name: [(pull + push) * 1e3 for pull, push in times] for name, times in results.items()}
    rows.append(["pull and push, ms", *(_cell(one) for one in totals.values())])
    medians = {name: statistics.median(one) for name, one in totals.items()}
    rows.append(["MB/s both ways", *(f"{2 * case.size_bytes / 1e3 / median:.0f}" for median in medians.values())])
    rows.append(["times this code's rate", *(f"{medians['this code'] / median:.2f}" for median in medians.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    tenths = statistics.quantiles(values, n=10)
    return f"{statistics.median(values):.1f} ({tenths[0]:.1f} to {tenths[-1]:.1f})"


def _serve(case: Case, serve: Callable[[Case, Path], str]) -> None:
    """Serve until the standard input ends, after printing the address."""
    with tempfile.TemporaryDirectory(dir=os.environ["HOME"]) as folder:
        print(serve(case, Path(folder)), flush=True)
        sys.stdin.read()
        os._exit(0)


def _measure(pull: Callable[[], object], push: Callable[[], object]) -> None:
    """Measure whenever a line is read."""
    print("ready", flush=True)
    for _ in sys.stdin:
        times: Times = []
        for _ in range(CALLS):
            began = time.perf_counter()
            pull()
            pulled = time.perf_counter()
            push()
            times.append((pulled - began, time.perf_counter() - pulled))
        print(json.dumps(times), flush=True)


def _values(case: Case) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    size = case.size_bytes // case.tensors // 4
    return {f"cell/{number}/weight": torch.randn(size, generator=generator) for number in range(case.tensors)}


def _layout(case: Case) -> Any:
    from ps.store import Group, Layout

    shapes = {name: tuple(value.shape) for name, value in _values(case).items()}
    group = Group(name="weights", shapes=shapes, optimizer=case.optimizer, options={"lr": 0.01})
    return Layout(run="throughput", groups=(group,), shards=case.shards)


def _serve_shards(case: Case, folder: Path) -> str:
    import torch

    from ps.rpc.server import ShardServer

    torch.set_num_threads(1)
    _SERVERS.append(ShardServer(_layout(case), range(case.shards), folder if case.durable else None))
    return _SERVERS[-1].address


def _serve_echo(case: Case, folder: Path) -> str:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    class Echo(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda data, _: data)

    server = grpc.server(ThreadPoolExecutor(8), handlers=[Echo()], options=_UNBOUNDED)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _SERVERS.append(server)
    return f"127.0.0.1:{port}"


_SERVERS: list[Any] = []
"""What this process serves, kept from the garbage collector."""

_UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _call_shards(name: str, case: Case) -> None:
    import torch

    from ps.rpc.client import GrpcStore
    from ps.store import Push

    torch.set_num_threads(1)
    with started("serve-shards", name, "the shards", dict(os.environ)) as server:
        store = GrpcStore(_layout(case), [server.answer().strip()] * case.shards)
        gradients, pushes = _values(case), iter(range(1, sys.maxsize))
        store.initialize(gradients)

        def push() -> None:
            versions = (0,) * case.shards
            store.push(Push(client="a", sequence=next(pushes), gradients=gradients, versions=versions))

        _measure(lambda: store.pull(client="a"), push)
        store.close()


def _call_echo(name: str, case: Case) -> None:
    import grpc

    with (
        started("serve-echo", name, "the echo", dict(os.environ)) as server,
        grpc.insecure_channel(server.answer().strip(), _UNBOUNDED) as channel,
    ):
        echo, data = channel.unary_unary("/benchmark/Echo"), bytes(case.size_bytes)
        _measure(lambda: None, lambda: echo(data))


def _call_ray(name: str, case: Case) -> None:
    import ray
    import torch

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)

    @ray.remote(num_cpus=0)
    class Holder:
        def __init__(self, parts: list[dict[str, torch.Tensor]]) -> None:
            torch.set_num_threads(1)
            self._parts = parts

        def pull(self, part: int) -> dict[str, torch.Tensor]:
            return self._parts[part]

        def push(self, part: int, gradients: dict[str, torch.Tensor]) -> None:
            self._parts[part] = {
                name: torch.add(value, gradients[name], alpha=-0.01) for name, value in self._parts[part].items()
            }

    names = list(_values(case))
    bounds = [len(names) * part // case.shards for part in range(case.shards + 1)]
    values = _values(case)
    parts = [{name: values[name] for name in names[start:stop]} for start, stop in pairwise(bounds)]
    holder: Any = Holder.remote(parts)
    _measure(
        lambda: ray.get([holder.pull.remote(part) for part in range(case.shards)]),
        lambda: ray.get([holder.push.remote(part, gradients) for part, gradients in enumerate(parts)]),
    )
    ray.shutdown()


def service(name: str, calls: int = SERVICE_CALLS) -> list[str]:
    """Return a row of a Markdown table: milliseconds of a pull and of a push.

    Of each: the processor time of server and client, the median of the wall clock and its lowest tenth.
    """
    import torch

    from benchmarks.exactly_once import isolated
    from ps.rpc.client import GrpcStore
    from ps.store import Push

    torch.set_num_threads(1)
    case = SERVICE[name]
    with isolated() as environment, started("serve-shards", name, "the shards", environment) as server:
        store = GrpcStore(_layout(case), [server.answer().strip()] * case.shards)
        gradients, pushes = _values(case), iter(range(1, sys.maxsize))
        store.initialize(gradients)
        clocks = (_processor_clock(server.process.pid), time.process_time)

        def measured(call: Callable[[], object]) -> list[float]:
            for _ in range(5):  # connections and caches are cold
                call()
            began, waits = [clock() for clock in clocks], []
            for _ in range(calls):
                at = time.perf_counter()
                call()
                waits.append((time.perf_counter() - at) * 1e3)
            used = [(clock() - at) / calls * 1e3 for clock, at in zip(clocks, began, strict=True)]
            return [*used, statistics.median(waits), statistics.quantiles(waits, n=10)[0]]

        def push() -> object:
            versions = (0,) * case.shards
            return store.push(Push(client="a", sequence=next(pushes), gradients=gradients, versions=versions))

        pull = measured(lambda: store.pull(client="a"))
        row = [str(case), *(f"{value:.2f}" for value in (*pull, *measured(push)))]
        store.close()
    return row


def _processor_clock(pid: int) -> Callable[[], float]:
    """Return the processor time of another process (Linux: the clock id of a process, `clock_getcpuclockid`)."""
    return lambda: time.clock_gettime((~pid << 3) | 2)


def service_table() -> str:
    """Format a Markdown table of the processor time of calls."""
    what = ("server", "client", "wall clock", "lowest tenth")
    heads = [f"{call}, {who}, ms" for call in ("pull", "push") for who in what]
    rows = [["one process", *heads], ["---"] * (len(heads) + 1), *(service(name) for name in SERVICE)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


ROLES: dict[str, Callable[[str, Case], None]] = {
    "shards": _call_shards,
    "echo": _call_echo,
    "ray": _call_ray,
    "serve-shards": lambda _, case: _serve(case, _serve_shards),
    "serve-echo": lambda _, case: _serve(case, _serve_echo),
}
"""What a process of this module does."""


def main(arguments: list[str]) -> None:
    """Measure every case and print its table; with a role, be one of the processes that are measured."""
    if arguments and arguments[0] in ROLES:
        ROLES[arguments[0]](arguments[1], (CASES | SERVICE)[arguments[1]])
        return
    from benchmarks.command_words import checkout_folder  # not at the top: an older checkout's process has no such

    parser = argparse.ArgumentParser(prog="python -m benchmarks.store_throughput")
    parser.add_argument("--rounds", type=int, default=10, help=f"rounds of {CALLS} pulls and pushes of each system")
    parser.add_argument(
        "--against", metavar="CHECKOUT", type=checkout_folder, help="another checkout of this repository, measured, too"
    )
    parser.add_argument("--service", action="store_true", help="only measure the processor time of calls")
    options = parser.parse_args(arguments)
    if options.service:
        print(service_table())
        return
    for name, case in CASES.items():
        print(table(case, compare(name, options.rounds, options.against)) + "\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
