"""Random changes to a batch of images `[B, C, H, W]` on its own device; each image draws its own.

Every draw comes from the generator that is passed in, which lives on the images' device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A random change with the generator that it draws from, whose state an interrupted training must keep."""

    change: Callable[[Tensor, Generator], Tensor]
    generator: Generator

    def __call__(self, images: Tensor) -> Tensor:
        """The changed batch."""
        return self.change(images, self.generator)


def crop(images: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """A window of `size` (height, width) from anywhere in each image: `[B, C, *size]`.

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
    """Each image mirrored left to right with probability one half."""
    mirrored = _integers(2, images, generator).bool()
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Zeros in a `size` x `size` square around a random pixel of each image, cut off at the border.

    DeVries & Taylor 2017, whose square may likewise reach over the border.
    """
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    top = _integers(images.shape[2], images, generator) - size // 2
    left = _integers(images.shape[3], images, generator) - size // 2
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + size)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + size)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


def _integers(below: int, images: Tensor, generator: Generator) -> Tensor:
    return torch.randint(below, (len(images),), generator=generator, device=images.device)
