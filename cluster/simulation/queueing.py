"""Mean value analysis of a closed queueing network: how long a cycle takes when clients share servers. Pure."""

from collections.abc import Sequence


def cycle_seconds(delay_s: float, demands_s: Sequence[float], clients: int) -> tuple[float, ...]:
    """Return the mean seconds of a cycle with 1, 2, ... up to so many clients.

    In each cycle a client is by itself for a time, and then visits each server once, where it may wait for others.
    Exact for servers with exponential times (Reiser & Lavenberg 1980, "Mean-value analysis of closed multichain queuing
    networks"): R_k(n) = D_k (1 + Q_k(n - 1)), X(n) = n / (Z + sum_k R_k(n)), Q_k(n) = X(n) R_k(n).

    Args:
        delay_s: Z, the time that a client is by itself.
        demands_s: D_k, the time that a cycle takes each server.
        clients: the most.
    """
    queues = [0.0] * len(demands_s)
    cycles: list[float] = []
    for n in range(1, clients + 1):
        waits = [demand * (1 + queue) for demand, queue in zip(demands_s, queues, strict=True)]
        cycle = delay_s + sum(waits)
        queues = [n / cycle * wait for wait in waits]
        cycles.append(cycle)
    return tuple(cycles)
