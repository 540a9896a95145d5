"""SpikingJelly: a module takes a step or a whole sequence per call, by its ``step_mode``; its helpers reach any module."""

from __future__ import annotations

from torch import nn

from ..frameworks import Framework

__all__ = ["FRAMEWORK"]


def _reset(net: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(net)


def _detach(net: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.detach_net(net)


def _conformance():
    from .conformance import Conformance

    return Conformance()


FRAMEWORK = Framework(
    name="spikingjelly",
    title="SpikingJelly",
    package="spikingjelly.activation_based",
    minimum="2.0",
    rank=1,
    layers=(
        "DelayedConv1d",
        "DelayedConv2d",
        "DelayedLinear",
        "DelayedRecurrent",
        "DiscreteDelayedLinear",
        "EventPool1d",
        "EventPool2d",
        "EventPropAdLIF",
        "EventPropAdaptiveLI",
        "EventPropConv1d",
        "EventPropConv2d",
        "EventPropLI",
        "EventPropLIF",
        "EventPropLinear",
        "EventPropLinearLI",
    ),
    layer_place="spikingjelly.activation_based.layer",
    neurons=("{}Node",),
    neuron_place="spikingjelly.activation_based.neuron",
    unplaced=frozenset({"DiscreteDelayedLinear"}),  # layer.discretize() makes it
    step={"step_mode": "s"},
    sequence={"step_mode": "m"},
    reset=_reset,
    detach=_detach,
    conformance=_conformance,
)
