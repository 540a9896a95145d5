"""The numbers of a training, in the papers' terms."""

import dataclasses

from . import limits


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """How a network is trained: by Adam, with a learning rate that falls by ``plateau_factor`` when the
    validation accuracy has not risen for ``plateau_patience`` epochs. Delays learn ``delay_rate_factor``
    times as fast as everything else.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    delay_rate_factor: float = 1.0
    plateau_factor: float = 1.0
    plateau_patience: int = 5
    min_learning_rate: float = 0.0

    def __post_init__(self):
        limits.check(vars(self))  # torch's optimizers take rates of every kind from parameter groups
