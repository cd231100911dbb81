"""How alike the outputs of several sub-networks are ("A-GEM" of the article; spec §17.4). It is not GEM's A-GEM.

Shapes: K sub-networks; N examples; A classes. A name's suffix spells its shape: `probabilities_KNA` has K
distributions over A classes for each of N examples. All functions are differentiable and keep the dtype of their input.

The article defines s = |W - I|² + beta sum (1 - cos t_ij)/pi with t_ij = arccos <P_i, P_j>. The plain product of two
distributions is no cosine, so that s would not be 0 for equal ones; here the product is divided by both norms. The
article asks for W near I, different outputs, in the first term and for equal ones in the second. Here the target is a
matrix of ones by default, so that both terms ask for equal outputs; with the target `identity` the first is the
article's own. s grows with dissimilarity, and is no convex function, as the article says that it is.
"""

import math

import torch
from torch import Tensor

from child_trainer.seed_agem.options import Target


def cosine_matrix(probabilities_KNA: Tensor) -> Tensor:
    """Return C [K, K]: the cosine of the angle between two sub-networks' distributions, meaned over the examples.

    Args:
        probabilities_KNA: distributions; each sums to 1 over the classes.
    """
    unit_KNA = probabilities_KNA / probabilities_KNA.norm(dim=-1, keepdim=True)
    return torch.einsum("ina,jna->ij", unit_KNA, unit_KNA) / probabilities_KNA.shape[1]


def agreement_matrix(probabilities_KNA: Tensor) -> Tensor:
    """Return W [K, K]: 1 - |P_i - P_j|_1 / 2, meaned over the examples; 1 for equal and 0 for disjoint distributions.

    Args:
        probabilities_KNA: distributions; each sums to 1 over the classes.
    """
    distance_KKN = (probabilities_KNA[:, None] - probabilities_KNA[None]).abs().sum(-1)
    return 1 - distance_KKN.mean(-1) / 2


def mean_similarity(probabilities_KNA: Tensor) -> Tensor:
    """Return S, a scalar: the mean cosine similarity of two different sub-networks, from 0 to 1; 1 if there is one."""
    cosines_KK = cosine_matrix(probabilities_KNA)
    count = len(cosines_KK)
    if count == 1:
        return cosines_KK.new_ones(())
    return cosines_KK[torch.triu_indices(count, count, 1).unbind()].mean()


def structural_penalty(probabilities_KNA: Tensor, target: Target = "ones", weight: float = 1.0) -> Tensor:
    """Return s, a scalar: |W - M|² + weight * sum over i != j of (1 - C_ij) / pi.

    Args:
        probabilities_KNA: distributions; each sums to 1 over the classes.
        target: M, a matrix of ones (all outputs equal) or the identity (all different, as the article writes).
        weight: of the cosines.
    """
    agreement_KK = agreement_matrix(probabilities_KNA)
    wanted_KK = torch.eye(len(agreement_KK)).to(agreement_KK) if target == "identity" else agreement_KK.new_ones(())
    # Rounding must not make a cosine exceed 1, and the penalty negative; the diagonal counts for nothing.
    missing_KK = (1 - cosine_matrix(probabilities_KNA)).clamp_min(0)
    outside_KK = 1 - torch.eye(len(missing_KK)).to(missing_KK)
    return (agreement_KK - wanted_KK).square().sum() + weight * (missing_KK * outside_KK).sum() / math.pi


def similarity_reward(penalty: float, count: int) -> float:
    """Return r_sim = exp(-s / (K (K - 1))), above 0 and at most 1; with the target of ones it is 1 for equal outputs.

    The article has no formula for it.

    Args:
        penalty: s.
        count: K, at least 2.
    """
    return math.exp(-penalty / (count * (count - 1)))
