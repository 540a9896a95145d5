"""Networks that are no chain."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from .reading import Graph

__all__ = ["NIRNetwork", "Part", "sequential"]


class Part(NamedTuple):
    """A module and the parts, or the input, whose outputs are summed before it."""

    module: nn.Module
    sources: tuple[str, ...]


class NIRNetwork(nn.Module):
    """Modules in the order in which values flow; several inputs of one are summed.

    :param parts: by name, the sources of each before it; those of the graph's output node under its name.
    """

    def __init__(self, parts: dict[str, Part | tuple[str, ...]], graph: Graph) -> None:
        super().__init__()
        self._input, self._output = graph.input, graph.output
        modules = {name: part for name, part in parts.items() if isinstance(part, Part)}
        self.parts = nn.ModuleDict({name: part.module for name, part in modules.items()})
        self._sources = {name: part.sources for name, part in modules.items()}
        self._sources[graph.output] = parts[graph.output]  # pyright: ignore[reportArgumentType] - of the output: names

    def forward(self, x: Tensor) -> Tensor:
        values = {self._input: x}
        for name, module in self.parts.items():
            values[name] = module(self._sum(values, name))
        return self._sum(values, self._output)

    def _sum(self, values: dict[str, Tensor], name: str) -> Tensor:
        first, *others = (values[source] for source in self._sources[name])
        for other in others:
            first = first + other
        return first


def sequential(parts: dict[str, Part | tuple[str, ...]], graph: Graph) -> nn.Sequential | None:
    """The parts as a chain; None where they are none."""
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    last = graph.input
    for name, part in parts.items():
        sources = part.sources if isinstance(part, Part) else part
        if sources != (last,):
            return None
        if isinstance(part, Part):
            chain[name], last = part.module, name
    return nn.Sequential(chain)
