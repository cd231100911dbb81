"""The weights of a trained network, with the network, as bytes. Standard library only; PyTorch where tensors are read.

The tensors have the names of `child_trainer.networks.weights`; running statistics are among them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.inheritance.changes import Change, change_to_json
from child_trainer.sealed_tensors import SealError, seal, tensors_of, unsealed_metadata

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "nascluster-weights-1"
"""The version of the bytes' format; a reader rejects any other."""


class WeightsError(ValueError):
    """Bytes hold no weights that a training can begin with; the message is a clause about them that says why."""


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """The weights of a network after its training.

    Attributes:
        architecture: the network.
        tensors: its parameters and running statistics by name.
    """

    architecture: Architecture
    tensors: Mapping[str, "Tensor"]

    @cached_property
    def checksum(self) -> str:
        """64 hexadecimal digits over the network and every tensor's name, type, shape and content."""
        digest = hashlib.sha256(json.dumps(self.architecture.to_json()).encode())
        for name, tensor in sorted(self.tensors.items()):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"\n{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.numpy().tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Return a safetensors file whose metadata has the network, and a checksum over every byte."""
        return seal(self.tensors, {"architecture": json.dumps(self.architecture.to_json())}, FORMAT)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the weights that `to_bytes` wrote.

        Raises:
            WeightsError: the bytes are damaged or were never weights.
        """
        try:
            metadata = unsealed_metadata(data, FORMAT)
            architecture = Architecture.from_json(json.loads(metadata["architecture"]))
        except SealError as error:
            raise WeightsError(str(error)) from error
        except InvalidArchitecture as error:
            raise WeightsError(f"has a network that this version cannot read: {error}") from error
        return cls(architecture, tensors_of(data))


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a training begins with instead of random weights.

    Attributes:
        parent: the trained network.
        changes: what makes the child's network of the parent's, which keeps its function.
    """

    parent: TrainedWeights
    changes: Sequence[Change] = field(default=())

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits, equal for starts from equal weights by equal changes."""
        text = json.dumps([self.parent.checksum, [change_to_json(change) for change in self.changes]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class WeightsSlot(Protocol):
    """Storage of one child's weights."""

    def save(self, checksum: str, data: bytes) -> None:
        """Keep the bytes of weights with this checksum; when this returns, they are durable.

        Raises:
            OSError: they could not be written.
        """
        ...
