"""Language modelling: texts, vocabularies, training with carried state, perplexity, and interruptions."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.reference_cells import lstm, nas_cell
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.language_model import build_language_model
from child_trainer.outcome import Budget, Cause, Measure
from child_trainer.regime import Regime
from child_trainer.seeding import derive
from child_trainer.tasks.catalogue import check_task, load_task
from child_trainer.tasks.entry import TEXT_BUDGET
from child_trainer.tasks.language import load_test_text
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.stretches import EVALUATION_STREAMS, streams
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from tests.child_trainer.tasks.test_real_data import real
from tests.child_trainer.training.interruptions import Slot, at
from tests.lengths import FACTOR

SMALL = LanguageOptions(hidden_size=8, cell_layers=2, unroll=10, max_vocabulary=60)
QUICK = replace(TEXT_BUDGET, epochs=2, train_fraction=0.02, learning_rate=2.0)


@pytest.fixture(scope="module")
def prose():
    return load_task("text", options=SMALL)


def written(folder: Path, *names: str, text: str = "the cat sat on the mat\n" * 20) -> Path:
    for name in names:
        (folder / name).write_text(text, encoding="utf-8")
    return folder


# --- Texts and vocabularies --------------------------------------------------------------------------------------


def test_a_line_is_its_words_and_an_end(tmp_path):
    written(tmp_path, "train.txt", text="a b a\n\nc a <unk>\n" * 4)
    written(tmp_path, "valid.txt", text="b zebra a\n" * 5)
    written(tmp_path, "test.txt", text="c c\n" * 10)
    task = load_task("wikitext2", data=tmp_path)
    # By how often they stand in the training text (3, 3, 1, 1 and 1 times four), and then by the alphabet.
    assert task.vocabulary == ("<eos>", "a", "<unk>", "b", "c")
    assert task.training[:9].tolist() == [1, 3, 1, 0, 0, 4, 1, 2, 0]
    assert task.validation[:4].tolist() == [3, 2, 1, 0]
    assert load_test_text(task, tmp_path)[:3].tolist() == [4, 4, 0]


def test_a_text_without_unknown_words_still_has_a_number_for_them(tmp_path):
    written(tmp_path, "train.txt", "valid.txt", "test.txt")
    written(tmp_path, "valid.txt", text="the dog sat\n" * 5)
    task = load_task("wikitext2", data=tmp_path)
    assert task.vocabulary == ("the", "<eos>", "cat", "mat", "on", "sat", "<unk>")
    assert task.validation[:4].tolist() == [0, 6, 5, 1]


def test_of_a_large_vocabulary_the_most_frequent_words_are_kept(tmp_path):
    written(tmp_path, "train.txt", "valid.txt", "test.txt")
    task = load_task("wikitext2", data=tmp_path, options=LanguageOptions(max_vocabulary=3))
    assert task.vocabulary == ("the", "<eos>", "<unk>")
    assert task.training[:7].tolist() == [0, 2, 2, 2, 0, 2, 1]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ptb", ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")),
        ("ptb", ("train.txt", "valid.txt", "test.txt")),
        ("wikitext2", ("train.txt", "valid.txt", "test.txt")),
        ("text-folder", ("train.txt", "valid.txt", "test.txt")),
        ("wikitext2", ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")),
    ],
)
def test_files_go_by_their_usual_names(name, files, tmp_path):
    written(tmp_path, *files)
    check_task(name, tmp_path)
    assert len(load_task(name, data=tmp_path).training) == 20 * 7


@pytest.mark.parametrize("function", [check_task, lambda name, data: load_task(name, data=data)])
def test_what_is_missing_is_named(function, tmp_path):
    with pytest.raises(
        TaskError, match=r"needs `--data DIR`, a folder that holds ptb\.train\.txt, ptb\.valid\.txt, ptb"
    ):
        function("ptb", None)
    with pytest.raises(TaskError, match="nowhere is not a folder; the task 'wikitext2' needs one that holds train"):
        function("wikitext2", tmp_path / "nowhere")
    written(tmp_path, "train.txt", "test.txt")
    with pytest.raises(TaskError, match=r"holds no valid\.txt or wiki\.valid\.tokens; the task 'wikitext2' needs"):
        function("wikitext2", tmp_path)
    (tmp_path / "valid.txt").touch()
    with pytest.raises(TaskError, match=r"valid\.txt is empty; the task 'wikitext2' needs"):
        function("wikitext2", tmp_path)
    (tmp_path / "valid.txt").write_text("x\n")
    (tmp_path / "train.txt").write_bytes(b"caf\xe9\n" * 50)
    with pytest.raises(TaskError, match=r"train\.txt is not text in UTF-8"):
        function("wikitext2", tmp_path)


@pytest.mark.parametrize("function", [check_task, lambda name, data: load_task(name, data=data)])
def test_a_text_that_cannot_be_judged_by_is_refused(function, tmp_path):
    """Also by the check, so that no search begins whose workers would refuse it one by one."""
    written(tmp_path, "train.txt", "valid.txt", "test.txt")
    (tmp_path / "valid.txt").write_text("the cat\n")
    with pytest.raises(TaskError, match="the text to validate of the task 'ptb' has 3 words; at least 20 are needed"):
        function("ptb", tmp_path)
    (tmp_path / "valid.txt").write_bytes(b"caf\xe9\n" * 50)
    with pytest.raises(TaskError, match=r"valid\.txt is not text in UTF-8"):
        function("ptb", tmp_path)


def test_how_an_editor_ends_and_begins_a_file_does_not_matter(tmp_path):
    """Windows' ends of lines, a byte order mark, no end of the last line."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        folder.mkdir()
        written(folder, "train.txt", "valid.txt", "test.txt")
    text = ("the cat sat on the mat\r\n" * 20).removesuffix("\r\n")
    for name in ("train.txt", "valid.txt", "test.txt"):
        (other / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    expected, found = (load_task("ptb", data=folder) for folder in (plain, other))
    assert found.vocabulary == expected.vocabulary
    assert found.training.equal(expected.training)
    assert found.validation.equal(expected.validation)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    written(tmp_path, "train.txt", "valid.txt", "test.txt")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TaskError, match=r"train\.txt cannot be read \(Permission denied\); it must be text in UTF-8"):
        check_task("ptb", tmp_path)


def test_a_vocabulary_beyond_the_models_size_is_refused_before_any_training(tmp_path):
    written(tmp_path, "train.txt", "valid.txt", "test.txt")
    with pytest.raises(TaskError, match=r"7 words .* has 21 parameters for them alone, but .* 20; raise it, or lower"):
        check_task("ptb", tmp_path, options=LanguageOptions(target_parameters=20))


def test_the_embedded_prose_is_in_three_parts_of_its_own():
    task = load_task("text")
    test = load_test_text(task, None)
    assert 30_000 < len(task.training) < 80_000
    assert len(task.validation) == pytest.approx(len(task.training) / 8, rel=0.2)
    assert len(test) == pytest.approx(len(task.training) / 8, rel=0.2)
    assert 2_000 < len(task.vocabulary) < 4_000
    assert {"the", ".", "function"} <= set(task.vocabulary[:200])
    rare = task.vocabulary.index("<unk>")
    assert 0 < (task.validation == rare).float().mean() < 0.1
    assert not (task.training == rare).any()


def test_wikitext_2_has_its_published_sizes():
    folder = real("wikitext-2")
    task = load_task("wikitext2", data=folder)
    assert (len(task.training), len(task.validation)) == (2_088_628, 217_646)
    assert len(load_test_text(task, folder)) == 245_569
    assert len(task.vocabulary) == 33_278


# --- Training ----------------------------------------------------------------------------------------------------


def test_streams_are_read_downwards_side_by_side():
    assert streams(torch.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert streams(torch.arange(5), 20).shape == (2, 2)


def test_perplexity_is_that_of_one_long_reading(prose):
    """The stretches of an evaluation carry their state, so that where they are cut does not matter."""
    torch.manual_seed(0)
    model = build_language_model(nas_cell(), len(prose.vocabulary), SMALL)
    text = prose.validation[:500]
    words = streams(text, EVALUATION_STREAMS)
    model.eval()
    with torch.no_grad():
        logits, _ = model(words[:-1], model.initial_state(EVALUATION_STREAMS))
    expected = math.exp(F.cross_entropy(logits.flatten(0, 1), words[1:].flatten()).item())
    model.train()
    assert prose.perplexity(model, text) == pytest.approx(expected, rel=1e-5)
    assert model.training


def knowing_frequencies(task):
    """The perplexity of knowing nothing but how frequent each word is."""
    counts = task.training.bincount(minlength=len(task.vocabulary)).float() + 1
    scores = (counts / counts.sum()).log().expand(len(task.validation), -1)
    return F.cross_entropy(scores, task.validation).exp().item()


@pytest.mark.parametrize("cell", [lstm(), nas_cell()], ids=["lstm", "nas"])
def test_a_cell_learns_to_predict(prose, cell):
    options = replace(SMALL, hidden_size=16, cell_layers=1, embedding_dropout=0.0, variational_dropout=0.0)
    budget = replace(QUICK, batch_size=4, train_fraction=0.3, learning_rate=1.0, momentum=0.9)
    outcome = train(cell, replace(prose, options=options), budget, seed=1)
    assert outcome.failure is None
    assert outcome.measure is Measure.PERPLEXITY
    assert outcome.metric == min(outcome.curve)
    assert outcome.metric < 0.85 * knowing_frequencies(prose)
    assert outcome.parameters == sum(p.numel() for p in build_language_model(cell, 60, options).parameters())


def test_the_state_is_carried_and_gradients_end_at_the_stretch(prose):
    """An epoch of one pass is the same as steps written out: state carried on, gradients cut and clipped."""
    options = replace(SMALL, embedding_dropout=0.0, variational_dropout=0.0)
    task = replace(prose, options=options)
    budget = replace(QUICK, epochs=1, batch_size=4, train_fraction=0.01, regime=Regime(clip_norm=0.5))
    kept = {}

    class Watched(type(task)):
        def perplexity(self, model, text):
            kept.update(model.state_dict())
            return super().perplexity(model, text)

    watched = Watched(**{name: getattr(task, name) for name in task.__dataclass_fields__})
    assert train(lstm(), watched, budget, seed=3).failure is None

    model = build_language_model(
        lstm(), len(task.vocabulary), options, generator=torch.Generator().manual_seed(derive(3, "weights"))
    )
    words = streams(task.training[: round(len(task.training) * 0.01)], 4)
    state = model.initial_state(4)
    for start in range(0, len(words) - 1, 10):
        inputs, targets = words[start:-1][:10], words[start + 1 :][:10]
        logits, state = model(inputs, [(h.detach(), c.detach()) for h, c in state])
        loss = -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()
        model.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(2.0 * p.grad * min(1.0, 0.5 / (norm.item() + 1e-6)))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_curve_and_another_another(prose):
    first, again, other = (train(nas_cell(), prose, QUICK, seed=seed).curve for seed in (1, 1, 2))
    assert first == again != other


def test_a_diverged_child_is_an_outcome(prose):
    outcome = train(lstm(), prose, replace(QUICK, learning_rate=1e30), seed=1)
    assert outcome.failure.cause is Cause.DIVERGED
    doubling = Architecture(
        "recurrent",
        (
            node("x1", "linear", "x", bias=False),
            node("h1", "linear", "h", bias=False),
            node("s", "add", ("x1", "h1")),
            node("twice", "add", ("c", "c", "s")),
            node("y", "multiply", ("twice", "twice")),
        ),
        ("y", "twice"),
    )
    outcome = train(doubling, prose, replace(QUICK, train_fraction=0.2), seed=1)
    assert outcome.failure.cause is Cause.DIVERGED
    assert "perplexity is " in outcome.failure.message or "the training loss is " in outcome.failure.message


def test_a_cell_that_is_too_large_is_invalid(prose):
    outcome = train(lstm(), replace(prose, options=LanguageOptions(target_parameters=70)), QUICK, seed=1)
    assert outcome.failure.cause is Cause.INVALID
    assert "`target_parameters` is 70" in outcome.failure.message


def test_the_cells_own_learning_rate_goes_first(prose):
    own = Architecture("recurrent", lstm().nodes, lstm().outputs, (("learning_rate", 0.5),))
    assert (
        train(own, prose, QUICK, seed=1).curve == train(lstm(), prose, replace(QUICK, learning_rate=0.5), seed=1).curve
    )


def test_the_learning_rate_shrinks_as_told(prose):
    slower = replace(prose, options=replace(SMALL, decay_after=1, learning_rate_decay=0.5))
    usual, slow = (train(lstm(), task, QUICK, seed=1).curve for task in (prose, slower))
    assert usual[0] == slow[0]
    assert usual[1] != slow[1]


def test_flops_are_of_one_word(prose):
    """Two layers of eight maps each of x and h, and the scores of 60 words."""
    outcome = train(nas_cell(), prose, QUICK, seed=1)
    assert outcome.flops == 2 * (2 * 8 * 8 * (8 + 8) + 8 * 60)


# --- Interruptions -----------------------------------------------------------------------------------------------


BUDGET = Budget(epochs=2, batch_size=8, learning_rate=1.0, momentum=0.9, weight_decay=0.0, train_fraction=0.01)


@pytest.fixture(scope="module")
def undisturbed(prose):
    slot = Slot()
    outcome = train(nas_cell(), prose, BUDGET, seed=5, checkpoints=slot)
    assert slot.saves == 1
    return outcome


def test_interrupted_anywhere_and_continued(prose, undisturbed):
    """To the bit: weights, momentum, dropout's randomness, and the state that is carried from stretch to stretch."""
    steps = -(-(len(streams(prose.training[: round(len(prose.training) * 0.01)], 8)) - 1) // 10)
    assert steps > 2
    ends = (0, 1, steps, steps + 1, 2 * steps)  # of the two epochs
    for question in ends if FACTOR == 1 else range(2 * (steps + 1) - 1):
        slot = Slot()
        stopped = train(nas_cell(), prose, BUDGET, seed=5, checkpoints=slot, preempted=at(question))
        assert stopped.failure.cause is Cause.PREEMPTED
        reached = Checkpoint.from_bytes(slot.data)
        carried = [name for name in reached.tensors if name.startswith("carried/")]
        assert sorted(carried) == ["carried/c0", "carried/c1", "carried/h0", "carried/h1"]
        between = any(reached.tensors[name].any() for name in carried)
        assert between == (reached.step > 0)
        continued = train(nas_cell(), prose, BUDGET, seed=5, checkpoints=slot)
        assert continued.curve == undisturbed.curve


def test_a_checkpoint_of_another_text_is_not_gone_on_from(prose, undisturbed):
    slot = Slot()
    other = replace(prose, training=prose.training.flip(0))
    train(nas_cell(), other, BUDGET, seed=5, checkpoints=slot, preempted=at(1))
    assert train(nas_cell(), prose, BUDGET, seed=5, checkpoints=slot).curve == undisturbed.curve


@pytest.mark.parametrize("changes", [{"unroll": 9}, {"variational_dropout": 0.5}])
def test_a_checkpoint_of_other_settings_is_not_gone_on_from(prose, changes):
    """None of these shows in the budget, the text, or the shapes of what was saved."""
    task, slot = replace(prose, options=replace(SMALL, **changes)), Slot()
    train(nas_cell(), prose, BUDGET, seed=5, checkpoints=slot, preempted=at(1))
    expected = train(nas_cell(), task, BUDGET, seed=5).curve
    assert train(nas_cell(), task, BUDGET, seed=5, checkpoints=slot).curve == expected
