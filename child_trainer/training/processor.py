"""The kind of processor that trains a child, on which the last bits of its curve depend."""

import platform

import torch

from child_trainer.training.task import TaskError


def processor_kind(device: str) -> str:
    """Return the kind of processor behind a device as PyTorch names it: `x86_64 AVX512`, or the name of the GPU.

    PyTorch chooses its CPU kernels by what it calls the capability; their sums differ in the last bits.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def check_device(device: object) -> None:
    """Raise `TaskError` unless PyTorch can put data on the device."""
    try:
        if not isinstance(device, str | torch.device):
            raise ValueError("it must be a text")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise TaskError(
            f"`device` must be one that PyTorch can use here, such as cpu, got {device!r} ({reason})"
        ) from error
