"""Images that are prepared once are those that are prepared at each use, to the bit."""

from dataclasses import replace

import pytest
import torch

from child_trainer.outcome import Budget
from child_trainer.seeding import derive
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.training import image_classifier as sgd
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.image_classifier import Images, PreparedImages, accuracy, standardise
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BATCH_NORM, Slot


def images(count, channels=3, side=8):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(count))


def task_of(some):
    return ImageTask(name="test", num_classes=len(some), flip=True, training=some, validation=some)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", ["_upsampled", "centred"])
def test_they_are_equal_whether_they_are_kept_or_not(monkeypatch, channels, part):
    some = images(300, channels)
    prepare = getattr(task_of(some), part)
    kept = PreparedImages(some, prepare)
    with monkeypatch.context() as few:
        few.setattr(sgd, "MAX_PREPARED_BYTES", 0)
        computed = PreparedImages(some, prepare)
        assert not computed.few
    assert kept.few
    places = torch.tensor([7, 299, 0, 7, 131])
    assert torch.equal(kept.chosen(places), computed.chosen(places))
    assert torch.equal(kept.chosen(places), prepare(standardise(some.pixels[places])))
    for _ in range(2):
        labels = []
        for (one, its), (other, others) in zip(kept.batches(), computed.batches(), strict=True):
            assert torch.equal(one, other) and one.stride() == other.stride()
            assert torch.equal(its, others)
            labels.append(its)
        assert torch.equal(torch.cat(labels), some.labels)


def test_a_training_is_the_same_to_the_bit_whether_images_are_kept_or_not(monkeypatch):
    task = load_task("digits", seed=1)

    def weights():
        slot = Slot()
        assert not train(BATCH_NORM, task, Budget(epochs=2, train_fraction=0.3), seed=3, checkpoints=slot).failure
        return Checkpoint.from_bytes(slot.data).tensors

    kept = weights()
    monkeypatch.setattr(sgd, "MAX_PREPARED_BYTES", 0)
    computed = weights()
    assert kept.keys() == computed.keys()
    assert all(torch.equal(kept[name], computed[name]) for name in kept)


def test_an_augmentation_of_a_tasks_own_gets_the_standardised_images_and_its_own_accuracy_is_taken():
    seen = []

    class Plain(ImageTask):
        def augmented(self, images, generator):
            seen.append(images)
            return images

        def accuracy(self, network, images):
            return len(images) / 1000

    source = load_task("digits", seed=1)
    parts = {name: getattr(source, name) for name in ("name", "num_classes", "flip", "training", "validation")}
    task = Plain(**parts)
    outcome = train(BATCH_NORM, task, Budget(epochs=1, batch_size=64, train_fraction=0.1), seed=3)
    assert outcome.failure is None
    assert outcome.curve == (0.5,)
    order = torch.randperm(94, generator=torch.Generator().manual_seed(derive(3, "order")))
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], standardise(source.training.pixels[order[:64]]), rtol=0, atol=0)


def test_accuracy_is_that_of_all_images_whatever_the_batches(monkeypatch):
    some = replace(images(300, 1), labels=torch.arange(300) % 10)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    right = (network(standardise(some.pixels)).argmax(1) == some.labels).double().mean().item()
    assert 0 < right < 0.5
    for size in (1, 7, 128, 1000):
        monkeypatch.setattr(sgd, "CPU_EVALUATION_BATCH", size)
        assert accuracy(network, PreparedImages(some, lambda batch: batch)) == pytest.approx(right, abs=1e-12)
