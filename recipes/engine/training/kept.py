"""What a training leaves in its folder, read back: weights, checkpoints, the history. Whatever is no such thing is an error
that names the file and says what to do."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError, one_line

if TYPE_CHECKING:
    from torch import Tensor


def load_kept(path: Path, remedy: str) -> Any:
    """What torch has saved in a run's folder. Raises :class:`RunError`, with the ``remedy``, for anything else."""
    import torch

    if not os.access(path, os.R_OK):
        raise RunError(f"{path}: cannot be read; make it readable, or {remedy}")
    try:
        if not path.is_file():  # a pipe would be waited for
            raise RunError(f"{path}: not a file; {remedy}")
        with open(path, "rb") as file:
            return torch.load(file, weights_only=True, map_location="cpu")
    except RunError:
        raise
    except Exception as error:  # whatever a damaged zip file or pickle leads to
        raise RunError(f"{path}: damaged, or not written by these recipes ({type(error).__name__}); {remedy}") from error


def check_weights(
    found: object, expected: Mapping[str, "Tensor"], path: Path, remedy: str, *, finite: bool = False
) -> None:
    """Raises :class:`RunError` where these are not a network's parameters and buffers: their names, shapes and types;
    and, if they must be ``finite``, where they are not."""
    from torch import Tensor

    if not isinstance(found, Mapping):
        raise RunError(f"{path}: holds no weights; {remedy}")
    for name, value in expected.items():
        kept = found.get(name)
        if not isinstance(kept, Tensor) or (kept.shape, kept.dtype) != (value.shape, value.dtype):
            raise RunError(f"{path}: {name} is missing, or of another shape or type; {remedy}")
        if finite and not bool(kept.isfinite().all()):
            raise RunError(f"{path}: {name} holds numbers that are not finite; {remedy}")
    if unknown := [name for name in found if name not in expected]:
        raise RunError(f"{path}: {one_line(ValueError(unknown[0]), 60)} is not in this network; {remedy}")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_epoch(entry: object) -> bool:
    """Whether this is an entry of a run's history: an object of finite numbers, ``epoch`` among them."""
    return isinstance(entry, dict) and is_count(entry.get("epoch")) and all(is_number(value) for value in entry.values())


def is_history(history: object) -> bool:
    """Whether these are the entries of epochs 1, 2, ..."""
    return (
        isinstance(history, list)
        and len(history) > 0
        and all(map(is_epoch, history))
        and [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
        and all(entry.keys() == history[0].keys() for entry in history)
    )
