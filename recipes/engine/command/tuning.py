"""Choosing hyperparameters by cross-validation over the speakers of the training set, as Meszaros et al. do (section 4).

``python -m recipes tune NAME --only NETWORK --set ...`` leaves each speaker out of the training set once (or each of
``--folds`` groups of them), trains on the others and measures those left out. The test set is not read. Every command adds
its settings to the table of all that have been tried.
"""

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from ..data.sources import CROSS_VALIDATION, Splits
from ..errors import OptionError, RunError
from ..results import comparison, tables
from . import plan, request, work
from .work import Failure


def tune(recipe, given: argparse.Namespace) -> int:
    """Train what is not finished yet, then show and write the table; 1 if a run failed.

    Raises :class:`OptionError` for what cannot be tuned, :class:`recipes.engine.errors.DataError` for a training file that
    cannot be read or names nobody to leave out.
    """
    if given.protocol:
        raise OptionError(f"--protocol {given.protocol}: tune leaves speakers out of the training set instead; drop it")
    if not recipe.source_of_data.names_speakers:
        raise OptionError(
            f"the data of {recipe.name} name no speakers to leave out; compare settings by their validation accuracy "
            "(run, protocol clean)"
        )
    if given.folds < 2:
        raise OptionError(f"--folds {given.folds}: at least two")
    asked = request.parse(recipe, given)
    planned = plan.make(recipe, asked, seeds=1)
    data_dir = planned.data_dir or planned.source.download(asked.offline)
    folds = planned.source.folds(data_dir, given.folds)
    failed = []
    for number, left_out in enumerate(folds, 1):
        if planned.hardware.leads:
            print(f"Fold {number} of {len(folds)}: without speaker{'s'[: len(left_out) > 1]} {_names(left_out)}")
        failed += work.train(planned, functools.partial(_loads, data_dir, left_out))[1]
    if not planned.hardware.leads:
        return 0
    keys = [row.key for row in planned.rows]
    damaged: list[RunError] = []
    runs = [run for run in planned.store.results(recipe.name, damaged) if run["network"] in keys]
    known = {str(failure.why) for failure in failed}
    failed += [Failure(None, error) for error in damaged if str(error) not in known]
    runs = [run for run in runs if tuple(run["settings"].get("left_out", ())) in folds]
    if not runs:
        print("Nothing finished yet: every run is being trained by another process, or has failed.")
        return 1 if failed else 0
    found = sheet(recipe, runs, folds).with_remarks(map(str, failed))
    tables.show(found)
    tables.announce(found.write(asked.out))
    return 1 if failed else 0


def _loads(data_dir: Path | None, left_out: tuple[int, ...], part: plan.Plan) -> Callable[[], Splits]:
    return functools.partial(part.source.load_fold, data_dir, left_out)


def sheet(recipe, runs: list[dict], folds: list[tuple[int, ...]]) -> tables.Sheet:
    """A line for each network and settings, the best settings of a network first."""
    rows = sorted(_rows(recipe, runs), key=lambda row: (row["place"], -row["accuracy"]["mean"]))
    varied = sorted({name for row in rows for name in _varied(rows, row)})
    data = runs[0]["data"]["name"]
    headings = [
        "network",
        *varied,
        f"{data}: speakers left out, mean ± std over folds (%)",
        "worst fold (%)",
        "folds",
        "seeds",
        "epoch",
        "spikes/neuron",
        "s/epoch",
    ]
    cells = [
        [
            row["name"],
            *(json.dumps(row["settings"].get(name)) for name in varied),
            tables.spread(row["accuracy"], 1),
            f"{min(row['accuracy']['values']):.1f}",
            f"{len(row['folds'])} of {len(folds)}",
            str(len(row["seeds"])),
            f"{row['epoch']:g}",
            f"{row['spikes_per_neuron']:.2f}",
            f"{row['seconds_per_epoch']:.2f}",
        ]
        for row in rows
    ]
    remarks = [
        f"The {sum(map(len, folds))} speakers of {data}'s training set in {len(folds)} groups, each left out once: "
        + "; ".join(map(_names, folds))
        + ".",
        "Accuracy on those left out at the epoch where it is highest, each fold its own: for comparing settings; higher "
        "than it will be on new speakers. The test set was not read.",
        "± is the standard deviation over folds (n - 1), of each fold's mean over seeds. Epoch: median; spikes: mean over "
        "hidden neurons and samples left out; time: median training epoch.",
        *tables.other_settings(recipe, runs, varied),
    ]
    facts = {"folds": folds, "data": data, "notes": remarks, "rows": rows}
    return tables.Sheet(f"{recipe.name}_tuning", f"{recipe.title}: cross-validation", headings, cells, remarks, facts)


def _rows(recipe, runs: list[dict]) -> list[dict]:
    alike: dict[tuple[str, str], list[dict]] = {}
    for run in runs:
        settings = {name: value for name, value in comparison.flat(run["settings"]).items() if name != "left_out"}
        alike.setdefault((run["network"], json.dumps(settings, sort_keys=True)), []).append(run)
    names = {row.key: (place, row.name) for place, row in enumerate(recipe.rows)}
    rows = []
    for (network, settings), ours in alike.items():
        accuracies: dict[tuple[int, ...], list[float]] = {}
        chosen = [run["best"][CROSS_VALIDATION] for run in ours]
        for run, epoch in zip(ours, chosen, strict=True):
            accuracies.setdefault(tuple(run["settings"]["left_out"]), []).append(epoch["valid_accuracy"])
        place, name = names[network]
        rows.append(
            {
                "key": network,
                "name": name,
                "place": place,
                "settings": json.loads(settings),
                "accuracy": tables.statistics_of([statistics.mean(values) for values in accuracies.values()]),
                "folds": list(accuracies),
                "seeds": sorted({run["seed"] for run in ours}),
                "epoch": statistics.median(epoch["epoch"] for epoch in chosen),
                "spikes_per_neuron": statistics.mean(epoch["valid_spikes"] for epoch in chosen),
                "seconds_per_epoch": statistics.median(run["seconds_per_epoch"] for run in ours),
            }
        )
    return rows


def _varied(rows: list[dict], row: dict) -> list[str]:
    """The settings in which the rows of one network differ."""
    return comparison.differing([other["settings"] for other in rows if other["key"] == row["key"]])


def _names(speakers: tuple[int, ...]) -> str:
    return ", ".join(map(str, speakers))
