"""Which bin a time lies in, in which step it acts, how many steps a duration has: one rule wherever times meet a grid.

    bin  n of a time t:  n dt <= t < (n + 1) dt          (dense tensors, recordings)
    step n of a time t:  (n - 1) dt < t <= n dt          (EventProp's grid scheme)

Times are rounded numbers, and n dt may be stored as a number just below or above it: 3 * 0.1 > 0.3, and a float32 holds
24 binary digits. A time is therefore taken to be the multiple of dt next to it where it is within

    slack = min(max(1e-6 dt, 2 eps t), dt / 2),     eps = 2^-52 (float64) or 2^-23 (float32)

of it: two units in the last place, one of them for storing the time and one for computing it (n * dt, 1000 * seconds). Up
to 2^21 bins of float32 times that is less than half a bin, and beyond the nearest multiple; from 2^23 bins on neighbouring
bins have the same float32 number, which raises. The dtype is the one that the numbers came in: float64 times that all are
float32 numbers were float32 before, and are rounded like those.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["FLOAT32", "FLOAT64", "SLACK", "bin_of", "check_resolution", "eps_of", "step_of", "steps_in"]

SLACK = 1e-6  # of a bin, at least
FLOAT32, FLOAT64 = (torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64))


def bin_of(times: Tensor, dt: float, eps: float | Tensor | None = None) -> Tensor:
    """The bin of each time (module heading), int64, for float32 or float64 times; ``eps`` where it is known from more or
    other times than these.

    >>> bin_of(torch.tensor([0.1, 0.2, 0.3, 0.35]), 0.1).tolist()
    [1, 2, 3, 3]
    """
    position, slack = _position(times.detach(), dt, eps_of(times) if eps is None else eps)
    return position.add_(slack).floor_().to(torch.int64)


def step_of(times: Tensor, dt: float, eps: float | Tensor | None = None) -> Tensor:
    """The step in which a spike at each time acts (module heading), int64, for float32 or float64 times; ``eps`` where it
    is known from more or other times than these.

    >>> step_of(torch.tensor([0.1, 0.2, 0.3, 0.35]), 0.1).tolist()
    [1, 2, 3, 4]
    """
    position, slack = _position(times.detach(), dt, eps_of(times) if eps is None else eps)
    return position.sub_(slack).ceil_().to(torch.int64)


def steps_in(duration: float, dt: float) -> int:
    """Steps of length dt that cover the duration: the step of its end.

    >>> steps_in(0.3, 0.1), steps_in(0.31, 0.1)
    (3, 4)
    """
    position = duration / dt
    eps = FLOAT32 if _is_float32(duration) else FLOAT64
    return max(math.ceil(position - min(max(2 * eps * position, SLACK), 0.5)), 0)


def eps_of(times: Tensor) -> float | Tensor:
    """Of the dtype in which the numbers came (module heading)."""
    times = times.detach()
    if times.dtype == torch.float32:
        return FLOAT32
    return torch.where((times.to(torch.float32) == times).all(), FLOAT32, FLOAT64)


def check_resolution(dtype: torch.dtype, last: float, dt: float) -> None:
    """
    :raises ValueError: where times of this dtype, up to ``last``, are further apart than dt.
    """
    eps = torch.finfo(dtype).eps
    if last * eps > dt:
        raise ValueError(
            f"{dtype} does not tell times near t = {last:g} apart that differ by dt = {dt:g}: there are more "
            f"than {1 / eps:.0f} bins; use float64 times"
        )


def _position(times: Tensor, dt: float, eps: float | Tensor) -> tuple[Tensor, Tensor]:
    """t / dt and the slack of each time, in bins, float64."""
    position = times.to(torch.float64) / dt
    return position, (position * (2 * eps)).clamp_(SLACK, 0.5)


def _is_float32(number: float) -> bool:
    """Whether 24 binary digits hold the number (Veltkamp's splitting: plain arithmetic, which compilers trace)."""
    scaled = number * (2.0**29 + 1)
    return scaled - (scaled - number) == number
