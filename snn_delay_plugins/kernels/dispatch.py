"""The one place that chooses between the plain PyTorch form of a function and its kernels.

The choice can be overridden per call (argument ``method``) or for the whole process with the environment variable
``SNN_DELAY_PLUGINS_METHOD`` (``torch``: the plain form everywhere). What was chosen is logged at debug level under
the logger ``snn_delay_plugins``.
"""
from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["adlif_method"]

_log = logging.getLogger("snn_delay_plugins")
METHODS = ("torch", "numba")


def adlif_method(current: Tensor, dtype: torch.dtype, surrogate: Callable, method: str | None = None) -> str:
    """``"numba"`` where the compiled AdLIF kernel applies, else ``"torch"``.

    :param current: the input sequence; :param dtype: the dtype that the states are computed in.
    :param surrogate: the kernel handles every surrogate that spikes with 0 or 1; a smooth one needs ``"torch"``.
    :param method: what the caller asks for.
    :raises ValueError: for an unknown method, or ``"numba"`` where the kernel does not apply, saying why.
    """
    wanted = method or os.environ.get("SNN_DELAY_PLUGINS_METHOD") or None
    if wanted is not None and wanted not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {wanted!r}")
    obstacle = _adlif_obstacle(current, dtype, surrogate)
    if method == "numba" and obstacle:
        raise ValueError(f"method='numba' is not possible here: {obstacle}")
    chosen = "torch" if wanted == "torch" or obstacle else "numba"
    if not torch.compiler.is_compiling():
        _log.debug("adlif %s: %s%s", tuple(current.shape), chosen, f" ({obstacle})" if obstacle else "")
    return chosen


def _adlif_obstacle(current: Tensor, dtype: torch.dtype, surrogate: Callable) -> str | None:
    if current.device.type != "cpu":
        return f"the kernel runs on the CPU, current is on {current.device}"
    if dtype not in (torch.float32, torch.float64):
        return f"the kernel computes in float32 or float64, not {dtype}"
    if current.numel() == 0:
        return "the input is empty"
    if torch.compiler.is_compiling():
        return "torch.compile traces the plain form"
    if torch.jit.is_tracing():
        return "torch.jit.trace traces the plain form"
    if not _spikes_are_binary(surrogate):
        return "the surrogate is not known to emit 0 or 1"
    if isinstance(surrogate, torch.nn.Module) and any(p.requires_grad for p in surrogate.parameters()):
        return "the surrogate has trainable parameters"
    return None


def _spikes_are_binary(surrogate: Callable) -> bool:
    if hasattr(surrogate, "spiking"):  # SpikingJelly: spiking=False is the smooth primitive function
        return bool(surrogate.spiking)
    home = type(surrogate).__module__ if isinstance(surrogate, torch.nn.Module) else surrogate.__module__
    return home.startswith(("snn_delay_plugins.", "snntorch."))
