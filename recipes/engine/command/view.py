"""More to show of the networks of a table: other numbers, a figure. Nothing is trained twice for it."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.sources import Source
from ..errors import OptionError, RunError, one_line
from ..results import redrawing
from ..results.runs import Run, RunStore
from ..results.tables import Sheet, announce, other_settings, show
from ..training.kept import check_weights, load_kept
from . import finished, options, plan, request, work
from .plan import Plan
from .recipe import TableRecipe
from .request import Request
from .work import Failure


@dataclasses.dataclass(frozen=True)
class View:
    """A table or figure of the runs of another recipe, kept in that recipe's folder.

    ``run`` trains those of ``networks`` that are not finished, exactly as ``of`` would. ``tabulate`` makes the table of
    the finished runs, called with (view, runs, store); ``draw`` its picture, called with (view, facts), where ``facts`` is
    what the table's JSON holds.
    """

    name: str
    title: str
    source: str
    of: TableRecipe
    networks: tuple[str, ...]
    tabulate: Callable[["View", list[dict], RunStore], Sheet]
    draw: Callable[["View", dict], Any]

    redraws = True  # `plot --json`

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
        """Train what is not finished yet, then show and write the table and draw; 1 if a run failed."""
        planned = plan.make(self.of, self._asked(given), self.of.seeds)
        runs, failed = work.finish(planned)
        if runs:
            self.prepare(runs, planned)
            announce(self._table(runs, failed, planned.request.out) + self._plot(runs, planned.request.out))
        return 1 if failed else 0

    def prepare(self, runs: list[dict], planned: Plan) -> None:
        """What ``table`` and ``plot`` need of the data, kept while they are at hand; here nothing."""

    def table(self, given: argparse.Namespace) -> int:
        """Show and write the table of the finished runs; 1 if some could not be read."""
        asked = self._asked(given)
        runs, failed = finished.find(self.of, asked)
        announce(self._table(runs, failed, asked.out))
        return 1 if failed else 0

    def plot(self, given: argparse.Namespace) -> int:
        """Draw the finished runs, or a table's JSON; 1 if some runs could not be read."""
        options.check_json(given)
        asked = self._asked(given)
        if given.json:
            announce(self._draw(redrawing.read(self.name, given.json), asked.out, of=given.json))
            return 0
        runs, failed = finished.find(self.of, asked)
        announce(self._plot(runs, asked.out))
        return 1 if failed else 0

    def _asked(self, given: argparse.Namespace) -> Request:
        return request.parse(self.of, given, self.networks)

    def _table(self, runs: list[dict], failed: list[Failure], out: Path) -> list[Path]:
        sheet = self.tabulate(self, runs, RunStore(out))
        sheet = sheet.with_remarks(other_settings(self.of, runs), "notes").with_remarks(map(str, failed))
        show(sheet)
        return sheet.write(out)

    def _plot(self, runs: list[dict], out: Path) -> list[Path]:
        return self._draw(self.tabulate(self, runs, RunStore(out)).facts, out)

    def _draw(self, facts: dict, out: Path, of: Path | None = None) -> list[Path]:
        """``of``: the file that the facts come from. Raises :class:`OptionError` where it holds others."""
        from ..results import plots

        try:
            figure = self.draw(self, facts)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if of is None:
                raise
            raise OptionError(f"--json {of}: not the JSON of this table ({one_line(error, 100)})") from error
        return plots.save(figure, out / f"{self.name}.png")


def best_run(runs: list[dict]) -> dict:
    """The run whose chosen epoch is best by its protocol: by validation accuracy where there is one."""

    def accuracy(run: dict) -> float:
        chosen = run["best"][run["settings"]["protocol"]]
        return chosen.get("valid_accuracy", chosen["test_accuracy"])

    return max(runs, key=accuracy)


def weights(of: TableRecipe, store: RunStore, run: dict) -> dict[str, Tensor]:
    """Parameters and buffers of a finished run of ``of`` at its chosen epoch. Raises :class:`OptionError` where they are
    gone, :class:`recipes.engine.errors.RunError` where they are not those of its network."""
    path = folder_of(store, run) / "best.pt"
    found = load_kept(_there(path), _remedy(path))
    check_weights(found, _network_of(of, store, run).state_dict(), path, _remedy(path), finite=True)
    return found


def checkpoint(of: TableRecipe, store: RunStore, run: dict) -> tuple[dict[str, Tensor], dict]:
    """What a finished run of ``of`` ended with: parameters and buffers, and its objective's state. Raises likewise."""
    path = folder_of(store, run) / "last.ckpt"
    found = load_kept(_there(path), _remedy(path))
    state, objective = (found.get(name) if isinstance(found, dict) else None for name in ("state_dict", "objective"))
    expected = {f"network.{name}": value for name, value in _network_of(of, store, run).state_dict().items()}
    check_weights(state, expected, path, _remedy(path), finite=True)
    return {name.removeprefix("network."): value for name, value in state.items()}, objective


def damaged(store: RunStore, run: dict, name: str, why: str) -> RunError:
    """The error for a file of a finished run that cannot be used."""
    path = folder_of(store, run) / name
    return RunError(f"{path}: {why}; {_remedy(path)}")


def folder_of(store: RunStore, run: dict) -> Path:
    """Where a finished run keeps its files."""
    return store.folder_of(Run(run["recipe"], run["network"], run["seed"], run["settings"]))


def _network_of(of: TableRecipe, store: RunStore, run: dict) -> nn.Module:
    try:
        return of.build(run["data"]["inputs"], run["data"]["classes"], run["settings"]).network
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise damaged(store, run, "result.json", f"its settings make no network ({one_line(error)})") from error


def _there(path: Path) -> Path:
    if not path.exists():
        raise OptionError(f"{path}: not there; {_remedy(path)}")
    return path


def _remedy(path: Path) -> str:
    return f"delete {path.parent} and run the recipe again"


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
