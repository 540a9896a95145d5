"""What a request comes to on this machine: which data, which runs, on which hardware. Nothing is trained here."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.sources import Source, Splits
from ..errors import OptionError, one_line
from ..results.runs import Run, RunStore
from ..training.hardware import Hardware
from . import options
from .request import Request

if TYPE_CHECKING:
    from .recipe import Row, TableRecipe


@dataclasses.dataclass(frozen=True)
class Plan:
    """``source`` and ``data_dir``: where the samples come from (no folder: generated, or to be downloaded)."""

    recipe: "TableRecipe"
    request: Request
    source: Source
    data_dir: Path | None
    seeds: tuple[int, ...]
    hardware: Hardware
    store: RunStore

    @property
    def rows(self) -> tuple["Row", ...]:
        return self.request.rows

    @property
    def by_data(self) -> list["Plan"]:
        """This plan in parts whose rows have the same samples."""
        parts: dict[str, list[Row]] = {}
        for row in self.rows:
            parts.setdefault(json.dumps(row.data, sort_keys=True), []).append(row)
        return [
            dataclasses.replace(
                self, request=dataclasses.replace(self.request, rows=tuple(rows)), source=self.source.changed(rows[0].data)
            )
            for rows in parts.values()
        ]

    @property
    def load(self) -> Callable[[], Splits]:
        """Loads the data that were asked for; what is not there is downloaded now."""
        folder = self.data_dir or self.source.download(self.request.offline)
        return functools.partial(self.source.load, folder, self.request.protocol or self.recipe.protocol)

    def runs(self, splits: Splits) -> list[Run]:
        """Every run that is asked for, one seed after the other. Raises :class:`OptionError` for what cannot be trained on
        these samples."""
        for row in self.rows:
            self.hardware.check(splits, hyper(self.recipe, self.request, row).batch_size)
        runs = [self._run(row, seed, splits) for seed in self.seeds for row in self.rows]
        self._check_changes(runs, splits)
        return runs

    def _run(self, row: "Row", seed: int, splits: Splits) -> Run:
        recipe, request = self.recipe, self.request
        smoke = recipe.smoke.get("network", {}) if request.smoke else {}
        settings = {
            "protocol": splits.protocol,
            "data": f"{splits.name} {splits.digest}",
            **self.source.settings,
            "network": recipe.network_settings | smoke | request.changes["network"] | row.settings,
            "training": dataclasses.asdict(hyper(recipe, request, row)),
        }
        if request.precision not in (None, "32"):
            settings["precision"] = request.precision
        if splits.left_out:
            settings["left_out"] = list(splits.left_out)
        return Run(recipe.name, row.key, seed, json.loads(json.dumps(settings)))

    def _check_changes(self, runs: list[Run], splits: Splits) -> None:
        """Build what ``--set`` has changed and show it one sample, before any training: what a network or an optimizer
        refuses is an :class:`OptionError`."""
        if not self.request.changed:
            return
        sample = splits.train.batch(np.arange(1), np.random.default_rng(0))
        for settings in {json.dumps(run.settings, sort_keys=True): run.settings for run in runs}.values():
            try:
                objective = self.recipe.build(splits.inputs, splits.classes, settings)
                objective.optimizer()
                objective.network.eval()
                objective.measure(*sample)
            except (ValueError, TypeError, RuntimeError, MemoryError, ArithmeticError, AssertionError) as error:
                raise OptionError(f"{self.request.changed}: {one_line(error, 400)}") from error


def make(recipe: "TableRecipe", request: Request, seeds: int) -> Plan:
    """``seeds``: how many, unless the request says. Raises :class:`OptionError` for what cannot be done, before any data
    are read."""
    smoke = recipe.smoke if request.smoke else {}
    if "threads" in smoke and not request.threads:
        torch.set_num_threads(smoke["threads"])  # tiny networks are slower on more
    source, data_dir = _samples(recipe, request)
    hardware = Hardware.chosen(request, recipe.objective)
    options.check_tensorboard(request.tensorboard)
    smallest = min(hyper(recipe, request, row).batch_size for row in request.rows)
    if smallest < hardware.processes:
        raise OptionError(f"{hardware.asked}: batches of {smallest} samples are too small to divide")
    numbers = request.seeds or tuple(range(smoke.get("seeds", seeds)))
    store = RunStore(options.writable_folder(request.out))
    return Plan(recipe, request, source, data_dir, numbers, hardware, store)


def _samples(recipe: "TableRecipe", request: Request) -> tuple[Source, Path | None]:
    """Raises :class:`OptionError` where the options do not fit together, and for a folder that does not hold the data."""
    source, data_dir = request.source, request.data_dir
    if request.smoke:
        if data_dir:
            raise OptionError("--smoke makes its own data; drop --data-dir, or drop --smoke")
        return source.smoke()
    check_generated(recipe, request)
    if source.folder is None:
        return source, None
    if data_dir is None and source.published is None:
        raise OptionError(f"--data-dir is missing: {source.folder} (--smoke needs none)")
    if data_dir is not None:
        source.find(data_dir)
    return source, data_dir


def check_generated(recipe: "TableRecipe", request: Request) -> None:
    """Raises :class:`OptionError` for a folder of data that are generated."""
    if request.source.folder is None and request.data_dir:
        raise OptionError(f"--data-dir {request.data_dir}: {recipe.name} generates its data; drop it")


def hyper(recipe: "TableRecipe", request: Request, row: "Row") -> Any:
    """How the row is trained: as the paper, as the row, as ``--smoke``, as the options say; the last counts."""
    smoke = recipe.smoke.get("training", {}) if request.smoke else {}
    asked = {"epochs": request.epochs, "batch_size": request.batch_size}
    changes = row.training | smoke | request.changes["training"] | {name: value for name, value in asked.items() if value}
    try:
        return dataclasses.replace(recipe.training, **changes)
    except ValueError as error:
        raise OptionError(f"--set: {error}") from error
