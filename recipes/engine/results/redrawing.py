"""What pictures need of a table's runs, in the JSON beside the table and read from it again: redrawing needs no run."""

import json
from pathlib import Path

from ..errors import OptionError, one_line

SETS = ("train", "valid", "test")


def curves_of(row: dict, runs: list[dict]) -> dict[str, list]:
    """What a row of a table's JSON has beside its statistics: one entry of "curves" a run, in the order of its seeds."""
    ours = [run for run in runs if run["network"] == row["key"]]
    return {"curves": [curves(run) for run in ours]} if ours else {}


def curves(run: dict) -> dict[str, list[float]]:
    """Accuracy (%) after every epoch, for each set that was looked at."""
    return {
        name: [round(entry[f"{name}_accuracy"], 3) for entry in run["history"]]
        for name in SETS
        if f"{name}_accuracy" in run["history"][0]
    }


def read(name: str, path: Path) -> dict:
    """The JSON of the table or view ``name``. Raises :class:`OptionError` for a file that is none."""
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"--json {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--json {path}: no JSON ({one_line(error, 100)})") from error
    if not isinstance(facts, dict) or facts.get("recipe") != name:
        found = facts.get("recipe") if isinstance(facts, dict) else None
        whose = f" but {found}'s" if found else ""
        raise OptionError(f"--json {path}: not the {name}.json that `table {name}` writes{whose}")
    return facts


def runs_in(facts: dict) -> list[dict]:
    """The runs of a table's JSON, with what pictures need of them; without a history where the file is of a version that
    kept no curves. Raises LookupError or TypeError for what is no such JSON."""
    protocol = facts["settings"]["protocol"]
    return [_run(facts, row, i, protocol) for row in facts["rows"] for i in range(row["runs"])]


def _run(facts: dict, row: dict, i: int, protocol: str) -> dict:
    chosen = {
        "epoch": row["epoch"][i],
        "test_accuracy": row["test"]["values"][i],
        "test_spikes": row["spikes_per_neuron"]["values"][i],
        **({"valid_accuracy": row["valid"]["values"][i]} if "valid" in row else {}),
    }
    kept = row["curves"][i] if "curves" in row else {}
    history = [
        {"epoch": epoch, **{f"{name}_accuracy": value for name, value in zip(kept, values, strict=True)}}
        for epoch, values in enumerate(zip(*kept.values(), strict=True), start=1)
    ]
    return {
        "recipe": facts["recipe"],
        "network": row["key"],
        "seed": row["seeds"][i],
        "settings": facts["settings"],
        "data": facts["data"],
        "parameters": row["parameters"],
        "history": history or [chosen, {"test_accuracy": row["best_test"]["values"][i]}],
        "best": {protocol: chosen},
        "seconds_per_epoch": row["seconds_per_epoch"],
        "peak_memory_mib": row["peak_memory_mib"],
    }


def has_curves(facts: dict) -> bool:
    """Whether learning curves can be drawn of a table's JSON."""
    return all("curves" in row for row in facts["rows"] if row["runs"])
