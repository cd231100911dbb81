"""The size of the network that generates a supernet's weights (SMASH; spec §10). Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HyperOptions:
    """The size of a hypernetwork, a DenseNet (Brock et al. 2018, section 3.2); the values are the published code's."""

    growth: int = 10
    """Channels that each layer adds."""
    depths: tuple[int, ...] = (8, 10, 4)
    """Layers of each block; a 1x1 convolution between two blocks halves the channels."""

    def __post_init__(self) -> None:
        if self.growth < 1:
            raise ValueError(f"`growth` must be at least 1, got {self.growth}")
        if not self.depths or min(self.depths) < 1:
            raise ValueError(f"`depths` must be one or more numbers, each at least 1, got {self.depths}")
