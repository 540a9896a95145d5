"""AdLIF+ sequences, forward and backward: the compiled kernel against loops over time as the frameworks write them.

    python benchmarks/adlif.py [--only targets|T]

Current [T, N, F] in float32, gradients to the current and to alpha, beta, a, b of every neuron. Peers: a snnTorch-style
step loop (its base class, its surrogate, its reset), a SpikingJelly-style node in multi-step mode, torch.compile of the
snnTorch-style step, and this package's plain PyTorch form. All compute Eq. 1 of Deckers et al.
"""

from __future__ import annotations

import argparse
import functools

import measure
import torch
from torch import Tensor, nn

from recipes.engine.training import machine
from snn_delay_plugins.functional.adlif import adlif

SHAPES = [(100, 128, 128), (1000, 32, 256)]
SWEEP = [(steps, 32, 256) for steps in (100, 200, 500, 1000, 2000)]
CASES = ("kernel", "plain form", "snnTorch-style loop", "SpikingJelly-style loop", "torch.compile of the loop")


def parameters(features: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    bounds = {"alpha": (0.36, 0.96), "beta": (0.96, 0.99), "a": (0.0, 1.0), "b": (0.0, 2.0)}
    return {
        name: (torch.rand(features, generator=g) * (high - low) + low).requires_grad_()
        for name, (low, high) in bounds.items()
    }


def snntorch_loop(p: dict[str, Tensor], compiled: bool):
    try:
        import snntorch
        from snntorch import surrogate
    except ImportError as error:
        raise measure.Absent(str(error)) from error

    class AdLIF(snntorch.SpikingNeuron):
        """Written as snn.Synaptic is: state in and out of every step, reset from the membrane of the step before."""

        def __init__(self):
            super().__init__(threshold=1.0, spike_grad=surrogate.atan(), reset_mechanism="subtract")
            self.p = nn.ParameterDict({name: nn.Parameter(value.detach()) for name, value in p.items()})

        def forward(self, current: Tensor, w: Tensor, mem: Tensor, spk: Tensor):
            alpha, beta, a, b = (self.p[name] for name in ("alpha", "beta", "a", "b"))
            reset = self.mem_reset(mem)
            new = alpha * mem + (1 - alpha) * (current - w) - reset * self.threshold
            w = beta * w + (1 - beta) * a * mem + b * spk
            return self.fire(new), w, new

    neuron = AdLIF()
    step = torch.compile(neuron) if compiled else neuron

    def loop(current: Tensor) -> Tensor:
        w, mem, spk = (torch.zeros_like(current[0]) for _ in range(3))
        recorded = []
        for current_t in current.unbind(0):  # current[t] would cost a gradient of the whole sequence per step
            spk, w, mem = step(current_t, w, mem, spk)
            recorded.append(spk)
        return torch.stack(recorded)

    return loop


def spikingjelly_loop(p: dict[str, Tensor]):
    try:
        from spikingjelly.activation_based import functional, neuron, surrogate
    except ImportError as error:
        raise measure.Absent(str(error)) from error

    class Node(neuron.BaseNode):
        """Two states and the pure step function; the base class loops over time."""

        def __init__(self):
            super().__init__(v_reset=None, surrogate_function=surrogate.ATan(), step_mode="m")
            self.register_memory("w", 0.0)
            self.register_memory("s", 0.0)
            self.p = nn.ParameterDict({name: nn.Parameter(value.detach()) for name, value in p.items()})

        def materialize_states(self, inputs, states, step_mode):
            like = inputs[0][0] if step_mode == "m" else inputs[0]
            return tuple(s if isinstance(s, Tensor) else torch.full_like(like, s) for s in states)

        def single_step_functional_forward(self, inputs, states, **kwargs):
            v, w, s = states
            alpha, beta, a, b = (self.p[name] for name in ("alpha", "beta", "a", "b"))
            new = alpha * v + (1 - alpha) * (inputs[0] - w) - self.v_threshold * s
            w = beta * w + (1 - beta) * a * v + b * s
            s = self.surrogate_function(new - self.v_threshold)
            return (s,), (new, w, s)

    node = Node()

    def loop(current: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(current)

    return loop


def build(case: str, shape: tuple[int, int, int]):
    """A function that runs forward and backward once."""
    p = parameters(shape[2])
    g = torch.Generator().manual_seed(1)
    current = (torch.randn(shape, generator=g) * 2 + 0.5).requires_grad_()
    grad = torch.randn(shape, generator=g)
    if case == "kernel":
        run = functools.partial(lambda x: adlif(x, **p, method="numba")[0])
    elif case == "plain form":
        run = functools.partial(lambda x: adlif(x, **p, method="torch")[0])
    elif case == "SpikingJelly-style loop":
        run = spikingjelly_loop(p)
    else:
        run = snntorch_loop(p, compiled=case.startswith("torch.compile"))

    def step() -> None:
        current.grad = None
        run(current).backward(grad)

    return step


def compare(shape: tuple[int, int, int], cases: list[str], repeats: int, memory: bool) -> list[dict]:
    steps = {}
    for case in cases:
        try:
            step = build(case, shape)
            step()
            steps[case] = step
        except Exception as error:  # a peer that cannot run here must not stop the others
            print(f"  {case} skipped: {type(error).__name__}: {str(error).strip()[:200]}")
    times = measure.take_turns(steps, repeats, seconds=10)
    rows = []
    for case, time in times.items():
        size = measure.in_own_process(__file__, case, *shape) if memory else None
        rows.append({"T": shape[0], "N": shape[1], "F": shape[2], "case": case, **time, "peak_mib": size})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", choices=["targets", "T"], help="two shapes with their memory, or a sweep over T")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", nargs=4, metavar=("CASE", "T", "N", "F"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine.keep_freed_memory()  # as every recipe does, for all cases alike
    if args.memory:
        case, *shape = args.memory
        build(case, (5, 2, int(shape[2])))()  # libraries and kernels are loaded
        print(measure.peak_memory_of(build(case, tuple(map(int, shape)))))
        return
    for what, shapes in (("targets", SHAPES), ("T", SWEEP)):
        rows = []
        for shape in shapes if args.only in (None, what) else ():
            torch._dynamo.reset()  # or torch.compile gives up after some shapes
            rows += compare(shape, args.cases, args.repeats, memory=what == "targets" and not args.no_memory)
            measure.write(f"adlif_{what}", {**measure.setting(), "rows": rows})
        if rows:
            report(what, rows)


def report(what: str, rows: list[dict]) -> None:
    def of(case, shape):
        return next((r for r in rows if (r["T"], r["N"], r["F"]) == shape and r["case"] == case), None)

    table = []
    for row in rows:
        loop = of("snnTorch-style loop", (row["T"], row["N"], row["F"]))
        table.append({
            "[T, N, F]": f"[{row['T']}, {row['N']}, {row['F']}]", "case": row["case"],
            "median ms": 1e3 * row["median"],
            "quartiles ms": "{:.3g} - {:.3g}".format(*(1e3 * q for q in row["quartiles"])),
            "fastest ms": 1e3 * row["fastest"], "CPU ms": 1e3 * row["cpu"], "peak MiB": row["peak_mib"],
            **measure.ratios(row, loop),
        })  # fmt: skip
    measure.show("AdLIF+ forward + backward", table)
    print(measure.markdown(table))
    curves = {}
    for case in CASES if what == "T" else ():
        chosen = [r for r in rows if r["case"] == case]
        if chosen:
            chosen.sort(key=lambda r: r["T"])
            curves[case] = [r["T"] for r in chosen], [1e3 * r["cpu"] for r in chosen]
    if curves:
        measure.plot("adlif_T", curves, "time steps", "forward + backward (ms of CPU)", "AdLIF+, batch 32, 256 neurons")


if __name__ == "__main__":
    main()
