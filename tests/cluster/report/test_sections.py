"""What the sections say: progress against what, lines that are one, and words for one and for none."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config.task_options import TaskOptions
from cluster.report.page import page
from cluster.report.progress_section import progress_section
from cluster.report.read import read_facts
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.ledgers import CONFIG, START, filled_run, new_run
from tests.cluster.report.well_formed import Read, read_page

NOW = START + 10_000_000


def read(folder: RunFolder) -> Read:
    return read_page(page(read_facts(folder, NOW)))


def test_if_lower_is_better_metric_and_reward_have_separate_plots(tmp_path: Path) -> None:
    facts = read_facts(filled_run(tmp_path, 40), NOW)
    texts = replace(
        facts.config, space="recurrent", space_options=None, task=TaskOptions(task="text"), reward="perplexity"
    )
    words = " ".join(re.sub("<[^>]*>", " ", progress_section(replace(facts, config=texts))).split())
    for against in ("children", "wall time", "worker time"):
        for scale in ("validation perplexity", "reward"):
            assert f"Against {against}: {scale}" in words


@pytest.mark.parametrize(("factor", "titles"), [(1, ["Against children"]), (30, ["Against children: reward"])])
def test_a_reward_that_would_dwarf_the_metric_has_a_plot_of_its_own(
    tmp_path: Path, factor: int, titles: list[str]
) -> None:
    facts = read_facts(filled_run(tmp_path, 40), NOW)
    larger = tuple(replace(place, value=place.value * factor) for place in facts.progress.rewards)
    facts = replace(facts, progress=replace(facts.progress, rewards=larger))
    found = re.findall("Against children[^<]*", progress_section(facts))
    assert [title for title in found if title in titles] == titles
    assert ("Against children: validation accuracy" in found) == (factor > 1)


def plots(svgs: Iterable[dict[str, str | None]]) -> list[str]:
    return [label for svg in svgs if (label := svg["aria-label"] or "").startswith("Against ")]


def test_with_gpus_progress_is_plotted_against_gpu_hours(tmp_path: Path) -> None:
    facts = read_facts(filled_run(tmp_path, 40), NOW)
    ends = [place.work * 0.5 / 3600 for place in (facts.progress.best[-1], facts.progress.rewards[-1])]
    assert facts.gpu_seconds == pytest.approx(3600 * max(ends))
    found = read_page(page(facts))
    assert sum("against GPU-hours of all workers together" in label for label in plots(found.named("svg"))) == 1

    with_none = replace(CONFIG, topology=replace(CONFIG.topology, gpus_per_child=0.0))
    without = filled_run(tmp_path, 30, name="without", config=with_none)
    gpuless = read(without)
    assert not any("GPU-hours" in label for label in plots(gpuless.named("svg")))
    assert "GPU time none: children have no GPU" in gpuless.words
    beside = plots(read_page(page(read_facts(filled_run(tmp_path, 40, name="a"), NOW, without))).named("svg"))
    assert ["best so far, without" in label for label in beside] == [True, True, True, False]


def test_equal_lines_of_single_updates_are_merged_with_a_note(tmp_path: Path) -> None:
    few, many = read(filled_run(tmp_path, 40)), read(filled_run(tmp_path, 2000, name="many"))
    same = "95th percentile and median are the same."
    assert few.words.count(same) == 2
    assert same not in many.words
    pulls = [svg["aria-label"] or "" for svg in few.named("svg") if "Time of a pull" in (svg["aria-label"] or "")]
    assert len(pulls) == 1
    assert "median ends at" in pulls[0]
    assert "percentile ends" not in pulls[0]


def test_one_child_is_in_the_singular_and_without_children_there_are_no_means(tmp_path: Path) -> None:
    config = replace(CONFIG, max_children=1)
    one = read(filled_run(tmp_path, 1, fails=0.0, config=config)).words
    assert "1 of 1 child ended" in one
    assert "of worker time in 1 attempt;" in one
    assert "1 different architecture among 1 sampled" in one
    told, _, _ = one.partition("What differs from")
    plural = r"\b1 (children (?!that ended)|attempts|updates|different architectures|layers|workers\b)"
    assert not re.search(plural, told)
    assert "against the mean of the first" not in one
    none = read(new_run(tmp_path, "none")).words
    assert "- of all" not in none
    assert "- gave a metric" not in none
