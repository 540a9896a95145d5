"""A paper's table beside ours: on the screen, and as Markdown, CSV and JSON. Plots of the same runs."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from ..files import atomic
from . import comparison, redrawing


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: a heading, and the text of its cell for one row of :func:`summarise`."""

    heading: str
    cell: Callable[[dict], str]


def summarise(recipe, runs: list[dict]) -> list[dict]:
    """One row per network of the recipe, in its order: the paper's figures and the statistics over our runs.

    ``test`` statistics are over the test accuracies at the epoch that the runs' protocol chooses;
    ``best_test`` over those of the best test epoch. Standard deviations are of the sample (n - 1), None for
    one run.
    """
    rows = []
    for row in recipe.rows:
        ours = [run for run in runs if run["network"] == row.key]
        entry = {"key": row.key, "name": row.name, "paper": dict(row.paper), "runs": len(ours)}
        if ours:
            protocol = ours[0]["settings"]["protocol"]
            chosen = [run["best"][protocol] for run in ours]
            entry |= {
                "parameters": ours[0]["parameters"],
                "seeds": [run["seed"] for run in ours],
                "test": statistics_of([epoch["test_accuracy"] for epoch in chosen]),
                "best_test": statistics_of([max(e["test_accuracy"] for e in run["history"]) for run in ours]),
                "epoch": [epoch["epoch"] for epoch in chosen],
                "spikes_per_neuron": statistics_of([epoch["test_spikes"] for epoch in chosen]),
                "seconds_per_epoch": statistics.median(run["seconds_per_epoch"] for run in ours),
                "peak_memory_mib": max(run["peak_memory_mib"] for run in ours),
            }
            gpu = [run["peak_gpu_memory_mib"] for run in ours if run.get("peak_gpu_memory_mib")]
            if gpu:
                entry["peak_gpu_memory_mib"] = max(gpu)
            if measured_ := [run["operations"] for run in ours if run.get("operations")]:
                for name in ("synaptic_operations", "multiply_accumulates"):
                    entry[name] = statistics_of([found[name] / found["samples"] for found in measured_])
                entry["nanojoules"] = statistics_of([found["energy"] * 1e9 for found in measured_])
            if protocol == "clean":
                entry["valid"] = statistics_of([epoch["valid_accuracy"] for epoch in chosen])
        rows.append(entry)
    return rows


def measured(recipe, runs: list[dict]) -> list[dict]:
    """Those rows of :func:`summarise` that have runs."""
    return [row for row in summarise(recipe, runs) if row["runs"]]


def statistics_of(values: list[float]) -> dict:
    """Mean, standard deviation of the sample (None for one value) and largest."""
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "max": max(values),
        "values": values,
    }


def columns(recipe, runs: list[dict]) -> list[Column]:
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    known = {name for row in recipe.rows for name in row.paper}
    paper = []
    if "mean" in known:
        second, form = ("max", "{mean:.2f} / {max:.2f}") if "max" in known else ("std", "{mean:.2f} ± {std:.2f}")
        heading = f"paper, {recipe.paper_data}: mean {'/' if second == 'max' else '±'} {second} (%)"
        paper = [Column(heading, lambda row: _paper(row, form, "mean"))]
    chosen_by = [
        Column(f"{data}: validation (%)", _ours("valid", spread, 1)),
        Column(f"{data}: best test epoch (%)", _ours("best_test", spread, 1)),
    ]
    gpu = Column("peak GPU MiB", lambda row: _number(row, "peak_gpu_memory_mib", ".0f"))
    return [
        Column("network", lambda row: row["name"]),
        *paper,
        Column(f"{data}: mean ± std (%)", _ours("test", spread, 1)),
        Column("max (%)", _ours("test", lambda values, digits: f"{values['max']:.{digits}f}", 1)),
        Column("seeds", lambda row: str(row["runs"])),
        *(chosen_by if protocol == "clean" else []),
        _beside_paper("parameters", known, "parameters", lambda row: _number(row, "parameters", ",d"), "{parameters}"),
        _beside_paper("spikes/neuron", known, "spikes", _ours("spikes_per_neuron", spread, 2), "{spikes:g}"),
        Column("s/epoch", lambda row: _number(row, "seconds_per_epoch", ".2f")),
        Column("peak MiB", lambda row: _number(row, "peak_memory_mib", ".0f")),
        *([gpu] if any(run.get("peak_gpu_memory_mib") for run in runs) else []),
        *_of_operations(runs),
    ]


def _of_operations(runs: list[dict]) -> list[Column]:
    """Where ``--energy`` asks for them."""
    if not any("operations" in run for run in runs):
        return []
    multiplied = any(run["operations"] and run["operations"]["multiply_accumulates"] for run in runs)
    macs = Column("MACs/sample", _ours("multiply_accumulates", spread, 0))
    return [
        Column("SynOps/sample", _ours("synaptic_operations", spread, 0)),
        *([macs] if multiplied else []),
        Column("nJ/sample", _ours("nanojoules", spread, 1)),
    ]


def _beside_paper(heading: str, known: set[str], figure: str, ours: Callable[[dict], str], form: str) -> Column:
    """Ours, with the paper's figure in brackets where the paper has one for any row."""
    if figure not in known:
        return Column(heading, ours)
    return Column(f"{heading} (paper)", lambda row: f"{ours(row)} ({_paper(row, form, figure)})")


def _ours(field: str, form: Callable, digits: int) -> Callable[[dict], str]:
    return lambda row: form(row[field], digits) if field in row else "-"


def _paper(row: dict, form: str, needed: str) -> str:
    """The paper's figures, or a dash for a row for which it gives none."""
    return form.format(**row["paper"]) if needed in row["paper"] else "-"


def spread(values: dict, digits: int) -> str:
    """mean ± std of :func:`summarise`'s statistics; the mean alone of one run."""
    std = "" if values["std"] is None else f" ± {values['std']:.{digits}f}"
    return f"{values['mean']:.{digits}f}{std}"


def counted(number: int, what: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _number(row: dict, field: str, form: str) -> str:
    return format(row[field], form) if field in row else "-"


def notes(recipe, runs: list[dict]) -> list[str]:
    """What a reader must know beside the numbers."""
    first = runs[0]
    settings, data, samples = first["settings"], first["data"], first["data"]["samples"]
    protocol = {
        "clean": f"clean: epoch chosen on {data['validation']}; its test accuracy is read once. "
        '"best test epoch" chooses on the test set, for comparison.',
        "paper": f"paper: epoch chosen on the {data['validation']}.",
    }[settings["protocol"]]
    hyper = settings["training"]
    sizes = ", ".join(f"{split} {count}" for split, count in samples.items())
    machines = "; ".join(sorted({_where(run) for run in runs}))
    versions = sorted({", ".join(f"{name} {number}" for name, number in run["versions"].items()) for run in runs})
    return [
        f"Paper: {recipe.source}, measured on {recipe.paper_data} ({recipe.paper_protocol}).",
        f"Ours: measured on {data['name']} ({sizes} samples), {counted(hyper['epochs'], 'epoch')}, "
        f"batch {hyper['batch_size']}. Protocol {protocol}",
        *other_settings(recipe, runs),
        "± is the standard deviation over seeds (n - 1). Spikes: mean over hidden neurons and test samples at "
        "the chosen epoch.",
        "Time: median training epoch, evaluation excluded; memory: peak resident memory of the process, "
        f"libraries and data included; {machines}.",
        *_notes_on_operations(runs),
        *(f"Versions: {text}." for text in versions),
    ]


def _notes_on_operations(runs: list[dict]) -> list[str]:
    if not any("operations" in run for run in runs):
        return []
    absent = sorted({run["network"] for run in runs if not run["operations"]})
    return [
        "SynOps: additions of a weight to a neuron, one for each spike and synapse (each tap of a delay between two "
        "steps); MACs: multiplications and additions on graded input; both of the test samples at the chosen epoch. "
        "Energy: 0.9 pJ an addition, 4.6 pJ a MAC (45 nm, 32-bit floating point; Horowitz, ISSCC 2014); the neurons' own "
        "updates and memory are not in it.",
        *([f"Not measured: {', '.join(absent)}; run with --energy does."] if absent else []),
    ]


def other_settings(recipe, runs: list[dict], shown: Collection[str] = ()) -> list[str]:
    """The remark on settings that are not the recipe's and not among those ``shown`` in the table; none where all are."""
    changed = comparison.with_recipe(recipe, runs, shown)
    return [f"Settings other than the recipe's: {', '.join(changed)}; in brackets the recipe's."] if changed else []


def _where(run: dict) -> str:
    """What a run was trained on; results of earlier versions say nothing and were trained by one process."""
    hardware = run.get("hardware", {})
    devices, nodes = hardware.get("devices", 1), hardware.get("nodes", 1)
    precision = hardware.get("precision", "32")
    if "gpu" in hardware:
        where = f"{devices} {hardware['gpu']}"
    else:
        threads = f"{counted(run['threads'], 'thread')} of {run['machine']['processor']}"
        where = threads if devices * nodes == 1 else f"{devices} process{'es' * (devices > 1)}, each {threads}"
    where = where if nodes == 1 else f"{nodes} nodes with {where}"
    return where if precision == "32" else f"{where}, precision {precision}"


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table as it is shown and written: text in every cell, remarks below it, and the numbers behind it."""

    name: str
    title: str
    headings: list[str]
    cells: list[list[str]]
    remarks: list[str]
    facts: dict

    def with_remarks(self, more: Iterable[str], kind: str = "failed") -> "Sheet":
        """The same with more remarks, which are among the facts, too, those of each ``kind`` together."""
        more = list(more)
        facts = self.facts | ({kind: [*self.facts.get(kind, []), *more]} if more else {})
        return dataclasses.replace(self, remarks=[*self.remarks, *more], facts=facts)

    def as_rich(self) -> RichTable:
        caption = escape("\n".join(self.remarks))  # brackets are no markup
        table = RichTable(title=self.title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
        for i, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if i else "left", overflow="fold")
        for row in self.cells:
            table.add_row(*row)
        return table

    def write(self, out: Path) -> list[Path]:
        """``NAME.md``, ``NAME.csv`` and ``NAME.json`` in ``out``."""
        paths = [Path(out) / f"{self.name}{suffix}" for suffix in (".md", ".csv", ".json")]
        atomic.write_text(paths[0], self._markdown())
        atomic.write_text(paths[1], self._csv())
        atomic.write_json(paths[2], {"recipe": self.name, "title": self.title, **self.facts})
        return paths

    def _markdown(self) -> str:
        lines = [self.headings, ["---"] + ["---:"] * (len(self.headings) - 1), *self.cells]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"# {self.title}\n\n{table}\n\n" + "\n".join(f"- {remark}" for remark in self.remarks) + "\n"

    def _csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.headings, *self.cells])
        return text.getvalue()


def sheet(recipe, runs: list[dict], failed: Collection[str] = ()) -> Sheet:
    """The table of a :class:`recipes.engine.command.recipe.TableRecipe`: networks of which there are runs or a figure of
    the paper. Below it all that have not been run are named: those without runs, but for the ``failed``."""
    rows, shown, remarks = summarise(recipe, runs), columns(recipe, runs), notes(recipe, runs)
    cells = [[column.cell(row) for column in shown] for row in rows if row["runs"] or row["paper"]]
    if absent := [row["key"] for row in rows if not row["runs"] and row["key"] not in failed]:
        remarks = [*remarks, f"Not run: {', '.join(absent)}."]
    facts = {
        "settings": runs[0]["settings"],
        "data": runs[0]["data"],
        "notes": remarks,
        "rows": [row | redrawing.curves_of(row, runs) for row in rows],
    }
    return Sheet(recipe.name, recipe.title, [column.heading for column in shown], cells, remarks, facts)


def show(sheet: Sheet) -> None:
    """On the screen."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no width; a table cut to 80 columns is hard to read
    console.print(sheet.as_rich())


def announce(paths: list[Path]) -> None:
    """What has been written."""
    print("Written: " + ", ".join(str(path) for path in paths))
