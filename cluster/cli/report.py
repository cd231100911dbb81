"""`nascluster report`: writes the page into a file, or serves it while the run continues."""

import time
import webbrowser
from pathlib import Path
from typing import Annotated

import tyro

from child_trainer.atomic_file import write_output
from cluster.cli.command import note_unknown, parse_command
from cluster.config.flags import Name, Open, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.status import read_unknown
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import existing_run
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import wait_for_run

Output = Annotated[
    Path | None,
    tyro.conf.arg(
        help="The file to write; unset: report.html in the run's folder, or NAME-report.html here for a URL."
    ),
]
Compare = Annotated[
    str | None, tyro.conf.arg(help="Another run in the same place, such as one of random search, to plot with it.")
]
Watch = Annotated[bool, tyro.conf.arg(help="Serve the page on this machine, kept up to date, until Ctrl-C.")]
Port = Annotated[int, tyro.conf.arg(help="With --watch: the port; 0: any that is free.")]


def report(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        output: Output = None,
        compare: Compare = None,
        open_browser: Open = False,
        watch: Watch = False,
        port: Port = 0,
    ) -> int:
        """Write what a search did and found into one self-contained HTML page, while it runs or afterwards."""
        from cluster.report.page import page
        from cluster.report.progress_section import unlike_note
        from cluster.report.read import read_facts
        from cluster.report.serving import MAX_PORT, serve

        if watch and output is not None:
            raise UsageError("`--watch` serves the page and `--output` writes it: give one of them")
        if not 0 <= port <= MAX_PORT or (port and not watch):
            raise UsageError(f"`--port` must be 0 to {MAX_PORT}, and goes with `--watch`, got {port}")
        if compare == name:
            raise UsageError(f"`--compare` must name another run than {name!r}")

        notes: list[str] = []

        def build() -> str:
            folder = existing_run(storage_path, name)  # which copies it again if its driver is on another machine
            other = None if compare is None else existing_run(storage_path, compare)
            facts = read_facts(folder, time.time(), other)
            notes[:] = [unlike_note(facts.other)] if facts.other and facts.other.unlike else []
            return page(facts, watched=watch)

        if watch:
            wait_for_run(storage_path, name, lambda text: print(text, flush=True))
        first = build()  # errors in the names are reported before the server starts
        for text in notes:
            print(f"Mind: {text}", flush=True)
        if watch:
            serve(build, port, lambda url: _announce(url, show=open_browser))
            return 0
        note_unknown(read_unknown(existing_run(storage_path, name)))
        path = target(existing_run(storage_path, name), output)
        _write(path, first)
        print(path)
        if open_browser:
            _show(path.as_uri())
        return 0

    return parse_command("report", run, arguments)


def _announce(url: str, *, show: bool) -> None:
    print(f"The report is at {url} until Ctrl-C", flush=True)
    if show:
        _show(url)


def _show(url: str) -> None:
    if not webbrowser.open(url):
        print(f"No browser could be opened: open {url} yourself")


def target(folder: RunFolder, output: Path | None) -> Path:
    """Return the file to write: the one of `--output`, or else the default."""
    if output is not None:
        return output.expanduser().absolute()
    # The local folder of a run in an object store is a copy, which the next command replaces.
    return Path.cwd() / f"{folder.name}-report.html" if folder.url else folder.path / "report.html"


def _write(path: Path, text: str) -> None:
    """Make or replace the file.

    Raises:
        RunFolderError: it cannot be written.
    """
    try:
        write_output(path, text.encode())
    except OSError as error:
        raise RunFolderError(f"the report {path} cannot be written: {error.strerror}") from error
