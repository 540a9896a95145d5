"""Times in float16, which SHD's format stores, whose recorder wrote one of a grid: every ms, say.

Between 0.5 and 1 s float16 numbers stand half a ms apart, so that 0.57 s is stored as 0.5698 and would fall into the ms,
and the bin of 10 ms, before its own. Where all times of a file stand on a grid, each is the float16 number nearest to one
grid point, and that is what it stands for. Times that stand on none (SHD's own) are what they say.
"""

from collections.abc import Iterable

import numpy as np

_RATES = (100, 200, 500, 1000, 2000, 4000, 5000, 10_000)  # grid points per second, the coarsest grid first
_CHANCE = 1e-6  # with which times drawn at random may look like a grid's


def rate_of(pieces: Iterable[np.ndarray]) -> int | None:
    """The grid, in points per second, on which all these float16 times (s) stand, but for late ones, where float16 cannot
    tell its points apart; None where there is none, or where so few times would stand on it by chance."""
    seen, rates = np.zeros(1 << 16, bool), list(_RATES)
    for piece in pieces:
        seen[np.ascontiguousarray(piece, np.float16).view(np.uint16)] = True
        times = np.arange(1 << 16, dtype=np.uint16)[seen].view(np.float16)
        times = times[np.isfinite(times) & (times > 0)]
        rates = [rate for rate in rates if _stands(times, rate)]
        if not rates:
            return None
    if not seen.any():
        return None
    return next((rate for rate in rates if _chance(times, rate) < _CHANCE), None)


def restored(times: np.ndarray, rate: int) -> np.ndarray:
    """float64: the grid points that these times stand for; times that may stand for several as they are."""
    exact = times.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(_spacing(times) * rate < 1, np.round(exact * rate) / rate, exact)


def _stands(times: np.ndarray, rate: int) -> bool:
    return bool((restored(times, rate).astype(np.float16) == times).all())


def _chance(times: np.ndarray, rate: int) -> float:
    """With which as many numbers as these, drawn around them, would all be nearest to a grid point."""
    return float(np.exp(np.log(np.minimum(_spacing(times) * rate, 1)).sum()))


def _spacing(times: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of NaN and infinity, which are refused later
        return np.abs(np.spacing(times)).astype(np.float64)
