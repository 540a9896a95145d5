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
_DETACHED = ("J", "r0", "r1")
_NOT_SYMPLECTIC = ("A01", "J01", "J10", "J11", "B1", "c", "q0")


class Structure(NamedTuple):
    """What a kernel is compiled for.

    :param names: the coefficients that there are, in the order of :data:`NAMES`.
    :param subtracted: the second state is a current that is subtracted from I: A01 = -B0, B0 (I - x_1) is one term.
    :param detached: which of J, r0 and r1 have no gradient to the spike; that of q0 and q1 they have.
    :param symplectic: a spike acts in its own step, p[t] = (1 + s[t] J00) x_0[t] + s[t] r0, and the second state sees it,
        x_0[t] = A00 p[t-1] + B0 (I[t] - x_1[t-1]), x_1[t] = A11 x_1[t-1] + (1 - A11) (A10 p[t] + r1 s[t]).
    """

    names: tuple[str, ...]
    subtracted: bool = False
    detached: tuple[str, ...] = ()
    symplectic: bool = False

    @property
    def two(self) -> bool:
        """Whether there is a second state."""
        return self.subtracted or any(name in _OF_SECOND for name in self.names)

    @property
    def misfit(self) -> str | None:
        """Why there is no such neuron; None: there is."""
        foreign = [name for name in self.names if name in _NOT_SYMPLECTIC]
        if self.symplectic and foreign:
            return f"a symplectic neuron has no {', '.join(foreign)}"
        if self.symplectic and self.two != self.subtracted:
            return "the second state of a symplectic neuron is subtracted from the current"
        return None

    @property
    def code(self) -> int:
        """The structure as a number, for an operator's argument."""
        flags = (self.subtracted, self.symplectic, *(name in self.detached for name in _DETACHED))
        return sum(1 << NAMES.index(name) for name in self.names) | sum(f << len(NAMES) + k for k, f in enumerate(flags))

    @classmethod
    def of(cls, code: int) -> Structure:
        """The structure that has this :attr:`code`.

        :raises ValueError: for a number that is no structure's.
        """
        structure = _decoded(code)
        if structure is None:
            raise ValueError(f"code must be a structure's, got {code}")
        return structure

    @property
    def of_forward(self) -> Structure:
        """The one of which a forward pass knows: it has no gradients."""
        return self._replace(names=tuple(name for name in self.names if name not in ("q0", "q1")), detached=())

    def rows(self) -> dict[str, int]:
        """The row of each name in the tensor of coefficients; -1 where there is none."""
        return {name: self.names.index(name) if name in self.names else -1 for name in NAMES}


@cache
def _decoded(code: int) -> Structure | None:
    if not 0 <= code < 1 << len(NAMES) + 2 + len(_DETACHED):
        return None
    names = tuple(name for k, name in enumerate(NAMES) if code >> k & 1)
    subtracted, symplectic, *cut = (bool(code >> len(NAMES) + k & 1) for k in range(2 + len(_DETACHED)))
    detached = tuple(name for name, is_cut in zip(_DETACHED, cut, strict=True) if is_cut)
    structure = Structure(names, subtracted, detached, symplectic)
    return None if structure.misfit else structure
