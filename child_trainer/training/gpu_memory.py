"""The GPU memory that a training takes, as PyTorch counts it. Standard library only, unless there is a GPU."""


def reset_peak_memory(device: str) -> None:
    """Begin to measure anew; does nothing on a CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # there are no statistics before it is initialised
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str) -> int | None:
    """Return the most bytes of the GPU in use since `reset_peak_memory`; `None` on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) if torch.cuda.is_initialized() else None
