"""An oracle for EventProp of linear neurons: networks simulated from event to event, differentiated by finite differences.

    python tests/functional/eventprop_oracle.py check             # 32 networks at dt 0.1, 1, 5: the largest errors
    python tests/functional/eventprop_oracle.py make              # write the few that the suite compares with

It shares nothing with the package: NumPy alone, neurons written down again, states between events as sums of exponentials
of eigenvalues (the package: series and polynomials), crossings found on a fine grid and by regula falsi (the package: by
bounds on V'), gradients by central differences with two step sizes, extrapolated (the package: by the adjoint). A network
whose two step sizes differ by more than 1e-4 of an array's largest entry (some 1e-8 after extrapolation) is not smooth
enough to be compared with, and the next is drawn.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("eventprop_oracle.npz")
DURATION, N_IN, N_OUT, EVENTS = 40.0, 5, 3, 24
RANGES = {
    "lif": {"tau_mem": (10, 30), "tau_syn": (3, 8)},
    "adlif_real": {"tau_mem": (10, 25), "tau_syn": (3, 7), "tau_adapt": (60, 150), "a": (-0.2, 0.3), "b": (0.1, 0.6)},
    "adlif_oscillating": {"tau_mem": (10, 25), "tau_syn": (3, 7), "tau_adapt": (30, 80), "a": (3, 8), "b": (0.1, 0.4)},
    "resonate": {"tau_syn": (2, 5), "decay": (0.02, 0.1), "omega": (0.2, 0.6)},
}
STRENGTH = {"lif": 2.0, "adlif_real": 2.5, "adlif_oscillating": 4.0, "resonate": 0.5}
KINDS = list(itertools.product(RANGES, ("feedforward", "recurrent"), (0.0, 2.0), ("zero", "subtract")))
IN_SUITE = [  # one of every model, each recurrent or not, with or without a refractory period
    ("lif", "recurrent", 2.0, "zero"), ("adlif_real", "feedforward", 2.0, "subtract"),
    ("adlif_oscillating", "recurrent", 0.0, "subtract"), ("resonate", "recurrent", 2.0, "zero"),
]  # fmt: skip


class Neuron:
    """V is the second state; an arrival adds to the first."""

    def __init__(self, kind: str, k: dict[str, float], theta: float, rest: float, reset: str) -> None:
        self.theta, self.rest, self.reset = theta, rest, reset
        self.b = k.get("b", 0.0)
        if kind == "lif":
            M = [[-1 / k["tau_syn"], 0], [1 / k["tau_mem"], -1 / k["tau_mem"]]]
        elif kind == "resonate":
            M = [[-1 / k["tau_syn"], 0, 0], [1, -k["decay"], -k["omega"]], [0, k["omega"], -k["decay"]]]
        else:
            m, w = 1 / k["tau_mem"], 1 / k["tau_adapt"]
            M = [[-1 / k["tau_syn"], 0, 0], [m, -m, -m], [0, k["a"] * w, -w]]
        free, held = np.array(M, dtype=float), np.array(M, dtype=float)
        held[1] = 0
        if kind == "resonate":
            held[2] = 0
        self.size = len(M)
        self.free, self.held = self.eigen(free), self.eigen(held)

    @staticmethod
    def eigen(M):
        rates, vectors = np.linalg.eig(M.astype(complex))
        return rates, vectors, np.linalg.inv(vectors)

    @staticmethod
    def moved(eigen, x, u):
        rates, vectors, inverse = eigen
        return (vectors @ (np.exp(rates * u) * (inverse @ x))).real

    def crossing(self, x, length, below):
        """(first u in (0, length] at which V rises through theta, or None; is V below at the end)."""
        rates, vectors, inverse = self.free
        weights = vectors[1] * (inverse @ x)

        def v(u):
            return (np.exp(np.multiply.outer(u, rates)) @ weights).real - self.theta

        def dv(u):
            return (np.exp(np.multiply.outer(u, rates)) @ (rates * weights)).real

        u = np.linspace(0, length, max(3, int(length / 0.2) + 2))
        values, slopes = v(u), dv(u)
        for i in range(u.size - 1):
            below = below or values[i] < -1e-9
            if not below:
                continue
            if values[i + 1] > 0:
                return self.root(v, u[i], u[i + 1]), below
            if slopes[i] > 0 > slopes[i + 1]:
                top = self.root(lambda s: -dv(s), u[i], u[i + 1])
                if v(top) > 0:
                    return self.root(v, u[i], top), below
        return None, below or values[-1] < -1e-9

    @staticmethod
    def root(f, low, high):
        """Where f goes from negative to positive (regula falsi, Illinois form)."""
        f_low, f_high, side = f(low), f(high), 0
        for _ in range(200):
            new = (low * f_high - high * f_low) / (f_high - f_low)
            if not low < new < high:
                return new
            f_new = f(new)
            if f_new < 0:
                f_high = 0.5 * f_high if side < 0 else f_high
                low, f_low, side = new, f_new, -1
            else:
                f_low = 0.5 * f_low if side > 0 else f_low
                high, f_high, side = new, f_new, 1
            if f_new == 0 or high - low < 1e-15:
                return new
        return new

    def after_spike(self, x):
        x = x.copy()
        x[1] = 0.0 if self.reset == "zero" else x[1] - self.theta
        x[-1] += self.b
        return x


class Network:
    """A layer of neurons. arrays: everything that has a gradient, by name."""

    def __init__(self, kind, topology, refractory, reset, seed) -> None:
        g = np.random.default_rng(seed)
        self.kind, self.reset = kind, reset
        self.units = g.integers(0, N_IN, EVENTS)
        self.arrays = {
            "times": np.sort(g.uniform(0, DURATION, EVENTS)),
            "weight": STRENGTH[kind] * g.uniform(-0.3, 1.5, (N_OUT, N_IN)),
            "delay": g.uniform(0, 12, (N_OUT, N_IN)),
        }
        if topology == "recurrent":
            self.arrays["recurrent_weight"] = STRENGTH[kind] * g.uniform(-0.4, 0.4, (N_OUT, N_OUT))
            self.arrays["recurrent_delay"] = g.uniform(0, 6, (N_OUT, N_OUT))
        self.arrays |= {name: g.uniform(*interval, N_OUT) for name, interval in RANGES[kind].items()}
        self.arrays["threshold"] = g.uniform(0.8, 1.2, N_OUT)
        self.refractory = refractory
        if refractory:
            self.arrays["refractory"] = refractory * g.uniform(0.5, 1.5, N_OUT)

    def spikes(self, most=400) -> list[tuple[float, int]]:
        """(time, neuron), by time."""
        p = self.arrays
        neurons = [
            Neuron(
                self.kind, {name: p[name][j] for name in RANGES[self.kind]}, p["threshold"][j],
                p["refractory"][j] if self.refractory else 0.0, self.reset,
            )
            for j in range(N_OUT)
        ]  # fmt: skip
        queues = [
            sorted((t + p["delay"][j, i], p["weight"][j, i]) for t, i in zip(p["times"], self.units, strict=True))
            for j in range(N_OUT)
        ]
        states = [(0.0, -1.0, np.zeros(neuron.size), True) for neuron in neurons]
        found = []
        upcoming = [self.next_spike(n, s, q) for n, s, q in zip(neurons, states, queues, strict=True)]
        while len(found) < most:
            j = int(np.argmin([t for t, _ in upcoming]))
            t, x = upcoming[j]
            if t > DURATION:
                return found
            found.append((t, j))
            queues[j] = [arrival for arrival in queues[j] if arrival[0] >= t]
            states[j] = (t, t + neurons[j].rest, neurons[j].after_spike(x), True)
            reached = {j}
            if "recurrent_weight" in p:
                for m in range(N_OUT):
                    arrival = t + p["recurrent_delay"][m, j]
                    queues[m] = sorted([*queues[m], (arrival, p["recurrent_weight"][m, j])])
                    if arrival < upcoming[m][0]:
                        reached.add(m)
            for m in reached:
                upcoming[m] = self.next_spike(neurons[m], states[m], queues[m])
        raise RuntimeError("too many spikes")

    @staticmethod
    def next_spike(neuron, state, queue):
        t, ready, x, below = state
        for arrival, weight in [*queue, (DURATION, 0.0)]:
            arrival = min(arrival, DURATION)
            if t < ready:
                end = min(ready, arrival)
                t, x = end, neuron.moved(neuron.held, x, end - t)
            if t < arrival:
                u, below = neuron.crossing(x, arrival - t, below)
                if u is not None:
                    return t + u, neuron.moved(neuron.free, x, u)
                t, x = arrival, neuron.moved(neuron.free, x, arrival - t)
            if arrival >= DURATION:
                break
            x = x.copy()
            x[0] += weight
        return np.inf, x

    def loss(self) -> tuple[float, list[int]]:
        """Of the spike times, smooth in them and asking for no order; and how many spikes each neuron has."""
        spikes = self.spikes()
        counts = np.bincount([j for _, j in spikes], minlength=N_OUT)
        return sum(np.sin(0.2 * t + j) for t, j in spikes), counts.tolist()

    def gradients(self) -> tuple[dict[str, np.ndarray], float]:
        """dL/d every array, and the largest difference of the two step sizes by an array's largest entry.

        :raises ArithmeticError: where a step makes a spike appear or vanish, and where that difference is too large.
        """
        _, counts = self.loss()
        grads, worst = {}, 0.0
        for name, array in self.arrays.items():
            grad, error = np.zeros(array.shape), 0.0
            for at in np.ndindex(array.shape):
                h = 1e-4 * max(abs(array).mean(), 0.1)
                coarse, fine = (self.difference(array, at, step, counts) for step in (h, h / 2))
                grad[at] = (4 * fine - coarse) / 3
                error = max(error, abs(fine - coarse))
            grads[name], worst = grad, max(worst, error / abs(grad).max())
            if worst > 1e-4:
                raise ArithmeticError("not smooth enough")
        return grads, worst

    def difference(self, array, at, h, counts):
        before, values = array[at], []
        for moved in (before + h, before - h):
            array[at] = moved
            value, now = self.loss()
            array[at] = before
            if now != counts:
                raise ArithmeticError("a spike appears or vanishes")
            values.append(value)
        return (values[0] - values[1]) / (2 * h)


def smooth_network(kind, topology, refractory, reset):
    """The first network drawn of this kind that fires enough and is smooth; its spikes and gradients."""
    number = KINDS.index((kind, topology, refractory, reset))
    for trial in itertools.count():
        network = Network(kind, topology, refractory, reset, 1000 * number + trial)
        try:
            spikes = network.spikes()
            if min(np.bincount([j for _, j in spikes], minlength=N_OUT)) < 2:
                continue
            grads, error = network.gradients()
        except (ArithmeticError, RuntimeError):
            continue
        return network, spikes, grads, error


def arrays_of(network, spikes, grads) -> dict[str, np.ndarray]:
    t, j = zip(*spikes, strict=True)
    return {
        "units": network.units, "spike_times": np.array(t), "spike_units": np.array(j),
        **{f"of_{name}": array for name, array in network.arrays.items()},
        **{f"grad_{name}": grad for name, grad in grads.items()},
    }  # fmt: skip


def errors(kind: str, arrays: dict[str, np.ndarray], function, **options) -> tuple[float, dict[str, float]]:
    """Largest error of the package's spike times, and of every gradient by its array's largest entry."""
    import torch

    from snn_delay_plugins.events import SpikeEvents
    from snn_delay_plugins.functional.eventprop_models import ADLIF, LIF, RESONATE_AND_FIRE

    model = {"lif": LIF, "resonate": RESONATE_AND_FIRE}.get(kind, ADLIF)
    p = {name[3:]: torch.tensor(a, requires_grad=True) for name, a in arrays.items() if name.startswith("of_")}
    events = SpikeEvents(
        p["times"], torch.tensor(arrays["units"]), torch.tensor([0, EVENTS]), num_units=N_IN, duration=DURATION
    )
    others = ("weight", "delay", "recurrent_weight", "recurrent_delay", "threshold", "refractory")
    spikes = function(
        events, model=model, constants={name: p[name] for name in model.constants},
        **{name: p[name] for name in others if name in p}, **options,
    )  # fmt: skip
    if spikes.units.tolist() != arrays["spike_units"].tolist():
        return np.inf, {}
    torch.sin(0.2 * spikes.times + spikes.units).sum().backward()
    by_gradient = {}
    for name, parameter in p.items():
        wanted = arrays[f"grad_{name}"]
        by_gradient[name] = float(np.abs(parameter.grad.numpy() - wanted).max() / np.abs(wanted).max())
    return float(np.abs(spikes.times.detach().numpy() - arrays["spike_times"]).max()), by_gradient


def check() -> None:
    from snn_delay_plugins.functional.eventprop_linear import eventprop_linear, eventprop_linear_reference

    worst = {}
    for kind, topology, refractory, reset in KINDS:
        network, spikes, grads, own = smooth_network(kind, topology, refractory, reset)
        arrays = arrays_of(network, spikes, grads)
        line = f"{kind:18} {topology:11} refractory {refractory} reset {reset:9} {len(spikes):3} spikes, own {own:.0e}:"
        for form, function, dts in (
            ("compiled", eventprop_linear, (0.1, 1.0, 5.0)),
            ("plain", eventprop_linear_reference, (1.0,)),
        ):
            for dt in dts:
                in_time, in_gradient = errors(kind, arrays, function, dt=dt)
                name, largest = max(in_gradient.items(), key=lambda item: item[1])
                line += f"  {form} dt {dt:g}: {in_time:.0e} ms, {name} {largest:.0e}"
                for key, value in (("time", in_time), *in_gradient.items()):
                    worst[key] = max(worst.get(key, 0.0), value)
        print(line, flush=True)
    print("largest:", {name: f"{value:.1e}" for name, value in worst.items()})


def make() -> None:
    everything = {}
    for case in IN_SUITE:
        network, spikes, grads, _ = smooth_network(*case)
        everything |= {f"{case[0]}/{key}": array for key, array in arrays_of(network, spikes, grads).items()}
    np.savez_compressed(FILE, **everything)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("check", "make"))
    {"check": check, "make": make}[parser.parse_args().what]()
