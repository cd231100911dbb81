"""PNAS's surrogates: they predict a sample's reward from its tokens (Liu et al. 2018, section 4.2; spec §5.2).

Shapes: B samples; T tokens of a sample; S places within a part; V words; D units of an embedding; H hidden units;
U distinct prefixes of the samples. A name's suffix spells its shape. Words are int64, all other tensors float32.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.threads import computing_with
from controller.decisions import Tokens
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.progressive.vocabulary import Vocabulary

INIT = 0.1
"""Bound of the initial weights; they are uniform in [-bound, bound]."""

SEED = 20_181_208
"""With the number of observations it seeds a fit, which is so a function of the history."""

SCORED_AT_ONCE = 20_000
"""Samples that are scored together, so that the memory stays bounded."""


class Member(Protocol):
    """A network of the ensemble.

    Attributes:
        embedding_VD: the embedding of each word.
    """

    embedding_VD: nn.Parameter

    def __call__(self, words_BT: Tensor) -> Tensor:
        """Return the predictions before the sigmoid, [B]; rows are in lexicographic order."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the weights."""
        ...


class Mlp(nn.Module):
    """A perceptron with one hidden layer on the mean, over a sample's parts, of the parts' embeddings.

    A part's embedding is that of its words, concatenated: [S * D].
    """

    def __init__(self, vocabulary: Vocabulary, options: ProgressiveOptions) -> None:
        super().__init__()
        places, words = vocabulary.places_in_part, vocabulary.num_words
        self._vocabulary = vocabulary
        self.embedding_VD = nn.Parameter(torch.empty(words, options.embedding))
        self.hidden_SDH = nn.Parameter(torch.empty(places, options.embedding, options.hidden))
        self.hidden_bias_H = nn.Parameter(torch.empty(options.hidden))
        self.output_H = nn.Parameter(torch.empty(options.hidden))
        self.output_bias = nn.Parameter(torch.empty(()))

    def forward(self, words_BT: Tensor) -> Tensor:
        """Return the predictions before the sigmoid, [B]."""
        places, words = self.hidden_SDH.shape[0], self.embedding_VD.shape[0]
        length = words_BT.shape[1]
        # The mean and the hidden layer are linear, so that it suffices to count each word at each place.
        columns_BT = words_BT + words * torch.tensor(self._vocabulary.places[:length])
        counts = torch.zeros(len(words_BT), places * words)
        counts.scatter_add_(1, columns_BT, torch.ones(columns_BT.shape))
        table = torch.matmul(self.embedding_VD, self.hidden_SDH).flatten(0, 1)
        hidden_BH = F.relu(counts @ table / self._vocabulary.num_parts(length) + self.hidden_bias_H)
        return hidden_BH @ self.output_H + self.output_bias


class Lstm(nn.Module):
    """An LSTM over a sample's words; the last state gives the prediction."""

    def __init__(self, vocabulary: Vocabulary, options: ProgressiveOptions) -> None:
        super().__init__()
        self.embedding_VD = nn.Parameter(torch.empty(vocabulary.num_words, options.embedding))
        self.input_DG = nn.Parameter(torch.empty(options.embedding, 4 * options.hidden))
        self.recurrent_HG = nn.Parameter(torch.empty(options.hidden, 4 * options.hidden))
        self.gates_G = nn.Parameter(torch.empty(4 * options.hidden))
        self.output_H = nn.Parameter(torch.empty(options.hidden))
        self.output_bias = nn.Parameter(torch.empty(()))

    def forward(self, words_BT: Tensor) -> Tensor:
        """Return the predictions before the sigmoid, [B]; each distinct prefix of the rows is read once."""
        inputs_VG = self.embedding_VD @ self.input_DG + self.gates_G
        hidden_UH = cell_UH = torch.zeros(1, len(self.output_H))
        read = list(prefixes(words_BT))
        for before_U, words_U, _ in read:
            gates = (hidden_UH @ self.recurrent_HG)[before_U] + inputs_VG[words_U]
            enter, forget, value, leave = gates.chunk(4, dim=1)
            cell_UH = forget.sigmoid() * cell_UH[before_U] + enter.sigmoid() * value.tanh()
            hidden_UH = leave.sigmoid() * cell_UH.tanh()
        return (hidden_UH @ self.output_H + self.output_bias)[read[-1].rows_B]


class Prefixes(NamedTuple):
    """The distinct prefixes of some length.

    Attributes:
        before_U: [U] int64, the index of each one's beginning among the prefixes that are shorter by one word.
        words_U: [U] int64, their last words.
        rows_B: [B] int64, the index of each sample's prefix among them.
    """

    before_U: Tensor
    words_U: Tensor
    rows_B: Tensor


def prefixes(words_BT: Tensor) -> Iterator[Prefixes]:
    """Yield the distinct prefixes of one word, of two words and so on; equal prefixes must be in adjacent rows."""
    differs_BT = torch.ones(words_BT.shape, dtype=torch.int64)
    differs_BT[1:] = (words_BT[1:] != words_BT[:-1]).to(torch.int64)
    differs_BT = differs_BT.cummax(dim=1).values
    before_B = torch.zeros(len(words_BT), dtype=torch.int64)
    for words_B, differs_B in zip(words_BT.T, differs_BT.T, strict=True):
        first_U = differs_B.nonzero().flatten()
        rows_B = differs_B.cumsum(0) - 1
        yield Prefixes(before_B[first_U], words_B[first_U], rows_B)
        before_B = rows_B


MEMBERS = {"mlp": Mlp, "lstm": Lstm}


class Surrogate:
    """An ensemble that was fitted to some children; it predicts rewards.

    Args:
        vocabulary: how it reads samples.
        members: the ensemble.
        seen_V: [V] bool, the words that it was fitted to, in this fit or an earlier one.
        scale: from the members' outputs to rewards.
    """

    def __init__(self, vocabulary: Vocabulary, members: Sequence[Member], seen_V: Tensor, scale: "Scale") -> None:
        self.members, self.seen_V = members, seen_V
        self._vocabulary, self._scale = vocabulary, scale

    def predict(self, tokens_BT: np.ndarray) -> np.ndarray:
        """Return the predicted rewards, [B] float32; the rows are in lexicographic order."""
        with torch.no_grad(), computing_with(1):
            parts = [
                torch.stack([member(words).sigmoid() for member in self.members]).mean(0)
                for words in torch.from_numpy(self._vocabulary.words(tokens_BT)).split(SCORED_AT_ONCE)
            ]
            return self._scale.rewards(torch.cat(parts)).numpy()


class Scale(NamedTuple):
    """The linear map between rewards and a sigmoid's range, [0, 1].

    Rewards from 0 to 1 are taken as they are. If some are beyond, the lowest becomes 0 and the highest 1.
    """

    low: float
    high: float

    @classmethod
    def of(cls, rewards: Sequence[float]) -> "Scale":
        """Return the scale for these rewards."""
        low, high = min(rewards), max(rewards)
        return cls(0.0, 1.0) if low >= 0 and high <= 1 else cls(low, high if high > low else low + 1)

    def targets(self, rewards: Tensor) -> Tensor:
        """Return what a sigmoid must predict for these rewards."""
        return (rewards - self.low) / (self.high - self.low)

    def rewards(self, targets: Tensor) -> Tensor:
        """Return the rewards for these outputs of a sigmoid."""
        return self.low + targets * (self.high - self.low)


def fit(
    vocabulary: Vocabulary,
    options: ProgressiveOptions,
    observations: Sequence[tuple[Tokens, float]],
    before: Surrogate | None = None,
) -> Surrogate:
    """Return an ensemble fitted to these samples and their rewards: a new one, or a copy of `before` that goes on.

    Each of several members is trained without one share of the data. The fit is a function of its arguments.

    Args:
        vocabulary: the space's.
        options: the searcher's.
        observations: samples of one length, and their rewards, in any order; at least one.
        before: the ensemble of an earlier fit.
    """
    observations = sorted(observations)
    rewards = [reward for _, reward in observations]
    scale = Scale.of(rewards)
    generator = torch.Generator().manual_seed(SEED + len(observations))
    with computing_with(1):
        words_BT = torch.from_numpy(vocabulary.words(np.array([tokens for tokens, _ in observations])))
        targets_B = scale.targets(torch.tensor(rewards))
        order_B = torch.randperm(len(observations), generator=generator)
        seen_V = torch.zeros(vocabulary.num_words, dtype=torch.bool) if before is None else before.seen_V.clone()
        seen_V[words_BT] = True
        members: list[Member] = []
        for index in range(options.ensemble):
            member = MEMBERS[options.surrogate](vocabulary, options)
            if before is None:
                _initialize(member, options.output_bias, generator)
            else:
                _copy(before.members[index], member)
            kept_B = torch.ones(len(observations), dtype=torch.bool)
            if 1 < options.ensemble <= len(observations):
                kept_B[order_B[index :: options.ensemble]] = False
            rate = options.fit_learning_rate if before is None else options.later_fit_learning_rate
            _train(member, words_BT[kept_B], targets_B[kept_B], options, rate, generator)
            _embed_unseen(member, vocabulary, seen_V)
            members.append(member)
    return Surrogate(vocabulary, members, seen_V, scale)


@torch.no_grad()
def _initialize(member: Member, output_bias: float, generator: torch.Generator) -> None:
    for parameter in member.parameters():
        # The last parameter of each member, its only scalar, is the output's bias.
        if parameter.dim():
            parameter.uniform_(-INIT, INIT, generator=generator)
        else:
            parameter.fill_(output_bias)


@torch.no_grad()
def _copy(source: Member, target: Member) -> None:
    for parameter, value in zip(target.parameters(), source.parameters(), strict=True):
        parameter.copy_(value)


def _train(
    member: Member,
    words_BT: Tensor,
    targets_B: Tensor,
    options: ProgressiveOptions,
    rate: float,
    generator: torch.Generator,
) -> None:
    """Minimise the mean absolute error by Adam, with a step size that falls linearly from `rate` to zero."""
    optimizer = torch.optim.Adam(list(member.parameters()), lr=rate)
    batches = _batches(len(words_BT), options.fit_batch_size, generator)
    for step, rows in enumerate(itertools.islice(batches, options.fit_steps)):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / options.fit_steps)
        optimizer.zero_grad()
        F.l1_loss(member(words_BT[rows]).sigmoid(), targets_B[rows]).backward()
        optimizer.step()


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the numbers of random batches, each in ascending order, pass after pass, without an end."""
    while True:
        for rows in torch.randperm(count, generator=generator).split(size):
            yield rows.sort().values


@torch.no_grad()
def _embed_unseen(member: Member, vocabulary: Vocabulary, seen_V: Tensor) -> None:
    """Give each word that was never seen the mean embedding of the words that were seen in its place.

    Every level has a new state, the value of its new block. With the embedding that it was initialized with, it would
    be preferred to all known states, or avoided, by chance.
    """
    alternatives = torch.from_numpy(vocabulary.alternatives_VV)
    for word in (~seen_V).nonzero().flatten().tolist():
        known = alternatives[word] & seen_V
        if known.any():
            member.embedding_VD[word] = member.embedding_VD[known].mean(0)
