"""The package as a wheel, built and installed with nothing from an index, for tests to use as others would."""

import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from tests.deploy.dockerfile import sources
from tests.deploy.files import ROOT


def context(folder: Path) -> Path:
    """The checkout as the image sees it when it installs the package."""
    folder.mkdir(exist_ok=True)
    for name in sources():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(source: Path, folder: Path) -> Path:
    """The wheel of what is in `source`."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, "."], cwd=source, check=True)
    (found,) = folder.glob("nascluster-*.whl")
    return found


def environment(folder: Path) -> Path:
    """A virtual environment in `folder`; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin/python"


def installation(wheel: Path, folder: Path) -> Path:
    """The Python of a virtual environment with the wheel, and its requirements from the one that runs the tests."""
    python = environment(folder)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    # Only now what is installed here: before, pip would have taken the checkout's own installation for an older one.
    (mine,) = (folder / "lib").glob("python3*/site-packages")
    (mine / "requirements.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python
