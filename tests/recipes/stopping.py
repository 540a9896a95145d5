"""Trainings that are stopped at a share of their epochs, and what may be compared of them."""

from collections.abc import Callable


class Stop(Exception):
    """Instead of a kill, in the process of the test."""


def stop_at(share: float) -> Callable[[float, dict | None], None]:
    """A report to be handed to :func:`recipes.engine.training.trainer.train`: raises :class:`Stop` once so much is done."""

    def report(done: float, epoch: dict | None) -> None:
        if done >= share:
            raise Stop

    return report


def timeless(history: list[dict]) -> list[dict]:
    """What a run that was stopped has in common with one that was not."""
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]
