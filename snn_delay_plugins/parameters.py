"""Trainable parameters of layers with delays; beside them, under one roof, those of neurons and the bounds of all."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from .bounds import BoundedModule, BoundMode, project_
from .checks import check_choice, check_flag, check_spikes, check_steps, check_whole, real_values, values_known
from .projection import live_modules
from .transforms import check_left_behind

if TYPE_CHECKING:
    from .models.adlif_parameters import ADLIF_PRESETS, AdLIFParameters, AdLIFPreset
    from .models.parameters import NeuronParameters

__all__ = [
    "ADLIF_PRESETS",
    "AdLIFParameters",
    "AdLIFPreset",
    "BoundedModule",
    "DelayParameters",
    "DelayType",
    "NeuronParameters",
    "delay_shape",
    "initial_delay",
    "live_modules",
    "project_",
    "real_values",
    "refuse_other_batch",
]  # fmt: skip

DelayType = Literal["synaptic", "axonal", "dendritic"]

# what lies with the models, a floor above, and is imported when its name is asked for
_OF_NEURONS = {
    "ADLIF_PRESETS": "adlif_parameters", "AdLIFParameters": "adlif_parameters", "AdLIFPreset": "adlif_parameters",
    "NeuronParameters": "parameters", "preset_bounds": "adlif_parameters",
    "_LazyBuffer": "parameters", "_LazyParameter": "parameters",  # for pickles of neurons that were never run
}  # fmt: skip


def __getattr__(name: str):
    if name not in _OF_NEURONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".models.{_OF_NEURONS[name]}", __package__), name)


class DelayParameters(BoundedModule):
    """Weight, bias and delay of a linear layer with delays; what the layers of both frameworks share."""

    def create_delay_parameters(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        max_delay: int,
        delay: float | str | Tensor,
        delay_type: DelayType,
        learn_delay: bool,
        bound_mode: BoundMode,
    ) -> None:
        """Create ``weight`` (U(-1, 1)), ``bias`` (zero) and ``delay``, bounded to ``[0, max_delay]``.

        The weights are still to be scaled, when it is known which synapses exist: :mod:`.initial_weights`.

        :param delay: initial delays in time steps: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a
            tensor of the delay's shape.
        :param delay_type: ``"synaptic"`` ``[out, in]``, ``"axonal"`` ``[1, in]`` or ``"dendritic"`` ``[out, 1]``.
        """
        in_features, out_features = check_features(in_features, out_features)
        bias, learn_delay = check_flag("bias", bias), check_flag("learn_delay", learn_delay)
        max_delay = check_steps("max_delay", max_delay)
        shape = delay_shape(delay_type, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        self.max_delay, self.delay_type, self.learn_delay = max_delay, delay_type, learn_delay
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-1.0, 1.0))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        initial = initial_delay(delay, shape, self.max_delay)
        if learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay, mode=bound_mode)

    def check_batch(self, history: Tensor | None, spikes: Tensor, remedy: str) -> None:
        """Refuse spikes ``[..., N, in]`` of another batch size than the ``history`` ``[H, N, in]`` of earlier ones."""
        refuse_other_batch(history, spikes, -2, remedy)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, delay_type={self.delay_type!r}, learn_delay={self.learn_delay}"
        )


def refuse_other_batch(history: object, spikes: Tensor, axis: int, remedy: str) -> None:
    """
    :raises ValueError: for ``spikes`` of another size along ``axis`` than the ``history`` ``[H, N, ...]`` of earlier ones.
    """
    check_left_behind(history)
    check_spikes(spikes)
    if isinstance(history, Tensor) and spikes.dim() >= -axis and spikes.shape[axis] != history.shape[1]:
        raise ValueError(
            f"spikes of a batch of {history.shape[1]} are still on their way but the input is a batch of "
            f"{spikes.shape[axis]}: call {remedy} between batches"
        )


def delay_shape(delay_type: DelayType, out_features: int, in_features: int) -> tuple[int, int]:
    """Shape of the delays: ``"synaptic"`` [out, in], ``"axonal"`` [1, in] or ``"dendritic"`` [out, 1].

    :raises ValueError: for any other ``delay_type``.
    """
    shapes = {"synaptic": (out_features, in_features), "axonal": (1, in_features), "dendritic": (out_features, 1)}
    return shapes[check_choice("delay_type", delay_type, sorted(shapes))]


def check_features(in_features: int, out_features: int) -> tuple[int, int]:
    """The sizes of a linear layer, positive whole numbers."""
    sizes = [
        check_whole(name, value, least=-math.inf, most=2**31 - 1)
        for name, value in {"in_features": in_features, "out_features": out_features}.items()
    ]
    if min(sizes) < 1:
        raise ValueError(f"in_features and out_features must be positive, got {sizes[0]} and {sizes[1]}")
    return sizes[0], sizes[1]


def initial_delay(delay: float | str | Tensor, shape: tuple[int, ...], max_delay: float, name: str = "delay") -> Tensor:
    """Initial delays of the given shape from a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.

    :raises ValueError: unless all of them are finite and in ``[0, max_delay]``; the message calls them ``name``.
    """
    if isinstance(delay, str):
        if delay not in ("zeros", "uniform"):
            raise ValueError(f"{name} must be a number, a tensor, 'zeros' or 'uniform', got {delay!r}")
        if delay == "uniform" and math.isinf(max_delay):
            raise ValueError(f"{name}='uniform' draws from [0, max_delay]: give a finite max_delay")
        return torch.zeros(shape) if delay == "zeros" else torch.empty(shape).uniform_(0.0, max_delay)
    value = real_values(name, delay)
    if value.dim() > 0 and tuple(value.shape) != shape:
        raise ValueError(f"{name} must be a number or have shape {shape}, got shape {tuple(value.shape)}")
    if values_known(value) and not bool((value.isfinite() & (value >= 0) & (value <= max_delay)).all()):
        allowed = "[0, inf)" if math.isinf(max_delay) else f"[0, {max_delay:g}]"
        raise ValueError(
            f"initial delays must lie in {allowed}, got {value.min():g} ... {value.max():g}"
            + ("" if name == "delay" else f" for {name}")
        )
    return torch.empty(shape).copy_(value)
