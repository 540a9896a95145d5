"""Deckers et al., Table 2: AdLIF+ with synaptic delays beside the literature, on SHD, SSC and GSC."""

import dataclasses
import functools
from typing import TYPE_CHECKING, NamedTuple

from . import deckers_table1
from .engine.command.per_dataset import PerDataset
from .engine.command.recipe import Row, TableRecipe
from .engine.command.view import View, facts
from .engine.data.binned import BinnedCounts, Binning
from .engine.data.heidelberg import SSC
from .engine.data.speech_commands import MelSpectrogram, SpeechCommands
from .engine.results.runs import RunStore
from .engine.results.tables import Sheet, counted, measured, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "adlif-plus-delays"


class Published(NamedTuple):
    """One line of the paper's table, as printed."""

    model: str
    hidden: str
    parameters: str
    accuracy: str


LITERATURE = {
    "SHD": (
        Published("Adaptive RSNN (Yin et al., 2021)", "128", "/", "90.4"),
        Published("RadLIF (Bittar & Garner, 2022)", "1024", "3.9M", "94.62"),
        Published("Axonal delays (Sun et al., 2022)", "128", "0.1M", "92.36"),
        Published("Synaptic delays (Hammouamri et al., 2023)", "256", "0.2M", "95.07 ± 0.24"),
        Published("AdLIF+, synaptic delays (Deckers et al.)", "128", "0.076M", "96.26"),
        Published("CNN, not spiking (Cramer et al., 2020)", "", "/", "92.4"),
    ),
    "SSC": (
        Published("Adaptive RSNN (Yin et al., 2021)", "400", "/", "74.2"),
        Published("RadLIF (Bittar & Garner, 2022)", "1024", "3.9M", "77.4"),
        Published("1D-Conv synaptic delays (Hammouamri et al., 2023)", "512", "0.7M", "79.77 ± 0.09"),
        Published("AdLIF+, synaptic delays (Deckers et al.)", "512", "0.71M", "79.81"),
        Published("GRU, not spiking (Bittar & Garner, 2022)", "512", "/", "79.05"),
    ),
    "GSC": (
        Published("RSNN, LIF (Zenke & Vogels, 2021)", "256", "/", "85.3"),
        Published("RSNN with SFA (Salaj et al., 2021)", "2048 (1 layer)", "/", "88.5"),
        Published("RadLIF (Bittar & Garner, 2022)", "512", "0.83M", "94.51"),
        Published("Synaptic delays (Hammouamri et al., 2023)", "512", "0.7M", "94.91 ± 0.09"),
        Published("AdLIF+, synaptic delays (Deckers et al.)", "512", "0.61M", "95.38"),
        Published("GRU, not spiking (Bittar & Garner, 2022)", "512", "/", "94.32"),
        Published("Transformer, not spiking (Gong et al., 2021)", "/", "/", "98.11"),
    ),
}

SSC = TableRecipe(
    name="deckers_table2_ssc",
    title="AdLIF+ with synaptic delays on SSC: Deckers et al., Table 2",
    source="Deckers et al. (2023), Tables 2 and 3",
    paper_data="SSC",
    paper_protocol="test accuracy; the choice of the epoch is not stated",
    rows=(
        Row(OURS, "Synaptic delay AdLIF+", {"max_delay": deckers_table1.MAX_DELAY}, {"mean": 79.81, "parameters": "0.71M"}),
        Row("adlif-plus", "AdLIF+ without delays (not in the paper)", {"max_delay": None}, {}),
    ),
    network=deckers_table1.RECIPE.network,
    network_settings={"preset": "adlif+", "hidden": [512, 512], "dropout": 0.25},
    training=dataclasses.replace(deckers_table1.RECIPE.training, epochs=200, batch_size=32, learning_rate=0.001),
    objective=deckers_table1.RECIPE.objective,
    source_of_data=BinnedCounts(Binning(duration=1.0, steps=100, group=5), SSC, "valid_accuracy"),
    seeds=1,  # the table gives one number per data set
    protocol="clean",
    smoke=deckers_table1.RECIPE.smoke,
)
GSC = dataclasses.replace(
    SSC,
    name="deckers_table2_gsc",
    title="AdLIF+ with synaptic delays on GSC: Deckers et al., Table 2",
    paper_data="GSC-35",
    rows=(dataclasses.replace(SSC.rows[0], paper={"mean": 95.38, "parameters": "0.61M"}), *SSC.rows[1:]),
    # 40 mel filters in steps of 10 ms (section 4.1); their windows of 25 ms and their range are not given
    source_of_data=SpeechCommands(MelSpectrogram(rate=16000, window=400, hop=160, bands=40, lowest=20.0, highest=8000.0)),
)


def tabulate(view: View, runs: list[dict], store: RunStore, *, literature: tuple[Published, ...]) -> Sheet:
    """The paper's lines, and below them ours."""
    rows = measured(view.of, runs)
    data, protocol = runs[0]["data"]["name"], runs[0]["settings"]["protocol"]
    cells = [[*line, "-", "-", "-"] for line in literature]
    for row in rows:
        test = row["test"]
        hidden = next(run["settings"]["network"]["hidden"] for run in runs if run["network"] == row["key"])
        ours = [spread(test, 1), f"{test['max']:.1f}", str(row["runs"])]
        cells.append([f"ours: {row['name']}", str(hidden[0]), f"{row['parameters']:,d}", "-", *ours])
    headings = [
        "model",
        "hidden",
        "parameters",
        f"published, {view.of.paper_data} (%)",
        f"{data}: mean ± std (%)",
        "max (%)",
        "seeds",
    ]
    remarks = [
        f"Published: {view.source}, as printed there"
        + (" (the best of 10 seeds, chosen on the test set)." if view.of.paper_data == "SHD" else "."),
        f"Ours: measured on {data}, {counted(runs[0]['settings']['training']['epochs'], 'epoch')}, protocol {protocol}; "
        f"epoch chosen on: {runs[0]['data']['validation']}.",
        *([] if data == view.of.paper_data else [f"{data} is not {view.of.paper_data}: the columns do not compare."]),
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts(runs, rows))


def draw(view: View, facts: dict, *, literature: tuple[Published, ...]) -> "Figure":
    """The published accuracies as bars, and below them ours, every seed a point."""
    import matplotlib.pyplot as plt

    from .engine.results import plots

    rows, data = facts["rows"], facts["data"]["name"]
    published = [float(line.accuracy.partition(" ")[0]) for line in literature]
    names = [line.model for line in literature] + [f"ours, {data}: {row['name']}" for row in rows]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(names) + 1.4), layout="constrained")
    axes.barh(range(len(published)), published, color="lightgray", label=f"published, {view.of.paper_data}")
    for y, row in enumerate(rows, start=len(published)):
        axes.barh(y, row["test"]["mean"], color="tab:blue", alpha=0.6)
        axes.plot(row["test"]["values"], [y] * row["runs"], "o", color="black", ms=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy (%)", xlim=(0, 100))
    figure.suptitle(view.title, fontsize="large")
    plots.legend_below(figure, axes)
    return figure


def _view(key: str, of: TableRecipe) -> View:
    return View(
        name=f"deckers_table2_{key}",
        title=f"AdLIF+ with synaptic delays beside the literature: Deckers et al., Table 2, {of.paper_data}",
        source="Deckers et al. (2023), Table 2",
        of=of,
        networks=(OURS,),
        tabulate=functools.partial(tabulate, literature=LITERATURE[key.upper()]),
        draw=functools.partial(draw, literature=LITERATURE[key.upper()]),
    )


RECIPE = PerDataset(
    name="deckers_table2",
    title="AdLIF+ with synaptic delays on SHD, SSC and GSC: Deckers et al., Table 2",
    parts={"shd": _view("shd", deckers_table1.RECIPE), "ssc": _view("ssc", SSC), "gsc": _view("gsc", GSC)},
)
