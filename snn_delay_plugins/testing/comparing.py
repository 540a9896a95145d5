"""Assertions in the words of a report."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assert_equal", "assert_true"]

_TOLERANCES = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-4, 1e-5), torch.bfloat16: (2e-2, 2e-2)}


def assert_true(holds: bool, otherwise: str) -> None:
    """Python's ``assert`` would vanish under ``-O``."""
    if not holds:
        raise AssertionError(otherwise)


def assert_equal(actual: Tensor, expected: Tensor, what: str, rtol: float | None = None, atol: float | None = None) -> None:
    """
    :param what: the two, as in "steps and the sequence".
    :raises AssertionError: with the largest difference and its place.
    """
    assert_true(
        actual.shape == expected.shape, f"{what} differ in shape: {tuple(actual.shape)} and {tuple(expected.shape)}"
    )
    least = min(
        (actual.dtype, expected.dtype), key=lambda dtype: torch.finfo(dtype).bits if dtype.is_floating_point else 99
    )
    loose = _TOLERANCES.get(least, (1e-2, 1e-2))
    rtol, atol = loose[0] if rtol is None else rtol, loose[1] if atol is None else atol
    one, two = actual.detach().double(), expected.detach().double()
    if torch.allclose(one, two, rtol=rtol, atol=atol, equal_nan=True):
        return
    gap = (one - two).abs().nan_to_num(nan=torch.inf)
    place = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)) if gap.dim() else ()
    raise AssertionError(
        f"{what} differ in {int((gap > atol + rtol * two.abs()).sum())} of {gap.numel()} values; most at {list(place)}: "
        f"{float(one[place]):g} and {float(two[place]):g}"
    )
