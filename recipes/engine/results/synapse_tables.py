"""Synapses and neurons of a network as files that need nothing of this package: CSV, or NumPy's npz for large networks."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import numpy_files
from ..training.connections import Neurons, Synapses

MOST_IN_CSV = 100_000  # synapses; a text of more is several MB
COLUMNS = ("sender", "receiver", "weight", "delay")


def write(path: Path, layers: Sequence[Synapses]) -> None:
    """A row for every synapse, by the suffix of ``path`` as text or as arrays; in both ``layer`` is the name of the
    connection (arrays: its number in ``layers``)."""
    if path.suffix == ".csv":
        rows = [[layer.name, *row] for layer in layers for row in zip(*map(_shown, _columns(layer)), strict=True)]
        path.write_text(_as_csv(["layer", *COLUMNS], rows), encoding="utf-8")
        return
    columns = zip(*map(_columns, layers), strict=True)
    arrays = {name: np.concatenate(of) for name, of in zip(COLUMNS, columns, strict=True)}
    number = np.repeat(np.arange(len(layers), dtype=np.int16), [len(layer.sender) for layer in layers])
    with open(path, "wb") as file:
        np.savez_compressed(file, layers=np.array([layer.name for layer in layers]), layer=number, **arrays)


def read(path: Path) -> dict[str, Synapses]:
    """What :func:`write` has written, by the name of the connection. Raises :class:`DataError` for anything else."""
    path = Path(path)
    try:
        names, layer, columns = _read_csv(path) if path.suffix == ".csv" else _read_npz(path)
    except DataError:
        raise
    except (KeyError, ValueError, TypeError, OSError, csv.Error) as error:
        raise DataError(f"{path}: no table of synapses ({error})") from error
    return {name: Synapses(name, *(column[layer == number] for column in columns)) for number, name in enumerate(names)}


def write_neurons(path: Path, layers: Sequence[Neurons]) -> None:
    """A row for every neuron; constants that the neurons of a layer do not have are empty."""
    names = list(dict.fromkeys(name for layer in layers for name in layer.constants))
    rows = []
    for layer in layers:
        constants = [_shown(layer.constants[name]) if name in layer.constants else [""] * len(layer.gain) for name in names]
        columns = (range(len(layer.gain)), _shown(layer.gain), _shown(layer.offset), *constants)
        rows += [[layer.name, *row] for row in zip(*columns, strict=True)]
    path.write_text(_as_csv(["layer", "neuron", "gain", "offset", *names], rows), encoding="utf-8")


def _columns(layer: Synapses) -> tuple[np.ndarray, ...]:
    return layer.sender.astype(np.int32), layer.receiver.astype(np.int32), layer.weight, layer.delay.astype(np.int32)


def _shown(column: np.ndarray) -> list[str]:
    """Text that reads back as the same numbers."""
    return [str(value) for value in column]


def _as_csv(head: list[str], rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _read_csv(path: Path) -> tuple[list[str], np.ndarray, tuple[np.ndarray, ...]]:
    with open(path, encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    if not table or table[0] != ["layer", *COLUMNS]:
        raise ValueError(f"its first line is not layer,{','.join(COLUMNS)}")
    layers, *columns = zip(*table[1:], strict=True)
    names = list(dict.fromkeys(layers))
    numbers = {name: number for number, name in enumerate(names)}
    kinds = (np.int32, np.int32, np.float32, np.int32)
    made = tuple(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
    return names, np.array([numbers[name] for name in layers]), made


def _read_npz(path: Path) -> tuple[list[str], np.ndarray, tuple[np.ndarray, ...]]:
    arrays = numpy_files.read_npz(path)
    return arrays["layers"].tolist(), arrays["layer"], tuple(arrays[name] for name in COLUMNS)
