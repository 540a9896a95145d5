"""What the loops, compiled for the CPU or for CUDA, read of a layer: tables of NumPy, made without numba."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from ....bins import steps_in
from .sizes import MOMENTS, STATES, TERMS

__all__ = ["Constants", "Layer", "steps_at_least"]

_SHORT = 0.25  # step times the largest rate: the polynomials of eight moments are exact to 1e-14


@dataclass(frozen=True)
class Constants:
    """M, J [out, n, n], r [out, n], theta and refractory [out]; B, c and kept [n]: 0 for states held in the refractory
    period."""

    M: np.ndarray
    B: np.ndarray
    c: np.ndarray
    J: np.ndarray
    r: np.ndarray
    theta: np.ndarray
    refractory: np.ndarray
    kept: np.ndarray

    @property
    def padded(self) -> Constants:
        """With states that stay zero up to STATES of them."""
        more = STATES - self.B.size
        square, row = ((0, 0), (0, more), (0, more)), ((0, 0), (0, more))
        return replace(
            self, M=np.pad(self.M, square), J=np.pad(self.J, square), r=np.pad(self.r, row),
            B=np.pad(self.B, (0, more)), c=np.pad(self.c, (0, more)), kept=np.pad(self.kept, (0, more)),
        )  # fmt: skip


def steps_at_least(M: np.ndarray, duration: float, dt: float) -> float:
    """Duration over the step's longest length: no longer than dt, and short beside all rates of M."""
    return duration * max(1 / dt, _largest_rate(M) / _SHORT)


def _largest_rate(M: np.ndarray) -> float:
    """A bound on the largest |eigenvalue|, some percent above it: |M^64|^(1/64). NumPy's eigenvalues take fifty times as
    long."""
    size = float(np.abs(M).max(initial=0.0))
    if not 0 < size < np.inf:
        return size
    power, logarithm = M / size, 0.0
    for _ in range(6):
        power = power @ power
        size_of = np.maximum(np.abs(power).max((1, 2), keepdims=True), 1e-300)
        power, logarithm = power / size_of, 2 * logarithm + np.log(size_of)
    return size * float(np.exp((logarithm + np.log(M.shape[-1])) / 64).max())


_layers: deque[tuple[tuple, Layer]] = deque(maxlen=8)


@dataclass(frozen=True)
class Layer:
    """Padded constants, steps, and what the loops read of the neurons."""

    constants: Constants
    steps: int
    h: float
    duration: float
    tables: tuple[
        np.ndarray, ...
    ]  # P and C: what x and the moments of a step's arrivals become by its end, C [2, out, 3, 8]
    series: np.ndarray  # M^k / k!, [out, TERMS, 3, 3]

    @cached_property
    def is_finite(self) -> bool:
        return all(bool(np.isfinite(x).all()) for x in self.tables)

    @staticmethod
    def of(constants: Constants, duration: float, dt: float) -> Layer:
        """The tables of the last few layers are kept, for their backward passes."""
        key = duration, dt, *(x.tobytes() for x in vars(constants).values())
        for known, layer in list(_layers):
            if known == key:
                return layer
        with np.errstate(over="ignore", invalid="ignore"):  # refused where it is used
            layer = Layer._of(constants, duration, dt)
        _layers.append((key, layer))
        return layer

    @staticmethod
    def _of(constants: Constants, duration: float, dt: float) -> Layer:
        steps = max(1, steps_in(steps_at_least(constants.M, duration, dt), 1.0))
        h = duration / steps
        k = constants.padded
        M = np.stack([k.M, k.kept[:, None] * k.M])
        flows = M if k.refractory.any() else M[:1]  # else nothing is ever held
        P = np.broadcast_to(_exp(flows * h), M.shape)
        slope = k.c @ k.M
        series = np.empty((k.theta.size, TERMS, STATES, STATES))
        series[:, 0] = np.eye(STATES)
        for n in range(1, TERMS):
            series[:, n] = series[:, n - 1] @ k.M / n
        taylor = k.c @ series
        size = np.abs(k.M)
        curvature = np.einsum("ji,jik->jk", np.abs(np.einsum("ji,jik->jk", slope, k.M)), _exp(size * h)) * (1 + 1e-9)
        C = _polynomials(_arrived(flows, k.B, h))
        C = np.broadcast_to(C, (2, *C.shape[1:])).swapaxes(-1, -2)
        tables = M, P, C, k.B, k.c, k.J, k.r, k.theta, k.refractory, taylor, curvature, slope
        return Layer(k, steps, h, duration, tuple(np.ascontiguousarray(x, dtype=np.float64) for x in tables), series)

    def by_matrices(self, by_p: np.ndarray, by_c: np.ndarray) -> np.ndarray:
        """dL/d(M, M_held) [2, out, 3, 3] from the derivatives by P and C of both."""
        M, B = self.tables[0], self.constants.B
        by_nodes = np.einsum("nk,xjki->nxji", _interpolation(), by_c)
        grad = _by_exponent(M * self.h, by_p) * self.h
        for part, node in zip(by_nodes, _nodes(), strict=True):
            time = self.h * (1 - node) / 2
            grad = grad + _by_exponent(M * time, part[..., None] * B) * time
        return grad


@cache
def _nodes() -> np.ndarray:
    return np.cos(np.pi * (2 * np.arange(MOMENTS) + 1) / (2 * MOMENTS))


def _arrived(M: np.ndarray, B: np.ndarray, h: float) -> np.ndarray:
    """exp(M h (1 - f) / 2) B at the nodes f [8, ..., 3]."""
    size = float(np.abs(M).sum(-1).max(initial=0.0)) * h
    if not size < 2:  # its series would be long
        return _exp(M * (h * (1 - _nodes()) / 2)[:, None, None, None, None]) @ B
    term = np.broadcast_to(B, M.shape[:-1])
    total, power, n = np.zeros((MOMENTS, *term.shape)), np.ones(MOMENTS), 0
    largest = 1.0
    while largest > 1e-18:
        total += power[:, None, None, None] * term
        n += 1
        term = np.einsum("xjik,xjk->xji", M, term)
        power, largest = power * (h * (1 - _nodes()) / (2 * n)), largest * size / n
    return total


@cache
def _chebyshev() -> tuple[np.ndarray, np.ndarray]:
    """Coefficients by Chebyshev polynomials of values at the nodes, and powers of f by them."""
    k = np.arange(MOMENTS)
    transform = np.cos(np.outer(k, np.pi * (2 * k + 1) / (2 * MOMENTS))) * 2 / MOMENTS
    transform[0] /= 2
    powers = np.zeros((MOMENTS, MOMENTS))
    for n in k:
        powers[: n + 1, n] = np.polynomial.chebyshev.cheb2poly(np.eye(MOMENTS)[n])[: n + 1]
    return transform, powers


def _polynomials(values: np.ndarray) -> np.ndarray:
    """Coefficients of powers of f [2, out, 8, 3] of the polynomials through the values at the nodes [8, 2, out, 3]."""
    transform, powers = _chebyshev()
    return np.moveaxis(np.tensordot(powers, np.tensordot(transform, values, 1), 1), 0, 2)


def _interpolation() -> np.ndarray:
    """[node, power]: transposed _polynomials."""
    transform, powers = _chebyshev()
    return (powers @ transform).T


def _exp(matrices: np.ndarray) -> np.ndarray:
    """exp - 1 of a power of 1/2 of the matrices by its series, doubled; torch.linalg.matrix_exp is right to 2e-12 alone."""
    size = float(np.abs(matrices).sum(-1).max(initial=0.0))
    if not size < np.inf:
        return np.full_like(matrices, np.nan)
    doublings = max(0, int(np.ceil(np.log2(size / 0.25)))) if size > 0 else 0
    matrices = matrices / 2.0**doublings
    term = less_one = matrices
    for n in range(2, 15):
        term = term @ matrices / n
        less_one = less_one + term
    for _ in range(doublings):
        less_one = 2 * less_one + less_one @ less_one
    return less_one + np.eye(matrices.shape[-1])


def _by_exponent(X: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """dL/dX from dL/d exp(X): a block of the exponential of a matrix of twice the size."""
    n = X.shape[-1]
    scale = float(np.abs(grad).max(initial=0.0)) or 1.0  # so that the series need not care for the size of the loss
    both = np.zeros((*X.shape[:-2], 2 * n, 2 * n))
    both[..., :n, :n] = both[..., n:, n:] = np.swapaxes(X, -1, -2)
    both[..., :n, n:] = grad / scale
    return _exp(both)[..., :n, n:] * scale
