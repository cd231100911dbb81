"""Random changes to a batch of images `[B, C, H, W]` float32, drawn for each image independently.

All draws come from the generator that is passed in, which must be on the images' device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A random change with its generator, whose state an interrupted training must save."""

    change: Callable[[Tensor, Generator], Tensor]
    generator: Generator

    def __call__(self, images: Tensor) -> Tensor:
        """Return the changed batch."""
        return self.change(images, self.generator)


def crop(images: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """Return a window of `size` (height, width) from a random place in each image: `[B, C, *size]`.

    Raises:
        ValueError: the window is larger than the images.
    """
    height, width = size
    if height > images.shape[2] or width > images.shape[3]:
        raise ValueError(f"a window of {size} does not fit into images of {tuple(images.shape[2:])}")
    windows = images.unfold(2, height, 1).unfold(3, width, 1)
    batch = torch.arange(len(images), device=images.device)
    top = _integers(windows.shape[2], images, generator)
    left = _integers(windows.shape[3], images, generator)
    return windows[batch, :, top, left]


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = _integers(2, images, generator).bool()
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Blank a square in each image with 0, the mean of a standardised one (DeVries and Taylor 2017).

    Its centre is anywhere in the image, so that it may reach beyond the border.

    Args:
        images: `[B, C, H, W]`.
        size: side of the square in pixels.
        generator: draws the centres.
    """
    height, width = images.shape[2:]
    down = _covered(height, size, _integers(height, images, generator))
    across = _covered(width, size, _integers(width, images, generator))
    return images.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)


def _covered(length: int, size: int, centre: Tensor) -> Tensor:
    """Return `[B, length]` bool: the places within a stretch of `size` about each centre [B]."""
    offset = torch.arange(length, device=centre.device) - centre[:, None] + size // 2
    return (offset >= 0) & (offset < size)


def _integers(below: int, images: Tensor, generator: Generator) -> Tensor:
    """Draw one integer from 0 to `below` - 1 for each image: [B] int64."""
    return torch.randint(below, (len(images),), generator=generator, device=images.device)
