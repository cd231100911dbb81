import pytest
import torch
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.scoring import score
from tests.child_trainer.supernets.problem import Problem

PROBLEM = Problem()
WINDOW = {"height": 3, "width": 3, "filters": 4}
NETWORK = SupernetNetwork(
    Architecture(
        "feedforward",
        (
            node("stem", "conv", "image", **WINDOW),
            node("a", "conv", "stem", **WINDOW),
            node("op", "mix", ("a", "stem"), gate="op"),
            node("end", "dropout", "op", rate=0.5),
        ),
        ("end",),
    ),
    PROBLEM,
)
GATES = {"op": torch.tensor([1.0, 0.0])}
WEIGHTS = NETWORK.initial(0)
BATCHES = [(PROBLEM.images(6, seed), PROBLEM.labels(6, seed)) for seed in range(3)]


def test_a_score_is_over_all_images_without_dropout():
    found = score(NETWORK, WEIGHTS, GATES, BATCHES)
    NETWORK.eval()
    logits = torch.cat([NETWORK(WEIGHTS, images, GATES) for images, _ in BATCHES])
    NETWORK.train()
    labels = torch.cat([labels for _, labels in BATCHES])
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert NETWORK.training


def test_with_refit_statistics_a_score_does_not_depend_on_how_images_are_batched():
    training = [PROBLEM.images(8, seed) for seed in (7, 8)]
    together = [(torch.cat([x for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES]))]
    one, other = (score(NETWORK, WEIGHTS, GATES, batches, training) for batches in (BATCHES, together))
    assert one.accuracy == other.accuracy
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    own, theirs = (score(NETWORK, WEIGHTS, GATES, batches) for batches in (BATCHES, together))
    assert own.loss != pytest.approx(theirs.loss, rel=1e-6)


def test_nothing_to_score_on_is_refused():
    with pytest.raises(ValueError, match="scored on at least one batch"):
        score(NETWORK, WEIGHTS, GATES, [])
    assert NETWORK.training
