"""A table of networks as a recipe: run it, show it, plot it."""

import argparse
import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

from ..data.sources import Source
from ..results import tables
from ..training.objectives import Objective
from . import finished, options, plan, request, work


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of a table: what sets it apart from the others in its build (``settings``), in its training
    (``training``) and in its samples (``data``: changes of the source's ``settings``, part by part), and the paper's
    figures for it ({}: none; else any of mean, std, max, parameters, spikes)."""

    key: str
    name: str
    settings: dict
    paper: dict
    training: dict = dataclasses.field(default_factory=dict)
    data: dict[str, dict] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TableRecipe:
    """A table whose rows are networks trained on one data set.

    ``network(inputs, classes, **settings)`` builds a row's network from ``network_settings`` and the row's
    own settings, ``objective(network, hyper)`` what it is trained for, with ``training`` (any frozen dataclass
    with ``epochs`` and ``batch_size``) and the row's own changes to it as ``hyper``; all of them are plain
    numbers and words, kept with every result. ``smoke`` holds what ``--smoke`` changes: ``rows`` (keys; without it
    all), ``seeds``, ``threads``, some of ``training``, some of ``network``. ``figures`` names functions of
    :mod:`recipes.engine.results.plots`. ``paper_instead`` gives the paper's numbers where those here are others.
    """

    name: str
    title: str
    source: str
    paper_data: str
    paper_protocol: str
    rows: tuple[Row, ...]
    network: Callable[..., nn.Module]
    network_settings: dict
    training: Any
    objective: type[Objective]
    source_of_data: Source
    seeds: int
    protocol: str
    smoke: dict
    figures: tuple[str, ...] = ("accuracy", "learning_curves")
    paper_instead: dict[str, str] = dataclasses.field(default_factory=dict)

    redraws = True  # `plot --json`

    # ------------------------------------------------------------------------------------------- command line

    @property
    def paper_used(self) -> str:
        """What ``--help`` says of the paper."""
        lines = [
            f"{self.source}",
            f"The paper used: {self.paper_data}, {self.paper_protocol}.",
            "The numbers here are the paper's" + (" but for those in the last line:" if self.paper_instead else ":"),
            f"  seeds {self.seeds}",
        ]
        for part in (dataclasses.asdict(self.training), self.network_settings, *self.source_of_data.settings.values()):
            lines.append("  " + ", ".join(f"{name} {value}" for name, value in part.items()))
        if self.paper_instead:
            lines.append("The paper instead: " + ", ".join(f"{name} {value}" for name, value in self.paper_instead.items()))
        width = max(len(row.key) for row in self.rows) + 2
        lines += ["Networks (--only):"] + [f"  {row.key:{width}}{row.name}" for row in self.rows]
        return "\n".join(lines)

    @property
    def has_energy(self) -> bool:
        """Whether ``run`` and ``table`` have the option ``--energy``."""
        return True

    @property
    def default_out(self) -> str:
        return f"results/{self.name}"

    def add_options(self, parser: argparse.ArgumentParser, *others: "TableRecipe") -> None:
        """The options of this recipe, and of ``others`` that share its command."""
        recipes = (self, *others)
        sources = {type(recipe.source_of_data): recipe.source_of_data for recipe in reversed(recipes)}
        folders = dict.fromkeys(recipe.source_of_data.folder for recipe in recipes)
        folder = None if None in folders else "; or ".join(folders)
        options.add_data(parser, folder, *(recipe.source_of_data.published for recipe in recipes))
        epochs, batch_size = (
            " / ".join(str(getattr(recipe.training, name)) for recipe in recipes) for name in ("epochs", "batch_size")
        )
        options.add_training(parser, epochs, batch_size, self.protocol)
        for source in sources.values():
            source.add_options(parser)
        options.add_common(parser, *(recipe.default_out for recipe in recipes))
        parser.add_argument("--only", metavar="NETWORK,...", help="these networks of the table alone")

    # ----------------------------------------------------------------------------------------------- networks

    @property
    def numbers(self) -> dict[request.Part, dict[str, tuple[Any, Any]]]:
        """(value, annotated type) of every number and word that ``--set`` can change: all arguments of the network, all
        fields of the training."""
        of_network = {
            argument.name: argument.default
            for argument in inspect.signature(self.network).parameters.values()
            if argument.kind is argument.KEYWORD_ONLY
        }
        builder = self.network.__init__ if isinstance(self.network, type) else self.network
        values: dict[request.Part, dict] = {
            "network": of_network | self.network_settings,
            "training": dataclasses.asdict(self.training),
        }
        types = {"network": typing.get_type_hints(builder), "training": typing.get_type_hints(type(self.training))}
        return {part: {name: (value, types[part][name]) for name, value in of.items()} for part, of in values.items()}

    def settings_of(self, row: Row) -> dict[str, dict]:
        """All settings of a row, and of the data, as the recipe has them: without ``--smoke`` or any other option."""
        values = {part: {name: value for name, (value, _) in of.items()} for part, of in self.numbers.items()}
        return self.source_of_data.changed(row.data).settings | {
            "network": values["network"] | row.settings,
            "training": values["training"] | row.training,
        }

    def build(self, inputs: int, classes: int, settings: dict) -> Objective:
        """The network of a run with these settings, and what it is trained for."""
        network = self.network(inputs, classes, **settings["network"])
        return self.objective(network, type(self.training)(**settings["training"]))

    # ------------------------------------------------------------------------------------------------ actions

    def run(self, given: argparse.Namespace) -> int:
        """Train what is not finished yet, then show and write the table and its plots; 1 if a run failed. Runs that other
        processes are training are left to them."""
        asked = request.parse(self, given)
        planned = plan.make(self, asked, self.seeds)
        runs, failed = work.finish(planned)
        if runs:
            if given.energy:
                runs = self._measured(runs, planned)
            finished.show(self, runs, failed, asked.out, plot=True)
        return 1 if failed else 0

    def _measured(self, runs: list[dict], planned: plan.Plan) -> list[dict]:
        from . import energy  # neurons of the package: seconds that a table need not pay

        energy.measure(planned, runs)
        return energy.with_operations(runs, planned.request.out)

    def tune(self, given: argparse.Namespace) -> int:
        """Cross-validation over the training speakers: :mod:`recipes.engine.command.tuning`."""
        from . import tuning

        return tuning.tune(self, given)

    def table(self, given: argparse.Namespace) -> int:
        """Show and write the table of the finished runs; 1 if some could not be read."""
        asked = request.parse(self, given)
        runs, failed = finished.find(self, asked)
        if given.energy:
            from . import energy

            runs = energy.with_operations(runs, asked.out)
        finished.show(self, runs, failed, asked.out, plot=False)
        return 1 if failed else 0

    def plot(self, given: argparse.Namespace) -> int:
        """Draw the finished runs, or a table's JSON; 1 if some runs could not be read."""
        from ..results import plots

        options.check_json(given)
        asked = request.parse(self, given)
        if given.json:
            tables.announce(plots.rewrite(self, given.json, asked.out))
            return 0
        runs, failed = finished.find(self, asked)
        tables.announce(plots.write(self, runs, asked.out))
        return 1 if failed else 0
