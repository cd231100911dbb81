"""A search of cells: `best`, `status` and `report` draw the best child's cells and give them as text."""

import json
from pathlib import Path

import pytest

from child_trainer.architectures.architecture import Architecture
from controller.spaces.cells import PnasSpace
from controller.spaces.genotypes import from_nasnet
from tests.cluster.report.well_formed import read_page
from tests.command_line import nascluster

SPACE = {"amoebanet": ["--blocks", "2"], "pnas": ["--blocks", "2"], "hierarchical": []}


@pytest.fixture(params=SPACE)
def search(request: pytest.FixtureRequest, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """A finished search of the space whose name is returned, called `cells`."""
    space = request.param
    words = ["launch", "synthetic", "--name", "cells", "--local", "--space", space, *SPACE[space]]
    assert nascluster(*words, "--searcher", "random", "--max-children", "4") == 0
    capfd.readouterr()
    return space


PARTS = {
    "amoebanet": ["normal cell", "reduction cell", "in NASNet's notation"],
    "pnas": ["cell", "in NASNet's notation"],
    "hierarchical": ["motif 1", "motif 6", "cell", "in HNAS's notation"],
}


def test_best_and_status_show_the_parts(search: str, capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("best", "status"):
        assert nascluster(command, "cells") == 0
        lines = capfd.readouterr().out.splitlines()
        assert [line for line in PARTS[search] if line not in lines] == []
        assert "network" in lines


def test_json_has_the_cells_as_text(search: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster("best", "cells", "--json") == 0
    best = json.loads(capfd.readouterr().out)
    notation = "HNAS" if search == "hierarchical" else "NASNet"
    assert best["genotypes"][notation]
    if search == "pnas":
        space = PnasSpace(blocks=2)
        tokens = space.tokens_of(from_nasnet(best["genotypes"]["NASNet"]))
        assert space.decode(tokens) == Architecture.from_json(best["architecture"])


def test_the_report_draws_the_parts(search: str, folder: Path) -> None:
    assert nascluster("report", "cells", "--output", "cells.html") == 0
    page = read_page((folder / "cells.html").read_text())
    cards = len(page.classed("parts"))
    assert cards
    motifs = {"amoebanet": 2, "pnas": 1, "hierarchical": 7}[search]
    assert len(page.classed("blocks")) == motifs * cards
    assert f"In {'HNAS' if search == 'hierarchical' else 'NASNet'}'s notation" in page.words


def test_the_report_of_a_search_without_decisions_counts_no_options(folder: Path) -> None:
    assert nascluster("launch", "neat-xor", "--name", "xor", "--local", "--max-children", "20") == 0
    assert nascluster("report", "xor", "--output", "xor.html") == 0
    words = read_page((folder / "xor.html").read_text()).words
    assert "Its samples are not made of options to choose from." in words
    assert "No child has been sampled yet." not in words
