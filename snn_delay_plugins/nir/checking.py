"""The values of a graph's nodes, and whether the sizes of two that are connected agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from .needed import nir, refuse
from .said import CustomNeuron

__all__ = ["check_sizes", "check_values"]

_NO_VALUES = {"metadata", "input_type", "output_type", "nodes", "edges"}
_WORDS = {"padding", "model", "reset"}
_ELEMENTWISE = {
    nir.LIF: "v_threshold", nir.LI: "v_leak", nir.CubaLIF: "v_threshold", nir.CubaLI: "v_leak", nir.IF: "v_threshold",
    nir.Delay: "delay", nir.Scale: "scale", nir.Threshold: "threshold",
}  # fmt: skip
"""Nodes of one value per element, and a field that has them."""


def check_values(nodes: Mapping[str, nir.NIRNode], prefix: str = "") -> None:
    """:raises NIRError: for what is no number, NaN, or infinite and no threshold."""
    for name, node in nodes.items():
        if isinstance(node, nir.NIRGraph):
            check_values(node.nodes, f"{prefix}{name}_")
            continue
        for field in fields(node):
            value = getattr(node, field.name, None)
            where = f"node {prefix + name!r}"
            if isinstance(value, str | bytes) and field.name not in _WORDS:
                refuse(where, f"{field.name} must be numbers, got {value!r}")
            if field.name in _NO_VALUES or not isinstance(value, np.ndarray | np.number | float):
                continue
            found = np.asarray(value)
            if found.dtype.kind not in "fiub":
                refuse(where, f"{field.name} must be numbers, got {found.dtype}")
            wrong = np.isnan(found) if "threshold" in field.name else ~np.isfinite(found)
            if wrong.any() and not isinstance(node, nir.Delay):  # whose delays are checked in steps
                refuse(where, f"{field.name} has a value of {found[wrong].flat[0]:g}")


def check_sizes(nodes: Mapping[str, nir.NIRNode], edges: Iterable[tuple[str, str]]) -> None:
    """:raises NIRError: where a node has another number of elements than what feeds it."""
    sizes = {name: _sizes(name, node) for name, node in nodes.items()}
    for source, target in edges:
        there, here = sizes[source][1], sizes[target][0]
        if there and here and there != here:
            refuse(f"node {target!r}", f"takes {here} elements, {source!r} before it gives {there}")


def _sizes(name: str, node: Any) -> tuple[int | None, int | None]:
    """Of input and output, of nodes with one axis; None: not known, or one for all."""
    if isinstance(node, nir.Linear | nir.Affine | nir.Conv1d | nir.Conv2d):
        weight, bias = np.shape(node.weight), np.shape(getattr(node, "bias", 0.0))
        if bias not in ((), (1,), weight[:1]):
            refuse(f"node {name!r}", f"its bias has the shape {bias}, its weight {weight}")
        return (weight[1], weight[0]) if isinstance(node, nir.Linear | nir.Affine) and len(weight) == 2 else (None, None)
    field = _ELEMENTWISE.get(type(node))
    if field is not None:
        shape = np.shape(getattr(node, field))
        for one in fields(node):
            other = np.shape(getattr(node, one.name)) if one.name not in _NO_VALUES else ()
            if other not in ((), (1,), shape):
                refuse(f"node {name!r}", f"{one.name} has the shape {other}, {field} {shape}")
        return _size(shape), _size(shape)
    if isinstance(node, CustomNeuron):
        size = _size(tuple(np.atleast_1d(node.shape)))
        return size, size
    ends = [one for one in (node.input_type, node.output_type) if isinstance(one, dict) and len(one) == 1]
    if len(ends) != 2 or not isinstance(node, nir.Input | nir.Output | nir.NIRGraph):
        return None, None
    before, behind = (_size(tuple(np.atleast_1d(next(iter(one.values()))))) for one in ends)
    return before, behind


def _size(shape: tuple[Any, ...]) -> int | None:
    return int(shape[0]) if len(shape) == 1 and isinstance(shape[0], int | np.integer) and shape[0] > 1 else None
