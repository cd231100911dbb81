"""Checkpoints of an interrupted training as bytes: safetensors with an identity and a checksum, no pickle.

PyTorch is imported only if there are tensors, so that a task without any starts without it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, Self

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Budget
from child_trainer.regime import DEFAULT_REGIME
from child_trainer.sealed_tensors import SealError, seal, tensors_of, unsealed_metadata

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "nascluster-child-1"
"""The version of the bytes' format; a reader rejects any other."""

Identity = Mapping[str, str | int | float | None]
"""All that must be equal for a training to resume from a checkpoint, as plain data."""


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
        metadata = {"identity": json.dumps(dict(self.identity)), "reached": json.dumps(reached)}
        return seal(self.tensors, metadata, FORMAT)

    @classmethod
    def from_bytes(cls, data: bytes, identity: Identity | None = None) -> Self:
        """Return the checkpoint that `to_bytes` wrote.

        Args:
            data: the bytes.
            identity: of the training that is to resume; each of its entries must be in the checkpoint with this value.

        Raises:
            CheckpointError: the bytes are damaged, were never a checkpoint, or are of another training.
        """
        try:
            metadata = unsealed_metadata(data, FORMAT)
        except SealError as error:
            raise CheckpointError(f"the checkpoint {error}") from error
        # Earlier versions recorded neither the threads nor the regime, which were these.
        saved: Identity = {"threads": 1, **DEFAULT_REGIME.plain()} | json.loads(metadata["identity"])
        for name, value in (identity or {}).items():
            if saved.get(name) != value:
                raise CheckpointError(
                    f"the checkpoint is of another training: its {name} is {saved.get(name)!r}, not {value!r}"
                )
        reached = json.loads(metadata["reached"])
        return cls(identity=saved, tensors=tensors_of(data), **(reached | {"curve": tuple(reached["curve"])}))


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
