"""`nascluster replay`: computes a finished run again, compares it with its record, and can go on from a point of it."""

import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.cli.launch import execute_run
from cluster.config.flags import Json, Name, StoragePath, UsageError, flags_not_among, values_of
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.formatting import counted
from cluster.storage.find_run import check_new, existing_run, run_folder
from cluster.storage.starting import starting

if TYPE_CHECKING:
    from cluster.replay.result import Replayed

Until = Annotated[
    int | None,
    tyro.conf.arg(metavar="N", help="Only the beginning of the search, until N children had ended; unset: all of it."),
]
Then = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="KEY=VALUE ...",
        help="With --until: go on from there as a new run, with these options changed, such as"
        " searcher.entropy-bonus=0.02 or budget.epochs=3, as they are named in config.json. Unset: only replay.",
    ),
]
NewName = Annotated[
    str | None, tyro.conf.arg(name="name", help="With --then: the new run's name; unset: NAME-then, in the same place.")
]

THEN = "-then"
"""What the name of a run that goes on from another one has behind that one's, unless the command says another."""

DIFFERS = 1
"""Exit status if a replay differs from the record."""


def replay(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    settings = values_of(arguments, "--then")
    if settings == []:
        raise UsageError("`--then` needs an option to change, such as searcher.entropy-bonus=0.02")

    def run(
        name: Name,
        *,
        until: Until = None,
        then: Then = (),
        new_name: NewName = None,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> int:
        """Compute a finished search again, from its seed and the recorded order of arrivals, and compare.

        Children are not trained again: their outcomes are in the ledger. Exit status 1: the replay differs. With
        --until and --then, what would have happened: the search goes on from there with other options, as a new run.
        """
        from cluster.replay.continuation import continuation_of
        from cluster.replay.difference import Difference
        from cluster.replay.record import read_record
        from cluster.replay.replay import replay_to_states
        from cluster.replay.until import beginning_of

        _check_fit(until, then, new_name, as_json=as_json)
        folder = existing_run(storage_path, name, with_files=True)
        began, new, place = time.monotonic(), None, folder
        try:
            record = read_record(folder)
            if until is not None:
                beginning = beginning_of(record, until)
                record = beginning.record
                if then:
                    called = f"{name}{THEN}" if new_name is None else new_name
                    new = continuation_of(folder, beginning, then, called, storage_path)
                    place = run_folder(storage_path, str(new.config.name))
                    check_new(place)
            found, states = replay_to_states(record)
        except Difference as difference:
            _show_difference(folder.name, str(difference), as_json=as_json)
            return DIFFERS
        _show(folder.name, found, until, time.monotonic() - began, as_json=as_json)
        if new is None:
            return 0
        with starting(place):
            return execute_run(new.config, replace(place, first_files=partial(new.write, states=states)))

    rest = flags_not_among(arguments, ("--then",))
    return parse_command("replay", run, [*rest, "--then", *settings] if settings else rest)


def _check_fit(until: int | None, then: tuple[str, ...], new_name: str | None, *, as_json: bool) -> None:
    """Raise `UsageError` if options are given that go with others only."""
    if then and until is None:
        raise UsageError("`--then` changes options from a point on: give `--until`, too, as in `--until 1200`")
    if new_name is not None and not then:
        raise UsageError("`--name` names the new run of `--then`, which is not given")
    if then and as_json:
        raise UsageError("`--json` prints what a replay found, and `--then` starts a search: give one of them")


def _show_difference(name: str, difference: str, *, as_json: bool) -> None:
    if as_json:
        print(portable_json.dumps({"name": name, "equal": False, "difference": difference}, indent=2))
    else:
        print(f"The replay of the run {name!r} differs from its record: {difference}")


def _show(name: str, found: "Replayed", until: int | None, seconds: float, *, as_json: bool) -> None:
    if as_json:
        part = {} if until is None else {"until": until}
        print(portable_json.dumps({"name": name, "equal": True} | part | asdict(found), indent=2))
        return
    what = f"{counted(found.children, 'child')} in {counted(found.batches, 'batch')}"
    if found.shards:
        what += f", {counted(found.pushes, 'update')} on {counted(found.shards, 'shard')}"
    if found.restarts:
        what += f" with {counted(found.restarts, 'restart')}"
    if found.lost:
        what += f", {found.lost:,} lost and sent again"
    if until is not None:
        print(f"Replayed the run {name!r} until {counted(until, 'child')} had ended, in {seconds:.1f} s: {what}")
        print("Every sample, reward, version and gradient until then is as recorded")
        return
    weights = ", and the weights are equal to the bit" if found.shards else ""
    print(f"Replayed the run {name!r} in {seconds:.1f} s: {what}")
    print(f"Every sample, reward and version is as recorded{weights}")
