"""`nascluster report`: the page written into a file, or served while the run goes on."""

import time
import webbrowser
from pathlib import Path
from typing import Annotated

import tyro

from child_trainer.atomic_file import write_output
from cluster.config.flags import Name, StoragePath, UsageError, parse
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import existing_run
from cluster.storage.run_folder import RunFolder

Output = Annotated[
    Path | None,
    tyro.conf.arg(
        help="The file to write; unset: report.html in the run's folder, or NAME-report.html here for a URL."
    ),
]
Open = Annotated[bool, tyro.conf.arg(name="open", help="Show it in a browser.")]
Compare = Annotated[
    str | None, tyro.conf.arg(help="Another run in the same place, such as one of random search, to plot beside it.")
]
Watch = Annotated[bool, tyro.conf.arg(help="Serve it to browsers of this machine, kept up to date, until Ctrl-C.")]
Port = Annotated[int, tyro.conf.arg(help="With --watch: the port; 0: any that is free.")]


def report(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""

    def report(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        output: Output = None,
        compare: Compare = None,
        open_browser: Open = False,
        watch: Watch = False,
        port: Port = 0,
    ) -> int:
        """What a search did and found, as one HTML page that needs nothing else: while it runs, or after."""
        from cluster.report.page import page
        from cluster.report.read import read_facts
        from cluster.report.serving import MAX_PORT, serve

        if watch and output is not None:
            raise UsageError("`--watch` serves the page and `--output` writes it: give one of them")
        if not 0 <= port <= MAX_PORT or (port and not watch):
            raise UsageError(f"`--port` must be 0 to {MAX_PORT}, and goes with `--watch`, got {port}")
        if compare == name:
            raise UsageError(f"`--compare` must name another run than {name!r}")

        def build() -> str:
            folder = existing_run(storage_path, name)  # which copies it anew if its driver is elsewhere
            other = None if compare is None else existing_run(storage_path, compare)
            return page(read_facts(folder, time.time(), other), watched=watch)

        first = build()  # what is wrong with the names is said before a server is there
        if watch:
            serve(build, port, lambda url: _served(url, show=open_browser))
            return 0
        path = target(existing_run(storage_path, name), output)
        _write(path, first)
        print(path)
        if open_browser:
            _show(path.as_uri())
        return 0

    return parse(report, arguments, "nascluster report", config=(tyro.conf.FlagCreatePairsOff,))


def _served(url: str, *, show: bool) -> None:
    print(f"The report is at {url} until Ctrl-C", flush=True)
    if show:
        _show(url)


def _show(url: str) -> None:
    if not webbrowser.open(url):
        print(f"There is no browser to show it: open {url} yourself")


def target(folder: RunFolder, output: Path | None) -> Path:
    """The file to write: what `--output` names, or where it goes by itself."""
    if output is not None:
        return output.expanduser().absolute()
    # What is here of a run in an object store is a copy, which is replaced by the next one.
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
