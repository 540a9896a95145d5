"""Recordings as plain arrays of times and units, read like files in SHD's format.

===========  =======================================================================================================
``.csv``     one recording: lines ``time,unit`` (s, whole number), with or without that as a first line
``.npy``     one recording: an array ``[spikes, 2]`` of such rows
``.npz``     ``times`` and ``units`` (or ``channels``) of one recording; of several one after the other, with
             ``offsets`` ``[recordings + 1]`` where each begins; ``labels`` and ``keys`` (names of classes) may be there
===========  =======================================================================================================
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import DataError, one_line
from ..files import numpy_files, plain_files
from .shd_files import EventFile
from .sources import UNKNOWN

SUFFIXES = (".csv", ".npy", ".npz")
_HEAD = ["time", "unit"]
_MOST_BYTES = 1 << 28  # of text


class EventTable(EventFile):
    """Raises :class:`DataError` for what is no such file."""

    def __init__(self, path: Path, labelled: bool = True):
        if not plain_files.checked(path).st_size:
            raise DataError(f"{path}: the file is empty")
        self.path, self._rate, self.speakers = path, None, None
        arrays = _read_npz(path) if path.suffix == ".npz" else _of_rows(path, _rows_of(path))
        self._arrays = {"spikes/times": arrays["times"], "spikes/units": arrays["units"]}
        self._offsets = arrays["offsets"]
        samples = len(self._offsets) - 1
        if labelled and "labels" not in arrays:
            raise DataError(f"{path}: no labels")
        self.labels = arrays.get("labels", np.full(samples, UNKNOWN)).astype(np.int64)
        if len(self.labels) != samples or ("labels" in arrays and (self.labels < 0).any()):
            raise DataError(f"{path}: labels must be one whole number of 0 and up for each of {samples} recordings")
        self.class_names = tuple(map(str, arrays.get("keys", [])))

    def _read(self, name: str, which: slice) -> list[np.ndarray]:
        ends = self._offsets[which.start : which.stop + 1]
        return [self._arrays[name][start:stop] for start, stop in pairwise(ends)]


def _rows_of(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return numpy_files.read_npy(path)
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes of text; at most {_MOST_BYTES} are read")
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = [word.strip().lower() for word in file.readline().split(",")]
            named = not _is_number(first[0])
            if named and first != _HEAD:
                raise ValueError(f"its first line must be {','.join(_HEAD)}, or a spike")
            if not named:
                file.seek(0)
            lines = [line for line in file if line.strip()]
        return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 2))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table of times and units ({one_line(error, 120)})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_rows(path: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected rows of a time (s) and a unit, got {rows.dtype} of shape {rows.shape}")
    times, units = rows.astype(np.float64).T
    return {"times": times, "units": _whole(path, units), "offsets": np.array([0, len(times)])}


def _whole(path: Path, units: np.ndarray) -> np.ndarray:
    wrong = ~(np.isfinite(units) & (units == np.round(units)) & (np.abs(units) < 2**31))
    if wrong.any():
        raise DataError(f"{path}: unit {units[np.argmax(wrong)]:g} of spike {np.argmax(wrong)} is no whole number")
    return units.astype(np.int64)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = numpy_files.read_npz(path)
    if "units" not in arrays and "channels" in arrays:
        arrays["units"] = arrays["channels"]
    missing = [name for name in ("times", "units") if name not in arrays]
    if missing:
        raise DataError(f"{path}: no array {missing[0]}; found {', '.join(sorted(arrays)) or 'nothing'}")
    times, units = arrays["times"], arrays["units"]
    offsets = arrays.setdefault("offsets", np.array([0, len(times) if times.ndim else 0]))
    of = {"times": "fiu", "units": "iu", "offsets": "iu", "labels": "iu"}
    for name, kinds in of.items():
        if name in arrays and (arrays[name].ndim != 1 or arrays[name].dtype.kind not in kinds):
            what = "numbers" if "f" in kinds else "whole numbers"
            raise DataError(f"{path}: {name} must be a list of {what}, not {arrays[name].dtype} of {arrays[name].shape}")
    if len(times) != len(units):
        raise DataError(f"{path}: {len(times)} times but {len(units)} units")
    offsets = offsets.astype(np.int64)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
        raise DataError(f"{path}: offsets must rise from 0 to the number of spikes, {len(times)}")
    keys = arrays.get("keys", np.zeros(0, str))
    if keys.ndim != 1 or keys.dtype.kind != "U":
        raise DataError(f"{path}: keys must be a list of names")
    return arrays | {"times": times.astype(np.float64), "units": units.astype(np.int64), "offsets": offsets}
