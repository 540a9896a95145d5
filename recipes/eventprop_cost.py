"""Meszaros et al., Fig. 8: time and memory of a training step over the longest delay, EventProp against dilated
convolutions as published, two hidden layers at 1 ms.

The paper measured SHD epochs with mlGeNN on a GPU, batch 256. Here the workload is random (1,000 ms, 7,000 input spikes a
sample), the processor makes the step, and a smaller batch is the default, since the convolutions would take hours.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

from .engine.command import options
from .engine.command.program import PROGRAM
from .engine.errors import RunError, one_line
from .engine.files import atomic
from .engine.results.tables import Sheet, announce, show
from .engine.training import machine

PEER = "DCLS + SpikingJelly"
NETWORKS = ("EventProp", "EventProp, grid", "SLAYER delays", PEER)
CHANNELS, CLASSES, LAYERS = 700, 20, 2
PAPER = {"hidden": [256, 512], "delays": [64, 128, 256, 512, 1024], "batch_size": 256, "repeats": 3}
SMOKE = {"hidden": [40], "delays": [2, 4], "batch_size": 2, "repeats": 1, "steps": 40, "events": 2000}
COLUMNS = ("network", "hidden", "longest delay (ms)", "batch", "s / step", "fastest", "MiB above start", "time / DCLS",
           "DCLS / memory")  # fmt: skip


class Cost:
    name = "eventprop_cost"
    title = "Cost of delays: Meszaros et al., Fig. 8"
    default_out = "results/eventprop_cost"
    paper_used = f"The paper used: hidden sizes 256 and 512, delays of up to 1024 steps, batch 256.\n{__doc__}"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        options.add_common(parser, self.default_out)
        for name, what in (("hidden", "neurons of each of the two hidden layers"), ("delays", "longest delays, ms")):
            parser.add_argument(f"--{name}", type=options.positive, nargs="+", metavar="N", help=what)
        parser.add_argument("--batch-size", type=options.positive, metavar="N", help="(default 4; the paper 256)")
        parser.add_argument("--repeats", type=options.positive, metavar="N", help="steps that are timed (default 3)")

    def run(self, given: argparse.Namespace) -> int:
        """Measure what has not been measured with these settings, then table and plot."""
        try:
            from .eventprop import cost
        except ModuleNotFoundError as error:
            raise options.OptionError(f"{error.name} is missing: pip install 'snn_delay_plugins[all]'") from error
        out, asked = self._out(given), self._asked(given)
        workload = cost.Workload(asked["batch_size"], asked["steps"], asked["events"])
        for hidden in asked["hidden"]:
            for delay in asked["delays"]:
                for network in cost.NETWORKS:
                    settings = {"network": network, "hidden": hidden, "max_delay": delay, "repeats": asked["repeats"],
                                **dataclasses.asdict(workload)}  # fmt: skip
                    path = self._path(out, settings)
                    if path.exists() and _stored(path)["settings"] == settings:
                        continue
                    print(f"{network}, hidden {hidden}, delays up to {delay} ms", flush=True)
                    widths = [CHANNELS, *[hidden] * LAYERS, CLASSES]
                    atomic.write_json(path, {"settings": settings, **_measure(network, widths, delay, workload, asked)})
        return self.table(given) or self.plot(given)

    def table(self, given: argparse.Namespace) -> int:
        """Show and write the table of what has been measured with these settings."""
        measured = self._measured(given)
        sheet = Sheet(self.name, self.title, list(COLUMNS), _rows(measured), _remarks(measured), {"measured": measured})
        show(sheet)
        announce(sheet.write(self._out(given)))
        return 0

    def plot(self, given: argparse.Namespace) -> int:
        """Draw what has been measured with these settings."""
        from .engine.results import plots

        announce(plots.save(_draw(self._measured(given)), self._out(given) / f"{self.name}.png"))
        return 0

    def _out(self, given: argparse.Namespace) -> Path:
        return options.writable_folder(given.out or Path(self.default_out + ("-smoke" if given.smoke else "")))

    def _asked(self, given: argparse.Namespace) -> dict:
        asked = SMOKE if given.smoke else PAPER | {"batch_size": 4, "steps": 1000, "events": 7000}
        return {name: getattr(given, name, None) or value for name, value in asked.items()}

    def _path(self, out: Path, settings: dict) -> Path:
        name = settings["network"].lower().replace(", ", "-").replace(" + ", "-").replace(" ", "-")
        folder = out / "runs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}_hidden{settings['hidden']}_delay{settings['max_delay']}_batch{settings['batch']}.json"

    def _measured(self, given: argparse.Namespace) -> list[dict]:
        """All that has been measured with these settings, in the order of the table."""
        out = self._out(given)
        found = [_stored(path) for path in sorted((out / "runs").glob("*.json"))]
        asked = {"hidden": given.hidden, "max_delay": given.delays}
        asked |= {"batch": given.batch_size and [given.batch_size], "repeats": given.repeats and [given.repeats]}
        found = [m for m in found if all(not values or m["settings"][name] in values for name, values in asked.items())]
        if not found:
            raise options.OptionError(
                f"nothing has been measured with these options in {out}; {PROGRAM} run {self.name} measures"
            )
        return sorted(found, key=lambda m: (*_place(m), NETWORKS.index(m["settings"]["network"])))


def _stored(path: Path) -> dict:
    """A measurement. Raises :class:`RunError` for a file that is none."""
    try:
        if not path.is_file():
            raise ValueError("not a file")
        found = json.loads(path.read_text(encoding="utf-8"))
        _place(found), _rows([found]), _remarks([found])
        if found["settings"]["network"] not in NETWORKS:
            raise ValueError("of no such network")
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{path}: not a measurement ({one_line(error, 100)}); delete it to measure again") from error
    return found


def _measure(network: str, widths: list[int], delay: int, workload, asked: dict) -> dict:
    """Seconds of every timed step, after one that is not, and the most memory above the start of that one, before which
    kernels have been loaded by a single sample."""
    import torch

    from .eventprop import cost

    cost.training_step(network, widths, delay, dataclasses.replace(workload, batch=1))()
    step = cost.training_step(network, widths, delay, workload)
    machine.release_memory()
    with machine.peak_memory() as memory:
        rates = step()
    seconds = []
    for _ in range(asked["repeats"]):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds,
        "mib_above_start": memory.peak - memory.before if memory.reset else None,
        "spikes_per_ms": rates,
        "threads": torch.get_num_threads(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "command": sys.argv,
    }


def _remarks(measured: list[dict]) -> list[str]:
    lines = {f"{m['settings']['steps']} ms, {m['settings']['events']} input spikes a sample" for m in measured}
    machines = {f"{m['threads']} thread(s) of {m['machine']['processor']}" for m in measured}
    versions = {", ".join(f"{name} {number}" for name, number in m["versions"].items()) for m in measured}
    return [
        "The paper measured epochs of SHD with mlGeNN on a GPU, batch 256.",
        f"Ours: steps (forward, loss, backward, Adam) on random spikes ({'; '.join(sorted(lines))}), median and fastest of "
        f"those that were timed; memory: most above the start of a step; {'; '.join(sorted(machines))}.",
        *(f"Versions: {text}." for text in sorted(versions)),
    ]


def _place(measured: dict) -> tuple[int, int, int]:
    settings = measured["settings"]
    return settings["hidden"], settings["max_delay"], settings["batch"]


def _rows(measured: list[dict]) -> list[list[str]]:
    peers = {_place(m): m for m in measured if m["settings"]["network"] == PEER}
    rows = []
    for one in measured:
        median, peer = statistics.median(one["seconds"]), peers.get(_place(one))
        mib = one["mib_above_start"]
        ratios = ["-", "-"]
        if peer:
            ratios[0] = f"{median / statistics.median(peer['seconds']):.4f}"
            if mib and peer["mib_above_start"]:
                ratios[1] = f"{peer['mib_above_start'] / mib:.1f}"
        rows.append([one["settings"]["network"], *(str(x) for x in _place(one)), f"{median:.3f}",
                     f"{min(one['seconds']):.3f}", "-" if mib is None else f"{mib:.1f}", *ratios])  # fmt: skip
    return rows


def _draw(measured: list[dict]):
    import matplotlib.pyplot as plt

    from .engine.results import plots

    figure, (memory, seconds) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    lines = {}
    for one in measured:
        lines.setdefault((one["settings"]["network"], one["settings"]["hidden"], one["settings"]["batch"]), []).append(one)
    networks = list(dict.fromkeys(name for name, _, _ in lines))
    sizes = sorted({hidden for _, hidden, _ in lines})
    for (network, hidden, batch), points in lines.items():
        style = {"color": f"C{networks.index(network)}", "linestyle": ("-", "--", ":", "-.")[sizes.index(hidden) % 4],
                 "marker": "o", "label": f"{network}, {hidden} hidden, batch {batch}"}  # fmt: skip
        delays = [p["settings"]["max_delay"] for p in points]
        seconds.plot(delays, [statistics.median(p["seconds"]) for p in points], **style)
        memory.plot(delays, [p["mib_above_start"] or float("nan") for p in points], **style)
    logarithmic = {"xlabel": "longest delay (ms)", "xscale": "log", "yscale": "log"}
    memory.set(ylabel="MiB above start", title="peak memory of a step", **logarithmic)
    seconds.set(ylabel="seconds", title="time of a step", **logarithmic)
    plots.legend_below(figure, seconds)
    return figure


RECIPE = Cost()
