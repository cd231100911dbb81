"""The forward and the backward pass of a training step as a CUDA graph: recorded once, and replayed at each step.

A small network's step is hundreds of short kernels, and a GPU waits for Python to launch each of them. A graph launches
all of them at once. It repeats the same kernels on the same memory: so the batch is copied to where the recorded one
was, and the gradients appear where the recorded ones did. The optimizer's step is not in it: it is a few calls for all
parameters together, and its learning rate, a number of Python's, changes from step to step.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from child_trainer.networks.operations import DropPath

_LOG = logging.getLogger(__name__)

WARM_UP_PASSES = 3
"""Passes before the recording, in which CUDA's libraries choose their kernels and allocate what they keep."""

TOLERANCE = 0.01
"""How far a replay's results may be from its passes', relative to their length: kernels may sum in another order."""

MIN_STEPS = 50
"""Steps of a training below which its passes are not recorded: the recording takes the time of some of them."""

OWN_MODULES = ("child_trainer.", "torch.nn.")
"""Where the modules are defined whose passes do the same at each step; a user's own operation may do anything."""

RANDOM_MODULES = (
    *(DropPath, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
)
"""Modules whose passes draw random numbers."""

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records a function that takes nothing, and returns what repeats it and the tensor that the function returned.

Rules: the function is called some times, and at least once. What repeats it reads the same memory as the recorded call,
and writes its results to the same memory: into the returned tensor, and into the gradients that the parameters had
after the recorded call.
"""


class CannotRecord(RuntimeError):
    """The passes of a training cannot be recorded; the message says why."""


class RecordedPass:
    """The loss of a batch and its gradients, recorded with the first batch.

    A recording changes neither the weights nor the network's buffers: batch normalisation would count the passes that
    it takes.

    Args:
        network: whose parameters get the gradients.
        loss: returns the loss of a batch, a scalar; does the same work for each batch of one shape.
        inputs: the first batch; those of another shape are computed without the recording.
        labels: of the batch.
        capture: records the pass.

    Raises:
        CannotRecord: the recording failed, or a replay gives something else; the network is as it was.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        capture: Capture,
    ) -> None:
        self._network, self._compute = network, loss
        self._inputs, self._labels = inputs.clone(memory_format=torch.preserve_format), labels.clone()
        before = [(buffer, buffer.clone()) for buffer in network.buffers()]
        try:
            # Before the recording: its memory is kept, and passes beside it would need as much again.
            other = inputs.flip(0)  # with the same labels: another batch
            computed = self._results(self._passes(other, self._labels))
            self._replay, self._loss = capture(lambda: self._passes(self._inputs, self._labels))
            self._gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
            self._check(other, computed)
        except CannotRecord:
            raise
        except Exception as error:  # each library reports a forbidden operation in its own way
            raise CannotRecord(f"{type(error).__name__}: {error}") from error
        finally:
            for buffer, value in before:
                buffer.copy_(value)

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Give the parameters the gradients of a batch, and return its loss, which is valid until the next call."""
        if inputs.shape != self._inputs.shape:
            return self._passes(inputs, labels)
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._replay()
        for parameter, gradient in self._gradients:  # a batch of another shape has given them others
            parameter.grad = gradient
        return self._loss

    def _check(self, inputs: Tensor, computed: list[Tensor]) -> None:
        """Raise `CannotRecord` unless a replay with another batch gives what its passes gave.

        A recording that is wrong, and raised nothing, would train on the gradients of the first batch, or on none.
        """
        self._inputs.copy_(inputs)
        self._replay()
        replayed = self._results(self._loss)
        if len(replayed) != len(computed) or not all(map(_is_close, replayed, computed)):
            raise CannotRecord("a replay gives other gradients than the passes themselves")

    def _results(self, loss: Tensor) -> list[Tensor]:
        """Return copies of a loss and of the gradients that the parameters have."""
        return [loss.clone(), *(p.grad.clone() for p in self._network.parameters() if p.grad is not None)]

    def _passes(self, inputs: Tensor, labels: Tensor) -> Tensor:
        loss = self._compute(inputs, labels)
        self._network.zero_grad()  # new gradients, so that they are written and not added to
        loss.backward()
        return loss.detach()


def _is_close(replayed: Tensor, computed: Tensor) -> bool:
    """Return whether two results are equal but for the order of their sums."""
    difference, size = (replayed - computed).float().norm(), computed.float().norm()
    return bool(difference <= TOLERANCE * size)


def record(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    capture: Capture | None,
) -> RecordedPass | None:
    """Return the recorded pass; `None` without a capture, or where it fails, which is logged.

    The arguments are those of `RecordedPass`.
    """
    if capture is None:
        return None
    try:
        return RecordedPass(network, loss, inputs, labels, capture)
    except CannotRecord as error:
        network.zero_grad()
        _LOG.info("the steps of a network are not recorded as a CUDA graph: %s", error)
        return None


def capture_for(network: nn.Module, device: torch.device, steps: int) -> Capture | None:
    """Return what records the passes of a training; `None` where they are computed one by one.

    Args:
        network: to be trained.
        device: on which; passes are recorded on a GPU only.
        steps: of the whole training.
    """
    if device.type != "cuda" or steps < MIN_STEPS or not is_static(network):
        return None
    return partial(cuda_graph, device=device)


def is_static(network: nn.Module) -> bool:
    """Return whether each pass of a network in training does the same work.

    It does not where a part is dropped at random, whose probability changes during the training, or in an operation of
    the user's own.
    """
    return all(
        type(module).__module__.startswith(OWN_MODULES) and not isinstance(module, RANDOM_MODULES)
        for module in network.modules()
    )


def cuda_graph(
    function: Callable[[], Tensor], device: torch.device | None = None
) -> tuple[Callable[[], object], Tensor]:
    """Record a function's work on a GPU, by default the current one, as a CUDA graph; see `Capture`.

    Raises:
        RuntimeError: it does what a graph cannot hold, such as to wait for the GPU.
    """
    with torch.cuda.device(device):
        stream = _recording_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        graph = torch.cuda.CUDAGraph()
        try:
            # This context puts the current stream back also where the recording fails, which PyTorch's own does not.
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_PASSES - 1):
                    function()
                with _no_waits():
                    function()
                with torch.cuda.graph(graph, stream=stream):
                    result = function()
        finally:
            torch.cuda.current_stream().wait_stream(stream)

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, result


@cache
def _recording_stream(device: int) -> torch.cuda.Stream:
    """Return the stream on which a GPU's passes are recorded: not the default one, for which all others wait.

    It is the same for every training, because cuBLAS keeps a workspace for each stream that it has been used on.
    """
    return torch.cuda.Stream(device)


@contextmanager
def _no_waits() -> Iterator[None]:
    """Raise `RuntimeError` for an operation that waits for the GPU, such as to read a number from it.

    In a recording it would fail, too, but leave PyTorch's allocator and its generator in the middle of it.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode is called a prototype: it does not see every such operation
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
