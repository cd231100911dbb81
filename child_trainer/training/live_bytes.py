"""Counts the memory that a computation on the `meta` device would have allocated at once."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """A context whose computations' results are counted from their making until nothing refers to them.

    Views of a tensor share its memory, and a result that is written into a tensor takes none. What an operation
    allocates for itself and frees before it returns is not seen.

    Args:
        given: what the computation reads, which counts nothing.

    Attributes:
        now: bytes that are alive.
        peak: the most that were alive at once.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {_place(tensor) for tensor in given}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one operation, and count the memory of its results."""
        results = func(*args, **(kwargs or {}))
        for result in (results,) if isinstance(results, Tensor) else results if isinstance(results, tuple) else ():
            if isinstance(result, Tensor) and (place := _place(result)) not in self._known:
                self._count(place, result.untyped_storage())
        return results

    def _count(self, place: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
