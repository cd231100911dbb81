"""EAS's controller (Cai et al. 2018, arXiv 1707.04873, section 3; spec §9.1).

A bidirectional LSTM reads the layers of the network so far. From its outputs one classifier, shared by all layers,
says which become wider. From its last state a second LSTM decides, one after another, in which block, behind which of
its layers and with which window a new one is inserted.

Shapes: B networks; L layers of the longest; E numbers of an embedding; U units of one direction of the encoder; G
blocks; P places in a block; K window sizes. A name's suffix spells its shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from controller.policies.rollout import PulledPolicy, advance

IMPOSSIBLE = -1e9
"""The logit of an option that is not allowed."""


@dataclass(frozen=True, slots=True)
class GrowingNetwork:
    """What the policy sees of a network.

    Attributes:
        layers: the vocabulary's number of each layer.
        can_widen: of each layer, whether it may become wider.
        places: of each block, behind how many of its layers a new one may be inserted.
        has_window: of each place of each block, whether a new layer there has a window to choose.
    """

    layers: tuple[int, ...]
    can_widen: tuple[bool, ...]
    places: tuple[int, ...]
    has_window: tuple[tuple[bool, ...], ...]


Wider = tuple[int, ...]
"""The places of the layers that become wider."""

Deeper = tuple[int, int, int] | None
"""A block, a place in it and a window's number; `None` where no layer can be inserted."""


Pick = Callable[[Tensor, int], Tensor]
"""Chooses tokens [B] int64 from probabilities [B, O] float32, for the decision of this number: 0 to 2."""


class Judged(NamedTuple):
    """Decisions on B networks.

    Attributes:
        log_prob: [B] float32, the log-probability (nats) of each network's decisions.
        entropy: [B] float32, the mean entropy (nats) of a decision; that of a forced one is 0.
    """

    log_prob: Tensor
    entropy: Tensor


class EasPolicy(PulledPolicy):
    """The encoder and the two actors.

    Args:
        vocabulary: the number of different layers.
        blocks: G.
        places: P.
        windows: K.
        embedding: E.
        units: U.
    """

    def __init__(
        self, *, vocabulary: int, blocks: int, places: int, windows: int, embedding: int = 16, units: int = 50
    ) -> None:
        super().__init__()
        self._sizes = (blocks, places, windows)
        state = 2 * units
        self.layer_embedding = nn.Parameter(torch.empty(vocabulary, embedding))
        self.encoder = nn.LSTM(embedding, units, batch_first=True, bidirectional=True)
        self.wider = nn.Linear(state, 1)
        # What the decoder reads: at first one and the same vector, then the last decision.
        self.first_embedding = nn.Parameter(torch.empty(1, embedding))
        self.block_embedding = nn.Parameter(torch.empty(blocks, embedding))
        self.place_embedding = nn.Parameter(torch.empty(places, embedding))
        self.decoder = nn.LSTMCell(embedding, state)
        self.classifiers = nn.ModuleList(nn.Linear(state, size) for size in self._sizes)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw embeddings with variance 1, matrices after Glorot; biases are 0, as in the published code."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith("embedding"):
                    weight.uniform_(-(3**0.5), 3**0.5, generator=generator)
                elif weight.dim() == 2:
                    nn.init.xavier_uniform_(weight, generator=generator)
                else:
                    weight.zero_()

    def sample_wider(self, networks: Sequence[GrowingNetwork], generator: torch.Generator) -> list[Wider]:
        """Draw for each layer whether it becomes wider."""
        with torch.no_grad():
            logits_BL, mask_BL = self._wider_logits(networks)
            drawn_BL = torch.bernoulli(logits_BL.sigmoid(), generator=generator).bool() & mask_BL
        return [tuple(row.nonzero().flatten().tolist()) for row in drawn_BL]

    def sample_deeper(self, networks: Sequence[GrowingNetwork], generator: torch.Generator) -> list[Deeper]:
        """Draw where a new layer is inserted, and its window."""

        def pick(probabilities_BO: Tensor, decision: int) -> Tensor:
            return torch.multinomial(probabilities_BO, 1, generator=generator)[:, 0]

        with torch.no_grad():
            tokens_B3, *_ = self._decode(networks, pick)
        rows: list[list[int]] = tokens_B3.tolist()
        return [(b, p, k) if any(n.places) else None for (b, p, k), n in zip(rows, networks, strict=True)]

    def score_wider(self, networks: Sequence[GrowingNetwork], decisions: Sequence[Wider]) -> Judged:
        """Return the log-probabilities and entropies of decisions on these networks."""
        logits_BL, mask_BL = self._wider_logits(networks)
        chosen_BL = torch.zeros_like(logits_BL)
        for row, places in zip(chosen_BL, decisions, strict=True):
            row[list(places)] = 1
        losses_BL = F.binary_cross_entropy_with_logits(logits_BL, chosen_BL, reduction="none")
        probs_BL = logits_BL.sigmoid()
        entropies_BL = F.binary_cross_entropy_with_logits(logits_BL, probs_BL, reduction="none")
        counts_B = mask_BL.sum(1).clamp(min=1)
        return Judged(-(losses_BL * mask_BL).sum(1), (entropies_BL * mask_BL).sum(1) / counts_B)

    def score_deeper(self, networks: Sequence[GrowingNetwork], decisions: Sequence[Deeper]) -> Judged:
        """Return the log-probabilities and entropies of decisions on these networks; 0 where there was none to make."""
        tokens_B3 = torch.tensor([decision or (0, 0, 0) for decision in decisions])
        _, log_probs_B3, entropies_B3 = self._decode(networks, lambda _, decision: tokens_B3[:, decision])
        return Judged(log_probs_B3.sum(1), entropies_B3.mean(1))

    def _encode(self, networks: Sequence[GrowingNetwork]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs [B, L, 2U], and the last hidden and cell state [B, 2U]: both directions end to end."""
        lengths = torch.tensor([len(n.layers) for n in networks])
        layers_BL = nn.utils.rnn.pad_sequence([torch.tensor(n.layers) for n in networks], batch_first=True)
        inputs_BLE = self.layer_embedding[layers_BL]
        packed = pack_padded_sequence(inputs_BLE, lengths, batch_first=True, enforce_sorted=False)
        outputs, (hidden, cell) = self.encoder(packed)
        padded_BLS, _ = pad_packed_sequence(outputs, batch_first=True)
        return padded_BLS, (torch.cat([*hidden], dim=1), torch.cat([*cell], dim=1))

    def _wider_logits(self, networks: Sequence[GrowingNetwork]) -> tuple[Tensor, Tensor]:
        """Return the logit of each layer [B, L] float32, and which layers there are and can be wider [B, L] bool."""
        outputs_BLS, _ = self._encode(networks)
        masks = [torch.tensor(n.can_widen) for n in networks]
        return self.wider(outputs_BLS)[..., 0], nn.utils.rnn.pad_sequence(masks, batch_first=True)

    def _decode(self, networks: Sequence[GrowingNetwork], pick: Pick) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens [B, 3] int64, their log-probabilities and the entropies [B, 3] float32.

        A window that is not there to be chosen, and all decisions on a network that has no room, count nothing.
        """
        _, state = self._encode(networks)
        embeddings = (self.block_embedding, self.place_embedding)
        inputs_BE = self.first_embedding.expand(len(networks), -1)
        cells = [tuple(self.decoder.parameters())]
        tokens, log_probs, entropies = list[Tensor](), list[Tensor](), list[Tensor]()
        for decision, classifier in enumerate(self.classifiers):
            (state,) = advance(cells, inputs_BE, [state])
            allowed_BO, counts_B = self._allowed(networks, tokens)
            log_probs_BO = F.log_softmax(classifier(state[0]).masked_fill(~allowed_BO, IMPOSSIBLE), dim=-1)
            token_B = pick(log_probs_BO.exp(), decision)
            tokens.append(token_B)
            log_probs.append(log_probs_BO.gather(1, token_B[:, None])[:, 0] * counts_B)
            entropies.append(-(log_probs_BO.exp() * log_probs_BO).sum(1) * counts_B)
            if decision < len(embeddings):
                inputs_BE = embeddings[decision][token_B]
        return torch.stack(tokens, 1), torch.stack(log_probs, 1), torch.stack(entropies, 1)

    def _allowed(self, networks: Sequence[GrowingNetwork], tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return which options of the next decision are allowed [B, O] bool, and whether it counts [B] float32."""
        decision = len(tokens)
        allowed_BO = torch.zeros(len(networks), self._sizes[decision], dtype=torch.bool)
        counts = torch.ones(len(networks))
        for row, n in enumerate(networks):
            if decision == 0:
                allowed_BO[row, : len(n.places)] = torch.tensor(n.places) > 0
            elif decision == 1:
                allowed_BO[row, : n.places[int(tokens[0][row])]] = True
            else:
                allowed_BO[row] = True
                windows = n.has_window[int(tokens[0][row])]
                counts[row] = float(windows[int(tokens[1][row])]) if windows else 0.0
            if not any(n.places):
                allowed_BO[row, 0], counts[row] = True, 0.0
        return allowed_BO, counts
