"""How neurons are laid out over programs, and programs over devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import triton

LANES = 32  # neurons of a program of one warp


def blocks(n_out: int) -> int:
    return triton.cdiv(n_out, LANES)


def lanes_of_layer(n_out: int, registers: int | None = None) -> dict[str, int]:
    """Of a program that owns all neurons of a sample.

    :param registers: at most so many for a thread that holds one neuron; so a processor holds more samples.
    """
    block = max(triton.next_power_of_2(n_out), LANES)
    lanes = {"BLOCK": block, "num_warps": min(block // LANES, 8)}
    return lanes | {"maxnreg": registers} if registers and block <= 8 * LANES else lanes


def where_the_events_are(function: Callable) -> Callable:
    """Kernels run on the current device: make it that of the first argument."""

    @wraps(function)
    def run(events, *args, **kwargs):
        with torch.cuda.device_of(events.times):
            return function(events, *args, **kwargs)

    return run
