"""What PyTorch has allocated while a profiler looked."""

from torch.profiler import profile


def peak_of(measured: profile) -> int:
    """Return the most bytes that were allocated at once since the profiler began, less what was freed."""
    now = peak = 0
    assert measured.profiler is not None
    assert measured.profiler.kineto_results is not None
    for event in measured.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak
