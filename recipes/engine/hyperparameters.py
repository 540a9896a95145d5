"""The numbers of a training, in the papers' terms."""

import dataclasses


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
        check_not_negative(self, "learning_rate", "delay_rate_factor", "plateau_factor", "min_learning_rate")


def check_not_negative(training: object, *names: str) -> None:
    """Raises ValueError for a number that is negative: torch's optimizers take such rates from parameter groups."""
    for name in names:
        if not getattr(training, name) >= 0:
            raise ValueError(f"{name} must not be negative, got {getattr(training, name)}")
