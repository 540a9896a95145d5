"""Data sets of other libraries as files in SHD's format (:mod:`recipes.engine.data.shd_files`), which recipes read."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snn_delay_plugins.event_arrays import times_and_units

from ..files import atomic

_FIRST, _GROWTH = 64, 2  # rows of a data set whose length is not known


def write_recordings(
    path: str | PathLike[str],
    dataset: Iterable[Any],
    *,
    scale: float = 1.0,
    dt: float | None = None,
    speakers: Sequence[int] | None = None,
    units: int = 700,
    names: Sequence[str] = (),
) -> Path:
    """Write the items of a data set as ``NAME_train.h5``, ``NAME_test.h5`` or ``NAME_valid.h5``, one at a time.

    :param dataset: items (events, label) or (events, label, speaker). Events are what
        :meth:`snn_delay_plugins.SpikeEvents.from_array` takes: rows (time, unit), or records or a dict with the fields t
        and x, as tonic's and SpikingJelly's SHD; with ``dt`` frames ``[T, units]`` of whole numbers, as snnTorch's.
    :param scale: what turns their times into seconds: 1e-6 for tonic's.
    :param dt: seconds of a frame.
    :param speakers: who spoke in each sample, where items do not say; without a valid file some are held out.
    :param units: how many there are; others than 700 are trained on with ``--units``.
    :param names: of the classes, in the order of the labels; predictions then have them.
    :raises TypeError, ValueError: for an item that is no such thing; it names the sample.
    """
    path = Path(path)
    if not path.name.endswith((*(f"_{split}.h5" for split in ("train", "valid", "test")),)):
        raise ValueError(f"{path}: recipes read NAME_train.h5, NAME_valid.h5 and NAME_test.h5")
    if not (np.isfinite(scale) and scale > 0) or not (dt is None or (np.isfinite(dt) and dt > 0)):
        raise ValueError(f"scale and dt must be finite and above 0, got {scale} and {dt}")
    labels, who = [], []
    with atomic.replacing(path) as part, h5py.File(part, "w") as file:
        rows = [_rows(file, name, kind) for name, kind in (("spikes/times", np.float32), ("spikes/units", np.int32))]
        for number, item in enumerate(_items(dataset)):
            if not isinstance(item, tuple | list) or len(item) not in (2, 3):
                raise TypeError(f"sample {number}: expected (events, label) or (events, label, speaker), got {type(item)}")
            read = functools.partial(_of_frames, dt=dt) if dt else times_and_units
            times, channels = read(item[0], (units,), number)
            order = np.argsort(times, kind="stable")
            for found, of in ((times.astype(np.float64) * (1.0 if dt else scale), rows[0]), (channels, rows[1])):
                if number >= len(of):
                    of.resize(len(of) * _GROWTH, axis=0)
                of[number] = found[order]
            labels.append(_whole("label", item[1], number))
            if speakers is not None or len(item) == 3:
                who.append(_whole("speaker", item[2] if speakers is None else speakers[number], number))
        if len(who) not in (0, len(labels)):
            raise ValueError(f"{len(who)} of {len(labels)} samples say who spoke")
        for of in rows:
            of.resize(len(labels), axis=0)
        file["labels"] = np.array(labels, np.int32)
        if names:
            file["extra/keys"] = [str(name) for name in names]
        if who:
            file["extra/speaker"] = np.array(who, np.int32)
    return path


def _items(dataset: Any) -> Iterator:
    """Of data sets that are indexed but know no end, too."""
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return (dataset[number] for number in range(len(dataset)))
    return iter(dataset)


def _rows(file: h5py.File, name: str, kind: type) -> h5py.Dataset:
    return file.create_dataset(name, (_FIRST,), h5py.vlen_dtype(kind), maxshape=(None,), chunks=(_FIRST,))


def _of_frames(frames: Any, shape: tuple[int], number: int, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """A number k in step n is k spikes at n dt."""
    counts = np.asarray(frames)
    if counts.ndim != 2 or counts.shape[1] > shape[0] or counts.dtype.kind not in "fiub":
        raise TypeError(
            f"sample {number}: expected frames [T, units] of at most {shape[0]} units, got shape {counts.shape}"
        )
    if not np.isfinite(counts).all() or (counts != np.floor(counts)).any() or (counts < 0).any():
        raise ValueError(f"sample {number}: frames must hold whole numbers of spikes")
    steps, units = np.nonzero(counts)
    times = counts[steps, units].astype(np.int64)
    return np.repeat(steps * dt, times), np.repeat(units, times)


def _whole(what: str, value: Any, number: int) -> int:
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "iuf" or not (0 <= float(found.item()) == int(found.item()) < 2**31):
        raise ValueError(f"sample {number}: {what} must be a whole number from 0 on, got {value!r}")
    return int(found.item())
