r"""Delays of so many bits, learned straight through their rounding.

Sun, Achterberg, Su, Goodman, Akarca, *Exploiting heterogeneous delays for efficient computation in low-bit neural networks*
(arXiv:2510.27434) train delays, and weights, of a few bits each. Here a delay of b bits is a multiple of whole steps,

.. math:: q(d) = \Delta \min\bigl(\operatorname{round}(d / \Delta),\ \lfloor d_{max} / \Delta \rfloor\bigr), \qquad
    \Delta = \max\bigl(1,\ \lceil d_{max} / (2^b - 1) \rceil\bigr),

and a spike of weight w arrives with w after q(d) steps: in training, evaluation and deployment. The full-precision d is
what is learned. The gradient passes the rounding as if it were not there (straight-through), and is at q the SLAYER rule,

.. math:: \frac{\partial L}{\partial d} := \frac{\partial L}{\partial q}
    = - w \sum_t \frac{\partial L}{\partial I[t]}\, \bigl(s[t-q] - s[t-q-1]\bigr).

Taken from the paper: delays and weights of a few bits, learned together. The grid of whole steps and the gradient are this
package's. For weights of a few bits see ``discretize(weight_bits=...)`` of the layers.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ..checks import check_whole
from .rule import DelayRule, Window, check_delays
from .slayer import ROUND

__all__ = ["QUANTISED", "quantised_delays"]


def quantised_delays(bits: int = 5) -> DelayRule:
    """The rule for delays of ``bits`` bits, 1 to 24.

    Example::

        >>> import torch
        >>> rule = quantised_delays(bits=2)
        >>> rule.whole(torch.tensor([0.0, 1.0, 2.6, 6.0, 7.0]), max_delay=7).tolist()  # of 0, 3, 6
        [0.0, 0.0, 3.0, 6.0, 6.0]
    """
    bits = check_whole("bits", bits, least=1, most=24)
    return DelayRule(
        name="quantised",
        window=partial(_window, bits=bits),
        equation=r"w\,\delta[\tau - q(d)]",
        source="Sun et al., arXiv:2510.27434; straight-through: Bengio et al., arXiv:1308.3432",
        width=2,
        whole=partial(_quantised, bits=bits),
    )


def _quantised(delay: Tensor, max_delay: int, bits: int) -> Tensor:
    step = max(1, -(-max_delay // (2**bits - 1)))
    return (delay / step).round().clamp(max=max_delay // step) * step


def _window(weight: Tensor, delay: Tensor, max_delay: int, bits: int) -> Window:
    max_delay = check_delays(delay, max_delay)
    known = delay.detach()
    return ROUND.window(weight, _quantised(known, max_delay, bits) + (delay - known), max_delay)  # + 0, with a gradient


QUANTISED = quantised_delays()
