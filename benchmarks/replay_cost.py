"""The cost of recording what `nascluster replay` needs, which `--no-replay-log` leaves out.

    python -m benchmarks.replay_cost [pairs]

First directly: the paper's controller is pulled from a server of shards, which write to the disk, and pushed to it, in
blocks of pushes with a note and without, alternately; the note and the gradients' checksum are made for each push. Then
the same run on Ray is repeated with and without, alternately, for the given number of pairs (default 0). Children are
instant, so that the processor and the disk limit the run: with children that train, the cost is lower.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.metrics_cost import ratio_line
from benchmarks.scale import Size, measure
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.runners.build import initial_values, make_layout, make_parameters
from cluster.search.learning import checksum_of
from cluster.search.origin import Origin
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.store import ParameterStore, Push

SIZE = Size(shards=4, replicas=10, children=1_200)
BLOCKS, PUSHES = 40, 32


def direct(shards: int) -> str:
    """Measure what a push takes with a note and without."""
    config = RunConfig(topology=Topology(shards=shards))
    groups = make_parameters(config, config.make_searcher())
    gradients = {name: torch.full_like(value, 1e-3) for name, value in initial_values(groups).items()}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    layout = make_layout(config, "run", groups)
    with tempfile.TemporaryDirectory() as folder:
        server = ShardServer(layout, range(shards), Path(folder), token="secret")
        store = GrpcStore(layout, [server.address] * shards, token="secret")
        store.initialize(initial_values(groups))
        for number in range(BLOCKS):
            noted = number % 2 == 0
            began = time.perf_counter()
            for turn in range(PUSHES):
                _push(store, number * PUSHES + turn + 1, gradients, noted=noted)
            seconds[noted].append((time.perf_counter() - began) / PUSHES)
        store.close()
        server.stop(grace_s=0)
    with_note, without = (1000 * statistics.median(seconds[noted]) for noted in (True, False))
    ratios = [noted / plain for noted, plain in zip(seconds[True], seconds[False], strict=True)]
    return (
        f"a pull and a push of {shards} shards: {with_note:.2f} ms with a note, {without:.2f} ms without\n"
        + ratio_line("  seconds with a note", ratios)
    )


def _push(store: ParameterStore, sequence: int, gradients: dict[str, torch.Tensor], *, noted: bool) -> None:
    snapshot = store.pull(client="replica-0")
    note = ""
    if noted:
        note = Origin(
            versions=snapshot.versions,
            incarnations=snapshot.incarnations,
            completed=8 * sequence,
            checksum=checksum_of(gradients),
        ).to_text()
    versions, applied = snapshot.versions, snapshot.applied
    store.push(
        Push(client="replica-0", sequence=sequence, gradients=gradients, versions=versions, applied=applied, note=note)
    )


def main(arguments: list[str]) -> None:
    """Measure, and print the results."""
    for shards in (3, 20):
        print(direct(shards), flush=True)
    rates: list[float] = []
    processor: list[float] = []
    for pair in range(first_number(arguments, 0)):
        found: dict[bool, tuple[float, float]] = {}
        for recorded in (pair % 2 == 0, pair % 2 == 1):
            figures, kinds = measure(SIZE, *([] if recorded else ["--no-replay-log"]))
            found[recorded] = figures["children a second"], sum(kinds.values())
        rates.append(found[True][0] / found[False][0])
        processor.append(found[True][1] / found[False][1])
        print(f"pair {pair + 1}: {rates[-1] - 1:+.1%}, {processor[-1] - 1:+.1%}", file=sys.stderr, flush=True)
    if len(rates) > 1:
        print(f"{SIZE}, recorded compared with not:")
        print(ratio_line("children a second", rates))
        print(ratio_line("processor seconds", processor))


if __name__ == "__main__":
    main(command_words(__doc__))
