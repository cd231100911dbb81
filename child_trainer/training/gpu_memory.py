"""The memory of a GPU that there is, that a training may take, and that it takes, as PyTorch counts it.

Standard library only, unless there is a GPU.
"""


def reset_peak_memory(device: str) -> None:
    """Begin to measure anew; does nothing on a CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # there are no statistics before it is initialised
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str) -> int | None:
    """Return the most bytes of the GPU in use since `reset_peak_memory`; `None` on a CPU.

    What a recording of a step holds between two of its replays is not in use, and does not count.
    """
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) if torch.cuda.is_initialized() else None


def total_memory(device: str) -> int:
    """Return the bytes of memory that a GPU has."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory


def smallest_memory() -> int | None:
    """Return the bytes of memory of the smallest GPU that this process can use; `None` if it can use none."""
    import torch

    if not torch.cuda.is_available():
        return None
    return min(total_memory(f"cuda:{number}") for number in range(torch.cuda.device_count()))


def limit_memory(device: str, limit_bytes: int) -> None:
    """Let this process allocate at most so many bytes of a GPU; more of them is a lack of memory."""
    import torch

    share = limit_bytes / total_memory(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, share)), device)
