"""What a report says of searchers that learn values, of those that predict rewards, and of those that do neither."""

import re
from pathlib import Path

import pytest

from cluster.report import read_preferences
from cluster.report.page import page
from cluster.report.preference_section import preference_section
from cluster.report.read import read_facts
from cluster.storage.find_run import run_folder
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.well_formed import read_page
from tests.command_line import nascluster
from tests.searcher_cases import FLAGS

LATER = 1e10

OWN = '''
from dataclasses import dataclass
from nascluster import OptionValues, RandomSearch, SearchSpace

class Valued(RandomSearch):
    """Random search that says what it thinks of two options."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)

    def option_values(self, view):
        return {body}
'''


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def run(storage: Path, *words: str) -> RunFolder:
    flags = ["--local", "--max-children", 24, "--name", "run", "--storage-path", storage]
    assert nascluster("launch", "synthetic", *words, *flags) == 0
    return run_folder(storage, "run")


def words_of(folder: RunFolder) -> str:
    facts = read_facts(folder, LATER)
    assert read_page(page(facts)).words
    return " ".join(re.sub("<[^>]*>", " ", preference_section(facts)).split())


def test_of_q_learning_the_values_along_its_best_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path, "--searcher", "q-learning", "--schedule-models", "20")
    words = words_of(folder)
    assert re.search(r"Learnt values .* filter height, layer 1 \d \(0\.\d{4}\) , \d \(0\.\d{4}\)", words)
    assert "Sampled options" in words and "Predictions" not in words
    values = [value for value in read_facts(folder, LATER).option_values[0].values if value is not None]
    assert max(values) == pytest.approx(float(re.findall(r"layer 1 \d \((0\.\d{4})\)", words)[0]), abs=1e-4)
    monkeypatch.setattr(read_preferences, "MAX_LEARNT", 23)
    assert "The values are not shown: they are learnt again from the ledger, for at most 23 children" in words_of(
        folder
    )


def test_of_strengths_the_probability_of_each_option(tmp_path: Path) -> None:
    words = words_of(run(tmp_path, "--searcher", "snas", *FLAGS["snas"].split()))
    assert "Learnt values The probability of each option by the strengths, when the last architecture was" in words
    options = "none|skip_connect|nor_conv_1x1|nor_conv_3x3|avg_pool_3x3"
    assert re.search(rf" 0-1 ({options}) \(0\.2\d{{3}}\) , ({options}) \(0\.\d{{4}}\)", words)


def test_of_a_surrogate_how_it_ranked_the_children(tmp_path: Path) -> None:
    folder = run(tmp_path, "--searcher", "bayesian", "--random-starts", "8")
    words, facts = words_of(folder), read_facts(folder, LATER)
    assert len(facts.predictions) == 16, "the first 8 are random"
    assert "16 children, rank correlation" in words
    best = max(facts.predictions, key=lambda each: each.predicted)
    assert f"{best.child_id} {best.predicted:.4f} {best.reward:.4f}" in words
    assert "Learnt values" not in words


def test_of_a_searcher_with_neither_what_it_sampled_alone(tmp_path: Path) -> None:
    words = words_of(run(tmp_path, "--searcher", "evolution"))
    assert not any(heading in words for heading in ("Learnt values", "Predictions", "Sampled options"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('[OptionValues(kind="width", layer=2, options=("a", "b"), values=(None, 0.25))]', "width, layer 2 b (0.2500)"),
        ("1 / 0", "The values are not shown: own.py:Valued: `option_values` failed: ZeroDivisionError: division"),
        ("None", "The values are not shown: own.py:Valued: `option_values` failed: TypeError: "),
    ],
)
def test_of_an_own_searcher_what_it_says(body: str, found: str, tmp_path: Path) -> None:
    Path("own.py").write_text(OWN.replace("{body}", body))
    assert found in words_of(run(tmp_path, "--searcher", "own.py:Valued"))
