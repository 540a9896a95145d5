"""Checks of single arguments, the same for every constructor and function of the package.

A wrong type is a TypeError, a wrong value a ValueError; the message names the argument, what is wanted and what came.
Whoever needs more than one argument for a check (shapes that must fit each other) does it beside its equations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .transforms import vectorised

__all__ = [
    "LARGEST", "LONGEST", "TO_DENSE", "check_choice", "check_current", "check_flag", "check_function", "check_number",
    "check_real", "check_sigma", "check_spikes", "check_steps", "check_tensor", "check_whole", "real_values", "shape_alone",
    "values_known",
]  # fmt: skip

_Choice = TypeVar("_Choice", bound=str)
LONGEST = 2**24
"""Most time steps of a delay or of padding: float32, in which delays are kept, counts whole steps no further."""
LARGEST = 1e30
"""Constants beyond it, or below one over it, overflow where float32 computes with them."""

TO_DENSE = 'set output="dense" on the EventProp layer before, or call .to_dense(dt)'
"""The remedy where a layer for tensors got events."""

TRACED = (
    "torch.fx traces into this module; to export to NIR use snn_delay_plugins.nir.export_nir, else keep its class a leaf "
    "(torch.fx.Tracer.is_leaf_module)"
)
"""The remedy where symbolic tracing, as SpikingJelly's exporter to NIR does it, put a proxy in the place of a tensor."""


def shape_alone(tensor: Tensor) -> bool:
    """Whether a tensor has a shape but no values: on the meta device, or in a ``FakeTensorMode``."""
    return not torch.compiler.is_compiling() and (isinstance(tensor, FakeTensor) or tensor.is_meta)


def values_known(tensor: Tensor) -> bool:
    """Whether the values can be looked at: not while ``torch.compile`` traces, in ``vmap``, nor where there are none."""
    return not (torch.compiler.is_compiling() or vectorised() or isinstance(tensor, FakeTensor) or tensor.is_meta)


def check_number(
    name: str, value: object, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf,
    infinite: bool = False, unit: str = "",
) -> float:  # fmt: skip
    """``value`` as a float: a real number (numpy's too) or a tensor of one element.

    :param above: the number must be larger. :param least: and not smaller. :param most: and not larger.
    :param infinite: whether an infinite number is allowed.
    :raises TypeError: for anything that is not one real number, bool included.
    :raises ValueError: for NaN and numbers outside of these limits.

    Example::

        >>> check_number("tau", 2, above=0.0)
        2.0
        >>> check_number("tau", float("nan"), above=0.0, unit="ms")
        Traceback (most recent call last):
        ValueError: tau must be positive (a finite number, ms), got nan
    """
    number = _as_float(value)
    if number is None:
        raise TypeError(f"{name} must be {_wanted(above, least, most, infinite, unit)}, got {_shown(value)}")
    inside = number > above if above > -math.inf else number >= least
    if not (inside and number <= most) or (math.isinf(number) and not infinite):  # NaN is never inside
        raise ValueError(f"{name} must be {_wanted(above, least, most, infinite, unit)}, got {number:g}")
    return number


def check_whole(name: str, value: object, *, least: float = 0, most: float = math.inf, unit: str = "") -> int:
    """``value`` as an int: a whole number, also as a float (2.0), of numpy, or a tensor of one element.

    :raises TypeError: for anything that is not one real number, bool included.
    :raises ValueError: for numbers that are not whole, or outside of ``[least, most]``.

    Example::

        >>> check_whole("max_delay", 2.0)
        2
        >>> check_whole("max_delay", 2.5, unit="time steps")
        Traceback (most recent call last):
        ValueError: max_delay must be a whole number of time steps >= 0, got 2.5
    """
    if type(value) is int and least <= value <= most:
        return value
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _as_float(value)
    whole = isinstance(number, int) or (number is not None and math.isfinite(number) and number == int(number))
    if number is None or not whole or not least <= number <= most:
        kind = TypeError if number is None else ValueError
        limit = f"<= {most}" if number is not None and number > most else f">= {least}"
        raise kind(f"{name} must be a whole number {f'of {unit} ' if unit else ''}{limit}, got {_shown(value)}")
    return int(number)


def check_steps(name: str, value: object) -> int:
    """A number of time steps as a whole number of 0 to :data:`LONGEST`."""
    return check_whole(name, value, most=LONGEST, unit="time steps")


def check_flag(name: str, value: object) -> bool:
    """``value`` as a bool; of other types 0 and 1 alone.

    :raises TypeError: for anything else, as the text ``"False"`` that would count as true.
    """
    if value is True or value is False:
        return value
    if not (isinstance(value, Real) or type(value).__name__ in ("bool", "bool_")) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def check_choice(name: str, value: object, choices: Sequence[_Choice]) -> _Choice:
    """``value`` as one of the ``choices``, which have a ``Literal`` for their type where one lists them.

    :raises ValueError: if ``value`` is none of the ``choices``.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {_shown(value)}")
    return cast("_Choice", value)


def check_function(name: str, value: object, example: str) -> Callable:
    """:raises TypeError: if ``value`` cannot be called, or is a class (of which an instance is wanted)."""
    if not callable(value):
        raise TypeError(f"{name} must be a function such as {example}, got {_shown(value)}")
    if isinstance(value, type):
        raise TypeError(f"{name} must be a function such as {example}, got the class {value.__name__}: make an instance")
    return value


def check_tensor(name: str, value: object, wanted: str = "a tensor") -> Tensor:
    """:raises TypeError: if ``value`` is no tensor."""
    if not isinstance(value, Tensor):
        remedy = {"SpikeEvents": f": {TO_DENSE}", "Proxy": f": {TRACED}"}.get(type(value).__name__, "")
        raise TypeError(f"{name} must be {wanted}, got {_shown(value)}{remedy}")
    return value


def check_spikes(spikes: object) -> Tensor:
    """The input of a layer. :raises TypeError: if it is no tensor, or a sparse one."""
    tensor = check_tensor("spikes", spikes)
    if tensor.layout is not torch.strided:
        raise TypeError(f"spikes must be a dense tensor, got {tensor.layout}; convert it: spikes.to_dense()")
    return tensor


def check_current(current: object, layout: str, least: int) -> Tensor:
    """The input of a neuron, of at least so many dimensions; before lazy parameters take their shape from it.

    :raises TypeError: if it is not floating point. :raises ValueError: for too few dimensions.
    """
    tensor = check_tensor("input", current, f"a tensor {layout}")
    if tensor.dim() < least:
        raise ValueError(f"input must be {layout}, got shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise TypeError(f"input must be floating point, got {tensor.dtype}; convert it, e.g. input.float()")
    return tensor


def check_real(name: str, value: Tensor) -> None:
    """:raises TypeError: for complex numbers and bool."""
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")


def check_sigma(value: object) -> float:
    """The standard deviation of Gaussian delays.

    :raises TypeError: if it is not one real number. :raises ValueError: if it is not positive and finite in float32.
    """
    number = _as_float(value)
    if number is None or not 1 / LARGEST <= number <= LARGEST:
        kind = TypeError if number is None else ValueError
        raise kind(
            f"sigma must be a positive number of time steps (at most {LARGEST:g}), got "
            f"{_shown(value) if number is None else number}"
        )
    return number


def real_values(name: str, value: float | Tensor) -> Tensor:
    """Given values in the default dtype, where they are (numbers: on the CPU, whose values can be looked at)."""
    try:
        given = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # what torch says of None, text, ragged lists, ...
        given = None
    if given is None or given.is_complex() or given.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else repr(value)
        raise TypeError(f"{name} must be a number or a tensor of real numbers, got {kind}")
    return given.to(torch.get_default_dtype())


def _as_float(value: object) -> float | None:
    """``None`` if it is not one real number."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex() or value.dtype == torch.bool or not values_known(value):
            return None
        return float(value.detach())
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:  # an int beyond the largest float
        return math.inf if value > 0 else -math.inf  # pyright: ignore[reportOperatorIssue] - Real claims no order


def _wanted(above: float, least: float, most: float, infinite: bool, unit: str) -> str:
    number = "a number" if infinite else "a finite number"
    limits = [f"above {above:g}"] if above not in (-math.inf, 0) else []
    limits += [f"of at least {least:g}"] if least > -math.inf else []
    limits += [f"of at most {most:g}"] if most < math.inf else []
    if limits:
        number += " " + " and ".join(limits)
    if above == 0:
        return f"positive ({number}{f', {unit}' if unit else ''})"
    return f"{number}{f' ({unit})' if unit else ''}"


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:60]}..."
