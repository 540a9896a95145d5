"""How far the gradients of both schemes are from the true ones, over the time step.

    python benchmarks/eventprop_dt.py [--seeds 20] [--out docs/benchmarks]

Random strongly driven networks (6 inputs -> 5 LIF -> 2 LI, 100 ms, tau_mem 20, tau_syn 5, real-valued delays), loss = a
random combination of the integrated readout voltages. Reference: the exact scheme at dt = 0.005, which the tests hold
against finite differences of independent event-exact simulators.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
REFERENCE = 0.005
INPUTS, HIDDEN, OUTPUTS, DURATION = 6, 5, 2, 100.0


def network(seed: int) -> tuple[SpikeEvents, list[torch.Tensor], torch.Tensor]:
    g = np.random.default_rng(seed)
    times, units = np.sort(g.uniform(0, 60, 24)), g.integers(0, INPUTS, 24)
    events = SpikeEvents.from_lists([times], [units], num_units=INPUTS, duration=DURATION)
    values = (
        g.normal(3.0, 1.0, (HIDDEN, INPUTS)),
        g.uniform(0, 15, (HIDDEN, INPUTS)),
        g.normal(0, 1, (OUTPUTS, HIDDEN)),
        g.uniform(0, 15, (OUTPUTS, HIDDEN)),
    )
    return events, [torch.tensor(v, requires_grad=True) for v in values], torch.tensor(g.normal(0, 1, OUTPUTS))


def gradients(seed: int, mode: str, dt: float) -> tuple[np.ndarray, np.ndarray, int]:
    """dL/d(weights), dL/d(delays) of the hidden layer, and its number of spikes."""
    events, (w, d, wo, do), c = network(seed)
    hidden = eventprop_lif(events, w, d, dt=dt, spike_times=mode)
    (eventprop_li(hidden, wo, do, dt=dt, spike_times=mode, readout="integral") * c).sum().backward()
    return w.grad.numpy().ravel(), d.grad.numpy().ravel(), len(hidden)


def errors(seed: int, mode: str, dt: float, reference: tuple) -> dict:
    found = gradients(seed, mode, dt)
    row = {"seed": seed, "mode": mode, "dt": dt, "spikes": found[2], "same_number_of_spikes": found[2] == reference[2]}
    for name, g, true in zip(("weights", "delays"), found, reference, strict=False):
        row[f"{name}_error"] = float(np.linalg.norm(g - true) / np.linalg.norm(true))
        row[f"{name}_cosine"] = float(g @ true / (np.linalg.norm(g) * np.linalg.norm(true)))
    return row


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.1), layout="constrained")
    for mode, colour in (("grid", "tab:orange"), ("exact", "tab:blue")):
        for name, style in (("weights", "-o"), ("delays", "--s")):
            at = [[r for r in rows if r["mode"] == mode and r["dt"] == dt] for dt in STEPS]
            error = np.array([np.percentile([r[f"{name}_error"] for r in group], [25, 50, 75]) for group in at])
            left.loglog(STEPS, error[:, 1], style, color=colour, ms=4, label=f"{mode}, {name}")
            left.fill_between(STEPS, error[:, 0], error[:, 2], color=colour, alpha=0.12, lw=0)
            cosine = [np.median([r[f"{name}_cosine"] for r in group]) for group in at]
            right.semilogx(STEPS, cosine, style, color=colour, ms=4, label=f"{mode}, {name}")
    left.set(xlabel="dt (ms)", ylabel="|g - g_true| / |g_true|", title="relative error (median, quartiles)")
    right.set(xlabel="dt (ms)", ylabel="cosine with the true gradient", title="direction (median)", ylim=(-0.1, 1.05))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(args.seeds):
        reference = gradients(seed, "exact", REFERENCE)
        rows += [errors(seed, mode, dt, reference) for mode in ("grid", "exact") for dt in STEPS]
    medians = []
    print(f"{'mode':6} {'dt':>5}  weights: error cosine   delays: error cosine   (medians of {args.seeds} networks)")
    for mode in ("grid", "exact"):
        for dt in STEPS:
            group = [r for r in rows if r["mode"] == mode and r["dt"] == dt]
            m = {k: float(np.median([r[k] for r in group])) for k in group[0] if k.endswith(("error", "cosine"))}
            medians.append({"mode": mode, "dt": dt, **m})
            print(
                f"{mode:6} {dt:5}  {m['weights_error']:14.2e} {m['weights_cosine']:6.3f} {m['delays_error']:15.2e} "
                f"{m['delays_cosine']:6.3f}"
            )
    summary = {"networks": args.seeds, "reference_dt": REFERENCE, "torch": torch.__version__, "medians": medians}
    (args.out / "eventprop_dt.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(rows, args.out / "eventprop_dt.png")


if __name__ == "__main__":
    main()
