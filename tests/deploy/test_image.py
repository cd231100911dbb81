"""The image, as far as it goes without an engine: what is copied into it, and what its commands install."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, copies, instructions
from tests.deploy.files import ROOT
from tests.deploy.wheels import build, context, environment, installation
from tests.lengths import LONG

KNOWN = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}


def test_it_has_a_pinned_base_known_instructions_and_a_user_of_its_own() -> None:
    found = instructions()
    assert {word for word, _ in found} <= KNOWN
    assert found[0] == ("FROM", "python:3.12.12-slim-bookworm")
    users = [i for i, (word, _) in enumerate(found) if word == "USER"]
    assert [found[i][1] for i in users] == ["nascluster"]
    assert not {word for word, _ in found[users[0] :]} & {"RUN", "COPY"}, "nothing is made as this user that root needs"


def test_every_source_is_there_and_not_ignored() -> None:
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for names, _ in copies():
        for name in names:
            assert (ROOT / name).exists(), name
            assert any(fnmatch(name, pattern) for pattern in kept), f"{name} is ignored"
    assert all((ROOT / name).exists() for name in kept)


def test_every_shell_command_is_sound() -> None:
    for word, rest in instructions():
        if word == "RUN":
            done = subprocess.run(["bash", "-n"], input=rest, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        if word == "CMD":
            assert json.loads(rest)[0] == "nascluster"


def test_what_it_adds_is_found_by_every_shell() -> None:
    """A login shell, in which Ray and KubeRay may start things, has the system's own path whatever ENV says."""
    assert not any(word == "ENV" and re.search(r"(^| )PATH=", rest) for word, rest in instructions())
    assert [target for names, target in copies() if names == ["deploy/kuberay/launch-or-resume.sh"]] == [
        "/usr/local/bin/"
    ]


def pip_lines() -> list[list[str]]:
    return [shlex.split(rest) for word, rest in instructions() if word == "RUN" and rest.startswith("pip ")]


def test_it_installs_what_is_pinned() -> None:
    (line,) = pip_lines()
    assert line[:2] == ["pip", "install"]
    assert line[line.index("--constraint") + 1] == "constraints.txt"
    assert [word for word in line if word.startswith(".")] == [".[s3]"]
    others = line[line.index(".[s3]") + 1 :]
    assert all("==" in word for word in others), "what constraints.txt does not pin is pinned here"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from nothing but what the image has."""
    return build(context(tmp_path_factory.mktemp("context")), tmp_path_factory.mktemp("wheel"))


def test_the_package_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {ROOT / "nascluster.py"}
    for package in ("child_trainer", "cluster", "controller", "ps"):
        files |= {path for suffix in ("py", "pyi", "proto") for path in (ROOT / package).rglob(f"*.{suffix}")}
    assert len(files) > 100
    assert not {str(path.relative_to(ROOT)) for path in files} - names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "child_trainer", "cluster", "controller", "ps", "nascluster.py",
    }  # fmt: skip


def test_the_package_works_where_only_its_requirements_are(wheel: Path, tmp_path: Path) -> None:
    python = installation(wheel, tmp_path / "venv")
    done = subprocess.run(
        [python.parent / "nascluster", "launch", "synthetic", "--local", "--name", "x", "--max-children", "8"],
        cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 children finished" in done.stdout
    where = subprocess.run(
        [python, "-c", "import cluster.cli.main, ps.store; print(cluster.cli.main.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(tmp_path / "venv"))


@LONG
@pytest.mark.timeout(1800)
def test_the_images_commands_make_a_working_installation(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    place = context(tmp_path / "context")
    for line in pip_lines():
        subprocess.run([sys.executable, "-m", "pip", "--python", python, *line[1:]], cwd=place, check=True)
    env = {**os.environ, "HOME": str(tmp_path)}
    command = [python.parent / "nascluster", "launch", "digits", "--local", "--name", "x", "--max-children", "2"]
    assert "2 children finished" in subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
