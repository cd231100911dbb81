"""What a supernet's options cost on average: a table of costs, weighed by probabilities (spec §13, §14)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from child_trainer.supernets.gated_graph import Gates
from child_trainer.supernets.objectives.objective import Costs


def check_costs(costs: Costs, sizes: Mapping[str, int]) -> None:
    """Raise `ValueError` unless the table has a cost for each option of each gate, and no other."""
    for name, size in sizes.items():
        if len(costs.get(name, ())) != size:
            raise ValueError(
                f"the table of costs needs {size} numbers for the gate {name!r}, got {len(costs.get(name, ()))}"
            )
    if unknown := sorted(costs.keys() - sizes.keys()):
        raise ValueError(f"the table of costs has the gate {unknown[0]!r}, which the supernet has not")


def expected_cost(probabilities: Mapping[str, Tensor], costs: Costs) -> Tensor:
    """Return the sum over gates of sum_j p_j c_j, a scalar; its derivative by a logit is p_j (c_j - E)."""
    terms = [p @ torch.tensor(costs[name], dtype=p.dtype, device=p.device) for name, p in probabilities.items()]
    return torch.stack(terms).sum()


def chosen_cost(gates: Gates, costs: Costs) -> float:
    """Return the cost of a path: of the options whose gate is 1."""
    return sum(c * float(g) for name, gate in gates.items() for g, c in zip(gate, costs[name], strict=True))
