"""The accuracies of a table, found by the networks of a supernet of any size."""

import json
from pathlib import Path

import pytest

from cluster.config.flags import UsageError
from cluster.correlation.shared_scores import Sample, draw
from cluster.correlation.truth import read_truth
from controller.decisions import Tokens
from controller.space import SearchSpace, genotypes_of
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.real_data import real

SMALL = NasBench201Space(cells_per_stage=1, stem_channels=4)

OTHER = EnasMacroSpace(layers=3, filters=2)


def sample(tokens: Tokens, space: SearchSpace = SMALL) -> Sample:
    return Sample(tokens, space.decode(tokens))


def test_nasbench201_is_found_by_the_cell_whatever_the_size_of_the_network() -> None:
    table = real("nasbench201")
    truth = read_truth(str(table), SMALL)
    # the first row: |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|
    assert truth.of(sample((4, 2, 1, 2, 1, 1))) == pytest.approx(0.8586333)
    assert truth.words == f"CIFAR-10 test accuracy after 200 epochs by the table in {table}"


def test_nasbench201_knows_no_other_space() -> None:
    with pytest.raises(UsageError, match="is of NAS-Bench-201's cells, which the space 'enas-macro' has not"):
        read_truth(str(real("nasbench201")), OTHER)


@pytest.mark.parametrize("by", ["id", "notation"])
def test_a_file_is_found_by_the_id_or_by_the_notation(tmp_path: Path, by: str) -> None:
    one, other = sample((0, 1, 2, 3, 4, 0)), sample((3, 3, 3, 3, 3, 3))
    key = one.architecture.id if by == "id" else next(iter(genotypes_of(SMALL, one.tokens).values()))
    (tmp_path / "table.json").write_text(json.dumps({key: {"accuracy": 0.5}}))
    (tmp_path / "table.csv").write_text(f'architecture,accuracy,test\n"{key}",0.5,0.25\n')
    by_json, by_csv = (read_truth(str(tmp_path / f"table.{ending}"), SMALL) for ending in ("json", "csv"))
    assert (by_json.of(one), by_json.of(other)) == (0.5, None)
    assert (by_csv.of(one), by_csv.of(other)) == (0.25, None)
    assert by_json.words == f"accuracy by the table {tmp_path / 'table.json'}"
    assert by_csv.words == f"test accuracy by the table {tmp_path / 'table.csv'}"


def test_a_table_of_the_users_own_task(tmp_path: Path) -> None:
    one, other = sample((0, 1, 2, 3, 4, 0)), sample((3, 3, 3, 3, 3, 3))
    (tmp_path / "own.py").write_text(
        "from nascluster import Answer, Measure, Table, TaskEntry\n"
        "def check(name, data, options, *, download): pass\n"
        "def load(name, data, options, *, seed, device):\n"
        f"    return Table(name=name, answers={{'{one.architecture.id}': Answer(0.5, 1.0)}})\n"
        "OWN = TaskEntry(summary='a table', family='table', kinds=('feedforward',), measure=Measure.ACCURACY,"
        " trains=False, module=__name__)\n"
    )
    truth = read_truth(f"{tmp_path}/own.py:OWN", SMALL)
    assert (truth.of(one), truth.of(other)) == (0.5, None)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`--data` must be a folder with nasbench201\.csv, a \.csv or \.json file"):
        read_truth(str(tmp_path / "nothing"), SMALL)
    with pytest.raises(ValueError, match=r"holds no nasbench201\.csv"):
        read_truth(str(tmp_path), SMALL)


def test_random_samples_differ_and_more_of_them_begin_with_the_same() -> None:
    few, many = (draw(SMALL, count, 3, lambda sample: True) for count in (5, 20))
    assert many[:5] == few
    assert len({each.architecture.id for each in many}) == 20
    assert draw(SMALL, 5, 4, lambda sample: True) != few


def test_more_than_the_space_or_the_table_has() -> None:
    tiny = EnasMacroSpace(layers=3, filters=2, operations=("conv_3x3",))
    with pytest.raises(
        UsageError, match=r"`--children` must be at most 8 here, got 12: 1,0\d\d random samples of the space"
    ):
        draw(tiny, 12, 0, lambda sample: True)
    with pytest.raises(UsageError, match=r"the truth is known of 0 of them$"):
        draw(tiny, 12, 0, lambda sample: False)
