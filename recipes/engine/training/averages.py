"""Averages of a network's weights over its training, which are evaluated and kept in the place of the last ones."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from snn_delay_plugins.parameters import project_


class WeightAverage:
    r"""The exponential moving average of all parameters and floating-point buffers of a network.

    .. math:: \bar w_n = d_n \bar w_{n-1} + (1 - d_n)\, w_n, \qquad d_n = \min(d, (1 + n) / (10 + n))

    after the n-th step of the optimizer, so that the start is soon forgotten. d = 0 is no average.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay, self.steps = network, decay, 0
        self._average = {name: value.detach().clone() for name, value in self._tensors()}
        self._own: dict[str, Tensor] | None = None

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.network.state_dict().items() if value.is_floating_point())

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimizer."""
        if self._own is not None:
            raise RuntimeError("the network holds its average: swap it back before the training goes on")
        self.steps += 1
        project_(self.network)  # an optimizer's own hooks, this one's caller, run before that of the bounds
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.decay else 0.0
        for name, value in self._tensors():
            self._average[name] = self._average[name].to(value.device).lerp_(value, 1 - decay)

    @torch.no_grad()
    def swap_in(self) -> None:
        """The network holds the average until :meth:`swap_back`."""
        if self._own is None:
            self._own = {name: value.detach().clone() for name, value in self._tensors()}
            self._fill(self._average)

    @torch.no_grad()
    def swap_back(self) -> None:
        """The network holds its own weights again."""
        if self._own is not None:
            self._fill(self._own)
            self._own = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """The network holds the average inside."""
        self.swap_in()
        try:
            yield
        finally:
            self.swap_back()

    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, value in self._tensors():
            value.copy_(values[name])

    def state_dict(self) -> dict:
        return {"steps": self.steps, "average": dict(self._average)}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError for the average of another network."""
        shapes = {name: value.shape for name, value in self._tensors()}
        if {name: value.shape for name, value in state["average"].items()} != shapes:
            raise ValueError("this average is that of another network")
        self.steps, self._average = state["steps"], {name: value.clone() for name, value in state["average"].items()}
