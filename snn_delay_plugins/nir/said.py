"""A neuron of a model by its name and parameters: how our own reader knows what a graph was made of, and the node for what
NIR cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .needed import nir

__all__ = [
    "KEY", "NEURONS", "SYNAPSES", "CustomNeuron", "SaidNeuron", "is_recurrent", "said_by", "tag", "tag_recurrent",
]  # fmt: skip

KEY = "snn_delay_plugins"
"""Of what we write into the metadata of graphs."""
NEURONS, SYNAPSES = "node0_neurons", "node1_synapses"
"""How the nodes of a recurrent graph are called, or begin to be."""


@dataclass(eq=False)
class CustomNeuron(nir.NIRNode):
    """A neuron that NIR has no primitives for. Other readers refuse its type by name."""

    model: str
    reset: str
    threshold: np.ndarray | float
    graded: np.ndarray | float
    parameters: dict[str, np.ndarray | float]
    shape: np.ndarray

    def __post_init__(self) -> None:
        self.input_type = {"input": np.array(self.shape)}
        self.output_type = {"output": np.array(self.shape)}


@dataclass
class SaidNeuron:
    """:param parameters: one value per neuron, or one for all. :param graded: what the spikes are multiplied with."""

    model: str
    shape: tuple[int, ...]
    reset: str
    threshold: np.ndarray
    parameters: Mapping[str, np.ndarray]
    graded: np.ndarray = field(default_factory=lambda: np.ones(()))

    def node(self) -> CustomNeuron:
        parameters = {name: _storable(value) for name, value in self.parameters.items()}
        return CustomNeuron(
            self.model, self.reset, _storable(self.threshold), _storable(self.graded), parameters, np.array(self.shape)
        )


def tag(graph: nir.NIRGraph, neuron: SaidNeuron) -> None:
    """Write into the metadata of a graph which neuron it is."""
    graph.metadata = {
        KEY: {
            "model": neuron.model, "reset": neuron.reset, "threshold": _storable(neuron.threshold),
            "shape": np.array(neuron.shape),
            "parameters": {name: _storable(value) for name, value in neuron.parameters.items()},
        }
    }  # fmt: skip


def tag_recurrent(graph: nir.NIRGraph) -> None:
    """Write into the metadata of a graph that it is :data:`NEURONS` whose spikes come back over :data:`SYNAPSES`."""
    graph.metadata = {KEY: {"recurrent": 1}}


def is_recurrent(node: nir.NIRNode) -> bool:
    """Whether a graph says so."""
    written = node.metadata.get(KEY) if isinstance(node.metadata, dict) else None
    return isinstance(node, nir.NIRGraph) and isinstance(written, dict) and "recurrent" in written


def _storable(value: np.ndarray) -> np.ndarray | float:
    """A number where it is one for all: HDF5 compresses no arrays without axes."""
    return value if value.ndim else value.item()


def said_by(node: nir.NIRNode) -> SaidNeuron | None:
    """The neuron that a node is, where it says so."""
    if isinstance(node, CustomNeuron):
        return _read(vars(node))
    written = node.metadata.get(KEY) if isinstance(node.metadata, dict) else None
    return _read(written) if isinstance(written, dict) and "model" in written else None


def _read(of: Mapping[str, Any]) -> SaidNeuron:
    text = {name: value.decode() if isinstance(value, bytes) else str(value) for name in ("model", "reset")
            for value in [of[name]]}  # fmt: skip
    return SaidNeuron(
        **text, shape=tuple(int(size) for size in np.atleast_1d(of["shape"])), threshold=np.asarray(of["threshold"]),
        parameters={name: np.asarray(value) for name, value in of["parameters"].items()},
        graded=np.asarray(of.get("graded", 1.0)),
    )  # fmt: skip
