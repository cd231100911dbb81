"""A text as streams that are read side by side, and their stretches, through which gradients are propagated."""

from torch import Tensor

EVALUATION_STREAMS = 10
"""Streams in which a text is evaluated, whatever the batch size of the training."""


def streams(text: Tensor, count: int) -> Tensor:
    """Return `[N]` words as `[N // count, count]`: equally long parts of the text side by side, each read downwards.

    If the text is too short for that many streams of two words each, fewer are made.
    """
    count = max(1, min(count, len(text) // 2))
    length = len(text) // count
    return text[: length * count].view(count, length).t().contiguous()


def stretch(words: Tensor, start: int, unroll: int) -> tuple[Tensor, Tensor]:
    """Return the words `[T, B]` from a place on, and those that follow each of them."""
    end = min(start + unroll, len(words) - 1)
    return words[start:end], words[start + 1 : end + 1]
