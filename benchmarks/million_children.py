"""A ledger of a million children: its size on the disk, and what its readers and a resume take.

    python -m benchmarks.million_children [--children N] [--searchers A,B] [--replicas R] [--repetitions N] \\
        [--keep FOLDER] [--data DIR] [--before CHECKOUT]

The search is `nascluster launch nasbench201 --local`. The ledger's first 100,000 children are recorded by the code that
does it in a search, the ledger's own calls, many children to a transaction; architectures are drawn at random, so that
all 15,625 networks of the table are in it, and outcomes are the table's. Their rows are then repeated, each time with
later numbers and times. The times are those of a search at 100 children a second. The shards then get an empty push
under the number of the last batch.

Measured are whole commands, each in a process of its own: wall-clock seconds, and the peak of its memory; of `status`
and `report` also the seconds of their own work, without the start of Python and the imports. A resume's seconds count
from the start of its process to the record of the first new child.

With --before, only resumes, `children --csv` and `pareto` are measured, of this state of the code and of the one in
CHECKOUT, in turn.

DIR has the table's files (docs/tables.md); the default is $NASCLUSTER_DATA/nasbench201.
"""

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.command_words import checkout_folder
from benchmarks.nasbench201 import table_folder
from child_trainer.architectures.nasbench201 import CELL_OPERATIONS
from child_trainer.outcome import Outcome
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.placement.versions import versions
from cluster.runners.build import local_store, make_reward
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import assignment_of
from cluster.search.origin import Origin
from cluster.search.records import LOCAL_WORKER, Batch, BatchResult, Verdict
from cluster.search.replica import client
from cluster.search.seeding import child_seed
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.totals import count_again
from cluster.storage.run_folder import RunFolder
from controller.searcher import Child, Proposal
from controller.space import first_tokens
from ps.store import ParameterStore, Push

HERE = Path(__file__).parents[1]
"""This checkout."""

CHILDREN = 1_000_000
SEARCHERS = ("reinforce", "evolution", "bayesian")
SEED = 1
RATE = 100.0
"""Children a second, in the times that the ledger has."""

WRITTEN = 100_000
"""Children at most that are recorded call by call."""

TOGETHER = 250
"""Rounds of batches in one transaction."""

LEARNING = ("reinforce", "ppo")
"""Searchers whose parameters are on the shards."""

CHANGE = "edge {}: {} to {}"
"""The words of evolution for a change."""

COMMANDS = {
    "status": ("status", "run"),
    "report": ("report", "run"),
    "list": ("list",),
    "best": ("best", "run"),
    "children --csv": ("children", "run", "--csv"),
    "failures": ("failures", "run"),
    "pareto": ("pareto", "run"),
}

MORE = 8
"""Children that a measured resume may sample: the first is recorded together with others of its batch."""

REPETITIONS = 3

OWN_WORK = """
import sys, time
from pathlib import Path
from cluster.storage.run_folder import RunFolder
{imports}
folder = RunFolder(Path(sys.argv[1]))
times = []
for _ in range(int(sys.argv[2])):
    started, busy = time.monotonic(), time.process_time()
    {work}
    times.append((time.monotonic() - started, time.process_time() - busy))
print(*min(times), sorted(times)[len(times) // 2][0], max(times)[0])
"""

WATCHED = """
import resource, subprocess, sys, time
started = time.monotonic()
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)
"""
"""A small process, because the peak of a process's memory is at least that of the one that started it."""

STATUS = OWN_WORK.format(imports="from cluster.cli.status import read, status_rows", work="status_rows(read(folder))")

PAGE = OWN_WORK.format(
    imports="from cluster.report.page import page\nfrom cluster.report.read import read_facts",
    work="page(read_facts(folder, time.time()))",
)


class Times:
    """The clock of the ledger that is filled: a moment later at each call."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return Unix time."""
        self.now += 1e-5
        return self.now


class Networks:
    """Draws networks of the table, each with the outcome and the reward of a child that has it."""

    def __init__(self, config: RunConfig) -> None:
        self._space, self._rng = config.search_space, random.Random(SEED)
        self._trainer, self._reward = Trainer(config, gpu=False, slots=None), make_reward(config)
        self._known: dict[tuple[int, ...], tuple[Proposal, Outcome, float | None]] = {}

    def draw(self) -> Proposal:
        """Return a proposal of a random network."""
        tokens = first_tokens(self._space, 0, self._rng)
        if tokens not in self._known:
            proposal = Proposal(tokens=tokens, architecture=self._space.decode(tokens))
            outcome = self._trainer.train(assignment_of(Child(id=1, proposal=proposal), 0))
            self._known[tokens] = proposal, outcome, self._reward(outcome)
        return self._known[tokens][0]

    def ended(self, child: Child, seed: int) -> tuple[Outcome, float | None]:
        """Return the outcome of a child that `draw` has proposed, and its reward."""
        _, outcome, reward = self._known[child.proposal.tokens]
        return replace(outcome, seed=seed), reward


def fill(folder: RunFolder, config: RunConfig, children: int) -> None:
    """Make the run's folder with a search that was stopped after so many children.

    Of many children, the rows of the first `WRITTEN` are repeated, each time with later numbers and times.
    """
    folder.create(config)
    networks, rng = Networks(config), random.Random(SEED)
    with closing(
        Ledger(folder.ledger, config.seed, config.max_children, clock := Times(time.time() - children / RATE))
    ) as ledger:
        ledger.begin(workers=1, versions=asdict(versions()))
        number = 0
        while ledger.last_child() < min(children, WRITTEN):
            with ledger.together():
                for _ in range(TOGETHER):
                    number += 1
                    round_of(ledger, config, number, networks, rng)
                    clock.now += config.topology.replicas * config.topology.children / RATE
        ledger.end("stopped")
    number = repeat(folder, config, children)
    store = local_store(config, folder.identity(config), folder.shards)
    if store is not None:
        for replica in range(config.topology.replicas):
            push(store, client(replica), number)


def repeat(folder: RunFolder, config: RunConfig, children: int) -> int:
    """Repeat the ledger's rows up to so many children; return the number of the last batch of each replica."""
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        (written,) = db.execute("SELECT max(id) FROM children").fetchone()
        (batches,) = db.execute("SELECT max(number) FROM batches").fetchone()
        columns: dict[str, list[str]] = {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in ("batches", "children", "attempts")
        }
        copies = max(0, -(-(children - written) // written))
        for copy in range(1, copies + 1):
            later, seconds = copy * written, copy * written / RATE
            moved = {name: f"{name} + {later}" for name in ("id", "completion", "child", "attempt_id")}
            moved |= {name: f"{name} + {copy * batches}" for name in ("batch", "number")}
            moved |= {name: f"{name} + {seconds}" for name in ("sampled_at", "started_at", "ended_at", "learned_at")}
            moved["notes"] = f"json_set(notes, '$.parent', json_extract(notes, '$.parent') + {later})"
            db.execute("BEGIN")
            for table, names in columns.items():
                last = f"WHERE id <= {written}" if table == "children" else ""
                last = f"WHERE attempt_id <= {written}" if table == "attempts" else last
                last = f"WHERE number <= {batches}" if table == "batches" else last
                known = moved | ({"number": "number"} if table == "attempts" else {})
                values = ", ".join(known.get(name, name) for name in names)
                db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} {last} ORDER BY rowid")
            db.execute("COMMIT")
        db.execute("BEGIN")
        count_again(db)
        db.execute("COMMIT")
    return batches * (copies + 1)


def round_of(ledger: Ledger, config: RunConfig, number: int, networks: Networks, rng: random.Random) -> None:
    """Record one batch of each replica, from its sampling to what was learnt from it."""
    learns = config.searcher in LEARNING
    versions = (number * config.topology.replicas,) * config.topology.shards if learns else ()
    batches: list[Batch] = []
    ended, asked = ledger.completed(), config.topology.children
    seen = Origin(
        versions=versions,
        incarnations=(1,) * len(versions),
        completed=ended,
        known=0 if learns else ended,
        step=(number,),
        asked=asked,
    )
    for replica in range(config.topology.replicas):
        proposals = [with_notes(networks.draw(), config, ledger, rng) for _ in range(asked)]
        if (batch := ledger.admit(replica, number, proposals, versions, origin=seen.to_text())) is None:
            return
        batches.append(batch)
    waiting = [child for batch in batches for child in batch.children]
    for child in waiting:
        ledger.start(child.id, LOCAL_WORKER, f"{child.id}-1")
    rng.shuffle(waiting)
    for child in waiting:
        outcome, reward = networks.ended(child, child_seed(config.seed, child.id))
        ledger.end_attempt(f"{child.id}-1", outcome, Verdict.OUTCOME)
        ledger.finish(child.id, outcome, reward)
    for replica in range(len(batches)):
        figures = {"baseline": rng.random(), "entropy": rng.random()} if learns else {}
        staleness = tuple(rng.randrange(3) for _ in versions) if learns else None
        ledger.learned(
            replica,
            number,
            BatchResult(
                staleness=staleness,
                figures=figures,
                pull_seconds=rng.random() / 1e3,
                push_seconds=rng.random() / 1e2 if learns else None,
            ),
        )


def with_notes(proposal: Proposal, config: RunConfig, ledger: Ledger, rng: random.Random) -> Proposal:
    """Return the proposal as the searcher makes it: with a log-probability, or with a parent."""
    if config.searcher in LEARNING:
        return replace(proposal, log_prob=-10 * rng.random())
    last = ledger.last_child()
    if config.searcher != "evolution" or not last:
        return proposal
    change = CHANGE.format(rng.randint(1, 6), *rng.sample(CELL_OPERATIONS, 2))
    return replace(proposal, notes={"parent": rng.randint(max(1, last - 100), last), "change": change})


def push(store: ParameterStore, name: str, number: int) -> None:
    """Have the shards know the last of the pushes that the ledger has."""
    snapshot = store.pull(client=name)
    store.push(Push(client=name, sequence=number, gradients={}, versions=snapshot.versions, applied=snapshot.applied))


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took: seconds of the clock, of the processor, and the peak of its memory in MB."""

    seconds: float
    processor: float
    memory: float


def command(*words: str, checkout: Path = HERE) -> Spent:
    """Run a command of a checkout, whose output goes nowhere."""
    where = {"cwd": checkout, "env": os.environ | {"PYTHONPATH": str(checkout)}}
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], check=True, capture_output=True, text=True, **where)
    return Spent(*map(float, done.stdout.split()))


def own_work(script: str, folder: RunFolder, repetitions: int) -> str:
    """Return the median, and the lowest and highest, of a reader's seconds without its start."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder.path), str(repetitions)], check=True, capture_output=True, text=True
    )
    low, busy, middle, high = map(float, done.stdout.split())
    return f"{middle:.3f} s ({low:.3f} to {high:.3f}), {busy:.3f} s of the processor"


def line(what: str, *values: object) -> None:
    """Print a row of the table."""
    print("|", " | ".join(map(str, (what, *values))), "|", flush=True)


def measure(folder: RunFolder, config: RunConfig, children: int, repetitions: int) -> None:
    """Print the table of one ledger."""
    where = ("--storage-path", str(folder.path.parent))
    print(f"\n{config.searcher}, {children:,} children\n\n| what | measured |\n|---|---|")
    size = folder.ledger.stat().st_size
    line("ledger", f"{size / 1e6:.0f} MB, {size / children:.0f} bytes a child")
    line("`status`, its own work", own_work(STATUS, folder, repetitions))
    line("`report`, its own work", own_work(PAGE, folder, repetitions))
    page = folder.path / "report.html"
    for name, words in COMMANDS.items():
        spent = [command("-m", "cluster", *words, *where) for _ in range(repetitions)]
        seconds = [one.seconds for one in spent]
        text = f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        text += f", {min(one.processor for one in spent):.1f} s of the processor"
        text += f", at most {max(one.memory for one in spent):.0f} MB of memory"
        text += f", {page.stat().st_size / 1e6:.1f} MB" if name == "report" else ""
        line(f"`{name}`, the whole command", text)
    first, resumed = resume(folder)
    line("`resume` until the first new child", f"{first:.1f} s; at most {resumed.memory:.0f} MB of memory")
    whole = f"{resumed.seconds:.1f} s, {resumed.processor:.1f} s of the processor"
    line("`resume` of some children to their end", whole)


def resume(folder: RunFolder, checkout: Path = HERE) -> tuple[float, Spent]:
    """Resume the run for some children; return the seconds until the first is recorded, and what all of it took."""
    with closing(sqlite3.connect(folder.ledger)) as db:
        (before,) = db.execute("SELECT max(id) FROM children").fetchone()
    began, words = time.time(), ("run", "--max-children", str(before + MORE), "--storage-path", str(folder.path.parent))
    spent = command("-m", "cluster", "resume", *words, checkout=checkout)
    with closing(sqlite3.connect(folder.ledger)) as db:
        (sampled,) = db.execute("SELECT sampled_at FROM children WHERE id = ?", (before + 1,)).fetchone()
    return sampled - began, spent


def measure_in_turn(folder: RunFolder, config: RunConfig, children: int, repetitions: int, before: Path) -> None:
    """Print the table of one ledger with the code before and now."""
    where = ("--storage-path", str(folder.path.parent))
    states, lists = {"before": before, "now": HERE}, ("children --csv", "pareto")
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    peak: dict[tuple[str, str], float] = {}
    for _ in range(repetitions):
        for state, checkout in states.items():
            first, spent = resume(folder, checkout)
            seconds["`resume` until the first new child, clock", state].append(first)
            found = {"`resume`, processor": spent}
            found |= {
                f"`{name}`, processor": command("-m", "cluster", *COMMANDS[name], *where, checkout=checkout)
                for name in lists
            }
            for what, each in found.items():
                seconds[what, state].append(each.processor)
                peak[what, state] = max(each.memory, peak.get((what, state), 0.0))
    print(f"\n{config.searcher}, {children:,} children\n\n| seconds | before | now |\n|---|---|---|")
    for what in dict.fromkeys(what for what, _ in seconds):
        line(what, *(_spread(seconds[what, state], peak.get((what, state))) for state in states))


def _spread(seconds: Sequence[float], peak: float | None) -> str:
    """Return the median, and the least and the most, and the peak of the memory in MB."""
    text = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
    return text if peak is None else f"{text}, {peak:.0f} MB"


def main(arguments: list[str]) -> None:
    """Fill ledgers, measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million_children")
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--keep", help="folder for the runs; those that are there are measured as they are")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=checkout_folder, help="an earlier checkout to compare with"
    )
    options = parser.parse_args(arguments)
    data = options.data or table_folder(())
    if data is None:
        return
    with tempfile.TemporaryDirectory() as temporary:
        for searcher in options.searchers.split(","):
            storage = Path(options.keep or temporary).absolute() / searcher
            words = ["--local", "--data", str(data), "--searcher", searcher, "--seed", str(SEED)]
            words += ["--replicas", str(options.replicas), "--max-children", str(options.children)]
            words += ["--storage-path", str(storage), "--name", "run"]
            config: RunConfig = parse_run(RECIPES["nasbench201"](), words, "nasbench201")
            config = replace(config, recipe="nasbench201")
            folder = RunFolder(storage / "run")
            if not folder.ledger.exists():
                began = time.monotonic()
                fill(folder, config, options.children)
                print(f"{searcher}: filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if options.before:
                measure_in_turn(folder, config, options.children, options.repetitions, options.before)
            else:
                measure(folder, config, options.children, options.repetitions)


if __name__ == "__main__":
    main(sys.argv[1:])
