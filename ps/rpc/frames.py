"""`Frame`: a protobuf message whose field `chunk` is kept apart, so that large data are not copied for protobuf.

On the wire a frame is the message itself. The message types of this package's streams have a bytes field `chunk`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
"""Protobuf's wire types."""


class Frame(Generic[_M]):
    """A message without its chunk, and the chunk.

    Attributes:
        message: a message, whose own field `chunk` is empty.
        chunk: the data, in parts that follow each other.
    """

    __slots__ = ("chunk", "message")

    def __init__(self, message: _M, chunk: Sequence[bytes | memoryview]) -> None:
        self.message = message
        self.chunk = chunk

    def SerializeToString(self) -> bytes:
        """Return the message with its chunk, in the only copy that is made of the data."""
        number = self.message.DESCRIPTOR.fields_by_name["chunk"].number
        head = [self.message.SerializeToString(), _varint(number << 3 | _LENGTH), _varint(sum(map(len, self.chunk)))]
        return b"".join([*head, *self.chunk])


def serialize(message: Any) -> bytes:
    """Return a message or a frame as bytes."""
    return message.SerializeToString()


def deserializer(kind: type[_M]) -> Callable[[bytes], Frame[_M]]:
    """Return a function that makes a frame of a serialized message, whose chunk is a view of the bytes that it gets.

    That function raises protobuf's `DecodeError` if the bytes are no such message.
    """
    number: int = kind.DESCRIPTOR.fields_by_name["chunk"].number
    tag = number << 3 | _LENGTH

    def parse(data: bytes) -> Frame[_M]:
        view, position = memoryview(data), 0
        rest: list[memoryview] = []
        chunk = view[:0]
        while position < len(data):
            start = position
            try:
                key, position = _read_varint(data, position)
                begin, position = _value_of(data, key & 7, position)
            except _NotPlainError:
                return _parsed_by_protobuf(kind, data)
            if key == tag:
                chunk = view[begin:position]  # the last one counts, as in protobuf
            else:
                rest.append(view[start:position])
        return Frame(kind.FromString(b"".join(rest)), [chunk])

    return parse


class _NotPlainError(Exception):
    """The bytes are not what a client or server of this package sends."""


def _parsed_by_protobuf(kind: type[_M], data: bytes) -> Frame[_M]:
    message: Any = kind.FromString(data)
    chunk: bytes = message.chunk
    message.ClearField("chunk")
    return Frame(message, [chunk])


def _value_of(data: bytes, wire_type: int, position: int) -> tuple[int, int]:
    """Return where the value of a field begins and ends, after a tag that ends at `position`."""
    if wire_type == _VARINT:
        return position, _read_varint(data, position)[1]
    if wire_type == _LENGTH:
        length, position = _read_varint(data, position)
    elif wire_type in (_FIXED_64, _FIXED_32):
        length = 8 if wire_type == _FIXED_64 else 4
    else:
        raise _NotPlainError
    if position + length > len(data):
        raise _NotPlainError
    return position, position + length


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position`, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise _NotPlainError
