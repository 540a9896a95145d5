"""Which coefficients of a linear neuron there are: the others are zero and cost nothing.

A neuron of one or two states x, with current I and spikes s (architecture: docs/architecture.md):

    x[t] = (A + s[t-1] J) x[t-1] + s[t-1] r + B I[t],     s[t] = Theta(x_0[t] + c x_1[t] - theta)

The coefficients travel as the rows of one tensor ``[K, F]``, in the order of :data:`NAMES`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

__all__ = ["NAMES", "Structure"]

NAMES = ("A00", "A01", "A10", "A11", "J00", "J01", "J10", "J11", "r0", "r1", "B0", "B1", "c", "theta", "q0", "q1")
"""``q0``, ``q1``: what of r carries a gradient to the spike, where the reset is detached."""
_OF_SECOND = ("A01", "A10", "A11", "J01", "J10", "J11", "r1", "B1", "c", "q1")


class Structure(NamedTuple):
    """What a kernel is compiled for.

    :param names: the coefficients that there are, in the order of :data:`NAMES`.
    :param subtracted: the second state is a current that is subtracted from I: A01 = -B0, B0 (I - x_1) is one term.
    :param detached: no gradient from J x and r to the spike but through q0 and q1.
    """

    names: tuple[str, ...]
    subtracted: bool = False
    detached: bool = False

    @property
    def two(self) -> bool:
        """Whether there is a second state."""
        return self.subtracted or any(name in _OF_SECOND for name in self.names)

    @property
    def code(self) -> int:
        """The structure as a number, for an operator's argument."""
        bits = sum(1 << NAMES.index(name) for name in self.names)
        return bits | self.subtracted << len(NAMES) | self.detached << len(NAMES) + 1

    @classmethod
    def of(cls, code: int) -> Structure:
        """The structure that has this :attr:`code`.

        :raises ValueError: for a number that is no structure's.
        """
        if not 0 <= code < 1 << len(NAMES) + 2:
            raise ValueError(f"no structure has the code {code}")
        return _decoded(code)

    def rows(self) -> dict[str, int]:
        """The row of each name in the tensor of coefficients; -1 where there is none."""
        return {name: self.names.index(name) if name in self.names else -1 for name in NAMES}


@cache
def _decoded(code: int) -> Structure:
    names = tuple(name for k, name in enumerate(NAMES) if code >> k & 1)
    return Structure(names, bool(code >> len(NAMES) & 1), bool(code >> len(NAMES) + 1 & 1))
