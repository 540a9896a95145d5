"""The finished runs that a request describes, and showing them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.sources import CROSS_VALIDATION
from ..errors import OptionError, RunError
from ..results import comparison, tables
from ..results.runs import RunStore
from .plan import check_generated
from .request import Request
from .work import Failure

if TYPE_CHECKING:
    from .recipe import TableRecipe


def find(recipe: "TableRecipe", request: Request) -> tuple[list[dict], list[Failure]]:
    """The finished runs that are asked for, and the results in the same folder that cannot be read, after saying so. Raises
    :class:`OptionError` where there are none, and where they do not agree on all settings but network and seed."""
    damaged: list[RunError] = []
    stored = RunStore(request.out).results(recipe.name, damaged)
    check_generated(recipe, request)
    name = request.source.find(request.data_dir) if request.data_dir else None
    defaults = {part: {key: default for key, (default, _) in of.items()} for part, of in recipe.numbers.items()}
    runs = [run for run in stored if name in (None, run["data"]["name"]) and _matches(request, run, defaults)]
    if not runs and damaged:
        raise damaged[0]
    if not runs:
        raise OptionError(f"no finished runs with these options in {request.out}; make them with: {request.again}")
    _check_alike(recipe, request, runs)
    failed = [Failure(None, error) for error in damaged]
    for failure in failed:
        print(failure, file=sys.stderr)
    return runs, failed


def _matches(request: Request, run: dict, defaults: dict) -> bool:
    """``defaults``: the recipe's settings, which runs from before a setting was there had."""
    settings = run["settings"]
    row = next((row for row in request.rows if row.key == run["network"]), None)
    if row is None or settings["protocol"] == CROSS_VALIDATION:
        return False
    if not request.source.changed(row.data).matches(request.source_options, settings):
        return False
    for part, changes in request.changes.items():
        for name, value in changes.items():
            if settings[part].get(name, defaults[part][name]) != value:
                return False
    return all(
        value is None or value == found
        for value, found in (
            (request.protocol, settings["protocol"]),
            (request.precision, settings.get("precision", "32")),
            (request.epochs, settings["training"]["epochs"]),
            (request.batch_size, settings["training"]["batch_size"]),
        )
    ) and (request.seeds is None or run["seed"] in request.seeds)


def _check_alike(recipe: "TableRecipe", request: Request, runs: list[dict]) -> None:
    keys = sorted({row.key for row in request.rows})
    of_each = [comparison.of_network(runs, key) for key in keys]
    for alike in ([comparison.without_row(recipe, run) for run in runs], *of_each):
        if differ := comparison.differences(alike):
            raise OptionError(
                f"{request.out} holds runs with different settings ({differ}); "
                "choose with --epochs, --protocol, --set, ... or --out"
            )


def show(recipe: "TableRecipe", runs: list[dict], failed: list[Failure], out: Path, plot: bool) -> None:
    """The table on the screen and in files; with ``plot`` the pictures, too."""
    of_failed = {failure.run.network for failure in failed if failure.run}
    sheet = tables.sheet(recipe, runs, of_failed).with_remarks(map(str, failed))
    tables.show(sheet)
    paths = sheet.write(out)
    if plot:
        from ..results import plots

        paths += plots.write(recipe, runs, out)
    tables.announce(paths)
