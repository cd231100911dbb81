"""Checkpoints of an interrupted training as bytes: safetensors with an identity and a checksum, no pickle.

PyTorch is imported only if there are tensors, so that a task without any starts without it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, Self

import safetensors

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget
from child_trainer.regime import DEFAULT_REGIME

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "nascluster-child-1"
"""The version of the bytes' format; a reader rejects any other."""

Identity = Mapping[str, str | int | float | None]
"""All that must be equal for a training to resume from a checkpoint, as plain data."""

_UNSEALED = "?" * 64
"""The placeholder for the checksum while the checksum is computed."""


class CheckpointError(ValueError):
    """Bytes that a training cannot resume from: damaged, or of another training. The message says which."""


class CheckpointSlot(Protocol):
    """Storage of one child's latest checkpoint. Either method may raise `OSError`."""

    def load(self) -> bytes | None:
        """Return the bytes that were saved last, or `None` if none were."""
        ...

    def save(self, data: bytes) -> None:
        """Replace the saved bytes atomically: a reader or a crash finds the old or the new ones, whole."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """The state of one training between two of its steps.

    Attributes:
        identity: of the training (from the function `identity`).
        tensors: by name, the task's own state: weights, optimizer and generator states.
        curve: the metric after each finished epoch; its length is the number of finished epochs.
        step: number of finished steps of the epoch in progress.
        seconds: training time so far, over all parts of the training.
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
        """Return a safetensors file whose metadata holds all else, and a checksum over every byte."""
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
        content = _serialize(self.tensors, metadata)
        return content.replace(_UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode(), 1)

    @classmethod
    def from_bytes(cls, data: bytes, identity: Identity | None = None) -> Self:
        """Return the checkpoint that `to_bytes` wrote.

        Args:
            data: the bytes.
            identity: of the training that is to resume; each of its entries must be in the checkpoint with this value.

        Raises:
            CheckpointError: the bytes are damaged, were never a checkpoint, or are of another training.
        """
        metadata = _check(data)
        # Earlier versions recorded neither the threads nor the regime, which were these.
        saved: Identity = {"threads": 1, **DEFAULT_REGIME.plain()} | json.loads(metadata["identity"])
        for name, value in (identity or {}).items():
            if saved.get(name) != value:
                raise CheckpointError(
                    f"the checkpoint is of another training: its {name} is {saved.get(name)!r}, not {value!r}"
                )
        reached = json.loads(metadata["reached"])
        return cls(identity=saved, tensors=_tensors(data), **(reached | {"curve": tuple(reached["curve"])}))


def identity(
    architecture: Architecture, task: str, budget: Budget, *, seed: int, device: str, threads: int = 1
) -> Identity:
    """Return all that a training's results depend on; not `max_seconds`, which only ends it.

    Isomorphic networks have one id but draw their weights in the order of their nodes, hence a digest of the nodes
    too. The generators of a GPU and of a CPU cannot restore each other's states, hence the kind of device.
    """
    nodes = json.dumps(architecture.to_json(), sort_keys=True)
    settings = {f.name: getattr(budget, f.name) for f in fields(budget) if f.name not in ("max_seconds", "regime")}
    return {
        "architecture": architecture.id,
        "nodes": hashlib.sha256(nodes.encode()).hexdigest()[:16],
        "task": task,
        "seed": seed,
        "device": device.partition(":")[0],
        "threads": threads,
        **settings,
        **budget.regime.plain(),
    }


def _serialize(tensors: Mapping[str, "Tensor"], metadata: dict[str, str]) -> bytes:
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
    """Return the header. The format: eight bytes with the header's length, the header in JSON, the tensors' data."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _check(data: bytes) -> Mapping[str, str]:
    """Return the metadata of a whole checkpoint.

    Raises:
        CheckpointError: the bytes are damaged or of another format.
    """
    try:
        metadata = _header(data)["__metadata__"]
        file_format, checksum = metadata["format"], metadata["checksum"]
        unsealed = data.replace(checksum.encode(), _UNSEALED.encode(), 1)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError("the checkpoint is damaged: its header cannot be read") from error
    if file_format != FORMAT:
        raise CheckpointError(f"the checkpoint must have the format {FORMAT!r}, got {file_format!r}")
    if hashlib.sha256(unsealed).hexdigest() != checksum:
        raise CheckpointError("the checkpoint is damaged: it does not match its checksum")
    return metadata
