"""The store of runs: one folder per (network, seed, settings); a finished one is kept and never repeated.

::

    OUT/runs/adlif-plus_seed0_3f2a9c1e/result.json    only when the run has finished
                                       last.ckpt      state after the last whole epoch
                                       best.pt        weights of the epoch that the protocol chose
                                       metrics.csv    one line per epoch
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from recipes.engine import atomic
from recipes.engine.errors import DataError


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
        """The result of a finished run, else None."""
        path = self.folder_of(run) / "result.json"
        return _read(path) if path.exists() else None

    def finish(self, run: Run, result: dict) -> None:
        atomic.write_json(self.folder_of(run) / "result.json", dataclasses.asdict(run) | result)

    def results(self, recipe: str) -> list[dict]:
        """All finished runs of a recipe, ordered by network and seed."""
        found = [_read(path) for path in self.folder.glob("*/result.json")]
        return sorted((r for r in found if r["recipe"] == recipe), key=lambda r: (r["network"], r["seed"]))

    @contextlib.contextmanager
    def claimed(self, run: Run) -> Iterator[Path]:
        """The run's folder, held by this process. Raises :class:`Busy` where another holds it; a killed
        holder lets go."""
        folder = self.folder_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"{folder} is being trained by another process") from None
            for part in folder.glob(".*.part"):  # left by a kill in the middle of writing
                part.unlink()
            yield folder


def _read(path: Path) -> dict:
    """A result. Raises :class:`DataError` for a file that is none: our own are whole or absent."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not a result ({error}); delete {path.parent} to run it again") from error
    if not isinstance(found, dict) or not {"recipe", "network", "seed", "settings"} <= found.keys():
        raise DataError(f"{path}: not a result; delete {path.parent} to run it again")
    return found
