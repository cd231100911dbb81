"""A supernet of language models that computes: of recurrent cells, as a function of weights, words and gates."""

from torch import Tensor

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.build import build_nodes
from child_trainer.networks.fused_cell import State
from child_trainer.regime import DEFAULT_REGIME, Regime
from child_trainer.supernets.gated_graph import Gates, build_gated_node
from child_trainer.supernets.gated_language_model import NAMES, GatedLanguageModel, TextProblem
from child_trainer.supernets.network import SupernetNetwork, Tensors


class LanguageSupernet(SupernetNetwork):
    """A supernet of recurrent cells in a language model of one layer, whose table of words is shared as the cell is.

    It computes what the language model of a path's cell does, up to rounding, as that fuses the maps of its cell.
    There is no penalty on the table of words and the biases.

    Args:
        supernet: a recurrent graph with `mix` nodes and one output, the next h.
        problem: the number of words, and the model around the cell.
        regime: has the constants of batch normalisation.

    Raises:
        InvalidArchitecture: it is feed-forward or has a next c, a node cannot take its inputs, or nodes of one gate
            have not equally many inputs.
        ValueError: the model has several layers, or its width is not given.
    """

    around = "the language model"

    def __init__(self, supernet: Architecture, problem: TextProblem, regime: Regime = DEFAULT_REGIME) -> None:
        options = problem.options
        if options.cell_layers != 1:
            raise ValueError(f"`cell_layers` must be 1 where cells share weights, got {options.cell_layers}")
        if options.hidden_size is None:
            raise ValueError(
                "`hidden_size` must be given where cells share weights, as they all have one width, got none"
            )
        super().__init__(supernet, problem, regime)  # pyright: ignore[reportArgumentType]  (`_make_graph` takes it)
        self.unpenalised = frozenset(NAMES.values()) & self.shapes.keys()

    def _make_graph(self, supernet: Architecture, task: TextProblem, regime: Regime) -> GatedLanguageModel:
        if supernet.kind != "recurrent":
            raise InvalidArchitecture(f"a supernet of language models is recurrent, got a {supernet.kind} one")
        if len(supernet.outputs) != 1:
            raise InvalidArchitecture("a supernet of language models has one output, the next h, got a next c besides")
        width = task.options.hidden_size
        assert width is not None
        modules, shapes = build_nodes(supernet, ((width,),) * 3, width, regime, build_gated_node)
        if shapes[supernet.outputs[0]] != (width,):
            raise InvalidArchitecture(
                f"the next h has the shape {shapes[supernet.outputs[0]]}; a state must be ({width},)"
            )
        return GatedLanguageModel(supernet, modules, shapes, task)

    def forward(self, weights: Tensors, images: Tensor, gates: Gates, statistics: Tensors | None = None) -> Tensor:
        """Compute logits `[B, V, T]` float32 of the words that follow the last T of `[B, N]`.

        T is at most the words of a stretch; those before are the context of the first state, without gradients.

        Args:
            weights: has each of `names(gates)`, on the words' device.
            images: the words, `[B, N]` int64.
            gates: as for `SupernetNetwork.forward`.
            statistics: as for `SupernetNetwork.forward`.
        """
        return self.read(weights, images, gates, statistics)[0]

    def read(
        self,
        weights: Tensors,
        words: Tensor,
        gates: Gates,
        statistics: Tensors | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """Compute logits as `forward` does, and the state after the words.

        Args:
            weights: as for `forward`.
            words: `[B, N]` int64.
            gates: as for `forward`.
            statistics: as for `forward`.
            state: h and c before the first word; default: zeros.
        """
        return self._compute(weights, words, gates, statistics, state)
