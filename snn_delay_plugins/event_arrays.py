"""Rows of events, as recordings come: (time, unit), or records with the fields of an event camera."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["times_and_units"]

_FIELDS = {1: ("x",), 2: ("p", "x"), 3: ("p", "y", "x")}
"""Of a record, by the number of axes that units have."""


def times_and_units(rows: Any, unit_shape: Sequence[int], sample: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The times of one recording as they stand there, and its units, counted through the shape.

    :param rows: an array ``(n, 2)`` of (time, unit), or a structured one with a field ``t`` and ``x``, ``y``, ``p``, as
        tonic's, or a dict of these, as SpikingJelly's.
    :param unit_shape: ``(units,)``, ``(channels, length)`` or ``(channels, height, width)``.
    :param sample: its number, for messages.
    :raises TypeError: for what is neither. :raises ValueError: for units that are not whole or lie outside of the shape.

    Example::

        >>> rows = np.array([(5, 2, 1, 1)], dtype=[("t", int), ("x", int), ("y", int), ("p", int)])
        >>> times_and_units(rows, (2, 4, 4))
        (array([5]), array([22]))
    """
    if isinstance(rows, Mapping):
        rows = _records(rows, sample)
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu().numpy()
    rows = np.asarray(rows)
    if rows.dtype.names:
        return _of_records(rows, tuple(unit_shape), sample)
    if not rows.size:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "fiu":
        raise TypeError(
            f"sample {sample}: expected an array (n, 2) of rows (time, unit) or a structured one with the fields t and x, "
            f"got shape {rows.shape} and {rows.dtype}"
        )
    return _plain(rows[:, 0]), _whole("units (the second column)", rows[:, 1], math.prod(unit_shape), sample)


def _records(fields: Mapping[str, Any], sample: int) -> np.ndarray:
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    if len({array.shape for array in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"sample {sample}: the fields must be arrays of one length, got {shapes}")
    rows = np.zeros(len(next(iter(arrays.values()))), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        rows[name] = array
    return rows


def _of_records(rows: np.ndarray, unit_shape: tuple[int, ...], sample: int) -> tuple[np.ndarray, np.ndarray]:
    names = rows.dtype.names or ()
    if rows.ndim != 1 or "t" not in names or "x" not in names:
        raise TypeError(f"sample {sample}: expected records with the fields t and x, got shape {rows.shape} and {names}")
    fields = _FIELDS.get(len(unit_shape))
    if fields is None:
        raise ValueError(f"unit_shape must have one to three axes for records, got {unit_shape}")
    for name in sorted({"x", "y", "p"} & set(names) - set(fields)):
        if rows[name].size and np.ptp(rows[name].astype(np.int64)):
            raise ValueError(
                f"sample {sample}: the field {name!r} tells units apart, but unit_shape={unit_shape} has no axis for it: "
                "give (channels, height, width), with p the channel, y the row and x the column"
            )
    units = np.zeros(len(rows), dtype=np.int64)
    for name, size in zip(fields, unit_shape, strict=True):
        if name not in names:
            raise ValueError(
                f"sample {sample}: unit_shape={unit_shape} needs a field {name!r}, there are {', '.join(names)}"
            )
        units = units * size + _whole(f"{name!r}", rows[name], size, sample)
    return _plain(rows["t"]), units


def _plain(values: np.ndarray) -> np.ndarray:
    """As torch takes them: in a row, in this machine's byte order."""
    return np.array(values, dtype=values.dtype.newbyteorder("="), order="C")


def _whole(what: str, values: np.ndarray, size: int, sample: int) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise TypeError(f"sample {sample}: {what} must be numbers, got {values.dtype}")
    wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < size))
    if wrong.any():
        raise ValueError(
            f"sample {sample}: {what} must be whole numbers in [0, {size}), got {values[wrong][0]} in row "
            f"{int(wrong.argmax())}; rows are (time, unit)"
        )
    return values.astype(np.int64)
