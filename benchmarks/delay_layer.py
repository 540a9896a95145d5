"""A layer with a delay per synapse, forward and backward: ours against Dcls1d and a dense convolution.

    python benchmarks/delay_layer.py [--only targets density T_d T]

Weights and delays get gradients in every case. ``targets``: an input layer (T = 1000, 1 % of the input not zero,
700 -> 256, delays up to 64), a hidden layer (256 -> 256) with the gradient of its spikes, everywhere or inside the
boxcar's support alone, and SHD in 10 ms bins (T = 100, 140 inputs, 20 %, T_d = 25). Sweeps vary one quantity of the
first. Peers: Dcls1d with a Gaussian, as in the DCLS paper, and conv1d with the same two taps per synapse as ours.
"""

from __future__ import annotations

import argparse
import json

import measure
import torch
from torch import Tensor

from snn_delay_plugins.functional.delay import delayed_linear

BASE = {"T": 1000, "N": 2, "inputs": 700, "out": 256, "T_d": 65, "density": 0.01, "hidden": False}
TARGETS = {
    "input layer": BASE | {"N": 8},
    "hidden layer": BASE | {"N": 8, "inputs": 256, "hidden": True},
    "SHD, 10 ms": BASE | {"T": 100, "N": 64, "inputs": 140, "T_d": 25, "density": 0.2},
    "SHD, 10 ms, hidden": BASE | {"T": 100, "N": 64, "inputs": 256, "T_d": 25, "density": 0.1, "hidden": True},
}
SWEEPS = {
    "density": (0.001, 0.003, 0.01, 0.03, 0.1, 0.2),
    "T_d": (9, 25, 65, 129, 257, 513),
    "T": (100, 200, 500, 1000, 2000),
}
CASES = ("ours", "ours: events", "ours: shifted", "ours: fft", "conv1d", "Dcls1d")
MEASURED = ("ours", "Dcls1d")  # whose memory is measured
SUPPORT = 0.2  # share of neuron-steps inside the boxcar's support in "ours, inside the boxcar"


def build(case: str, s: dict):
    """A function that runs forward and backward once."""
    g = torch.Generator().manual_seed(0)
    shape = (s["T"], s["N"], s["inputs"])
    spikes = (torch.rand(shape, generator=g) < s["density"]).float()
    longest = s["T_d"] - 1
    weight = (torch.randn(s["out"], s["inputs"], generator=g) * 0.05).requires_grad_()
    delay = (torch.rand(s["out"], s["inputs"], generator=g) * longest).requires_grad_()
    grad = torch.randn(s["T"], s["N"], s["out"], generator=g)
    support = torch.rand(shape, generator=g) < SUPPORT
    if case == "Dcls1d":
        return dcls_step(s, spikes, grad)
    method = {"conv1d": "direct", "ours": None, "ours, inside the boxcar": None}.get(case, case.removeprefix("ours: "))
    spikes.requires_grad_(s["hidden"])
    leaves = [weight, delay] + ([spikes] if s["hidden"] else [])
    chosen = support if case.endswith("boxcar") else None

    def step() -> None:
        current = delayed_linear(spikes, weight, delay, max_delay=longest, support=chosen, method=method)
        torch.autograd.grad(current, leaves, grad)

    return step


def dcls_step(s: dict, spikes: Tensor, grad: Tensor):
    try:
        from DCLS.construct.modules import Dcls1d
    except ImportError as error:
        raise measure.Absent(str(error)) from error
    layer = Dcls1d(
        s["inputs"], s["out"], kernel_count=1, groups=1, dilated_kernel_size=s["T_d"], bias=False, version="gauss"
    )
    trains = spikes.permute(1, 2, 0).contiguous().requires_grad_(s["hidden"])
    grad = grad.permute(1, 2, 0).contiguous()
    leaves = [layer.weight, layer.P] + ([trains] if s["hidden"] else [])

    def step() -> None:
        current = layer(torch.nn.functional.pad(trains, (s["T_d"] - 1, 0)))
        torch.autograd.grad(current, leaves, grad)

    return step


def compare(name: str, s: dict, cases: tuple[str, ...], repeats: int, memory: bool) -> list[dict]:
    print(f"{name}: {s}", flush=True)
    steps = {}
    for case in cases:
        try:
            steps[case] = build(case, s)
        except measure.Absent as error:
            print(f"  {case} skipped: {error}")
    rows = []
    for case, time in measure.take_turns(steps, repeats, seconds=20).items():
        size = measure.in_own_process(__file__, case, json.dumps(s)) if memory and case in MEASURED else None
        rows.append({"what": name, **s, "case": case, **time, "peak_mib": size})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["targets", *SWEEPS], default=["targets", *SWEEPS])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE")
    parser.add_argument("--samples", type=int, help="per batch")
    parser.add_argument(
        "--longest", type=float, default=60.0, help="s of CPU; a peer that took longer is left out of the rest of a sweep"
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        case, s = args.memory[0], json.loads(args.memory[1])
        build(case, s | {"T": 80, "N": 1})()  # libraries and kernels are loaded
        print(measure.peak_memory_of(build(case, s)))
        return
    for what in ("targets", *SWEEPS):
        if what not in args.only:
            continue
        rows = []
        if what == "targets":
            for name, s in TARGETS.items():
                boxcar = ("ours, inside the boxcar",) if s["hidden"] else ()
                s = s | {"N": args.samples or s["N"]}
                rows += compare(name, s, (*args.cases, *boxcar), args.repeats, memory=not args.no_memory)
                measure.write("delay_layer_targets", {**measure.setting(), "rows": rows})
        else:
            for value in SWEEPS[what]:
                s = BASE | {what: value} | ({"N": args.samples} if args.samples else {})
                slow = {row["case"] for row in rows if row["cpu"] > args.longest}
                rows += compare(what, s, tuple(case for case in args.cases if case not in slow), args.repeats, memory=False)
                measure.write(f"delay_layer_{what}", {**measure.setting(), "rows": rows})
        measure.write(f"delay_layer_{what}", {**measure.setting(), "rows": rows})
        report(what, rows)


def report(what: str, rows: list[dict]) -> None:
    table = []
    for row in rows:
        same = [r for r in rows if all(r[k] == row[k] for k in ("what", *BASE))]
        peer = next((r for r in same if r["case"] == "Dcls1d"), None)
        table.append({
            "layer": row["what"] if what == "targets" else f"{what} = {row[what]}", "case": row["case"],
            "median ms": 1e3 * row["median"], "fastest ms": 1e3 * row["fastest"], "CPU ms": 1e3 * row["cpu"],
            "repeats": row["repeats"], "peak MiB": row["peak_mib"], **measure.ratios(row, peer),
        })  # fmt: skip
    measure.show(f"delay layer, forward + backward: {what}", table)
    print(measure.markdown(table))
    if what == "targets":
        return
    curves = {}
    for case in CASES:
        chosen = [r for r in rows if r["case"] == case]
        if chosen:
            curves[case] = [r[what] for r in chosen], [1e3 * r["cpu"] / r["N"] for r in chosen]
    name = {"density": "share of the input that is not zero", "T_d": "taps T_d (longest delay + 1)", "T": "time steps"}
    measure.plot(f"delay_layer_{what}", curves, name[what], "ms of CPU per sample", "700 -> 256, forward + backward")


if __name__ == "__main__":
    main()
