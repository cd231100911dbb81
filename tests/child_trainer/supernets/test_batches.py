import pytest
import torch
from torch import Tensor

from child_trainer.supernets.batches import Batches, ImageSource
from child_trainer.training.image_classifier import Images, standardise

COUNT = 20


def images(first: int) -> Images:
    """Images of which each can be told by its label."""
    labels = torch.arange(first, first + COUNT)
    pixels = torch.randint(256, (COUNT, 1, 4, 4), generator=torch.Generator().manual_seed(first)).to(torch.uint8)
    return Images(pixels, labels)


SOURCE = ImageSource(
    training=images(0),
    validation=images(100),
    augment=lambda images, generator: images + torch.rand((), generator=generator),
    prepare=lambda images: -images,
)


def batches(size: int = 6, seed: int = 1) -> Batches:
    return Batches(SOURCE, size, torch.Generator().manual_seed(seed))


def test_a_batch_has_different_images_of_its_source_with_their_labels() -> None:
    drawn = batches()
    for first, (prepared, labels) in ((100, drawn.validation()), (100, drawn.validation())):
        assert len(set(labels.tolist())) == 6
        assert torch.equal(prepared, -standardise(SOURCE.validation.pixels[labels - first]))
    prepared, labels = drawn.training()
    shift = prepared - standardise(SOURCE.training.pixels[labels])
    assert shift.min() > 0
    assert shift.max() - shift.min() < 1e-5


def test_the_generator_fixes_the_batches() -> None:
    def drawn(seed: int) -> list[Tensor]:
        own = batches(seed=seed)
        return [*own.training(), *own.validation(), *own.to_refit(2)]

    assert all(torch.equal(one, other) for one, other in zip(drawn(3), drawn(3), strict=True))
    assert not torch.equal(drawn(3)[1], drawn(4)[1])


def test_a_batch_is_no_larger_than_its_source() -> None:
    assert len(batches(size=1000).training().labels) == COUNT
    assert [len(some) for some in batches(size=1000).to_refit(3)] == [COUNT] * 3


def test_all_validation_images_are_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("child_trainer.supernets.batches.EVALUATION_BATCH", 8)
    found = list(batches().all_validation())
    assert [len(batch.labels) for batch in found] == [8, 8, 4]
    assert torch.cat([batch.labels for batch in found]).tolist() == list(range(100, 100 + COUNT))
    assert torch.equal(torch.cat([batch.images for batch in found]), -standardise(SOURCE.validation.pixels))
