"""A graph that grows node by node and knows the channels and the size of each value. Standard library only.

Sizes are counted in halvings of the image, as a cell network is built for images of any size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from child_trainer.architectures.architecture import Node, node
from child_trainer.architectures.operation_types import Value


@dataclass(frozen=True, slots=True)
class State:
    """A value in the network.

    Attributes:
        name: the node that computes it, or `image`.
        channels: its channels.
        level: how often the image was halved before it.
    """

    name: str
    channels: int
    level: int


class GrowingGraph:
    """The nodes so far; each method adds some, whose names begin with the given one, and returns the new value.

    Args:
        drop_path: whether a training may drop paths (ScheduledDropPath).
        affine: whether batch normalisation scales and shifts by weights of its own.
        gates: what is chosen at each gate, by `choose`; `None`: nothing, the graph is a supernet.
    """

    def __init__(
        self, *, drop_path: bool = False, affine: bool = True, gates: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        self.nodes: list[Node] = []
        self._drop_path = drop_path
        self._norm: dict[str, Value] = {} if affine else {"affine": False}
        self._gates = gates

    def add(
        self, name: str, op: str, sources: State | Sequence[State], channels: int | None = None, **attributes: Value
    ) -> State:
        """Add one node; without `channels`, the value has as many as the first source.

        A stride of 1 is left out, as it is the default.
        """
        read = (sources,) if isinstance(sources, State) else tuple(sources)
        halved = 0
        for stride in ("stride_height", "stride_width"):
            if attributes.get(stride) == 1:
                del attributes[stride]
            halved |= stride in attributes
        self.nodes.append(node(name, op, [state.name for state in read], **attributes))
        return State(name, read[0].channels if channels is None else channels, read[0].level + halved)

    def conv(
        self,
        name: str,
        source: State,
        size: int,
        filters: int,
        *,
        stride: int = 1,
        order: str = "relu-conv-bn",
        dilation: int = 1,
    ) -> State:
        """Add a square convolution."""
        dilated = {"dilation": dilation} if dilation > 1 else {}
        norm = self._norm if "bn" in order else {}
        return self.add(
            name,
            "conv",
            source,
            filters,
            height=size,
            width=size,
            filters=filters,
            order=order,
            stride_height=stride,
            stride_width=stride,
            **dilated,
            **norm,
        )

    def crossed_conv(self, name: str, source: State, size: int, filters: int, *, stride: int = 1) -> State:
        """Add a convolution of one row, then one of a column (such as 1x7, then 7x1)."""
        order = "relu-conv-bn"
        row = self.add(
            f"{name}.row",
            "conv",
            source,
            filters,
            height=1,
            width=size,
            filters=filters,
            order=order,
            stride_width=stride,
            **self._norm,
        )
        both = State(row.name, filters, source.level)  # The column halves the height, and the level counts once.
        return self.add(
            f"{name}.column",
            "conv",
            both,
            filters,
            height=size,
            width=1,
            filters=filters,
            order=order,
            stride_height=stride,
            **self._norm,
        )

    def separable(
        self,
        name: str,
        source: State,
        size: int,
        filters: int,
        *,
        stride: int = 1,
        times: int = 2,
        dilation: int = 1,
    ) -> State:
        """Add ReLU, depthwise and pointwise convolution and normalisation, one or several times (spec §3.1).

        The first one has the stride.
        """
        dilated = {"dilation": dilation} if dilation > 1 else {}
        for time in range(1, times + 1):
            part = f"{name}.{time}" if times > 1 else name
            active = self.add(f"{part}.relu", "relu", source)
            deep = self.add(
                f"{part}.depthwise",
                "depthwise_conv",
                active,
                height=size,
                width=size,
                order="conv-unbiased",
                stride_height=stride,
                stride_width=stride,
                **dilated,
            )
            source = self.conv(f"{part}.pointwise", deep, 1, filters, order="conv-bn")
            stride = 1
        return source

    def pool(self, name: str, source: State, kind: str, size: int, *, stride: int = 1) -> State:
        """Add a square pooling layer, of kind `max` or `avg`."""
        return self.add(
            name, f"{kind}_pool", source, height=size, width=size, stride_height=stride, stride_width=stride
        )

    def factorised_reduction(self, name: str, source: State, filters: int, *, relu: bool) -> State:
        """Halve the image by two strided 1x1 convolutions, one of them shifted by a pixel (spec §3.1)."""
        if relu:
            source = self.add(f"{name}.relu", "relu", source)
        shifted = self.add(f"{name}.shift", "shift", source)
        halves = [
            self.conv(f"{name}.{part}", half, 1, count, stride=2, order="conv-unbiased")
            for part, half, count in (("a", source, filters // 2), ("b", shifted, filters - filters // 2))
        ]
        joined = self.add(f"{name}.concat", "concat", halves, filters)
        return self.norm(f"{name}.norm", joined)

    def norm(self, name: str, source: State) -> State:
        """Add batch normalisation."""
        return self.add(name, "batch_norm", source, None, **self._norm)

    def choose(self, name: str, gate: str, candidates: Sequence[Callable[[], State]]) -> State:
        """Add the sum of the candidates that a gate chooses, one or more; they must all have one shape.

        A supernet has all candidates, mixed by the gate; any other graph has only the chosen ones. The names of their
        nodes are the same in both, as a candidate's nodes do not depend on what is chosen elsewhere.

        Args:
            name: of the mix or the sum; a single chosen candidate needs neither.
            gate: the gate's name, which nodes of one number of candidates may share.
            candidates: each adds its nodes when it is called, and returns its value.
        """
        if self._gates is None:
            return self.add(name, "mix", [candidate() for candidate in candidates], gate=gate)
        chosen = [add() for add, value in zip(candidates, self._gates[gate], strict=True) if value]
        return chosen[0] if len(chosen) == 1 else self.add(name, "add", chosen)

    def add_chosen(self, name: str, value: State, gate: str, candidates: Sequence[Callable[[], State]]) -> State:
        """Add to a value what a gate chooses among candidates, as `choose` does; it may choose none."""
        if self._gates is not None and not any(self._gates[gate]):
            return value
        return self.add(name, "add", (value, self.choose(f"{name}.chosen", gate, candidates)))

    def concat(self, name: str, states: Sequence[State]) -> State:
        """Concatenate states of one size along the channels."""
        return self.add(name, "concat", states, sum(state.channels for state in states))

    def droppable(self, name: str, source: State, depth: float) -> State:
        """Mark a path that ScheduledDropPath may drop, if the network has any (spec §3.3); `depth` is in (0, 1]."""
        return self.add(name, "drop_path", source, depth=depth) if self._drop_path else source

    def auxiliary_head(self, source: State) -> State:
        """Add the features of an auxiliary classifier, which is for training alone (spec §3.3).

        As in NASNet's code, except that the pooling pads, so that images of any size will do.
        """
        name = "auxiliary"
        active = self.add(f"{name}.relu", "relu", source)
        pooled = self.add(f"{name}.pool", "avg_pool", active, height=5, width=5, stride_height=3, stride_width=3)
        narrow = self.conv(f"{name}.conv", pooled, 1, 128, order="conv-bn-relu")
        flat = self.add(f"{name}.flatten", "flatten", narrow)
        wide = self.add(f"{name}.linear", "linear", flat, 768, units=768, bias=False)
        return self.add(f"{name}.features", "relu", self.add(f"{name}.norm", "batch_norm", wide))
