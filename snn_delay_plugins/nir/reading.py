"""Graphs as they come, from a file or a hand, checked; what is nested and none of our neurons is flattened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from .checking import check_sizes, check_values
from .needed import NIRError, nir, refuse
from .said import CustomNeuron, is_recurrent, said_by

__all__ = ["Graph", "graph_of"]


class Graph:
    """Nodes without cycles in the order in which values flow.

    :param nodes: by name. :param sources: what feeds each. :param output: the node that leaves the graph.
    """

    def __init__(self, nodes: Mapping[str, nir.NIRNode], edges: list[tuple[str, str]], metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.sources: dict[str, list[str]] = {name: [] for name in nodes}
        self.targets: dict[str, list[str]] = {name: [] for name in nodes}
        for source, target in edges:
            if source not in nodes or target not in nodes:
                missing = source if source not in nodes else target
                refuse("the graph", f"has an edge {source!r} -> {target!r}, but no node {missing!r}")
            if source in self.sources[target]:
                refuse("the graph", f"has the edge {source!r} -> {target!r} twice")
            self.sources[target].append(source)
            self.targets[source].append(target)
        try:
            order = list(TopologicalSorter(self.sources).static_order())
        except CycleError as error:
            cycle = " -> ".join(map(repr, error.args[1]))
            refuse("the graph", f"has a cycle, {cycle}: recurrent graphs are read where they are the neurons that "
                                "export_nir wrote, with their metadata")  # fmt: skip
        self.input, self.output = (_only(nodes, kind) for kind in (nir.Input, nir.Output))
        reached = _reached(self.input, self.targets)
        lost = [name for name in nodes if name not in reached]
        if lost:
            refuse("the graph", f"its input does not reach {lost[0]!r}")
        check_sizes(nodes, edges)
        self.nodes = {name: nodes[name] for name in order if name != self.output}


def _only(nodes: Mapping[str, nir.NIRNode], kind: type) -> str:
    found = [name for name, node in nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        refuse("the graph", f"needs one {kind.__name__} node, has {len(found)}: {found}")
    return found[0]


def _reached(start: str, targets: Mapping[str, list[str]]) -> set[str]:
    seen, fresh = set(), {start}
    while fresh:
        seen |= fresh
        fresh = {target for name in fresh for target in targets[name]} - seen
    return seen


def graph_of(given: nir.NIRGraph | str | Path) -> Graph:
    """
    :raises NIRError: for a file that is damaged, nodes that NIR does not know, and graphs that are none.
    :raises FileNotFoundError: for a file that is not there.
    """
    whole = _read(Path(given)) if isinstance(given, str | Path) else given
    if not isinstance(whole, nir.NIRGraph):
        raise TypeError(f"graph must be a nir.NIRGraph or the path of a file, got {type(whole).__name__}")
    check_values(whole.nodes)
    nodes, edges = _flat(whole, "")
    return Graph(nodes, edges, whole.metadata if isinstance(whole.metadata, dict) else {})


def _read(path: Path) -> nir.NIRGraph:
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            written = nir.serialization.hdf2dict(file["node"])
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise NIRError(f"{path} is damaged or no NIR file: {error}") from error
    node = _node(str(path), written)
    if not isinstance(node, nir.NIRGraph):
        refuse(str(path), f"holds a single {type(node).__name__}, no graph")
    return node


def _node(where: str, written: Any) -> nir.NIRNode:
    """A node of what a file holds. ``nir.read`` knows no nodes of ours, and dies of damaged ones without a name."""
    if not isinstance(written, dict) or "type" not in written:
        refuse(where, "is no node of NIR: it has no type")
    kind = _text(written["type"])
    if kind == "NIRGraph":
        return _nested(where, written)
    found = CustomNeuron if kind == CustomNeuron.__name__ else getattr(nir, kind, None)
    if not (isinstance(found, type) and issubclass(found, nir.NIRNode)):
        refuse(where, f"has the type {kind!r}, which neither NIR nor this package knows")
    try:
        return found.from_dict({**written, "type": kind})
    except (TypeError, ValueError, KeyError, AssertionError, AttributeError, IndexError) as error:
        expected = [one.name for one in fields(found) if one.init and one.name != "metadata"]
        raise NIRError(f"{where}: is a damaged {kind}, which has {', '.join(expected)}: {error}") from error


def _nested(where: str, written: dict) -> nir.NIRGraph:
    inner, edges = written.get("nodes"), written.get("edges")
    if not isinstance(inner, dict) or edges is None:
        refuse(where, "is a graph without nodes or edges")
    nodes = {name: _node(f"{where}, node {name!r}", value) for name, value in inner.items()}
    pairs = np.asarray(edges, dtype=object)
    if pairs.size and pairs.shape[1:] != (2,):
        refuse(where, f"its edges are no pairs of nodes but of shape {pairs.shape}")
    named = [(_text(source), _text(target)) for source, target in pairs.reshape(-1, 2)]
    return nir.NIRGraph(nodes, named, written.get("metadata", {}), type_check=False)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _is_ours(name: str, node: nir.NIRNode) -> bool:
    """Whether a graph is one of our neurons."""
    try:
        return is_recurrent(node) or said_by(node) is not None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise NIRError(f"node {name!r}: its metadata is damaged, it names no neuron: {error!r}") from error


def _flat(graph: nir.NIRGraph, prefix: str) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Without nested graphs, but those that are one of our neurons."""
    nodes: dict[str, nir.NIRNode] = {}
    edges = [(prefix + source, prefix + target) for source, target in graph.edges]
    for name, node in graph.nodes.items():
        full = prefix + name
        if _is_ours(full, node) or not isinstance(node, nir.NIRGraph):
            nodes[full] = node
            continue
        inner, joints = _flat(node, f"{full}_")
        start, end = (
            {name for name in node.nodes if isinstance(node.nodes[name], kind)} for kind in (nir.Input, nir.Output)
        )
        if len(start) != 1 or len(end) != 1:
            refuse(repr(full), "is a nested graph that has not one input and one output")
        first, last = f"{full}_{start.pop()}", f"{full}_{end.pop()}"
        edges = [(last if a == full else a, first if b == full else b) for a, b in edges] + joints
        for inside in (first, last):
            edges = _without(inside, edges)
            del inner[inside]
        nodes.update(inner)
    return nodes, edges


def _without(name: str, edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges around a node that passes its input on, joined."""
    joined = [(a, d) for a, b in edges if b == name for c, d in edges if c == name]
    return [edge for edge in edges if name not in edge] + joined
