"""What every benchmark shares: time, peak memory, the machine, and how results are written.

Competitors take turns, so that a busy moment hits all of them alike; warm-up is excluded. Next to the time on the clock
stands the processor time, which does not count waiting for other people's processes. Peak memory is that of one step in
a fresh process, above what it held with libraries, kernels, parameters and inputs loaded.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "docs" / "benchmarks"
sys.path.append(str(CHECKOUT))  # for the recipes, which are not installed under that name

from recipes.engine.training.machine import describe  # noqa: E402

_PACKAGES = ("torch", "numba", "numpy", "snntorch", "spikingjelly", "dcls", "triton", "pygenn", "ml_genn")


class Absent(Exception):
    """A peer that is not installed, or not able to run here: skipped, saying so."""


def take_turns(cases: dict[str, Callable[[], object]], repeats: int, seconds: float = 60.0) -> dict[str, dict]:
    """Times of each case in seconds: ``fastest``, ``median``, ``quartiles`` by the clock, ``cpu`` (median of the
    processor time), ``repeats``.

    A case that has used up ``seconds`` sits out, but not before its second turn. Where the warm-up alone took longer, it is
    the measurement: what is loaded or compiled on a first call is small beside it.
    """
    taken: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    for name, case in cases.items():
        start, working = time.perf_counter(), time.process_time()
        case()
        warm_up, work = time.perf_counter() - start, time.process_time() - working
        taken[name], busy[name] = ([warm_up], [work]) if warm_up > seconds else ([], [])
        print(f"  {name}: warm-up {warm_up:.3g} s", file=sys.stderr, flush=True)
    for _ in range(repeats):
        for name, case in cases.items():
            times = taken[name]
            if sum(times) > seconds and (len(times) >= 2 or times[0] > seconds):
                continue
            gc.collect()
            start, working = time.perf_counter(), time.process_time()
            case()
            busy[name].append(time.process_time() - working)
            times.append(time.perf_counter() - start)
    return {name: {**_summary(times), "cpu": statistics.median(busy[name])} for name, times in taken.items()}


def ratios(row: dict, peer: dict | None) -> dict[str, float | None]:
    """How many times longer ``peer`` takes, by the median on the clock, by the fastest and by processor time."""
    return {
        f"peer / this ({what})": peer and peer[key] / row[key]
        for what, key in (("median", "median"), ("fastest", "fastest"), ("CPU", "cpu"))
    }


def _summary(times: list[float]) -> dict:
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"fastest": min(times), "median": statistics.median(times), "quartiles": [quartiles[0], quartiles[2]],
            "repeats": len(times)}  # fmt: skip


def peak_memory_of(step: Callable[[], object]) -> float:
    """MiB that the process needs above its present size while ``step`` runs. Linux alone."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the high-water mark goes back to the present size
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def in_own_process(script: str, *arguments: object) -> float | None:
    """What ``script --memory ARGUMENTS`` prints: a number; None (said on the terminal) where it cannot run."""
    command = [sys.executable, script, "--memory", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        print(f"  no memory figure for {arguments}: {run.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(run.stdout.split()[-1])


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def setting() -> dict:
    """Machine, versions, threads and load, to be stored with the numbers."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": describe()["processor"], "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": [round(x, 1) for x in os.getloadavg()], "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }  # fmt: skip


def write(name: str, result: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    partial = file.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(file)
    print(f"wrote {file}", file=sys.stderr)


def show(title: str, rows: list[dict]) -> None:
    """A rich table; columns are the keys of the first row."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console(width=150).print(table)


def markdown(rows: list[dict]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_text(v) for v in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else (
        f"{value:,.0f}" if isinstance(value, float) else str(value)
    )  # fmt: skip


def plot(name: str, curves: dict[str, tuple[list, list]], x: str, y: str, title: str) -> None:
    """Log-log curves to docs/benchmarks/NAME.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    rows = -(-len(curves) // 2)  # of the legend
    figure, axes = pyplot.subplots(figsize=(6, 4 + 0.22 * rows), layout="constrained")
    for label, (xs, ys) in curves.items():
        axes.plot(xs, ys, "o-", label=label)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    measured = sorted({value for xs, _ in curves.values() for value in xs})
    axes.set_xticks(measured, [f"{value:g}" for value in measured])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / f"{name}.png", dpi=130)
    pyplot.close(figure)
