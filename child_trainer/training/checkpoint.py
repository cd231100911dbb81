"""What an interrupted training needs to go on, as bytes: safetensors with an identity and a checksum, no pickle.

PyTorch is imported only where there are tensors, so that a rehearsal without any starts without it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, Self

import safetensors

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "nascluster-child-1"
"""Names the meaning of the bytes; a reader that does not know it refuses them."""

Identity = Mapping[str, str | int | float]
"""All that must be equal for a training to go on from a checkpoint, as plain data."""

_UNSEALED = "?" * 64
"""Stands where the checksum will be while the checksum is taken."""


class CheckpointError(ValueError):
    """Bytes that a training cannot go on from: damaged, or another training's. The message says which."""


class CheckpointSlot(Protocol):
    """Where one child's newest checkpoint lies. Either method may raise `OSError`."""

    def load(self) -> bytes | None:
        """What was saved last, or `None` if nothing was."""
        ...

    def save(self, data: bytes) -> None:
        """Replace what was saved; what is there must at any moment be whole, the old or the new."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """The state of one training between two of its steps.

    Attributes:
        identity: of the training (`identity` makes it).
        tensors: by name, what the task itself keeps: weights, optimizer and generator states.
        curve: the metric after each finished epoch; its length is the number of the last one.
        step: how many steps of the epoch after these are done.
        seconds: how long it has trained so far, over all its parts.
        parameters: as in `Outcome`.
        flops: as in `Outcome`.
    """

    identity: Identity
    tensors: Mapping[str, "Tensor"]
    curve: tuple[float, ...]
    step: int
    seconds: float
    parameters: int | None = None
    flops: int | None = None

    def to_bytes(self) -> bytes:
        """A safetensors file whose metadata holds the rest and a checksum over every byte."""
        reached = {
            "curve": self.curve,
            "step": self.step,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "flops": self.flops,
        }
        metadata = {
            "format": FORMAT,
            "identity": json.dumps(dict(self.identity)),
            "reached": json.dumps(reached),
            "checksum": _UNSEALED,
        }
        content = _serialized(self.tensors, metadata)
        return content.replace(_UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode(), 1)

    @classmethod
    def from_bytes(cls, data: bytes, identity: Identity | None = None) -> Self:
        """The checkpoint that `to_bytes` wrote; with an identity, only if all that it names is the same there.

        Raises:
            CheckpointError: the bytes are damaged, were never a checkpoint, or are another training's.
        """
        metadata = _checked(data)
        found: Identity = json.loads(metadata["identity"])
        for name, value in (identity or {}).items():
            if found.get(name) != value:
                raise CheckpointError(
                    f"the checkpoint is another training's: its {name} is {found.get(name)!r}, not {value!r}"
                )
        reached = json.loads(metadata["reached"])
        return cls(identity=found, tensors=_tensors(data), **(reached | {"curve": tuple(reached["curve"])}))


def identity(architecture: Architecture, task: str, budget: Budget, *, seed: int, device: str) -> Identity:
    """What a training's course depends on; `max_seconds` only ends it, so it does not count.

    Isomorphic networks have one id but draw their weights in the order of their nodes, hence a digest of the nodes
    too. A GPU's generators and a CPU's cannot take each other's states, hence the kind of device.
    """
    nodes = json.dumps(architecture.to_json(), sort_keys=True)
    settings = {f.name: getattr(budget, f.name) for f in fields(budget) if f.name != "max_seconds"}
    return {
        "architecture": architecture.id,
        "nodes": hashlib.sha256(nodes.encode()).hexdigest()[:16],
        "task": task,
        "seed": seed,
        "device": device.partition(":")[0],
        **settings,
    }


def _serialized(tensors: Mapping[str, "Tensor"], metadata: dict[str, str]) -> bytes:
    if not tensors:
        return bytes(safetensors.serialize({}, metadata))
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def _tensors(data: bytes) -> "dict[str, Tensor]":
    if _header(data).keys() == {"__metadata__"}:
        return {}
    from safetensors.torch import load

    return load(data)


def _header(data: bytes) -> dict[str, Any]:
    """The format: eight bytes with the header's length, the header in JSON, the tensors' data."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _checked(data: bytes) -> Mapping[str, str]:
    """The metadata of bytes that are a whole checkpoint."""
    try:
        metadata = _header(data)["__metadata__"]
        form, checksum = metadata["format"], metadata["checksum"]
        unsealed = data.replace(checksum.encode(), _UNSEALED.encode(), 1)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError("the checkpoint is damaged: its header cannot be read") from error
    if form != FORMAT:
        raise CheckpointError(f"the checkpoint must have the format {FORMAT!r}, got {form!r}")
    if hashlib.sha256(unsealed).hexdigest() != checksum:
        raise CheckpointError("the checkpoint is damaged: it does not match its checksum")
    return metadata
