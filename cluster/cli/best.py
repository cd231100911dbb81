"""`nascluster best`: the best child of a search."""

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.cli.status import read
from cluster.config.flags import Json, Name, StoragePath
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.summary import best_json, best_lines, training_command
from cluster.storage.find_run import existing_run


def best(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""

    def best(name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """The best child of a search: its architecture, metric, parameters, FLOPs and seconds; of a table its test."""
        folder = existing_run(storage_path, name)
        found, config = read(folder), folder.read_config()
        if as_json:
            print(portable_json.dumps(best_json(found, config), indent=2))
        else:
            print("\n".join(best_lines(found, config)))
            if found.best:
                print("\nTrain it once more by hand:")
                print(f"  {folder.command('best')} --json > best.json")
                print(f"  {training_command(config, found.best, 'best.json')}")
        return 0 if found.best else 1

    return parse_command(best, arguments)
