"""Named tensors as bytes: a safetensors file whose metadata has a format and a checksum over every byte, no pickle.

PyTorch is imported only if there are tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import safetensors

if TYPE_CHECKING:
    from torch import Tensor

_UNSEALED = "?" * 64
"""The placeholder for the checksum while the checksum is computed."""


class SealError(ValueError):
    """Bytes are damaged, or are of another format; the message is a clause about them that says which."""


def seal(tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str], file_format: str) -> bytes:
    """Return the tensors and the metadata as bytes with a checksum; `unsealed_metadata` and `tensors_of` read them."""
    content = _serialize(tensors, {"format": file_format, **metadata, "checksum": _UNSEALED})
    return content.replace(_UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def unsealed_metadata(data: bytes, file_format: str) -> Mapping[str, str]:
    """Return the metadata of whole bytes of this format.

    Raises:
        SealError: the bytes are damaged or of another format.
    """
    try:
        metadata = _header(data)["__metadata__"]
        found, checksum = metadata["format"], metadata["checksum"]
        unsealed = data.replace(checksum.encode(), _UNSEALED.encode(), 1)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise SealError("is damaged: its header cannot be read") from error
    if found != file_format:
        raise SealError(f"must have the format {file_format!r}, got {found!r}")
    if hashlib.sha256(unsealed).hexdigest() != checksum:
        raise SealError("is damaged: it does not match its checksum")
    return metadata


def tensors_of(data: bytes) -> "dict[str, Tensor]":
    """Return the tensors in bytes that `unsealed_metadata` has checked."""
    if _header(data).keys() == {"__metadata__"}:
        return {}
    from safetensors.torch import load

    return load(data)


def _serialize(tensors: Mapping[str, "Tensor"], metadata: dict[str, str]) -> bytes:
    if not tensors:
        return bytes(safetensors.serialize({}, metadata))
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def _header(data: bytes) -> dict[str, Any]:
    """Return the header. The format: eight bytes with the header's length, the header in JSON, the tensors' data."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
