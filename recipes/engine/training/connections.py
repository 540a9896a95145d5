"""The synapses of a network whose training is over: their delays made whole, their weights put into a few bits, and all of
them as lists. Layers of this package and linear ones of torch; others are refused by name."""

import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from snn_delay_plugins.bounds import BoundedModule
from snn_delay_plugins.delayed import DelayedSynapses
from snn_delay_plugins.eventprop import EventPropLI, EventPropSpiking
from snn_delay_plugins.quantisation import quantise_weight
from snn_delay_plugins.recurrent import RecurrentDelays

from ..errors import OptionError
from .networks import HiddenLayer, NormOverTime


@dataclasses.dataclass(frozen=True)
class Synapses:
    """Every synapse of a connection that exists, ordered by receiver and sender. ``delay`` is in whole steps, from a spike
    of the sender to the current of the receiver."""

    name: str
    sender: np.ndarray
    receiver: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


@dataclasses.dataclass(frozen=True)
class Neurons:
    """Those that a connection leads to: ``gain`` and ``offset`` make a current of the weighted sum of what arrives (the
    bias and the batch normalisation), ``constants`` are the neurons' parameters as their equations read them."""

    name: str
    gain: np.ndarray
    offset: np.ndarray
    constants: dict[str, np.ndarray]


@dataclasses.dataclass
class Connection:
    """``weight`` ``[receivers, senders]`` of one module and ``delay``, broadcast against it (None: there are none), both as
    the network holds them.

    ``unit``: of the delays, in that of the network (ms); None: they are in steps. ``lag``: steps that a spike takes besides
    its delay. ``norm`` and ``neuron`` come behind it; None: there is none of them.
    """

    name: str
    module: nn.Module
    weight: Tensor
    delay: Tensor | None
    mask: Tensor | None = None
    unit: float | None = None
    lag: int = 0
    norm: nn.Module | None = None
    neuron: nn.Module | None = None
    scale: float | None = None
    """The step of weights in a few bits."""

    @property
    def recurrent(self) -> bool:
        return isinstance(self.module, RecurrentDelays) or self.name.endswith("recurrent_weight")

    @torch.no_grad()
    def round_delays(self) -> None:
        """In place. Raises :class:`OptionError` where the layer then computes something else than one tap at each."""
        if self.delay is None:
            return
        if self.unit is not None:
            whole = (self.delay / self.unit).round()
            longest = getattr(self.module, "max_delay", float("inf"))
            whole -= (whole * self.unit > longest).to(whole.dtype)
            self.delay.copy_(whole * self.unit)
            return
        layer = self.module
        rule = layer.delay_rule.in_evaluation()
        self.delay.copy_(rule.whole_delays(layer.bounded("delay").detach().double(), layer.max_delay))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            layer.whole_delay(layer.effective_weight())
        if said:
            raise OptionError(f"{self.name}: the delay rule {rule.name!r} has no form in whole steps")

    @torch.no_grad()
    def quantise(self, bits: int) -> None:
        """Weights of so many bits, in place."""
        exists = torch.ones_like(self.weight, dtype=torch.bool) if self.mask is None else self.mask
        coarse = quantise_weight(self.weight[exists], bits)
        self.weight[exists] = coarse.weight
        self.scale = float(coarse.scale)

    @torch.no_grad()
    def synapses(self) -> Synapses:
        exists = torch.ones_like(self.weight, dtype=torch.bool) if self.mask is None else self.mask
        receiver, sender = exists.nonzero(as_tuple=True)
        steps = torch.zeros_like(self.weight) if self.delay is None else self.delay / (self.unit or 1.0)
        delay = steps.expand_as(self.weight)[exists].round().long() + self.lag
        arrays = (sender, receiver, self.weight[exists], delay)
        return Synapses(self.name, *(array.cpu().numpy() for array in arrays))

    @torch.no_grad()
    def neurons(self) -> Neurons:
        receivers = len(self.weight)
        bias = getattr(self.module, "bias", None)
        offset = torch.zeros(receivers) if bias is None else bias.detach()
        gain = torch.ones(receivers)
        if isinstance(self.norm, nn.BatchNorm1d):
            gain = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
            offset = gain * (offset - self.norm.running_mean) + self.norm.bias
        constants = {} if self.neuron is None else dict(_constants(self.neuron, receivers))
        return Neurons(self.name, gain.cpu().numpy(), offset.cpu().numpy(), constants)


def connections(network: nn.Module, dt: float | None = None) -> list[Connection]:
    """Of a network of this package's layers, in the order in which it names them. ``dt``: the step of layers in continuous
    time, in their unit (default: each layer's own).

    Raises :class:`OptionError` for a layer with weights that is none of those known.
    """
    modules = dict(network.named_modules())
    found: list[Connection] = []
    for name, module in modules.items():
        found += _of(name, module, dt)
    known = {id(value) for one in found for value in (one.weight, one.delay) if value is not None}
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and id(parameter) not in known:
            kind = type(modules[name.rpartition(".")[0]]).__name__
            raise OptionError(f"{name}: no table of synapses is known of {kind}")
    if not found:
        raise OptionError(f"{type(network).__name__} has no synapses")
    for one in found:
        _find_what_follows(one, modules)
    return found


def _of(name: str, module: nn.Module, dt: float | None) -> Iterator[Connection]:
    if isinstance(module, DelayedSynapses):
        if module.smoothing is not None:
            raise OptionError(f"{name}: a smoothing kernel spreads every spike over several steps: no delay is whole")
        delay = module.stored("delay") if module.max_delay else None
        lag = 1 if isinstance(module, RecurrentDelays) else 0
        yield Connection(name, module, module.weight, delay, module.mask, lag=lag)
    elif isinstance(module, EventPropSpiking | EventPropLI):
        if module.weight.dim() > 2:
            raise OptionError(f"{name}: no table of synapses is known of convolutions ({type(module).__name__})")
        unit = dt or module.dt
        for of, delay in (("weight", "delay"), ("recurrent_weight", "recurrent_delay")):
            weight = getattr(module, of, None)
            if weight is not None:
                place = name if of == "weight" else f"{name}.{of}"
                yield Connection(place, module, weight, getattr(module, delay, None), unit=unit)
    elif isinstance(module, nn.Linear):
        yield Connection(name, module, module.weight, None)


def _find_what_follows(one: Connection, modules: dict[str, nn.Module]) -> None:
    """What lies between the weighted sum and the neurons, and these."""
    if isinstance(one.module, RecurrentDelays):
        one.neuron = one.module.neuron
        return
    if one.unit is not None:
        one.neuron = None if one.recurrent else one.module
        return
    parent = modules[one.name.rpartition(".")[0]] if "." in one.name else None
    if isinstance(parent, HiddenLayer):
        one.norm, one.neuron = parent.norm, parent.neuron
    elif isinstance(parent, nn.Sequential):
        one.norm = next((module for module in parent if isinstance(module, NormOverTime)), None)
        one.neuron = modules.get("integrator")  # of a readout


def _constants(neuron: nn.Module, receivers: int) -> Iterator[tuple[str, np.ndarray]]:
    """Parameters of neurons, one for each or one for all; of a container those of what it holds."""
    neuron = getattr(neuron, "neuron", neuron)
    for name, parameter in neuron.named_parameters(recurse=False):
        if parameter.dim() < 2 and parameter.numel() in (1, receivers) and name not in ("bias", "delay"):
            value = neuron.bounded(name) if isinstance(neuron, BoundedModule) else parameter
            yield name, value.detach().cpu().expand(receivers).numpy()
