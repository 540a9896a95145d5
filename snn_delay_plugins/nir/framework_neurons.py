"""The neurons of snnTorch and SpikingJelly themselves, by exact type: a subclass may compute something else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .fragment import array
from .linear_neuron import LinearNeuron
from .needed import refuse

__all__ = ["framework_neuron", "steps_of"]

Shape = tuple[int, ...]


def framework_neuron(module: nn.Module) -> Callable[[str, Shape], LinearNeuron] | None:
    """What gives the coefficients of a neuron of a framework; None for other modules."""
    found = _FOUND.get(f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}")
    if found is None or not _is_exact(module):
        return None
    return lambda where, shape: found(where, module, shape)


def _is_exact(module: nn.Module) -> bool:
    """Whether the framework's own name is this class."""
    name = type(module).__name__
    own = [sys.modules.get("snntorch"), sys.modules.get("spikingjelly.activation_based.neuron")]
    return any(getattr(package, name, None) is type(module) for package in own)


def steps_of(module: nn.Module) -> int | None:
    """How many axes of its input are none of the neurons: 1 (batch) or 2 (time, batch); None: it does not say."""
    mode = getattr(module, "step_mode", None)
    if isinstance(mode, bool):
        return 1 if mode else 2
    if isinstance(mode, str):
        return 1 if mode == "s" else 2
    if getattr(module, "takes_sequences", False):
        return 2
    return 1 if hasattr(module, "init_hidden") else None


def _number(value: Tensor | float, shape: Shape) -> np.ndarray:
    return array(value.double() if isinstance(value, Tensor) else value, shape)


def _check_snntorch(where: str, module: Any) -> None:
    for option in ("inhibition", "state_quant"):
        if getattr(module, option):
            refuse(where, f"{option}={getattr(module, option)!r}: NIR has no word for it")


def _leaky(where: str, module: Any, shape: Shape) -> LinearNeuron:
    _check_snntorch(where, module)
    beta = _number(module.beta.clamp(0, 1), shape)
    return _snntorch(where, module, shape, A00=beta, B0=np.ones(shape))


def _synaptic(where: str, module: Any, shape: Shape) -> LinearNeuron:
    _check_snntorch(where, module)
    if module.reset_mechanism == "zero" and module.reset_delay:
        refuse(where, "reset_mechanism='zero' with reset_delay=True drops the input of the step after a spike; "
                      "reset_delay=False is NIR's CubaLIF")  # fmt: skip
    alpha, beta = (_number(value.clamp(0, 1), shape) for value in (module.alpha, module.beta))
    one = np.ones(shape)
    return _snntorch(where, module, shape, A00=beta, B0=one, A01=alpha, A11=alpha, B1=one)


def _snntorch(where: str, module: Any, shape: Shape, **coefficients: Any) -> LinearNeuron:
    theta = _number(module.threshold, shape)
    if module.reset_mechanism == "subtract" and not module.reset_delay:
        refuse(where, "reset_mechanism='subtract' with reset_delay=False: a membrane above twice the threshold is "
                      "reset otherwise, which NIR has no word for; use reset_delay=True")  # fmt: skip
    return LinearNeuron(
        shape=shape, theta=theta, r0=-theta * (module.reset_mechanism == "subtract"),
        reset_to=0.0 if module.reset_mechanism == "zero" else None, words={"A00": "beta", "A11": "alpha"},
        graded=_number(module.graded_spikes_factor, shape), **coefficients,
    )  # fmt: skip


def _lif_node(where: str, module: Any, shape: Shape) -> LinearNeuron:
    return _node(module, shape, 1 / float(module.tau), module.decay_input)


def _parametric_lif_node(where: str, module: Any, shape: Shape) -> LinearNeuron:
    return _node(module, shape, torch.sigmoid(module.w.detach().double()).item(), module.decay_input)


def _if_node(where: str, module: Any, shape: Shape) -> LinearNeuron:
    return _node(module, shape, 0.0, False)


def _node(module: Any, shape: Shape, leak: float, decay_input: bool) -> LinearNeuron:
    rest = 0.0 if module.v_reset is None else float(module.v_reset)
    return _spikingjelly(module, shape, rest if leak else 0.0, A00=1 - leak, B0=leak if decay_input else 1.0)


def _cuba_node(where: str, module: Any, shape: Shape) -> LinearNeuron:
    c = module.c_decay
    return _spikingjelly(module, shape, 0.0, A00=module.v_decay, B0=1.0, A01=c, A11=c, B1=1.0)


def _spikingjelly(module: Any, shape: Shape, leak_to: float, **coefficients: Any) -> LinearNeuron:
    theta = float(module.v_threshold)
    soft = module.v_reset is None
    return LinearNeuron(
        shape=shape, theta=np.asarray(theta), r0=np.asarray(-coefficients["A00"] * theta if soft else 0.0),
        reset_to=None if soft else float(module.v_reset), leak_to=leak_to,
        words={"A00": "tau", "A11": "c_decay"}, **coefficients,
    )  # fmt: skip


_FOUND: dict[str, Callable[[str, Any, Shape], LinearNeuron]] = {
    "snntorch.Leaky": _leaky,
    "snntorch.Synaptic": _synaptic,
    "spikingjelly.IFNode": _if_node,
    "spikingjelly.LIFNode": _lif_node,
    "spikingjelly.ParametricLIFNode": _parametric_lif_node,
    "spikingjelly.CUBALIFNode": _cuba_node,
}
