"""More to show of the networks of a table: other numbers, a figure. Nothing is trained twice for it."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.engine.options import OptionError
from recipes.engine.recipe import TableRecipe
from recipes.engine.runs import Run, RunStore
from recipes.engine.sources import Source
from recipes.engine.tables import Sheet, announce, show


@dataclasses.dataclass(frozen=True)
class View:
    """A table or figure of the runs of another recipe, kept in that recipe's folder.

    ``run`` trains those of ``networks`` that are not finished, exactly as ``of`` would. ``tabulate`` makes the table of
    the finished runs, ``draw`` its picture; both are called with (view, runs, store).
    """

    name: str
    title: str
    source: str
    of: TableRecipe
    networks: tuple[str, ...]
    tabulate: Callable[["View", list[dict], RunStore], Sheet]
    draw: Callable[["View", list[dict], RunStore], Any]

    @property
    def paper_used(self) -> str:
        shown = ", ".join(self.networks)
        return (
            f"{self.source}\nShows the networks {shown} (--only chooses others) of {self.of.name}, and shares its folder "
            f"and its runs.\n\n{self.of.paper_used}"
        )

    @property
    def default_out(self) -> str:
        return self.of.default_out

    @property
    def source_of_data(self) -> Source:
        return self.of.source_of_data

    def add_options(self, parser: argparse.ArgumentParser, *others: "View") -> None:
        self.of.add_options(parser, *(view.of for view in others))

    def run(self, given: argparse.Namespace) -> int:
        """Train what is not finished yet, then show and write the table and draw; 1 if a training diverged, or nothing is
        finished."""
        runs, diverged = self.of.train(self._chosen(given))
        if runs:
            self.prepare(runs, given)
            announce(self._table(runs, given) + self._plot(runs, given))
        return 0 if runs and not diverged else 1

    def prepare(self, runs: list[dict], given: argparse.Namespace) -> None:
        """What ``table`` and ``plot`` need of the data, kept while they are at hand; here nothing."""

    def table(self, given: argparse.Namespace) -> int:
        """Show and write the table of the finished runs."""
        announce(self._table(self._finished(given), given))
        return 0

    def plot(self, given: argparse.Namespace) -> int:
        """Draw the finished runs."""
        announce(self._plot(self._finished(given), given))
        return 0

    def _chosen(self, given: argparse.Namespace) -> argparse.Namespace:
        return argparse.Namespace(**vars(given) | {"only": given.only or ",".join(self.networks)})

    def _finished(self, given: argparse.Namespace) -> list[dict]:
        return self.of.finished(self._chosen(given))

    def _table(self, runs: list[dict], given: argparse.Namespace) -> list[Path]:
        sheet = self.tabulate(self, runs, RunStore(self.of.out(given)))
        show(sheet)
        return sheet.write(self.of.out(given))

    def _plot(self, runs: list[dict], given: argparse.Namespace) -> list[Path]:
        from recipes.engine import plots

        figure = self.draw(self, runs, RunStore(self.of.out(given)))
        return [plots.save(figure, self.of.out(given) / f"{self.name}.png")]


def best_run(runs: list[dict]) -> dict:
    """The run whose chosen epoch is best by its protocol: by validation accuracy where there is one."""

    def accuracy(run: dict) -> float:
        chosen = run["best"][run["settings"]["protocol"]]
        return chosen.get("valid_accuracy", chosen["test_accuracy"])

    return max(runs, key=accuracy)


def weights(store: RunStore, run: dict) -> dict[str, Tensor]:
    """Parameters and buffers of a finished run at its chosen epoch. Raises :class:`OptionError` where they are gone."""
    return _kept(store, run, "best.pt")


def checkpoint(store: RunStore, run: dict) -> dict:
    """What a finished run ended with: ``state_dict``, and its objective's state. Raises :class:`OptionError`."""
    return _kept(store, run, "last.ckpt")


def folder_of(store: RunStore, run: dict) -> Path:
    """Where a finished run keeps its files."""
    return store.folder_of(Run(run["recipe"], run["network"], run["seed"], run["settings"]))


def _kept(store: RunStore, run: dict, name: str) -> dict:
    path = folder_of(store, run) / name
    if not path.exists():
        raise OptionError(f"{path}: not there; delete {path.parent} and run the recipe again")
    return torch.load(path, weights_only=True, map_location="cpu")


def which(run: dict) -> str:
    """One line that names a run and what it reached."""
    chosen = run["best"][run["settings"]["protocol"]]
    valid = f"{chosen['valid_accuracy']:.1f} % on validation, " if "valid_accuracy" in chosen else ""
    return (
        f"{run['network']}, seed {run['seed']}, epoch {chosen['epoch']} of {run['settings']['training']['epochs']} on "
        f"{run['data']['name']} (protocol {run['settings']['protocol']}): {valid}{chosen['test_accuracy']:.1f} % on test"
    )


def facts(runs: list[dict], rows: Any) -> dict:
    """What the JSON of every view holds."""
    return {
        "settings": runs[0]["settings"],
        "data": runs[0]["data"],
        "runs": [{"network": run["network"], "seed": run["seed"], "chosen": which(run)} for run in runs],
        "rows": rows,
    }
