"""`nascluster zoo`: the list, one network as text, JSON and picture, and what is refused."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from child_trainer.architectures.architecture import Architecture
from cluster.cli.main import run
from controller.zoo.catalogue import ZOO
from controller.zoo.entry import Size

SVG = "{http://www.w3.org/2000/svg}"


def test_the_list_has_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(ZOO) + 1]] == list(ZOO)
    assert "3.3 M    3,346,538  NASNet-A" in "\n".join(lines)


def test_a_network_is_shown_at_a_chosen_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "nasnet-a", "--cells", "2", "--filters", "32"]) == 0
    text = capsys.readouterr().out
    assert "1,294,698 parameters and 464,370,688 FLOPs for images of 3x32x32 in 10 classes\n" in text
    assert "2 x normal cell, 64 filters at 16x16" in text
    assert "block 1 = sep 5x5 (newer) + sep 3x3 (older)" in text
    assert "hiddenstate_indices=[0, 1, 1, 1, 0, 1, 1, 1, 0, 0]" in text
    assert "nascluster zoo nasnet-a --cells 2 --filters 32 --json > nasnet-a.json" in text


def test_one_cell_and_one_filter_are_not_in_the_plural(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "hnas", "--cells", "1", "--filters", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 cell in each of three stages, 1 filter" in lines
    assert "  stem, 1 filter at 32x32" in lines


def test_a_network_is_counted_for_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "darts-v2", "--cells", "3", "--filters", "4", "--task", "digits"]) == 0
    assert "for images of 1x8x8 in 10 classes" in capsys.readouterr().out


def test_a_recurrent_cell_is_counted_in_its_language_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "nascell"]) == 0
    assert "31,997,200 parameters" in capsys.readouterr().out


def test_json_is_the_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "enas-micro", "--cells", "3", "--filters", "4", "--json"]) == 0
    architecture = Architecture.from_json(json.loads(capsys.readouterr().out))
    assert architecture == ZOO["enas-micro"].build(Size(3, 4))


@pytest.mark.parametrize("name", ["nasnet-a", "hnas", "zoph2017-15", "nascell"])
def test_the_picture_is_an_svg_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", name, "--draw"]) == 0
    root = ElementTree.fromstring(capsys.readouterr().out)
    assert root.tag == f"{SVG}svg"
    titles = [text.text for text in root.findall(f"{SVG}text")]
    assert titles == (list(ZOO[name].motifs()) or [name])
    assert len(root.findall(f"{SVG}svg")) == len(titles)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nasnet-b"], "unknown network of the zoo 'nasnet-b'; there are zoph2017-15"),
        (["nasnet-a", "--cells", "0"], "`cells` must be at least 1, got 0"),
        (["nascell", "--filters", "8"], "this network has no `filters` to choose"),
        (["nasnet-a", "--json", "--draw"], "give one of them"),
        (["--json"], "name a network of the zoo"),
        (["nasnet-a", "--drop-path"], "give them with `--json`"),
        (["metaqnn-top", "--auxiliary", "--json"], "this network has no `auxiliary` to choose"),
        (["nasnet-a", "--task", "ptb"], "`task` must be an image task"),
        (["nascell", "--task", "digits"], "`task` must be an image task"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", *words]) == 2
    assert reason in capsys.readouterr().err


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from cluster.cli.main import run; run(['zoo']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
