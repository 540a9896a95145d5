"""snnTorch: a module takes one step per call in the user's loop; modules of their own take whole sequences (T, B, C)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..frameworks import Framework, Replacement

__all__ = ["FRAMEWORK"]


def _reset(net: nn.Module) -> None:
    from snntorch import utils

    from .reset import reset_ours

    utils.reset(net)  # of 1.0: direct children of its own classes
    reset_ours(net)


def _detach(net: nn.Module) -> None:
    from .reset import detach_ours

    detach_ours(net)


def _replacements() -> Sequence[Replacement]:
    from .helpers import replacements

    return replacements()


def _conformance():
    from .conformance import Conformance

    return Conformance()


FRAMEWORK = Framework(
    name="snntorch",
    title="snnTorch",
    package="snntorch",
    minimum="1.0",
    rank=0,
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
    layer_place="snntorch",
    neurons=("{}", "State{}"),
    neuron_place="snntorch",
    unplaced=frozenset({"DiscreteDelayedLinear"}),  # layer.discretize() makes it
    step={"step_mode": True},
    sequence={"step_mode": False},
    reset=_reset,
    detach=_detach,
    conformance=_conformance,
    replacements=_replacements,
)
