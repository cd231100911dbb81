"""What a process runs (Python, Ray, PyTorch, our code), and how two processes differ. Standard library only."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("child_trainer", "cluster", "controller", "ps")
"""Our code, as Python imports it."""

DRIVER_VARIABLE = "NASCLUSTER_DRIVER"
"""Environment variable that tells the processes of a run what its driver runs: `Versions` as JSON."""

NAMES = {"python": "Python", "ray": "Ray", "torch": "PyTorch", "code": "nascluster code"}


class NodeError(ValueError):
    """A node cannot take part in the run; the message names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """What a process runs.

    Attributes:
        python: major and minor version: what is sent between nodes depends on no more.
        ray: exact version.
        torch: version without the build (`+cpu`, `+cu128`), which may differ between nodes.
        code: a digest of our own source, which distinguishes two states of one version.
    """

    python: str
    ray: str
    torch: str
    code: str

    def to_json(self) -> str:
        """Return one line of text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Versions":
        """Return the versions that `to_json` wrote."""
        return Versions(**json.loads(text))


def code_folders() -> tuple[Path, ...]:
    """Return the folders from which this process imports our packages."""
    specs = [find_spec(name) for name in PACKAGES]
    return tuple(Path(spec.origin).parent for spec in specs if spec and spec.origin)


def versions() -> Versions:
    """Return what this process runs, without importing it."""
    return Versions(
        python=".".join(platform.python_version_tuple()[:2]),
        ray=_installed("ray"),
        torch=_installed("torch").partition("+")[0],
        code=digest(code_folders()),
    )


def digest(folders: tuple[Path, ...]) -> str:
    """Return a digest of all Python source below the packages' folders: equal for equal code, wherever it is."""
    total = hashlib.sha256()
    for folder in sorted(folders, key=lambda f: f.name):
        for path in sorted(folder.rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{folder.name}/{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()[:12]


def mismatches(driver: Versions, node: Versions) -> list[str]:
    """Return the differences, as the ends of sentences about the node: `has Ray 2.48.0, the driver 2.60.0`."""
    return [
        f"has {NAMES[f.name]} {getattr(node, f.name)}, the driver {getattr(driver, f.name)}"
        for f in fields(Versions)
        if getattr(node, f.name) != getattr(driver, f.name)
    ]


def check_driver(environment: Mapping[str, str]) -> None:
    """Raise `NodeError` unless this process runs what its run's driver runs.

    A node that joined after the launch has not been checked before.
    """
    driver = environment.get(DRIVER_VARIABLE)
    if driver and (differences := mismatches(Versions.from_json(driver), versions())):
        raise NodeError(f"{', '.join(differences)}; start its Ray from an environment equal to the driver's")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"
