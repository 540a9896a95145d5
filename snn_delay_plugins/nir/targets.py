"""How each framework calls its layers and neurons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..delayed import DelayedSynapses, hold
from ..models.model import NeuronModel
from .linear_neuron import NEVER
from .modules import OverTime, Scale
from .needed import refuse
from .said import SaidNeuron

__all__ = ["TARGETS", "Geometry", "Synapses", "Target"]


class Geometry(NamedTuple):
    """Of a convolution, per axis of space."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class Synapses(NamedTuple):
    """:param lags: in whole steps, of the shape of the weight. :param geometry: None: from all to all."""

    weight: np.ndarray
    lags: np.ndarray
    bias: np.ndarray | None
    geometry: Geometry | None
    longest: int = 0


class Target(ABC):
    """
    :param sequences: modules take ``[T, N, *]``. :param models: by name.
    """

    one_threshold: bool
    """Whether all neurons of a layer have one threshold."""

    def __init__(self, sequences: bool, models: Mapping[str, NeuronModel]) -> None:
        self.sequences, self.models = sequences, models

    @abstractmethod
    def linear(self, in_features: int, out_features: int, bias: bool) -> nn.Module: ...

    @property
    @abstractmethod
    def ours(self) -> ModuleType:
        """Our layers and neurons for the framework."""

    @abstractmethod
    def neuron_class(self, model: NeuronModel) -> type[nn.Module]: ...

    @abstractmethod
    def firing(self, said: SaidNeuron, potential: bool) -> dict[str, Any]:
        """Threshold, reset and what shows the potential, as arguments."""

    @abstractmethod
    def over_images(self, kind: str, *args: Any, **options: Any) -> nn.Module:
        """A module of ``torch.nn`` that takes images."""

    @abstractmethod
    def flatten(self, first: int, last: int) -> nn.Module: ...

    @abstractmethod
    def integrate_and_fire(self, name: str, node: Any, dt: float) -> nn.Module: ...

    @abstractmethod
    def finish(self, net: nn.Module) -> None:
        """What is done with the whole network."""

    def plain(self, of: Synapses) -> nn.Module:
        """Weights without delays."""
        out, per_group, *kernel = of.weight.shape
        if of.geometry is None:
            layer = self.linear(per_group, out, of.bias is not None)
        else:
            channels = per_group * of.geometry.groups
            layer = self.over_images(
                f"Conv{len(kernel)}d", channels, out, tuple(kernel), bias=of.bias is not None, **of.geometry._asdict()
            )
        inner = layer.module if isinstance(layer, OverTime) else layer
        _fill(inner, weight=of.weight, bias=of.bias)
        return layer

    def delayed(self, of: Synapses) -> nn.Module:
        """Weights with whole delays."""
        out, per_group, *kernel = of.weight.shape
        most = max(1, of.longest, int(of.lags.max()))
        exists = of.weight != 0
        options: dict[str, Any] = {"max_delay": most, "bias": of.bias is not None, **self.delay_options}
        if of.geometry is None:
            density = {} if exists.all() else {"density": 1.0}
            layer = self.ours.DelayedLinear(per_group, out, **options, **density)
        else:
            channels = per_group * of.geometry.groups
            convolution = getattr(self.ours, f"DelayedConv{len(kernel)}d")
            layer = convolution(channels, out, tuple(kernel), **of.geometry._asdict(), **options)
        _fill(layer, weight=of.weight, bias=of.bias, delay=of.lags)
        if isinstance(layer, DelayedSynapses) and not exists.all():
            hold(layer, "mask", torch.as_tensor(exists))
        return layer

    def recurrent(self, neurons: nn.Module, synapses: nn.Module) -> nn.Module:
        """:param synapses: a layer with whole delays, or one without any."""
        weight, delay = (getattr(synapses, name, torch.zeros(())).detach() for name in ("weight", "delay"))
        mask = getattr(synapses, "mask", None)
        options = {key: value for key, value in self.delay_options.items() if key != "step_mode"}
        layer = self.ours.DelayedRecurrent(
            neurons, weight.shape[0], max_delay=getattr(synapses, "max_delay", 1), **options,
            **({} if mask is None else {"density": 1.0}),
        )  # fmt: skip
        with torch.no_grad():
            cast("nn.Parameter", layer.weight).copy_(weight)
            cast("nn.Parameter", layer.delay).copy_(delay)
        if mask is not None:
            hold(layer, "mask", mask)
        return layer

    @property
    @abstractmethod
    def delay_options(self) -> dict[str, Any]: ...

    def pool(self, size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], summed: bool) -> nn.Module:
        return self.over_images("AvgPool2d", size, stride, padding, **({"divisor_override": 1} if summed else {}))

    def neuron(self, said: SaidNeuron, potential: bool = False) -> nn.Module:
        """:raises ValueError: for a model that is not known and values that the neuron does not take."""
        model = self.models.get(said.model)
        if model is None:
            raise ValueError(f"the model {said.model!r} is not known; give it with models=")
        values = {name: _value(value) for name, value in said.parameters.items()}
        bounds = {name: _around(model, name, value) for name, value in values.items()}
        made = self.neuron_class(model)(features=said.shape, bounds=bounds, **values, **self.firing(said, potential))
        if np.all(said.graded == 1):
            return made
        return nn.Sequential(made, Scale(torch.as_tensor(said.graded, dtype=torch.get_default_dtype())))


def _value(value: np.ndarray) -> float | Tensor:
    """A number, or a tensor of one value per neuron."""
    return value.item() if value.ndim == 0 else torch.as_tensor(value, dtype=torch.get_default_dtype())


def _around(model: NeuronModel, name: str, value: float | Tensor) -> tuple[float, float]:
    """The interval of the parameter, widened to these values."""
    if name not in model.parameters:
        raise ValueError(f"{model.name} has no parameter {name!r}; it has {sorted(model.parameters)}")
    of = model.parameters[name]
    low, high = (float(end) for end in torch.aminmax(torch.as_tensor(value)))
    return min(of.low, low), max(of.high, high)


def _fill(layer: nn.Module, **values: np.ndarray | None) -> None:
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(layer, name).copy_(torch.as_tensor(np.ascontiguousarray(value)))


class _SnnTorch(Target):
    one_threshold = False

    @property
    def delay_options(self) -> dict[str, Any]:
        return {"kernel": "round", "step_mode": not self.sequences}

    def linear(self, in_features: int, out_features: int, bias: bool) -> nn.Module:
        return nn.Linear(in_features, out_features, bias)

    @property
    def ours(self) -> ModuleType:
        from .. import snntorch

        return snntorch

    def neuron_class(self, model: NeuronModel) -> type[nn.Module]:
        found = getattr(self.ours, f"State{model.name}" if self.sequences else model.name, None)
        return found or self.ours.from_model(model)[1 if self.sequences else 0]

    def firing(self, said: SaidNeuron, potential: bool) -> dict[str, Any]:
        equal = np.unique(said.threshold)
        threshold = float(equal.item()) if equal.size == 1 else torch.as_tensor(said.threshold, dtype=torch.float32)
        hidden = {} if self.sequences else {"init_hidden": True}
        return {"threshold": threshold, "reset_mechanism": said.reset, "output": potential, **hidden}

    def over_images(self, kind: str, *args: Any, **options: Any) -> nn.Module:
        module = getattr(nn, kind)(*args, **options)
        return OverTime(module) if self.sequences else module

    def flatten(self, first: int, last: int) -> nn.Module:
        steps = 2 if self.sequences else 1
        return nn.Flatten(first + steps if first >= 0 else first, last + steps if last >= 0 else last)

    def integrate_and_fire(self, name: str, node: Any, dt: float) -> nn.Module:
        refuse(f"node {name!r}", "is an IF, and neurons here leak: import it with framework='spikingjelly'")

    def finish(self, net: nn.Module) -> None:
        """The modules know already whether they take sequences."""


class _SpikingJelly(Target):
    one_threshold = True

    @property
    def delay_options(self) -> dict[str, Any]:
        return {"interpolation": "round"}

    def linear(self, in_features: int, out_features: int, bias: bool) -> nn.Module:
        from spikingjelly.activation_based import layer

        return layer.Linear(in_features, out_features, bias)

    @property
    def ours(self) -> ModuleType:
        from .. import spikingjelly

        return spikingjelly

    def neuron_class(self, model: NeuronModel) -> type[nn.Module]:
        return getattr(self.ours, f"{model.name}Node", None) or self.ours.from_model(model)

    def firing(self, said: SaidNeuron, potential: bool) -> dict[str, Any]:
        equal = np.unique(said.threshold)
        if equal.size != 1:
            raise ValueError("the neurons have different thresholds, and SpikingJelly's nodes have one: "
                             "framework='snntorch'")  # fmt: skip
        model = self.models[said.model]
        if potential:
            return {"v_threshold": NEVER, "v_reset": None, "store_v_seq": self.sequences}
        if said.reset not in (model.resets[0], "zero"):
            raise ValueError(f"SpikingJelly's {said.model}Node has no reset {said.reset!r}: framework='snntorch'")
        return {"v_threshold": float(equal.item()), "v_reset": None if said.reset == model.resets[0] else 0.0}

    def over_images(self, kind: str, *args: Any, **options: Any) -> nn.Module:
        from spikingjelly.activation_based import layer

        return getattr(layer, kind)(*args, **options)

    def flatten(self, first: int, last: int) -> nn.Module:
        from spikingjelly.activation_based import layer

        return layer.Flatten(first + 1 if first >= 0 else first, last + 1 if last >= 0 else last)

    def integrate_and_fire(self, name: str, node: Any, dt: float) -> nn.Module:
        from spikingjelly.activation_based import neuron

        said = {"r": node.r * dt, "v_threshold": node.v_threshold, "v_reset": node.v_reset}
        equal = {key: np.unique(value) for key, value in said.items()}
        several = [key for key, value in equal.items() if value.size != 1]
        if several or not np.isclose(equal["r"], 1):
            refuse(
                f"node {name!r}", f"{(several or ['r'])[0]}: SpikingJelly's IFNode has one for all neurons, and r = 1 / dt"
            )
        return neuron.IFNode(float(equal["v_threshold"].item()), float(equal["v_reset"].item()))

    def finish(self, net: nn.Module) -> None:
        from spikingjelly.activation_based import functional

        functional.set_step_mode(net, "m" if self.sequences else "s")


TARGETS: dict[str, type[Target]] = {"snntorch": _SnnTorch, "spikingjelly": _SpikingJelly}
