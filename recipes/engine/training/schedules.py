"""Learning rates as functions of how much of a training is done: a factor for every batch.

They have no state: a training that is continued has the rates that it would have had.
"""

import math
from collections.abc import Callable

from .objectives import Moment

Schedule = Callable[[float], float]
"""From the share of the training that is done, 0 ... 1, to a factor of the learning rate."""


def constant(done: float) -> float:
    """1, always."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return (1 + math.cos(math.pi * done)) / 2


def one_cycle(done: float, *, rising: float = 0.3, first: float = 0.04, last: float = 4e-6) -> float:
    """From ``first`` to 1 in the share ``rising``, then to ``last``, both along half a cosine (Smith & Topin 2018, as in
    :class:`torch.optim.lr_scheduler.OneCycleLR`)."""
    if done < rising:
        return 1 + (first - 1) * cosine(done / rising)
    return last + (1 - last) * cosine((done - rising) / (1 - rising))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "one-cycle": one_cycle}


def share_done(moment: Moment, epochs: int) -> float:
    """How much of a training of so many epochs is done before this batch."""
    return moment.step / (moment.batches * epochs)
