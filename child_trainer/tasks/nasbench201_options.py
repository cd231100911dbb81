"""The options of NAS-Bench-201's tables. Standard library only."""

from dataclasses import dataclass

from child_trainer.close_names import suggestion
from child_trainer.field_types import check_types
from child_trainer.training.task import TaskError

DEVICES = (
    "1080ti_1", "1080ti_256", "1080ti_32", "2080ti_1", "2080ti_256", "2080ti_32", "essential_ph_1", "eyeriss", "fpga",
    "gold_6226", "gold_6240", "pixel2", "pixel3", "raspi4", "samsung_a50", "samsung_s7", "silver_4114", "silver_4210r",
    "titan_rtx_1", "titan_rtx_256", "titan_rtx_32", "titanx_1", "titanx_256", "titanx_32", "titanxp_1", "titanxp_256",
    "titanxp_32",
)  # fmt: skip
"""Devices, some with the images that are classified at once."""


@dataclass(frozen=True, kw_only=True)
class NasBench201Options:
    """What else is looked up of a child.

    Raises:
        TaskError: there is no such device.
    """

    latency_device: str | None = None
    """The device whose latency a child has, of latency_ms.csv, such as pixel3, raspi4 or 1080ti_32 (32 images at once);
    unset: none."""

    def __post_init__(self) -> None:
        check_types(self)
        device = self.latency_device
        if device is not None and device not in DEVICES:
            raise TaskError(
                f"`latency_device` must be one of {', '.join(DEVICES)}, got {device!r}{suggestion(device, DEVICES)}"
            )
