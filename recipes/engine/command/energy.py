"""Synaptic operations and energy of finished runs, beside their accuracy: ``--energy``.

Each run's network, with the weights of its chosen epoch, takes every sample of the test set once, in evaluation; what it
did is kept in the run's folder as ``operations.json``. The rules, and where the joules come from:
:mod:`snn_delay_plugins.operations`.
"""

import functools
import json
import operator
from pathlib import Path

import numpy as np

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.operations import Operations, synaptic_operations

from ..data.sources import Part
from ..errors import RunError, one_line
from ..files import atomic
from ..results.runs import RunStore
from ..training.batches import EVALUATION_BATCH, seed_everything
from ..training.kept import is_count, is_number
from ..training.networks import as_input
from . import view
from .plan import Plan

_MEASURED = {"samples": is_count, "synaptic_operations": is_count, "multiply_accumulates": is_count, "energy": is_number}


def measure(plan: Plan, runs: list[dict]) -> None:
    """Measure those of the finished ``runs`` that have not been measured yet."""
    for part in plan.by_data:
        keys = {row.key for row in part.rows}
        _measure(part, [run for run in runs if run["network"] in keys])


def _measure(plan: Plan, runs: list[dict]) -> None:
    paths = [_path(plan.store, run) for run in runs]
    missing = [(run, path) for run, path in zip(runs, paths, strict=True) if not path.exists()]
    if not missing:
        return
    test = plan.load().test
    for run, path in missing:
        objective = plan.recipe.build(run["data"]["inputs"], run["data"]["classes"], run["settings"])
        objective.network.load_state_dict(view.weights(plan.recipe, plan.store, run))
        found = operations(objective.network, test, run["seed"])
        kept = {
            "samples": found.samples,
            "synaptic_operations": found.synaptic_operations,
            "multiply_accumulates": found.multiply_accumulates,
            "energy": found.energy(),
            "layers": {name: vars(of) for name, of in found.layers.items()},
        }
        atomic.write_json(path, kept)


def operations(network, part: Part, seed: int) -> Operations:
    """Of a network on all samples of a part."""
    counted = []
    for start in range(0, len(part), EVALUATION_BATCH):
        seed_everything(seed)  # of initial states
        inputs, _ = part.batch(np.arange(start, min(start + EVALUATION_BATCH, len(part))), np.random.default_rng(0))
        batch = inputs if isinstance(inputs, SpikeEvents) else as_input(inputs)
        counted.append(synaptic_operations(network, batch, binned=True))
    return functools.reduce(operator.add, counted)


def with_operations(runs: list[dict], out: Path) -> list[dict]:
    """The runs with what has been measured of them as ``operations``. Raises :class:`RunError` for a damaged file."""
    store, found = RunStore(out), []
    for run in runs:
        path = _path(store, run)
        found.append(run | {"operations": _read(path) if path.exists() else None})
    return found


def _path(store: RunStore, run: dict) -> Path:
    return view.folder_of(store, run) / "operations.json"


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not all(holds(found.get(name)) for name, holds in _MEASURED.items()) or not found["samples"]:
            raise ValueError(f"no {', '.join(_MEASURED)}")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path}: not what was measured ({one_line(error, 100)}); delete it and run with --energy"
        ) from error
    return found
