"""The kind of processor that trains a child, on which the last bits of its curve depend."""

import platform

import torch


def processor_kind(device: str) -> str:
    """Return the kind of processor behind a device as PyTorch names it: `x86_64 AVX512`, or the name of the GPU.

    PyTorch chooses its CPU kernels by what it calls the capability; their sums differ in the last bits.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
