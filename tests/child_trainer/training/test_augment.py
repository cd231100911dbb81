import pytest
import torch

from child_trainer.training import augment
from child_trainer.training.image_classifier import standardise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count, height, width):
    """Return equal images of two channels, in which the value of a pixel tells its place."""
    places = torch.arange(float(height * width)).reshape(1, 1, height, width)
    return torch.cat([places, places + 1000], dim=1).expand(count, 2, height, width)


def test_each_image_is_cropped_at_its_own_place():
    images = numbered(400, 7, 6)
    crops = augment.crop(images, (4, 5), generator())
    corners = set()
    for image, crop in zip(images, crops, strict=True):
        top, left = divmod(int(crop[0, 0, 0]), 6)
        assert torch.equal(crop, image[:, top : top + 4, left : left + 5])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(4) for left in range(2)}


def test_a_crop_of_the_whole_image_is_the_image_and_a_larger_one_is_refused():
    images = numbered(3, 4, 4)
    assert torch.equal(augment.crop(images, (4, 4), generator()), images)
    with pytest.raises(ValueError, match=r"a window of \(5, 4\) does not fit into images of \(4, 4\)"):
        augment.crop(images, (5, 4), generator())


def test_half_of_the_images_are_mirrored_and_none_otherwise_changed():
    images = numbered(400, 3, 5)
    flipped = augment.flip(images, generator())
    mirrored = [torch.equal(f, i.flip(2)) for f, i in zip(flipped, images, strict=True)]
    assert all(m or torch.equal(f, i) for m, f, i in zip(mirrored, flipped, images, strict=True))
    assert 150 < sum(mirrored) < 250


def test_changes_depend_on_the_generator_alone():
    images = torch.randn(20, 3, 10, 10)

    def changed(seed):
        source = generator(seed)
        return augment.flip(augment.crop(images, (8, 8), source), source)

    before = torch.get_rng_state()
    assert torch.equal(changed(1), changed(1))
    assert not torch.equal(changed(1), changed(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_standardisation_is_the_published_formula_image_by_image():  # spec §1.6
    pixels = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    for image, result in zip(pixels.double(), standardise(pixels), strict=True):
        count = image.numel()
        mean = image.sum() / count
        deviation = ((image - mean).square().sum() / count).sqrt()
        expected = (image - mean) / max(deviation.item(), count**-0.5)
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_one_colour_stays_finite():
    assert torch.equal(standardise(torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)), torch.zeros(1, 3, 4, 4))


def test_cutout_blanks_one_square_of_each_image_and_nothing_else():
    images = torch.ones(2000, 3, 9, 12)
    blanked = augment.cutout(images, 4, generator(0)) == 0
    assert torch.equal(blanked[:, :1].expand_as(blanked), blanked)  # the same square in every channel
    squares = blanked[:, 0]
    rows, columns = squares.any(2).sum(1), squares.any(1).sum(1)
    assert torch.equal(squares.sum((1, 2)), rows * columns)
    # A square is cut off at the border: 2 to 4 high and wide.
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4}
    assert torch.equal(images[0], torch.ones(3, 9, 12))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_centre_of_cutouts_square_is_anywhere(size):
    blanked = augment.cutout(torch.ones(20_000, 1, 5, 5), size, generator(1))[:, 0] == 0
    centres = torch.zeros(25)
    for row in range(5):
        for column in range(5):
            top, left = row - size // 2, column - size // 2
            square = torch.zeros(5, 5, dtype=torch.bool)
            square[max(0, top) : top + size, max(0, left) : left + size] = True
            centres[5 * row + column] = (blanked == square).all((1, 2)).float().mean()
    if size < 5:  # a square of 5 looks alike for some centres
        torch.testing.assert_close(centres, torch.full((25,), 1 / 25), atol=0.006, rtol=0)
    assert blanked.any((1, 2)).all()
