"""The binary format of tensors, without pickle: dtype, shape and little-endian data, all checked when decoded.

One tensor is `<name length: u16><name: UTF-8><dtype: u8><rank: u8><sizes: u64 each><data>`; a message is tensors
end to end. Pulls and pushes, whose two ends know the layout, send the data alone (`flat_chunks`).
"""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ps.errors import MalformedMessage, ShapeMismatch
from ps.store import MAX_RANK

_DTYPES: dict[torch.dtype, tuple[int, np.dtype]] = {
    torch.float32: (1, np.dtype("<f4")),
    torch.float64: (2, np.dtype("<f8")),
    torch.float16: (3, np.dtype("<f2")),
    torch.int32: (4, np.dtype("<i4")),
    torch.int64: (5, np.dtype("<i8")),
}
"""dtype -> its code and its layout. Shards store float32 only; the others let an error name the dtype that was sent."""

_BY_CODE = {code: layout for code, layout in _DTYPES.values()}

CHUNK_BYTES = 2**20
"""Bytes of one message of a stream; gRPC refuses messages above 4 MiB."""

_MAX_NAME_BYTES = 2**16 - 1


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the named tensors as bytes, in the mapping's order.

    Raises:
        ShapeMismatch: a dtype has no code, such as bfloat16.
    """
    parts: list[bytes] = []
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise ShapeMismatch(f"{name!r} must be torch.float32, got {tensor.dtype}")
        code, dtype = _DTYPES[tensor.dtype]
        parts.append(_header(name, code, tuple(tensor.shape)))
        parts.append(tensor.detach().cpu().numpy().astype(dtype, copy=False).tobytes())
    return b"".join(parts)


def encoded_size(sizes: Mapping[str, Sequence[int]]) -> int:
    """Return how many bytes `encode` makes of float32 tensors of these shapes."""
    return sum(len(_header(name, 1, shape)) + 4 * math.prod(shape) for name, shape in sizes.items())


def decode(data: bytes | bytearray) -> dict[str, Tensor]:
    """Return the tensors that `encode` wrote, as copies that own their memory.

    Raises:
        MalformedMessage: the data is invalid; the message names the byte.
    """
    tensors: dict[str, Tensor] = {}
    reader = _Reader(data)
    while reader.position < len(data):
        start = reader.position
        (length,) = reader.unpack("<H")
        try:
            name = str(reader.take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"the tensor's name at byte {start + 2} is not UTF-8") from error
        code, rank = reader.unpack("<BB")
        if code not in _BY_CODE or rank > MAX_RANK:
            raise MalformedMessage(f"{name!r} at byte {start} has the unknown dtype {code} or the rank {rank}")
        shape = reader.unpack(f"<{rank}Q")
        dtype = _BY_CODE[code]
        if 0 in shape:  # no layout has an empty tensor, and a size of 0 would leave the other sizes unbounded
            raise MalformedMessage(f"{name!r} at byte {start} has the empty shape {shape}")
        # Python's integers do not overflow, so a shape with absurd sizes fails here and allocates nothing.
        flat = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype)
        if name in tensors:
            raise MalformedMessage(f"{name!r} at byte {start} appears for the second time")
        tensors[name] = torch.from_numpy(flat.astype(dtype.newbyteorder("="))).reshape(shape)
    return tensors


def flat_chunks(buffers: Iterable[Tensor]) -> Iterator[list[memoryview]]:
    """Yield the elements of 1-D float32 tensors, end to end and without names or sizes, in pieces of `CHUNK_BYTES`.

    A piece is views of the tensors that follow each other. Yield one empty piece if there are no elements.
    """
    parts: list[memoryview] = []
    room, yielded = CHUNK_BYTES, False
    for buffer in buffers:
        data = buffer.detach().numpy().astype("<f4", copy=False).data.cast("B")
        while len(data) >= room:
            yield [*parts, data[:room]]
            parts, data, room, yielded = [], data[room:], CHUNK_BYTES, True
        parts.append(data)
        room -= len(data)
    if room < CHUNK_BYTES or not yielded:
        yield parts


class FlatReceiver:
    """Puts the pieces of `flat_chunks` together, in memory that is its own.

    Args:
        elements: how many elements there must be.
    """

    def __init__(self, elements: int) -> None:
        self._elements = np.empty(elements, "<f4")
        self._bytes = self._elements.view(np.uint8)
        self.size_bytes = len(self._bytes)
        """How many bytes there must be."""
        self.received = 0
        """How many bytes there are so far."""

    def add(self, chunk: bytes | memoryview) -> bool:
        """Add a piece, unless there is no room for it. Return whether there was."""
        end = self.received + len(chunk)
        if end > self.size_bytes:
            return False
        self._bytes[self.received : end] = np.frombuffer(chunk, np.uint8)
        self.received = end
        return True

    @property
    def complete(self) -> bool:
        """Whether all elements are there."""
        return self.received == self.size_bytes

    @property
    def elements(self) -> Tensor:
        """The elements, which are defined once they are complete."""
        return torch.from_numpy(self._elements.astype("=f4", copy=False))


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield the data in pieces of `CHUNK_BYTES`, the last one shorter; yield one empty piece if there is no data."""
    for start in range(0, max(1, len(data)), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _header(name: str, code: int, shape: Sequence[int]) -> bytes:
    encoded = name.encode()
    assert len(encoded) <= _MAX_NAME_BYTES, "the layout bounds names far below this"
    return struct.pack(f"<H{len(encoded)}sBB{len(shape)}Q", len(encoded), encoded, code, len(shape), *shape)


class _Reader:
    """A cursor over bytes that never reads past the end."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self.position = 0

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes and move past them."""
        end = self.position + size
        if end > len(self._data):
            raise MalformedMessage(
                f"the message ends at byte {len(self._data)}, but the part at byte {self.position} takes {size} bytes"
            )
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def unpack(self, layout: str) -> tuple[int, ...]:
        """Return the numbers of the next bytes, by a format of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))
