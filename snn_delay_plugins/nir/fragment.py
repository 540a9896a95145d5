"""What one module becomes: some nodes, their edges, and where values come in and go out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .needed import nir

__all__ = ["Fragment", "array", "chain", "parallel", "single"]


@dataclass
class Fragment:
    """:param entries: the nodes that take the input. :param exits: those whose outputs, summed, are the output; an empty
    fragment passes its input on."""

    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)


def single(name: str, node: nir.NIRNode) -> Fragment:
    return Fragment({name: node}, [], [name], [name])


def chain(*parts: Fragment) -> Fragment:
    """One after the other; empty ones are left out."""
    parts = tuple(part for part in parts if part.nodes)
    if not parts:
        return Fragment()
    joints = [(a, b) for one, other in itertools.pairwise(parts) for a in one.exits for b in other.entries]
    whole = _together(parts)
    return Fragment(whole.nodes, whole.edges + joints, parts[0].entries, parts[-1].exits)


def parallel(parts: Iterable[Fragment]) -> Fragment:
    """Side by side, their outputs summed."""
    return _together(tuple(parts))


def _together(parts: tuple[Fragment, ...]) -> Fragment:
    return Fragment(
        {name: node for part in parts for name, node in part.nodes.items()},
        [edge for part in parts for edge in part.edges],
        [name for part in parts for name in part.entries],
        [name for part in parts for name in part.exits],
    )


def array(value: Tensor | float, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The values as NIR keeps them; with a shape one for each neuron."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        values = (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # numpy has no bfloat16
    else:
        values = np.asarray(value)
    return values.copy() if shape is None else np.broadcast_to(values, shape).copy()
