"""The options of a run's metrics. Standard library only."""

from dataclasses import dataclass

from child_trainer.field_types import check_types

MAX_PORT = 65_535
"""The highest port number."""


@dataclass(frozen=True, kw_only=True)
class MetricsOptions:
    """Whether and where a run's driver serves metrics for Prometheus."""

    metrics_port: int | None = None
    """Port for Prometheus metrics of the driver; 0: any free port; unset: no metrics."""
    metrics_host: str = "127.0.0.1"
    """Address for the metrics; 0.0.0.0 lets every machine that reaches this one read them."""
    metrics_file_sd: str | None = None
    """Additional file_sd file for Prometheus; it announces the endpoint, for example next to Ray's own."""

    def __post_init__(self) -> None:
        check_types(self)
        port = self.metrics_port
        if port is not None and not 0 <= port <= MAX_PORT:
            raise ValueError(f"`metrics_port` must be between 0 and {MAX_PORT}, got {port}")
        if not self.metrics_host:
            raise ValueError("`metrics_host` must be an address or a name, got ''")
        if self.metrics_file_sd is not None and not self.metrics_file_sd.endswith(".json"):
            raise ValueError(f"`metrics_file_sd` must end in .json for Prometheus, got {self.metrics_file_sd!r}")
