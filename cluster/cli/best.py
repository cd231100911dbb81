"""`nascluster best`: the best child of a search."""

from pathlib import Path

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.cli.status import read
from cluster.config.flags import Json, Name, StoragePath
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.status import Best
from cluster.monitoring.summary import best_json, best_lines, config_of, front_lines, training_command
from cluster.pool.child_weights import weights_file
from cluster.storage.find_run import existing_run
from cluster.storage.run_folder import RunFolder


def best(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """Show the best child of a search: architecture, metric, size, FLOPs, seconds, and a table's test value."""
        folder = existing_run(storage_path, name)
        status, known = read(folder), folder.read_known()
        if as_json:
            print(portable_json.dumps(best_json(status, known.config), indent=2))
        else:
            print("\n".join([*best_lines(status, known.config), *front_lines(status, folder)]))
            if status.unknown:
                print(f"\nNot all is shown: {status.unknown_text}")
            if status.best and not known.unknown:
                from_scratch = status.best.scored or status.best.inherits
                print(f"\nTo train it {'from scratch' if from_scratch else 'again'} by hand:")
                print(f"  {folder.command('best')} --json > best.json")
                config = config_of(known.config, status.continues, status.best)
                print(f"  {training_command(config, status.best, 'best.json')}")
                if (weights := _weights(folder, status.best)) is not None:
                    print(f"Its weights, for --from of that command, are in {weights}")
                    print(f"To use it without nascluster: {folder.command('export')}")
        return 0 if status.best else 1

    return parse_command("best", run, arguments)


def _weights(folder: RunFolder, best: Best) -> Path | None:
    """Return the file with the child's weights, if the run has kept them here."""
    if best.weights is None:
        return None
    file = weights_file(folder.child_weights, best.child_id, best.weights)
    return file if file.exists() else None
