"""Finds the folder that a user may have meant. Standard library only."""

from pathlib import Path


def folder_hint(data: Path, *files: str | Path) -> str:
    """Return the end of an error message that suggests a folder within `data` that has one of the files; or nothing.

    Args:
        data: the folder that was given, in which a file is missing.
        files: the paths that it may have within such a folder.
    """
    try:
        found = sorted(folder for folder in data.iterdir() if any((folder / file).is_file() for file in files))
    except OSError:
        return ""
    return f"; did you mean {found[0]}?" if found else ""
