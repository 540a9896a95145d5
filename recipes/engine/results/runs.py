"""The store of runs: one folder per (network, seed, settings); a finished one is kept and never repeated.

::

    OUT/runs/adlif-plus_seed0_3f2a9c1e/result.json    only when the run has finished
                                       last.ckpt      state after the last whole epoch
                                       best.pt        weights of the epoch that the protocol chose
                                       metrics.csv    one line per epoch

Nothing in it is ever deleted: a file that cannot be used is an error that names it.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import RunError, disk_is_full, one_line, reason
from ..files import atomic
from ..training.kept import is_count, is_epoch, is_history, is_number


class Busy(RuntimeError):
    """Another process is training this very run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One network trained with one seed. ``settings`` holds every number that the result depends on, as plain
    JSON values.

    Equal settings mean the same run: change a number and a new run begins; the old one stays.
    """

    recipe: str
    network: str
    seed: int
    settings: dict

    @property
    def key(self) -> str:
        text = json.dumps([self.recipe, self.network, self.seed, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def slug(self) -> str:
        return f"{self.network}_seed{self.seed}_{self.key}"


class RunStore:
    def __init__(self, out: Path):
        self.folder = Path(out) / "runs"

    def folder_of(self, run: Run) -> Path:
        return self.folder / run.slug

    def result(self, run: Run) -> dict | None:
        """What is stored of a finished run, else None. Raises :class:`RunError` for a file that is no result."""
        path = self.folder_of(run) / "result.json"
        return _read(path) if path.exists() else None

    def finished(self, run: Run) -> dict | None:
        """Likewise, with all that tables and figures need. Raises :class:`RunError` where some of it is missing."""
        found = self.result(run)
        return found and _complete(found, self.folder_of(run) / "result.json")

    def finish(self, run: Run, result: dict) -> None:
        atomic.write_json(self.folder_of(run) / "result.json", dataclasses.asdict(run) | result)

    def results(self, recipe: str, damaged: list[RunError] | None = None) -> list[dict]:
        """All that is stored of the finished runs of a recipe, ordered by network and seed. With ``damaged`` those that
        tables and figures can be made of; it gets an error for every other file. Without it such an error is raised."""
        found = []
        for path in sorted(self.folder.glob("*/result.json")):
            try:
                found.append(_read(path) if damaged is None else _complete(_read(path), path))
            except RunError as error:
                if damaged is None:
                    raise
                damaged.append(error)
        return sorted((r for r in found if r["recipe"] == recipe), key=lambda r: (r["network"], r["seed"]))

    @contextlib.contextmanager
    def claimed(self, run: Run) -> Iterator[Path]:
        """The run's folder, held by this process. Raises :class:`Busy` where another holds it (a killed holder lets go),
        :class:`RunError` where something else is in its place."""
        folder = self.folder_of(run)
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(atomic.claimed(folder))
                for part in folder.glob(".*.part"):  # left by a kill in the middle of writing
                    part.unlink()
            except atomic.Held:
                raise Busy(f"{folder} is being trained by another process") from None
            except OSError as error:
                if disk_is_full(error):
                    raise
                raise RunError(f"{reason(error)}; move it away, or choose another --out, to train this run") from error
            yield folder


# ---------------------------------------------------------------------------------------------------- results


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _all(of: type, holds: Callable[[object], bool]) -> Callable[[object], bool]:
    """Lists or objects all of whose values are such; not empty."""

    def every(value: object) -> bool:
        return isinstance(value, of) and len(value) > 0 and all(map(holds, value.values() if of is dict else value))

    return every


_RESULT: dict[tuple[str, ...], Callable[[object], bool]] = {
    ("settings", "protocol"): _is_text,
    ("settings", "data"): _is_text,
    ("settings", "network"): lambda value: isinstance(value, dict),
    ("settings",): lambda value: isinstance(value.get("left_out", []), list),
    ("settings", "training", "epochs"): is_count,
    ("settings", "training", "batch_size"): is_count,
    ("data", "name"): _is_text,
    ("data", "samples"): _all(dict, is_count),
    ("data", "inputs"): is_count,
    ("data", "classes"): is_count,
    ("data", "validation"): _is_text,
    ("parameters",): is_count,
    ("history",): is_history,
    ("best",): _all(dict, is_epoch),
    ("seconds_per_epoch",): is_number,
    ("peak_memory_mib",): is_number,
    ("threads",): is_count,
    ("machine", "processor"): _is_text,
    ("versions",): _all(dict, _is_text),
}
"""What the tables and figures read of a result, and how it must be."""


_MEASURED = {
    "clean": ("valid_accuracy", "test_accuracy", "test_spikes"),
    "cross-validation": ("valid_accuracy", "valid_spikes"),
}
"""What tables and figures read of the chosen epoch, where that is not of the test set alone."""


def read_result(path: Path) -> dict:
    """A result with all that tables and figures need. Raises :class:`RunError`."""
    return _complete(_read(path), path)


def _read(path: Path) -> dict:
    """A result. Raises :class:`RunError` for a file that is none: our own are whole or absent."""

    def not_finite(constant: str) -> float:
        raise ValueError(f"{constant} is no result")

    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("not a file")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=not_finite)
    except OSError as error:
        raise _no_result(path, error.strerror.lower()) from error
    except (ValueError, RecursionError) as error:
        raise _no_result(path, one_line(error, 100)) from error
    names = {"recipe": _is_text, "network": _is_text, "seed": is_count, "settings": lambda value: isinstance(value, dict)}
    if not isinstance(found, dict) or not all(holds(found.get(name)) for name, holds in names.items()):
        raise _no_result(path, f"no {', '.join(names)}")
    return found


def _complete(found: dict, path: Path) -> dict:
    """The result, if it has all that tables and figures need. Raises :class:`RunError`."""
    for names, holds in _RESULT.items():
        value: Any = found
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if not holds(value):
            raise _no_result(path, f"{' '.join(names)} is missing, or is none")
    protocol, history = found["settings"]["protocol"], found["history"]
    chosen = found["best"].get(protocol, {})
    for name in ("epoch", *_MEASURED.get(protocol, ("test_accuracy", "test_spikes"))):
        if name not in chosen or not any(entry.get(name) == chosen[name] for entry in history):
            raise _no_result(path, f"best has no {name} of its history for protocol {one_line(ValueError(protocol), 40)}")
    return found


def _no_result(path: Path, why: str) -> RunError:
    return RunError(f"{path}: not a result ({why}); delete {path.parent} to run it again")
