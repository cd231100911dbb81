"""Writes an exported file and its README: both or none, and nothing of the user's is replaced unasked."""

from os import path as os_path
from pathlib import Path

from child_trainer.atomic_file import replace_file, replacing, sync, write_durably, write_output
from cluster.export.formats import FORMATS, ExportError, Form
from cluster.export.readme import mark

MARK_BYTES = 4096
"""Bytes of a README that are read to know it; its first line is shorter."""


def readme_of(path: Path) -> Path:
    """Return the README beside an exported file."""
    return path.with_name(f"{path.name}.README.md")


def is_special(path: Path) -> bool:
    """Return whether a path leads to something that takes bytes and is no file, such as a FIFO or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_target(path: Path, form: Form, *, replace: bool) -> None:
    """Check that a file and its README can be written, and replace nothing but an earlier export.

    Args:
        path: the file; a link is followed.
        form: its format.
        replace: whether anything that is a file may be replaced.

    Raises:
        ExportError: they cannot, or would.
    """
    if path.is_dir():
        raise ExportError(f"`--out` {path} is a folder: give a file, such as {path / f'network{FORMATS[form].suffix}'}")
    if not path.parent.is_dir():
        raise ExportError(f"`--out` {path} cannot be written, because {path.parent} is not a folder")
    if is_special(path):
        return
    if form == "torch-export" and path.suffix != FORMATS[form].suffix:
        raise ExportError(f"`--out` must end in .pt2, without which torch.export reads no file, got {path}")
    beside = readme_of(path)
    if replace or _is_ours(beside, path.name):
        return
    for there in (path, beside):
        if os_path.lexists(there):
            raise ExportError(
                f"{there} is there, and no export has written it: give another `--out`, or `--replace` to replace it"
            )


def write_export(path: Path, data: bytes, readme: str) -> None:
    """Write a file durably, and its README unless the file is no regular one.

    The file gets its name last. Until then the earlier one is there; after an error, such as a full disk, it still is.

    Raises:
        OSError: they cannot be written.
    """
    if is_special(path):
        write_output(path, data)
        return
    target = path.resolve()
    with replacing(target) as draft:
        write_durably(draft, data)
        replace_file(readme_of(path), readme.encode(), durable=True)
    sync(target.parent)


def _is_ours(readme: Path, file: str) -> bool:
    """Return whether a README is that of an export into a file of this name."""
    if not readme.is_file():  # to open a FIFO would wait without an end
        return False
    try:
        with readme.open("rb") as text:
            return text.read(MARK_BYTES).partition(b"\n")[0].decode(errors="replace") == mark(file)
    except OSError:
        return False
