"""What a run may be told about its metrics. Standard library only."""

from dataclasses import dataclass

MOST_PORTS = 65_535


@dataclass(frozen=True, kw_only=True)
class MetricsOptions:
    """Whether and where a run's driver serves metrics for Prometheus."""

    metrics_port: int | None = None
    """Port on which the driver serves metrics for Prometheus; 0: any that is free; unset: none are served."""
    metrics_host: str = "127.0.0.1"
    """Address at which they are served; 0.0.0.0 lets other machines read them, and everybody there."""
    metrics_file_sd: str | None = None
    """Another file in which the endpoint is announced to Prometheus (file_sd), beside Ray's own for example."""

    def __post_init__(self) -> None:
        port = self.metrics_port
        if port is not None and not 0 <= port <= MOST_PORTS:
            raise ValueError(f"`metrics_port` must be between 0 and {MOST_PORTS}, got {port}")
        if not self.metrics_host:
            raise ValueError("`metrics_host` must be an address or a name, got ''")
        if self.metrics_file_sd is not None and not self.metrics_file_sd.endswith(".json"):
            raise ValueError(f"`metrics_file_sd` must end in .json for Prometheus, got {self.metrics_file_sd!r}")
