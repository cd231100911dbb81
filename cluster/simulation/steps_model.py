"""What steps on shared weights take: computing, and the calls to the shards, which many workers share. Pure."""

from dataclasses import dataclass

from cluster.simulation.queueing import cycle_seconds

PULL_CALL_S, PUSH_CALL_S, DURABLE_PUSH_CALL_S = 0.00055, 0.00075, 0.0019
"""Processor seconds that a call takes a process with shards, however small it is."""

PULL_BYTE_S, PUSH_BYTE_S = 0.54e-9, 0.90e-9
"""Processor seconds that it takes for each byte."""

CLIENT_CALL_S, CLIENT_PULL_BYTE_S, CLIENT_PUSH_BYTE_S = 0.0009, 1.3e-9, 0.9e-9
"""Processor seconds of the worker, for a call to one process and for each byte."""

DISK_S = 0.004
"""Seconds until a small push is on the disk, which pushes that come meanwhile share.

All of these as `python -m benchmarks.store_throughput --service` measured them; see docs/design/scale.md.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTraffic:
    """What one step exchanges with the shards, on average.

    Attributes:
        pulls, pushes: of shared weights.
        pulled_bytes, pushed_bytes: of these.
        strengths_pulls, strengths_pushes: of the searcher's strengths, which are small and durable.
    """

    pulls: float
    pushes: float
    pulled_bytes: float
    pushed_bytes: float
    strengths_pulls: float = 0.0
    strengths_pushes: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepsModel:
    """How long a step takes, by how many workers make steps at once.

    Attributes:
        compute_s: seconds that a worker computes in a step.
        traffic: what a step exchanges with the shards.
        shards: of the shared weights, each a process with a core of its own.
        policy_shards: of the searcher's strengths, likewise.
        delay_s: seconds of each message.
    """

    compute_s: float
    traffic: StepTraffic
    shards: int
    policy_shards: int
    delay_s: float = 0.0

    @property
    def weights_demand_s(self) -> float:
        """Processor seconds that a step takes each process with shared weights; a call goes to all of them."""
        traffic = self.traffic
        calls = traffic.pulls * PULL_CALL_S + traffic.pushes * PUSH_CALL_S
        moved = traffic.pulled_bytes * PULL_BYTE_S + traffic.pushed_bytes * PUSH_BYTE_S
        return calls + moved / self.shards

    @property
    def policy_demand_s(self) -> float:
        """Processor seconds that a step takes each process with strengths."""
        traffic = self.traffic
        return traffic.strengths_pulls * PULL_CALL_S + traffic.strengths_pushes * DURABLE_PUSH_CALL_S

    @property
    def alone_s(self) -> float:
        """Seconds of a step outside the shards: computing, the worker's part of its calls, messages, the disk."""
        traffic = self.traffic
        weights_calls, policy_calls = traffic.pulls + traffic.pushes, traffic.strengths_pulls + traffic.strengths_pushes
        moved = traffic.pulled_bytes * CLIENT_PULL_BYTE_S + traffic.pushed_bytes * CLIENT_PUSH_BYTE_S
        calls = (weights_calls * self.shards + policy_calls * self.policy_shards) * CLIENT_CALL_S
        messages = 2 * self.delay_s * (weights_calls + policy_calls)
        return self.compute_s + calls + moved + messages + traffic.strengths_pushes * DISK_S

    @property
    def max_rate(self) -> float:
        """Steps a second that no number of workers exceeds."""
        return 1 / max(self.weights_demand_s, self.policy_demand_s)

    def step_seconds(self, workers: int) -> tuple[float, ...]:
        """Return the seconds of a step when 1, 2, ... up to so many workers make steps."""
        return cycle_seconds(self.alone_s, (self.weights_demand_s, self.policy_demand_s), workers)
