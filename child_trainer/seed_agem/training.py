"""Training of several sub-networks on images ("A-GEM" of the article; spec §17.1, §17.6, §17.7).

The article's A-GEM is not Averaged Gradient Episodic Memory.

The loss of sub-network k is a CE(P_k(x), y) + b KL(P_k(x; w*) | P_k(x; w)), with the article's a = 0.1 and b = 0.9. The
article does not define w*: here it is a teacher, the moving average of the sub-network's weights, whose batch
normalisation uses the statistics of the batch as the sub-network's own does. A time step of the article is an epoch
here: before each one more layers may become shared, and the learning mode is chosen by what the sub-networks give for
training images.

Shapes: K sub-networks; N images; A classes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.networks.build import Classifier
from child_trainer.outcome import Budget
from child_trainer.seed_agem.modes import Mode, choose_mode, selection_probability
from child_trainer.seed_agem.options import SIMILARITY_REWARD, SubnetworkOptions
from child_trainer.seed_agem.sharing import layers_of, share, shared_depth, shared_parameters
from child_trainer.seed_agem.similarity import mean_similarity, similarity_reward, structural_penalty
from child_trainer.training.epochs import set_rate
from child_trainer.training.image_classifier import EVALUATION_BATCH, Images, standardise
from child_trainer.training.state import SgdState
from child_trainer.training.task import Diverged

MODES = tuple(Mode)

NO_MODE = -1
"""The mode of an epoch that has not begun."""

_SHARED_DEPTHS = "network/shared_depths"


class Subnetworks(nn.Module):
    """Sub-networks, their teachers, and what is recorded of their epochs.

    Args:
        members: K classifiers, with parameters of their own at first.
        epochs: of the whole training.
    """

    modes: Tensor
    """[epochs] int64, the place among `MODES` of each epoch's mode, or `NO_MODE`."""
    shared_depths: Tensor
    """A scalar int64: of how many depths, from the input on, the layers of one shape are shared."""

    def __init__(self, members: Sequence[Classifier], epochs: int) -> None:
        super().__init__()
        self._members = nn.ModuleList(members)
        self._teachers = nn.ModuleList(copy.deepcopy(member).requires_grad_(False) for member in members)
        self.register_buffer("modes", torch.full((epochs,), NO_MODE))
        self.register_buffer("shared_depths", torch.zeros((), dtype=torch.int64))

    @property
    def members(self) -> list[Classifier]:
        """The sub-networks; the first is the one by which the child is judged."""
        return [cast(Classifier, member) for member in self._members]

    @property
    def depth(self) -> int:
        """D, the most layers with parameters that a sub-network has."""
        return max(len(layers_of(member)) for member in self.members)

    @property
    def students(self) -> nn.Module:
        """All sub-networks as one module; its parameters are those that are trained, each once."""
        return self._members

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that are trained, each once."""
        return list(self._members.parameters())

    def teacher_logits(self, k: int, inputs: Tensor) -> Tensor:
        """Return the logits [B, A] float32 of a sub-network's teacher for images [B, C, H, W], without gradients."""
        with torch.no_grad():
            return self._teachers[k](inputs)

    @torch.no_grad()
    def move_teachers(self, decay: float) -> None:
        """Let the teachers' weights follow those of their sub-networks."""
        for member, teacher in zip(self._members, self._teachers, strict=True):
            for new, average in zip(member.parameters(), teacher.parameters(), strict=True):
                average.lerp_(new, 1 - decay)

    @torch.no_grad()
    def outputs(self, images: Images, prepare: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the distributions [K, N, A] float32 that the sub-networks give for images, in evaluation mode.

        Args:
            images: are standardised batch by batch.
            prepare: changes standardised images before the networks see them.

        Raises:
            Diverged: an output is NaN or infinite.
        """
        self.eval()
        parts = []
        for start in range(0, len(images), EVALUATION_BATCH):
            inputs = prepare(standardise(images.pixels[start : start + EVALUATION_BATCH]))
            parts.append(torch.stack([member(inputs) for member in self.members]))
        self.train()
        logits_KNA = torch.cat(parts, 1)
        if not logits_KNA.isfinite().all():
            raise Diverged("the outputs of the sub-networks are not finite")
        return logits_KNA.softmax(-1)


class SubnetworksState:
    """The state of a training of sub-networks between two steps (a `training.task.Resumable`).

    Args:
        network: the sub-networks on their device.
        sgd: the state of all their tensors, and of the optimizer.
    """

    def __init__(self, network: Subnetworks, sgd: SgdState) -> None:
        self._network, self._sgd = network, sgd

    def fingerprint(self) -> str:
        """Return a digest of what the results depend on beyond the identity."""
        return self._sgd.fingerprint()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the state by name; a shared parameter is there under the name of each of its sub-networks.

        It is there as copies, because safetensors takes no tensor twice.
        """
        seen: set[int] = set()
        state: dict[str, Tensor] = {}
        for name, tensor in self._sgd.tensors().items():
            state[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
        return state

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned, on sub-networks that share nothing yet.

        Raises:
            CheckpointError: the tensors do not fit; nothing has been changed.
        """
        self._sgd.check(tensors)
        share(self._network.members, self._sgd.optimizer, int(tensors[_SHARED_DEPTHS]))
        self._sgd.restore(tensors)


def begin_epoch(
    network: Subnetworks,
    optimizer: torch.optim.Optimizer,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    options: SubnetworkOptions,
    epoch: int,
) -> None:
    """Share the layers that are due, and choose the epoch's learning mode; the same again if it is called again.

    Args:
        network: the sub-networks.
        optimizer: of their parameters.
        images: training images, by whose outputs the mode is chosen.
        prepare: changes standardised images before the networks see them.
        options: have the rules.
        epoch: from 0.

    Raises:
        Diverged: an output is NaN or infinite.
    """
    depths = shared_depth(network.depth, epoch, options.epochs_until_shared(len(network.modes)))
    share(network.members, optimizer, depths)
    network.shared_depths.fill_(depths)
    outputs_KNA = network.outputs(images, prepare)
    mode = choose_mode(1 - absolute_error(outputs_KNA, images.labels), mean_similarity(outputs_KNA).item(), options)
    network.modes[epoch] = MODES.index(mode)


def absolute_error(outputs_KNA: Tensor, labels: Tensor) -> float:
    """Return the mean |1 - P_k(y|x)| over sub-networks and images, from 0 to 1: the article's L_acc of its modes.

    The loss has the same name in the article and is another quantity, the cross-entropy.

    Args:
        outputs_KNA: distributions.
        labels: [N] int64.
    """
    true_KN = outputs_KNA.gather(-1, labels.expand(len(outputs_KNA), -1)[..., None])[..., 0]
    return (1 - true_KN).abs().mean().item()


def subnetwork_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor, options: SubnetworkOptions, smoothing: float = 0.0
) -> Tensor:
    """Return a CE + b KL(teacher | sub-network), a scalar.

    Args:
        logits: [B, A] float32, of the sub-network.
        teacher: [B, A] float32, logits of its teacher, a constant.
        labels: [B] int64.
        options: have the weights a and b.
        smoothing: share of each label that is spread over all classes.
    """
    true = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    target = teacher.detach().log_softmax(-1)
    divergence = F.kl_div(logits.log_softmax(-1), target, reduction="batchmean", log_target=True)
    return options.true_label_weight * true + options.teacher_weight * divergence


def gradients(losses: Callable[[int], Tensor], network: Subnetworks, mode: Mode, turn: int) -> Tensor:
    """Set the gradients of a step by its mode, and return its loss, a scalar.

    In the joint mode they are those of the mean loss. In the individual mode each sub-network's own parameters have the
    gradient of its loss, and shared ones have none. In the iterative mode only one sub-network is computed, and only
    its parameters, shared ones included, have gradients. A parameter without one is not changed by the optimizer.

    Args:
        losses: returns the loss of sub-network k.
        network: the sub-networks, whose gradients are cleared first.
        mode: of the epoch.
        turn: the number of the step, by which the iterative mode takes the sub-networks in turn.
    """
    members = network.members
    for parameter in network.trained():
        parameter.grad = None
    if mode is Mode.ITERATIVE:
        loss = losses(turn % len(members))
        loss.backward()
        return loss.detach()
    each = torch.stack([losses(k) for k in range(len(members))])
    (each.mean() if mode is Mode.JOINT else each.sum()).backward()
    if mode is Mode.INDIVIDUAL:
        for parameter in shared_parameters(members):
            parameter.grad = None
    return each.detach().mean()


def take_step(
    network: Subnetworks,
    state: SgdState,
    inputs: Tensor,
    labels: Tensor,
    options: SubnetworkOptions,
    budget: Budget,
    place: tuple[int, int, int],
) -> None:
    """Make one step of an epoch, and add its loss to the epoch's sum.

    Args:
        network: the sub-networks.
        state: has the optimizer and the sum.
        inputs: [B, C, H, W] float32, as the networks see them.
        labels: [B] int64.
        options: have the weights of the loss and the teacher's decay.
        budget: has the learning rate and the regime.
        place: the epoch from 0, the step in it from 0, and the steps of an epoch.
    """
    epoch, step, steps = place
    regime, optimizer = budget.regime, state.optimizer

    def loss_of(k: int) -> Tensor:
        logits = network.members[k](inputs)
        return subnetwork_loss(logits, network.teacher_logits(k, inputs), labels, options, regime.label_smoothing)

    set_rate(optimizer, regime.rate(budget.learning_rate, epoch + step / steps, budget.epochs))
    mode = MODES[int(network.modes[epoch])]
    loss = gradients(loss_of, network, mode, epoch * steps + step)
    if regime.clip_norm is not None:
        # In the individual mode no sub-network's gradient may make another's smaller.
        apart = [list(member.parameters()) for member in network.members]
        for parameters in apart if mode is Mode.INDIVIDUAL else [network.trained()]:
            nn.utils.clip_grad_norm_(parameters, regime.clip_norm)
    optimizer.step()
    network.move_teachers(options.teacher_decay)
    state.loss += loss


def measurements(
    network: Subnetworks, outputs_KNA: Tensor, labels: Tensor, options: SubnetworkOptions
) -> dict[str, float]:
    """Return the numbers that a child tells beside its curve, by name.

    Args:
        network: the sub-networks.
        outputs_KNA: distributions for the validation images.
        labels: [N] int64, of these.
        options: define the structural similarity.
    """
    count = len(outputs_KNA)
    penalty = structural_penalty(outputs_KNA, options.structure_target, options.structure_weight).item()
    accuracy = 1 - absolute_error(outputs_KNA, labels)
    correct_K = (outputs_KNA.argmax(-1) == labels).double().mean(1)
    epochs = network.modes.tolist()
    return {
        SIMILARITY_REWARD: similarity_reward(penalty, count),
        "structural_penalty": penalty,
        "similarity": mean_similarity(outputs_KNA).item(),
        "true_label_probability": accuracy,
        "selection_probability": selection_probability(accuracy, options.mode_weights),
        "mean_accuracy": correct_K.mean().item(),
        "trained_parameters": sum(parameter.numel() for parameter in network.trained()),
        **{f"{mode}_epochs": epochs.count(place) for place, mode in enumerate(MODES)},
    }
