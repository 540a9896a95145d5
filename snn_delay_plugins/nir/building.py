"""The parts of a network, out of the nodes of a graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import LONGEST
from ..models import CUBA_LIF, LIF
from .modules import Readout, Scale, Threshold
from .needed import NIRError, nir, refuse
from .network import Part
from .reading import Graph, graph_of
from .said import NEURONS, SYNAPSES, SaidNeuron, is_recurrent, said_by
from .targets import Geometry, Synapses, Target

__all__ = ["ours_of"]

_WEIGHTS = (nir.Linear, nir.Affine, nir.Conv1d, nir.Conv2d)


def ours_of(graph: Graph, target: Target, dt: float, dtype: torch.dtype) -> dict[str, Part | tuple[str, ...]]:
    """The parts by name, and under the name of the output what feeds it.

    :raises NIRError: for nodes that no layer here can be.
    """
    build = _Building(graph, target, dt, dtype)
    for name, node in graph.nodes.items():
        if name != graph.input and name not in build.done:
            build.add(name, node)
    parts: dict[str, Part | tuple[str, ...]] = dict(build.parts)
    parts[graph.output] = build.sources(graph.output)
    return parts


@dataclass
class _Path:
    """Weights with the delays before and behind them, in steps."""

    name: str
    node: Any
    start: str
    end: str
    before: np.ndarray
    behind: np.ndarray


class _Building:
    def __init__(self, graph: Graph, target: Target, dt: float, dtype: torch.dtype) -> None:
        self.graph, self.target, self.dt, self.dtype = graph, target, dt, dtype
        self.parts: dict[str, Part] = {}
        self.done: set[str] = set()
        self._outputs: dict[str, tuple[str, ...]] = {graph.input: (graph.input,)}

    def sources(self, name: str) -> tuple[str, ...]:
        """The parts whose sum is the input of a node."""
        found = dict.fromkeys(part for source in self.graph.sources[name] for part in self._outputs[source])
        return tuple(found)

    def put(self, node: str, module: nn.Module, sources: tuple[str, ...], name: str | None = None) -> str:
        name = (name or node).replace(".", "_")
        while name in self.parts or name in (self.graph.input, self.graph.output) or hasattr(nn.ModuleDict, name):
            name += "_"
        self.parts[name] = Part(module, sources)
        self.done.add(node)
        self._outputs[node] = (name,)
        return name

    def pass_on(self, node: str) -> None:
        """A node that does nothing."""
        self._outputs[node] = self.sources(node)
        self.done.add(node)

    def add(self, name: str, node: nir.NIRNode) -> None:
        try:
            self._add(name, node)
        except NIRError:
            raise
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
            raise NIRError(f"node {name!r}: {error}") from error

    def _add(self, name: str, node: nir.NIRNode) -> None:
        path = self._path(name)
        if path is not None:
            self._add_synapses(path)
            return
        if is_recurrent(node):
            self._add_recurrent(name, node)
            return
        said = said_by(node)
        if said is not None:
            self.put(name, self.target.neuron(said), self.sources(name))
            return
        build = _OF_NODES.get(type(node))
        if build is None:
            refuse(f"node {name!r}", f"no layer or neuron here is a {type(node).__name__}")
        build(self, name, node)

    def _add_recurrent(self, name: str, node: Any) -> None:
        """Neurons whose spikes come back to them over synapses with delays."""
        neurons, synapses = (self._only_part(name, node, begin) for begin in (NEURONS, SYNAPSES))
        self.put(name, self.target.recurrent(neurons, synapses), self.sources(name))

    def _only_part(self, name: str, node: Any, begin: str) -> nn.Module:
        """What the nodes are that begin like this, between an input and an output of their own."""
        inside = {key: value for key, value in node.nodes.items() if key.startswith(begin)}
        if NEURONS not in node.nodes or not inside:
            refuse(f"node {name!r}", f"says that it is recurrent but has no {begin}")
        shape = np.array(next(iter(node.nodes[NEURONS].input_type.values())))
        edges = []
        for source, target in node.edges:
            ends = (source if source in inside else "input", target if target in inside else "output")
            if ends != ("input", "output") and ends not in edges:
                edges.append(ends)
        ends = {"input": nir.Input({"input": shape}), "output": nir.Output({"output": shape})}
        graph = nir.NIRGraph({**ends, **inside}, edges, type_check=False)
        parts = ours_of(graph_of(graph), self.target, self.dt, self.dtype)
        modules = [part.module for part in parts.values() if isinstance(part, Part)]
        if len(modules) != 1:
            refuse(f"node {name!r}", f"its {begin} are {len(modules)} layers, where recurrent neurons have one: synapses "
                                     "with delays between two steps do not come back")  # fmt: skip
        return modules[0]

    # ------------------------------------------------------------------------------------------------ synapses

    def _path(self, name: str) -> _Path | None:
        """The path of weights and delays that begins here."""
        node, first = self.graph.nodes[name], name
        before, behind = np.zeros(1), np.zeros(1)
        if isinstance(node, nir.Delay):
            following = self.graph.targets[name]
            if len(following) != 1 or not self._is_weights(following[0]) or len(self.graph.sources[following[0]]) != 1:
                return None
            before, name = self._lags(name, node), following[0]
        if not self._is_weights(name):
            return None
        node, last = self.graph.nodes[name], name
        following = self.graph.targets[name]
        if len(following) == 1 and isinstance(self.graph.nodes.get(following[0]), nir.Delay):
            last = following[0]
            if len(self.graph.sources[last]) != 1:
                last = name
            elif not self._path_from(last):
                behind = self._lags(last, self.graph.nodes[last])
            else:
                last = name
        return _Path(name, node, first, last, before, behind)

    def _path_from(self, delay: str) -> bool:
        """Whether a delay belongs to the weights that follow it."""
        following = self.graph.targets[delay]
        return len(following) == 1 and self._is_weights(following[0]) and len(self.graph.sources[following[0]]) == 1

    def _is_weights(self, name: str) -> bool:
        return isinstance(self.graph.nodes.get(name), _WEIGHTS)

    def _lags(self, name: str, node: Any) -> np.ndarray:
        """Whole steps, one for each channel."""
        seconds = np.asarray(node.delay, dtype=np.float64)
        steps = seconds / self.dt
        whole = np.round(steps)
        if not np.all(np.isfinite(steps)) or np.any(np.abs(steps - whole) > 1e-3) or np.any(whole < 0):
            worst = seconds.flat[int(np.nanargmax(np.where(np.isfinite(steps), np.abs(steps - whole), np.inf)))]
            refuse(f"node {name!r}", f"a delay of {worst:g} s is no whole number of steps of dt={self.dt:g} s: "
                                     "give another dt=")  # fmt: skip
        if np.any(whole > LONGEST):
            refuse(f"node {name!r}", f"a delay of {seconds.max():g} s is {whole.max():g} steps of dt={self.dt:g} s, layers "
                                     f"here have at most {LONGEST}: give another dt=")  # fmt: skip
        whole = whole.astype(np.int64)
        if whole.ndim > 1:
            per_channel = whole.reshape(len(whole), -1)
            if np.any(per_channel != per_channel[:, :1]):
                refuse(f"node {name!r}", "delays differ within a channel, which no layer here has")
            whole = per_channel[:, 0]
        return np.atleast_1d(whole)

    def _add_synapses(self, first: _Path) -> None:
        """All paths beside this one, as one layer."""
        paths = [first, *self._beside(first)]
        sources = self.sources(first.start)
        synapses = [self._synapses(path) for path in paths]
        plain = len(paths) == 1 and not (first.before.any() or first.behind.any())
        name = re.sub("(_0)?_weight$", "", first.name)
        if plain:
            made = [self.put(first.end, self.target.plain(synapses[0]), sources, name)]
        else:
            made = []
            for k, layer in enumerate(_merged(synapses)):
                made.append(self.put(first.end, self.target.delayed(layer), sources, name if k == 0 else f"{name}_{k}"))
        for path in paths:
            self.done |= {path.start, path.name, path.end}
            self._outputs[path.end] = ()  # the layer's output stands for that of all paths
        self._outputs[first.end] = tuple(made)

    def _beside(self, first: _Path) -> list[_Path]:
        sources, targets = self.graph.sources[first.start], self.graph.targets[first.end]
        found = []
        for start in dict.fromkeys(target for source in sources for target in self.graph.targets[source]):
            if start == first.start or start in self.done or start not in self.graph.nodes:
                continue
            path = self._path(start)
            if (
                path is not None
                and set(self.graph.sources[path.start]) == set(sources)
                and set(self.graph.targets[path.end]) == set(targets)
                and _geometry(path.node) == _geometry(first.node)
                and np.shape(path.node.weight) == np.shape(first.node.weight)
            ):
                found.append(path)
        return found

    def _synapses(self, path: _Path) -> Synapses:
        node = path.node
        weight = np.asarray(node.weight)
        bias = getattr(node, "bias", None)
        bias = None if bias is None else np.asarray(bias)
        if isinstance(node, nir.Conv1d | nir.Conv2d) and not np.any(bias):
            bias = None  # NIR's convolutions always have one
        if bias is not None and np.any(bias) and np.any(path.behind):
            refuse(f"node {path.name!r}", "a bias before a Delay begins late, which no layer here has")
        size = 1 if isinstance(node, nir.Linear | nir.Affine) else int(node.groups)
        channels = weight.shape[1] * size
        for lags, count, where in ((path.before, channels, path.start), (path.behind, weight.shape[0], path.end)):
            if len(lags) not in (1, count):
                refuse(f"node {where!r}", f"has {len(lags)} delays for {count} channels")
        lags = _lags_between(path.before, path.behind, weight, size)
        return Synapses(weight, lags, bias, _geometry(node))

    def add_delay(self, name: str, node: Any) -> None:
        """A delay that is followed by no weights of its own: weights of 1 from each neuron to itself."""
        lags, shape = self._lags(name, node), np.asarray(node.delay).shape
        if len(shape) > 1:
            refuse(f"node {name!r}", "a Delay over space needs a convolution behind it")
        one = np.eye(shape[0] if shape else len(lags))
        delayed = Synapses(one, np.broadcast_to(lags, (len(one), len(one))), None, None)
        self.put(name, self.target.delayed(delayed), self.sources(name))

    # ------------------------------------------------------------------------------------------------- neurons

    def add_lif(self, name: str, node: Any, potential: bool = False) -> None:
        self._neuron(name, node, LIF.name, {"alpha": self._leak(name, node.tau, "tau")}, potential)

    def add_cuba(self, name: str, node: Any, potential: bool = False) -> None:
        leaks = {
            "alpha": self._leak(name, node.tau_syn, "tau_syn", zero=True),
            "beta": self._leak(name, node.tau_mem, "tau_mem"),
        }
        self._neuron(name, node, CUBA_LIF.name, leaks, potential, np.asarray(node.w_in))

    def add_if(self, name: str, node: Any) -> None:
        self.put(name, self.target.integrate_and_fire(name, node, self.dt), self.sources(name))

    def _leak(self, name: str, tau: np.ndarray, called: str, zero: bool = False) -> np.ndarray:
        tau = np.asarray(tau, dtype=np.float64)
        leak = 1 - self.dt / tau
        if not np.all(np.isfinite(leak) & ((leak > 0) | (zero & (leak >= 0))) & (leak < 1)):
            refuse(f"node {name!r}", f"{called} must be longer than a step of dt={self.dt:g} s, got {tau.min():g} s")
        return leak

    def _neuron(
        self, name: str, node: Any, model: str, leaks: dict[str, np.ndarray], potential: bool,
        w_in: np.ndarray | float = 1.0,
    ) -> None:  # fmt: skip
        """The membrane v of the node is base + gain x of ours, with one gain for all where that is all the same."""
        shape = np.asarray(node.v_leak).shape
        base, gain = np.asarray(node.v_leak, dtype=np.float64), np.asarray(node.r * w_in, dtype=np.float64)
        theta = np.ones(shape) if potential else np.asarray(node.v_threshold, dtype=np.float64)
        reset = base if potential else np.asarray(node.v_reset, dtype=np.float64)
        if np.any(reset != base):
            at = f"v_reset = {reset.flat[0]:g} beside v_leak = {base.flat[0]:g}"
            refuse(f"node {name!r}", f"{at}: neurons here are reset to where they rest")
        if potential and np.any(base):
            refuse(f"node {name!r}", f"v_leak = {base.flat[0]:g}: readouts here rest at 0")
        theta = theta - base
        if np.any(theta <= 0) or not np.all(np.isfinite(gain)):
            refuse(f"node {name!r}", f"v_threshold must lie above v_leak, got {theta.min():g} above it")
        sources = self.sources(name)
        scale = None
        if potential or (self.target.one_threshold and np.unique(theta).size > 1):
            scale, theta = (gain, theta) if potential else (gain / theta, np.ones(shape))
        elif np.unique(gain).size == 1 and gain.flat[0] > 0:
            theta = theta / gain
        else:
            scale = gain
        if scale is not None and not np.all(scale == 1):
            sources = (self.put(name, Scale(self.tensor(scale)), sources, f"{name}_gain"),)
        said = SaidNeuron(model, shape, "none" if potential else "zero", theta, leaks)
        neuron = self.target.neuron(said, potential=potential)
        self.put(name, Readout(neuron) if potential else neuron, sources)

    def tensor(self, value: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(value), dtype=self.dtype)


def _lags_between(before: np.ndarray, behind: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    """The lag of every weight ``[out, in, ...]``: that of its sender and that of its receiver."""
    out, per_group = weight.shape[:2]
    senders = np.broadcast_to(before, (per_group * groups,)).reshape(groups, per_group)
    of_rows = np.repeat(senders, out // groups, axis=0)  # [out, in of its group]
    lags = of_rows + np.broadcast_to(behind, (out,))[:, None]
    return np.broadcast_to(lags.reshape(out, per_group, *[1] * (weight.ndim - 2)), weight.shape).astype(np.int64)


def _merged(given: list[Synapses]) -> list[Synapses]:
    """As few layers as there are lags of one synapse."""
    lags = np.unique(np.concatenate([[0], *(one.lags[one.weight != 0] for one in given)]))  # one long delay costs no memory
    kernel = np.zeros((len(lags), *given[0].weight.shape), np.result_type(*(one.weight for one in given)))
    for one in given:
        used = one.weight != 0
        np.add.at(kernel, (np.searchsorted(lags, one.lags[used]), *np.nonzero(used)), one.weight[used])
    biases = [one.bias for one in given if one.bias is not None]
    bias = np.sum(biases, axis=0) if biases else None
    present = kernel != 0
    rank = np.where(present, present.cumsum(0) - 1, -1)
    layers = []
    for k in range(max(1, int(present.sum(0).max()))):
        chosen = rank == k
        weight = np.where(chosen, kernel, 0).sum(0)
        layers.append(
            Synapses(weight, lags[np.argmax(chosen, axis=0)], bias if k == 0 else None, given[0].geometry, int(lags[-1]))
        )
    return layers


def _geometry(node: Any) -> Geometry | None:
    if isinstance(node, nir.Linear | nir.Affine):
        return None
    axes = 1 if isinstance(node, nir.Conv1d) else 2

    def per_axis(value: Any) -> tuple[int, ...]:
        return tuple(int(n) for n in np.broadcast_to(np.asarray(value), axes))

    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        reach = [d * (n - 1) for d, n in zip(per_axis(node.dilation), node.weight.shape[2:], strict=True)]
        if padding == "same" and any(n % 2 for n in reach):
            raise ValueError("padding 'same' with an even kernel is not the same on both sides")
        padding = [n // 2 for n in reach] if padding == "same" else 0
    return Geometry(per_axis(node.stride), per_axis(padding), per_axis(node.dilation), int(node.groups))


def _scale(self: _Building, name: str, node: Any) -> None:
    if np.all(node.scale == 1):  # a place where branches are summed
        self.pass_on(name)
        return
    self.put(name, Scale(self.tensor(node.scale)), self.sources(name))


def _threshold(self: _Building, name: str, node: Any) -> None:
    self.put(name, Threshold(self.tensor(node.threshold)), self.sources(name))


def _flatten(self: _Building, name: str, node: Any) -> None:
    self.put(name, self.target.flatten(int(node.start_dim), int(node.end_dim)), self.sources(name))


def _pool(self: _Building, name: str, node: Any) -> None:
    size, stride, padding = (tuple(int(n) for n in np.broadcast_to(np.asarray(value), 2))
                             for value in (node.kernel_size, node.stride, node.padding))  # fmt: skip
    module = self.target.pool(size, stride, padding, summed=isinstance(node, nir.SumPool2d))
    self.put(name, module, self.sources(name))


_OF_NODES: dict[type, Callable[[_Building, str, Any], None]] = {
    nir.Delay: _Building.add_delay,
    nir.LIF: _Building.add_lif,
    nir.LI: lambda self, name, node: self.add_lif(name, node, potential=True),
    nir.CubaLIF: _Building.add_cuba,
    nir.CubaLI: lambda self, name, node: self.add_cuba(name, node, potential=True),
    nir.IF: _Building.add_if,
    nir.Scale: _scale,
    nir.Threshold: _threshold,
    nir.Flatten: _flatten,
    nir.AvgPool2d: _pool,
    nir.SumPool2d: _pool,
}
