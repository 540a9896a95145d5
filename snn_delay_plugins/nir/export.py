"""Networks to NIR."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..delayed import DelayedSynapses, DiscreteSynapses
from ..delayed_convolution import DelayedConvolution
from ..models.parameters import NeuronParameters
from ..recurrent import RecurrentDelays
from .fragment import Fragment, array, single
from .framework_neurons import framework_neuron, steps_of
from .linear_neuron import leaky_integrator, nodes_of
from .modules import OverTime, Readout, Scale, Threshold
from .needed import DT, check_dt, nir, refuse
from .neurons import neuron_fragment
from .said import NEURONS, SYNAPSES, tag_recurrent
from .synapses import convolution, delayed_fragment, linear, ungrouped
from .tracing import INPUT, Call, Port, Wiring, trace

__all__ = ["export_nir"]

_NO_NODE = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"}  # in evaluation


def export_nir(
    net: nn.Module, sample: Tensor, path: str | Path | None = None, *, dt: float = DT, custom_nodes: bool = False
) -> nir.NIRGraph:
    """A network of layers and neurons of this package, snnTorch, SpikingJelly and torch as a graph of NIR.

    The network is run once, in evaluation, on ``sample``: which module feeds which is what happens there, be it in a
    ``Sequential``, a loop over time or a forward pass of your own. Between modules there may be sums and steps in time.
    What it computes in evaluation is exported; its states are reset, before and after.

    :param sample: a batch as the network takes it, ``[N, *]`` or ``[T, N, *]``; its values do not matter.
    :param path: where to write the graph (HDF5, usually ``.nir``).
    :param dt: seconds of a time step: delays and time constants of NIR are in seconds. It is written into
        ``graph.metadata["dt"]``, where :func:`import_nir` finds it.
    :param custom_nodes: neurons that NIR cannot say (SE-AdLIF with a reset to zero, BRF, a model of your own that is not
        linear) become nodes of a type of our own, which :func:`import_nir` reads back and other readers refuse.
    :returns: the graph; the output is the network's (of a tuple the first, the spikes).
    :raises NIRError: for what NIR cannot say, naming the module and the option or parameter.

    Example::

        >>> import torch
        >>> from snn_delay_plugins.spikingjelly import DelayedLinear, HeterogeneousLIFNode
        >>> synapses = DelayedLinear(3, 2, max_delay=4, delay=torch.tensor([[0.0, 4.0, 1.0], [2.0, 4.0, 1.0]]), bias=False)
        >>> net = torch.nn.Sequential(synapses, HeterogeneousLIFNode(v_reset=0.0, features=2))
        >>> graph = export_nir(net, torch.zeros(1, 3))
        >>> [f"{name}: {type(node).__name__}" for name, node in graph.nodes.items() if name.startswith("0")]
        ['0_0_delay: Delay', '0_0_weight: Linear', '0_1_delay: Delay', '0_1_weight: Linear']
        >>> graph.nodes["0_0_delay"].delay.tolist(), graph.nodes["0_1_delay"].delay.tolist()
        ([0.0, 0.0004, 0.0001], [0.0002, 0.0, 0.0])
    """
    dt = check_dt(dt)
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if not isinstance(sample, Tensor):
        raise TypeError(f"sample must be a tensor, a batch as the network takes it, got {type(sample).__name__}")
    _refuse_events(net)
    with _in_evaluation(net):
        wiring = trace(net, sample, _is_leaf)
        graph = _graph_of(wiring, _Context(dt, custom_nodes, _steps(wiring), wiring))
    if path is not None:
        nir.write(path, graph)
    return graph


def _refuse_events(net: nn.Module) -> None:
    for name, module in net.named_modules():
        kind = type(module).__name__
        if kind.startswith(("EventProp", "EventPool")):
            refuse(name or "the network", f"{kind} computes with events, whose times and delays lie between the steps of "
                                          "NIR's simulators: EventProp is not exported")  # fmt: skip


@contextmanager
def _in_evaluation(net: nn.Module):
    modes = {module: module.training for module in net.modules()}
    _reset(net)
    try:
        net.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        _reset(net)


def _reset(net: nn.Module) -> None:
    """Forget states. snnTorch's own ``utils.reset`` clears those of other networks too."""
    for module in net.modules():
        forget = getattr(module, "reset_mem", None) or (
            getattr(module, "reset", None) if hasattr(module, "_memories") else None
        )
        if callable(forget):
            forget()


@dataclass
class _Context:
    """:param steps: axes in front of those of neurons, in the calls of modules that do not say."""

    dt: float
    custom_nodes: bool
    steps: int
    wiring: Wiring

    @property
    def digits(self) -> int:
        """Of the largest number among the names of modules: names sort as the modules of a Sequential run."""
        return max((len(part) for name in self.wiring.calls for part in name.split(".") if part.isdigit()), default=1)

    def shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        steps = steps_of(call.module)
        return shape[self.steps if steps is None else steps :]

    def potential(self, call: Call) -> bool:
        """Whether the membrane potential of a neuron is used in the place of its spikes."""
        used = {port for other in self.wiring.calls.values() for port in other.sources} | set(self.wiring.outputs)
        outputs = {port.output for port in used if port.module == call.name}
        if len(outputs) > 1:
            refuse(call.name, "both its spikes and its states are used; NIR's neurons have one output")
        return outputs not in (set(), {0})


def _steps(wiring: Wiring) -> int:
    said = {steps_of(call.module) for call in wiring.calls.values()} - {None}
    return max((steps for steps in said if steps is not None), default=1)


def _is_leaf(module: nn.Module) -> bool:
    return _passes_on(module) or _converter(module) is not None


def _passes_on(module: nn.Module) -> bool:
    """Whether a module of torch or SpikingJelly does nothing in evaluation."""
    return type(module).__name__ in _NO_NODE and type(module).__module__.startswith(("torch.nn.", "spikingjelly."))


def _graph_of(wiring: Wiring, context: _Context) -> nir.NIRGraph:
    unknown: Any = None  # the type of a node, until nir infers it
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": unknown})}
    edges: list[tuple[str, str]] = []
    exits: dict[str, list[str]] = {INPUT: ["input"]}
    for call in wiring.calls.values():
        fragment = _named(call, context, {*nodes, "output", "output_sum"})
        sources = _sources(call.name, call.sources, exits)
        if not fragment.nodes:
            exits[call.name] = sources
            continue
        nodes.update(fragment.nodes)
        edges += fragment.edges + [(source, entry) for source in sources for entry in fragment.entries]
        exits[call.name] = fragment.exits
    ends = _sources("the output", wiring.outputs, exits)
    if len(ends) > 1:  # readers sum what goes into a node, but into the output not all of them
        nodes["output_sum"] = nir.Scale(np.ones(_output_shape(wiring, context)))
        edges += [(end, "output_sum") for end in ends]
        ends = ["output_sum"]
    nodes["output"] = nir.Output({"output": unknown})
    edges += [(end, "output") for end in ends]
    nodes, edges = _used(nodes, edges)
    nodes["input"] = nir.Input({"input": _input_type(nodes, edges)})
    metadata = {"dt": np.float64(context.dt)}
    graph = nir.NIRGraph(nodes, edges, metadata, type_check=False)
    graph.infer_types()
    graph.check_types()
    return graph


def _sources(where: str, ports: frozenset[Port], exits: dict[str, list[str]]) -> list[str]:
    for port in sorted(ports):
        if port.changed:
            of = repr(port.module) if port.module else "the input"
            refuse(where, f"takes {of} after {port.changed}, which no node of NIR says: export the part of the network "
                          "before it, or make a module of it that has a node")  # fmt: skip
    return [name for module in dict.fromkeys(port.module for port in sorted(ports)) for name in exits[module]]


def _used(nodes: dict, edges: list) -> tuple[dict, list]:
    """What leads to the output; modules that are called for their side effects are left out."""
    used, fresh = set(), {"output"}
    while fresh:
        used |= fresh
        fresh = {source for source, target in edges if target in fresh} - used
    kept = {name: node for name, node in nodes.items() if name in used or name == "input"}
    return kept, [edge for edge in edges if edge[0] in used and edge[1] in used]


def _input_type(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]) -> np.ndarray:
    for source, target in edges:
        if source == "input":
            types = nodes[target].input_type
            value = None if types is None else next(iter(types.values()))
            if value is not None:
                return np.array(value)
    refuse("the network", "returns its input: there is no node to export")


def _output_shape(wiring: Wiring, context: _Context) -> tuple[int, ...]:
    """Of one step of one of the batch."""
    name = min(wiring.outputs).module
    call = wiring.calls[name or next(iter(wiring.calls))]
    return context.shape(call, call.output_shape if name else call.input_shape)


def _named(call: Call, context: _Context, taken: set[str]) -> Fragment:
    """Under the module's name as NIR's readers take it, without dots, or with a number where that is taken."""
    plain = name = re.sub(
        r"[./]", "_", re.sub(r"(?<![^.])\d+(?![^.])", lambda number: number[0].zfill(context.digits), call.name)
    )
    for number in itertools.count(1):
        fragment = _fragment(name, call, context)
        if taken.isdisjoint(fragment.nodes):
            return fragment
        name = f"{plain}_{number}th"
    raise AssertionError


def _fragment(name: str, call: Call, context: _Context) -> Fragment:
    if _passes_on(call.module):
        return Fragment()
    convert = _converter(call.module)
    if convert is None:
        refuse(call.name, f"NIR has no node for {type(call.module).__name__}")
    return convert(name, call, context)


_KNOWN = ("snn_delay_plugins.", "spikingjelly.", "snntorch.", "torch.nn.")
"""Where the forward passes are that converters know."""
Converter = Callable[[str, Call, _Context], Fragment]


def _converter(module: nn.Module) -> Converter | None:
    if isinstance(module, RecurrentDelays):
        return _recurrent
    if not type(module).forward.__module__.startswith(_KNOWN):
        return None  # a subclass that computes something else
    if isinstance(module, NeuronParameters):
        return _our_neuron
    if isinstance(module, DelayedSynapses | DiscreteSynapses | DelayedConvolution):
        return _our_layer
    if framework_neuron(module) is not None:
        return _their_neuron
    for kind, convert in _OF_TORCH.items():
        if type(module) is kind or (isinstance(module, kind) and _is_spikingjelly_layer(module, kind)):
            return convert
    return None


def _is_spikingjelly_layer(module: nn.Module, kind: type) -> bool:
    """SpikingJelly's stateless layers are torch's under the same name, with a step mode."""
    return type(module).__module__.startswith("spikingjelly.") and type(module).__name__ == kind.__name__


def _recurrent(name: str, call: Call, context: _Context) -> Fragment:
    """A nested graph in which the spikes come back to their neurons, over the synapses, a step later."""
    layer: RecurrentDelays = call.module  # pyright: ignore[reportAssignmentType] - by _converter
    inner = replace(call, module=layer.neuron)
    if context.potential(call):
        refuse(call.name, "its states are used; NIR's recurrent graphs show spikes")
    convert = _converter(layer.neuron)
    if convert is None or convert not in (_our_neuron, _their_neuron):
        refuse(call.name, f"NIR has no node for {type(layer.neuron).__name__}")
    neurons = convert(NEURONS, inner, context)
    if neurons.exits != [NEURONS]:
        refuse(call.name, "graded_spikes_factor of recurrent neurons: scale the weights instead")
    synapses = delayed_fragment(SYNAPSES, layer, (), context.dt)
    shape = {"input": np.array([layer.in_features])}
    nodes = {"input": nir.Input(shape), **neurons.nodes, **synapses.nodes, "output": nir.Output({"output": shape["input"]})}
    there = [("input", NEURONS), (NEURONS, "output"), *((NEURONS, entry) for entry in synapses.entries)]
    edges = [*there, *synapses.edges, *((end, NEURONS) for end in synapses.exits)]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    tag_recurrent(graph)
    return single(name, graph)


def _our_neuron(name: str, call: Call, context: _Context) -> Fragment:
    shape = context.shape(call, call.input_shape)
    return neuron_fragment(name, call.module, shape, context.dt, context.custom_nodes, context.potential(call))  # pyright: ignore[reportArgumentType] - of NeuronParameters, by _converter


def _their_neuron(name: str, call: Call, context: _Context) -> Fragment:
    coefficients = framework_neuron(call.module)
    assert coefficients is not None
    of = coefficients(name, context.shape(call, call.input_shape))
    return leaky_integrator(name, of, context.dt) if context.potential(call) else nodes_of(name, of, context.dt)


def _our_layer(name: str, call: Call, context: _Context) -> Fragment:
    layer = call.module
    space = call.input_shape[-layer.axes :] if isinstance(layer, DelayedConvolution) else ()
    return delayed_fragment(name, layer, space, context.dt)  # pyright: ignore[reportArgumentType] - by _converter


def _linear(name: str, call: Call, context: _Context) -> Fragment:
    layer: nn.Linear = call.module  # pyright: ignore[reportAssignmentType]
    return linear(name, array(layer.weight), None if layer.bias is None else array(layer.bias))


def _convolution(name: str, call: Call, context: _Context) -> Fragment:
    layer: nn.Conv2d = call.module  # pyright: ignore[reportAssignmentType] - or Conv1d
    if layer.padding_mode != "zeros":
        refuse(name, f"padding_mode={layer.padding_mode!r}: NIR's convolutions pad with zeros")
    space = call.input_shape[-len(layer.kernel_size) :]
    bias = None if layer.bias is None else array(layer.bias)
    return single(name, convolution(ungrouped(array(layer.weight), layer.groups), bias, space, layer))


def _pool(name: str, call: Call, context: _Context) -> Fragment:
    layer: nn.AvgPool2d = call.module  # pyright: ignore[reportAssignmentType]
    if layer.ceil_mode or layer.divisor_override is not None or (np.any(layer.padding) and not layer.count_include_pad):
        refuse(name, "NIR's AvgPool2d has no ceil_mode, divisor_override or count_include_pad=False")
    size, stride, padding = (np.array(np.broadcast_to(value, 2)) for value in
                             (layer.kernel_size, layer.stride or layer.kernel_size, layer.padding))  # fmt: skip
    return single(name, nir.AvgPool2d(size, stride, padding))


def _flatten(name: str, call: Call, context: _Context) -> Fragment:
    layer: nn.Flatten = call.module  # pyright: ignore[reportAssignmentType]
    steps, axes = steps_of(layer), len(call.input_shape)
    if isinstance(getattr(layer, "step_mode", None), str):  # SpikingJelly's counts the axes of one step
        first, last, steps, axes = layer.start_dim - 1, layer.end_dim, 1, axes - (steps or 1) + 1
    else:
        steps = context.steps
        first, last = layer.start_dim - steps, layer.end_dim
    first = first + axes if layer.start_dim < 0 else first
    if first < 0:
        refuse(name, f"start_dim={layer.start_dim} flattens the batch or time, which NIR does not know")
    shape = call.input_shape[len(call.input_shape) - (axes - steps) :]
    last = last - steps if last >= 0 else last
    return single(name, nir.Flatten({"input": np.array(shape)}, first, last))


def _over_time(name: str, call: Call, context: _Context) -> Fragment:
    inner = replace(call, module=call.module.module)  # pyright: ignore[reportArgumentType] - of OverTime
    convert = _converter(inner.module)
    if convert is None:
        refuse(call.name, f"NIR has no node for {type(inner.module).__name__}")
    return convert(name, inner, context)


def _readout(name: str, call: Call, context: _Context) -> Fragment:
    inner = replace(call, module=call.module.neuron)  # pyright: ignore[reportArgumentType] - of Readout
    shape = context.shape(inner, call.input_shape)
    of_framework = framework_neuron(inner.module)
    if of_framework is not None:
        return leaky_integrator(name, of_framework(name, shape), context.dt)
    if not isinstance(inner.module, NeuronParameters):
        refuse(call.name, f"NIR has no node for {type(inner.module).__name__}")
    return neuron_fragment(name, inner.module, shape, context.dt, False, True)


def _elements(call: Call, context: _Context) -> tuple[int, ...]:
    return call.input_shape[context.steps :]


def _scale(name: str, call: Call, context: _Context) -> Fragment:
    return single(name, nir.Scale(array(call.module.scale, _elements(call, context))))  # pyright: ignore[reportArgumentType]


def _threshold(name: str, call: Call, context: _Context) -> Fragment:
    return single(name, nir.Threshold(array(call.module.threshold, _elements(call, context))))  # pyright: ignore[reportArgumentType]


_OF_TORCH: dict[type[nn.Module], Converter] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.AvgPool2d: _pool,
    nn.Flatten: _flatten,
    OverTime: _over_time,
    Readout: _readout,
    Scale: _scale,
    Threshold: _threshold,
}
