"""The networks between that of Deckers et al. and the recommended one."""

from collections.abc import Sequence

from torch import nn

from ..deckers.network import DeckersNetwork
from .network import FlagshipNetwork


def network_of_rung(
    inputs: int,
    classes: int,
    *,
    start: str = "here",
    hidden: Sequence[int] = (128, 128),
    neuron: str = "AdLIF+",
    readout: str = "memoryless",
    dropout: float = 0.5,
    learned_step: bool = True,
) -> nn.Module:
    """``start`` "Deckers": biases in every layer, weights Xavier uniform, states from U(0, 1) in training; AdLIF+ and a
    memoryless readout. "here": :class:`~recipes.flagship.network.FlagshipNetwork`; without ``learned_step`` the time step
    of every SiLIF or C-SiLIF neuron stays as it was drawn. Raises ValueError for any other word."""
    if start == "Deckers":
        if (neuron, readout) != ("AdLIF+", "memoryless"):
            raise ValueError(f"the network of Deckers et al. has AdLIF+ and a memoryless readout, not {neuron}, {readout}")
        return DeckersNetwork(inputs, classes, hidden=hidden, dropout=dropout)
    if start != "here":
        raise ValueError(f"start must be Deckers or here, got {start!r}")
    network = FlagshipNetwork(inputs, classes, hidden=hidden, neuron=neuron, readout=readout, dropout=dropout)
    if not learned_step:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.endswith("log_dt"))
    return network
