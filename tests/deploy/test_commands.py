"""Every command line that a page or a file shows: it is understood by what it is for."""

import functools
import json
import random
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
from ray.scripts.scripts import cli as ray_cli

from cluster.cli import main as cli
from cluster.config.recipes import RECIPES
from controller.space import first_tokens
from tests.deploy.files import DEPLOY, ROOT, code_lines, documents
from tests.extending.files import write_files

PAGES = [
    ROOT / "README.md",
    *sorted(DEPLOY.glob("**/README.md")),
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]

SCRIPT = "launch-or-resume.sh"


class Understood(BaseException):
    """The arguments were parsed; nothing was carried out."""


def variants(line: str) -> list[str]:
    """A line without dots; with and without what stands in brackets."""
    line = line.replace("...", "")
    return [re.sub(r"\[.*?\]", "", line), re.sub(r"[\[\]]", "", line)] if "[" in line else [line]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, and of those that are handed to `ray job submit` and `ray exec`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word.strip(";&|<>()"):
            words.append(word)
            continue
        if "--" in words:
            yield words[words.index("--") + 1 :]
        if words[:2] == ["ray", "exec"]:
            yield from simple_commands(words[-1])
        yield words
        words = []


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Where each command line of a program stands, and its arguments; `RECIPE` and the like are for the reader."""
    found = []
    for page in PAGES:
        for line in code_lines(page):
            if re.search(rf"(^|['\s]){program} \S", line) and not re.search(rf"{program} [A-Z]|launch [A-Z]", line):
                where = f"{page.relative_to(ROOT)}: {line}"
                each = [words for variant in variants(line) for words in simple_commands(variant)]
                found += [(where, words[1:]) for words in each if words[:1] == [program]]
    return found


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are typed in a folder that has the files of docs/extending.md, and what `best --json` has printed."""
    write_files(tmp_path)
    space = RECIPES["digits"]().search_space
    (tmp_path / "best.json").write_text(json.dumps({"tokens": first_tokens(space, 0, random.Random(0))}))
    monkeypatch.chdir(tmp_path)


def understand(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line parse its arguments, and do nothing with them."""
    real = tyro.cli

    def parse(target: Any, **options: Any) -> None:
        if not isinstance(target, type):
            real(functools.wraps(target)(lambda *_, **__: 0), **options)
        else:
            real(target, **options)
        raise Understood

    monkeypatch.setattr(tyro, "cli", parse)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            cli.run(arguments)
        assert stop.value.code == 0
        return
    with pytest.raises(Understood):
        code = cli.run(arguments)
        pytest.fail(f"refused with {code}")


BEING_BUILT = {"report"} - cli.COMMANDS.keys()
"""Commands that pages speak of and that are not there yet."""

NASCLUSTER = [(where, words) for where, words in commands("nascluster") if words[0] not in BEING_BUILT]


@pytest.mark.parametrize("words", [words for _, words in NASCLUSTER], ids=[where for where, _ in NASCLUSTER])
def test_nascluster_understands_it(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    understand(words, monkeypatch)


def test_there_are_commands_of_every_kind() -> None:
    """Else the tests above look in the wrong places."""
    found = {(where.partition(":")[0], words[0]) for where, words in NASCLUSTER}
    for name in ("launch", "resume", "status", "stop", "best", "failures"):
        assert ("README.md", name) in found and ("deploy/README.md", name) in found, name


@pytest.mark.parametrize(
    "arguments", [["launch", "digits", "--gpu-per-child", "1"], ["launch", "digit"], ["status"], ["stopp", "x"]]
)
def test_a_wrong_command_would_be_noticed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception, match="refused with 2"):
        understand(arguments, monkeypatch)


def entrypoints() -> list[str]:
    """What the RayJob runs, and what it says could be run instead."""
    file = DEPLOY / "kuberay/rayjob.yaml"
    (job,) = documents(file)
    (other,) = re.findall(rf"#   ({SCRIPT}.*\n(?:  #   --.*\n)+)", file.read_text())
    return [job["spec"]["entrypoint"], other.replace("#", " ")]


@pytest.mark.parametrize("entrypoint", entrypoints())
def test_a_rayjobs_run_is_understood(entrypoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, name, storage, recipe, *options = shlex.split(entrypoint)
    assert script == SCRIPT
    understand(["launch", recipe, "--name", name, "--storage-path", storage, *options], monkeypatch)


RAY = commands("ray")


@pytest.mark.parametrize("words", [words for _, words in RAY], ids=[where for where, _ in RAY])
def test_ray_understands_it(words: list[str]) -> None:
    command: Any = ray_cli
    context = None
    while hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context("ray", list(words))
    for path in (context.params.get("cluster_config_file"), context.params.get("working_dir")):
        assert path is None or (ROOT / path).exists(), path


def test_there_are_rays_commands_of_every_kind() -> None:
    assert {" ".join(words[: 2 if words[0] == "job" else 1]) for _, words in RAY} >= {
        "up", "down", "attach", "exec", "dashboard", "job submit", "get-auth-token",
    }  # fmt: skip


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("**/*.sh")), ids=lambda path: path.name)
def test_a_script_is_sound_shell(script: Path) -> None:
    sound(script.read_text())


def test_the_blocks_of_the_guide_are_sound_shell() -> None:
    text = (DEPLOY / "README.md").read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S)
    assert len(blocks) > 10
    for block in blocks:
        sound(block)


def sound(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (text, done.stderr)


def anchors(text: str) -> set[str]:
    """What the headings of a page may be linked by."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_guides_links_lead_somewhere() -> None:
    text = (DEPLOY / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    assert len(links) > 5
    for link in links:
        file, _, anchor = link.partition("#")
        page = DEPLOY / (file or "README.md")
        assert page.exists(), link
        assert not anchor or anchor in anchors(page.read_text()), link
