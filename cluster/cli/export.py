"""`nascluster export`: a trained network as a file that loads without nascluster."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from cluster.cli.command import parse_command
from cluster.config.flags import Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.storage.find_run import existing_run

Child = Annotated[
    tyro.conf.Positional[str | None],
    tyro.conf.arg(metavar="CHILD", help="A child's id; unset: the best child whose weights are there."),
]
Form = Annotated[
    Literal["safetensors", "torch-export", "onnx"],
    tyro.conf.arg(name="format", help="The file's format; onnx needs the extra `onnx`."),
]
Out = Annotated[
    Path | None,
    tyro.conf.arg(
        help="The file to write; unset: exports/child-N in the run's folder, or NAME-child-N here for a URL."
    ),
]
Weights = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Weights of the child that `python -m child_trainer --save-weights` wrote, if the run has none."
    ),
]
Replace = Annotated[bool, tyro.conf.arg(help="Replace files that no export has written.")]


def export(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Name,
        child: Child = None,
        *,
        form: Form = "torch-export",
        out: Out = None,
        weights: Weights = None,
        replace: Replace = False,
        storage_path: StoragePath = DEFAULT_STORAGE,
    ) -> int:
        """Write a trained child as a file that loads without nascluster, and a README beside it."""
        from cluster.export.export import export_child

        if child is not None and not (child.isascii() and child.isdecimal()):
            raise UsageError(f"`CHILD` must be a child's id, a whole number, got {child!r}")
        exported = export_child(
            existing_run(storage_path, name, with_files=True),
            None if child is None else int(child),
            form=form,
            out=out,
            weights=weights and weights.expanduser(),
            replace=replace,
        )
        if exported.readme is not None:  # else standard output may be where the file went
            print(f"{exported.file}\n{exported.readme}")
        return 0

    return parse_command("export", run, arguments)
