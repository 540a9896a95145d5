"""Every operator on the device against its form on the CPU: values and gradients, of fresh random inputs.

A check is a function of (draw, dtype, tiny) that returns what it computes from: named tensors whose gradients are wanted
first, and a function from the tensors on one device to results. It runs on the CPU and on the device, whose memory is
filled with NaN before (``poisoned``), so that what a kernel does not write is seen. ``benchmarks/on_gpu.py`` runs them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from snn_delay_plugins.delays import LINEAR, WHOLE, DelayRule
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.dcls import gaussian_delayed_linear
from snn_delay_plugins.functional.delay import delayed_linear_step
from snn_delay_plugins.functional.delay_convolution import delayed_convolution
from snn_delay_plugins.functional.event_pooling import pool_events
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_convolution import eventprop_lif_convolution
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_linear_readout import eventprop_linear_li
from snn_delay_plugins.functional.eventprop_models import ADLIF
from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.functional.linear_neuron import linear_neuron
from snn_delay_plugins.functional.recurrent import Recurrence
from snn_delay_plugins.functional.sparse_delay import sparse_delayed_linear, sparse_delayed_linear_step, synapse_list
from snn_delay_plugins.functional.windows import listed_convolution, windowed_linear
from snn_delay_plugins.kernels.device import interpreted, runs_triton
from snn_delay_plugins.kernels.dispatch import chosen
from snn_delay_plugins.models import MODELS, LinearModel

Values = dict[str, Tensor]
Results = dict[str, Tensor]


class Case(NamedTuple):
    """One draw of a check."""

    leaves: Values
    """Floating point; gradients are wanted of all of them."""
    run: Callable[[Values], Results]
    """Of tensors on one device; gradients are those of a fixed random loss of the results."""
    tolerance: float
    """Of the largest entry of a result, or of one, where all entries are smaller."""
    operator: str | None = None
    """Of ``kernels.dispatch``; on the device it is to run in Triton."""


class Draw:
    """Random tensors on the CPU; ``shape``: steps, samples, neurons of checks that are not tiny."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = (100, 4, 70)) -> None:
        self.generator, self.shape = torch.Generator().manual_seed(seed), shape

    def normal(self, *shape: int, mean: float = 0.0, spread: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64) * spread + mean

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low

    def spikes(self, *shape: int, rate: float = 0.1) -> Tensor:
        return (self.uniform(*shape) < rate).double()

    def whole(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator)

    def events(self, samples: int, mean: int, units: int, duration: float) -> SpikeEvents:
        """The second sample is empty."""
        counts = [0 if n == 1 else mean + int(self.whole(mean + 1, 1)) for n in range(samples)]
        return SpikeEvents.from_lists(
            [self.uniform(n, high=duration) for n in counts], [self.whole(units, n) for n in counts],
            num_units=units, duration=duration, dtype=torch.float64,
        )  # fmt: skip


def _rounded(values: Values, dtype: torch.dtype) -> Values:
    return {name: x.to(dtype) for name, x in values.items()}


def _tolerance(dtype: torch.dtype, exact: float = 1e-9, single: float = 2e-4) -> float:
    return exact if dtype == torch.float64 else single


# ------------------------------------------------------------------------------------------------ neurons


def _adlif(variant: str) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        steps, samples, features = (6, 2, 3) if tiny else d.shape
        leaves = {"current": d.normal(steps, samples, features, mean=1.0, spread=3.0)}
        leaves |= {"alpha": d.uniform(features, low=0.5, high=0.95), "beta": d.uniform(features, low=0.5, high=0.95)}
        leaves |= {"a": d.uniform(features), "b": d.uniform(features)}

        def run(x: Values) -> Results:
            current, p = x["current"], {name: x[name] for name in ("alpha", "beta", "a", "b")}
            spikes, state = adlif(current, **p, variant=variant)
            return {"spikes": spikes, "u": state.u}

        return Case(_rounded(leaves, dtype), run, _tolerance(dtype), "adlif")

    return draw


def _model(model: LinearModel) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        steps, samples, features = (6, 1, 3) if tiny else d.shape
        leaves = {"current": d.normal(steps, samples, features, mean=2.0, spread=9.0)}
        for name, p in model.parameters.items():
            leaves[name] = d.uniform(features, low=p.draw[0], high=p.draw[1])

        def run(x: Values) -> Results:
            of = model.coefficients({name: x[name] for name in model.parameters}, 1.0, model.resets[0], False)
            spikes, state = linear_neuron(x["current"], of)[:2]
            return {"spikes": spikes, "x0": state.x0}

        return Case(_rounded(leaves, dtype), run, _tolerance(dtype), "linear_neuron")

    return draw


def _recurrent(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples, features = (6, 2, 3) if tiny else d.shape
    leaves = {"current": d.normal(steps, samples, features, mean=1.0, spread=3.0)}
    leaves |= {"alpha": d.uniform(features, low=0.5, high=0.95), "beta": d.uniform(features, low=0.5, high=0.95)}
    leaves |= {"a": d.uniform(features), "b": d.uniform(features)}
    leaves |= {"weight": d.normal(features, features, spread=0.2), "delay": d.uniform(features, features, high=20.0)}
    leaves |= {"history": d.spikes(22, samples, features, rate=0.3)}

    def run(x: Values) -> Results:
        of, p = ({name: x[name] for name in names.split()} for names in ("weight delay history", "alpha beta a b"))
        method = None if runs_triton(x["current"]) else "torch"  # a dry run has no compiler for the loops
        recurrence = Recurrence(**of, rule=LINEAR, max_delay=20)
        spikes, state = adlif(x["current"], **p, recurrence=recurrence, method=method)
        return {"spikes": spikes, "u": state.u}

    return Case(_rounded(leaves, dtype), run, _tolerance(dtype), "recurrent_neuron")


# ------------------------------------------------------------------------------------------------ delays


def _delays(rule: DelayRule, padding: str = "same", masked: bool = False) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        steps, samples, n_out = (9, 2, 3) if tiny else d.shape
        n_in, longest = (2, 4) if tiny else (n_out // 2 + 3, 25)
        spikes, support = d.spikes(steps, samples, n_in, rate=0.3), d.uniform(steps, samples, n_in) < 0.5
        leaves = {"spikes": spikes, "weight": d.normal(n_out, n_in), "delay": d.uniform(n_out, n_in, high=longest)}

        def run(x: Values) -> Results:
            where = support.to(x["spikes"].device) if masked else None
            return {"current": windowed_linear(**x, rule=rule, max_delay=longest, padding=padding, support=where)}

        return Case(_rounded(leaves, dtype), run, _tolerance(dtype), "delayed_linear")

    return draw


def _gaussian(cut: bool) -> Callable[[Draw, torch.dtype, bool], Case]:
    """cut: on the device as windows of the taps that are not lost in rounding, two at a time."""

    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        steps, samples, n_out = (9, 2, 3) if tiny else d.shape
        n_in, longest = (2, 8) if tiny else (n_out // 2 + 3, 25)
        leaves = {"spikes": d.spikes(steps, samples, n_in), "weight": d.normal(n_out, n_in)}
        leaves["delay"] = d.uniform(n_out, n_in, high=longest)

        def run(x: Values) -> Results:
            method = "triton" if cut and runs_triton(x["spikes"]) else None
            return {"current": gaussian_delayed_linear(**x, sigma=0.5 if cut else 2.0, max_delay=longest, method=method)}

        return Case(_rounded(leaves, dtype), run, _tolerance(dtype, 1e-9, 1e-3), "delayed_linear" if cut else None)

    return draw


def _listed(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples, n_out = (9, 2, 3) if tiny else d.shape
    n_in, synapses, width, longest = (4, 7, 3, 6) if tiny else (n_out + 5, 8 * n_out, 5, 30)
    receivers = d.whole(n_out, synapses).sort().values
    senders, lag = d.whole(n_in, synapses), d.whole(longest + 1, synapses)
    leaves = {"trains": d.spikes(steps, samples, n_in, rate=0.3), "kernel": d.normal(synapses, width)}

    def run(x: Values) -> Results:
        of = (y.to(x["kernel"].device) for y in (lag, senders, receivers))
        return {"current": listed_convolution(x["trains"], x["kernel"], *of, n_out, after=2)}

    return Case(_rounded(leaves, dtype), run, _tolerance(dtype), "sparse_taps")


def _discrete(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples, n_out = (9, 2, 3) if tiny else d.shape
    n_in, longest = (4, 6) if tiny else (n_out + 5, 30)
    delay, exists = d.uniform(n_out, n_in, high=longest), d.uniform(n_out, n_in) < 0.4
    values = {"spikes": d.spikes(steps, samples, n_in, rate=0.3), "weight": d.normal(n_out, n_in)}

    def run(x: Values) -> Results:
        synapses = synapse_list(x["weight"], delay.to(x["weight"]), longest, exists.to(x["weight"].device))
        whole = sparse_delayed_linear(x["spikes"], synapses, n_out, max_delay=longest, padding=3)
        pending, currents = x["spikes"].new_zeros(longest + 1, samples, n_out), []
        for t in range(min(steps, longest + 3)):
            now = t % (longest + 1)
            currents.append(sparse_delayed_linear_step(x["spikes"][t], pending, now, synapses))
        return {"sequence": whole, "steps": torch.stack(currents)}

    return Case(_rounded(values, dtype), run, _tolerance(dtype), "sparse_delayed_linear")


def _steps(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples, n_out = (5, 2, 3) if tiny else (20, *d.shape[1:])
    n_in, longest = (2, 3) if tiny else (n_out // 2, 8)
    leaves = {"spikes": d.spikes(steps, samples, n_in, rate=0.3), "weight": d.normal(n_out, n_in)}
    leaves["delay"] = d.uniform(n_out, n_in, high=longest)

    def run(x: Values) -> Results:
        history, currents = None, []
        for spikes in x["spikes"]:
            current, history = delayed_linear_step(spikes, history, x["weight"], x["delay"], max_delay=longest)
            currents.append(current)
        return {"steps": torch.stack(currents)}

    return Case(_rounded(leaves, dtype), run, _tolerance(dtype))


def _linear(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples, n_out = (9, 2, 3) if tiny else d.shape
    leaves = {"spikes": d.spikes(steps, samples, n_out + 2), "weight": d.normal(n_out, n_out + 2), "bias": d.normal(n_out)}
    support = d.uniform(steps, samples, n_out + 2) < 0.5

    def run(x: Values) -> Results:
        return {"current": spike_linear(**x, support=support.to(x["spikes"].device))}

    return Case(_rounded(leaves, dtype), run, _tolerance(dtype))


def _convolution(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    steps, samples = (5, 1) if tiny else (40, 2)
    size, longest = (4, 3) if tiny else (12, 10)
    leaves = {"spikes": d.spikes(steps, samples, 2, size, size, rate=0.3), "weight": d.normal(3, 2, 2, 2)}
    leaves["delay"] = d.uniform(3, 2, 2, 2, high=longest)

    def run(x: Values) -> Results:
        return {"current": delayed_convolution(**x, max_delay=longest)}

    return Case(_rounded(leaves, dtype), run, _tolerance(dtype, 1e-9, 1e-3))


# ------------------------------------------------------------------------------------------------ EventProp


def _network(d: Draw, tiny: bool, recurrent: bool) -> tuple[SpikeEvents, Values, int]:
    n_in, n_out, mean, duration = (2, 3, 2, 4.0) if tiny else (40, 70, 250, 100.0)
    events = d.events(2 if tiny else 3, mean, n_in, duration)
    weight, spread = (14.0, 3.0) if tiny else (0.4, 0.3)
    leaves = {"times": events.times, "weight": d.normal(n_out, n_in, mean=weight, spread=spread)}
    leaves["delay"] = d.uniform(n_out, n_in, high=0.3 * duration)
    if recurrent:
        leaves["recurrent_weight"] = d.normal(n_out, n_out, mean=0.1, spread=0.3)
        leaves["recurrent_delay"] = d.uniform(n_out, n_out, high=0.2 * duration)
    return events, leaves, n_out


def _dt(tiny: bool, spike_times: str) -> float:
    return 2.0 if tiny and spike_times == "exact" else 1.0


def _moved(events: SpikeEvents, times: Tensor) -> SpikeEvents:
    units, offsets = (x.to(times.device) for x in (events.units, events.offsets))
    return SpikeEvents(times, units, offsets, events.num_units, events.duration)


def _lif(spike_times: str, recurrent: bool, tau: bool = False) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        events, leaves, _ = _network(d, tiny, recurrent)
        if spike_times == "grid":
            leaves["times"] = leaves["times"].floor()
        if tau:
            leaves |= {"tau_mem": torch.tensor(10.0), "tau_syn": torch.tensor(4.0)}
        leaves = _rounded(leaves, dtype)

        def run(x: Values) -> Results:
            given = {name: value for name, value in x.items() if name != "times"}
            out = eventprop_lif(_moved(events, x["times"]), dt=_dt(tiny, spike_times), spike_times=spike_times, **given)
            return {"times": out.times, "potential": out.potential, "units": out.units, "offsets": out.offsets}

        return Case(leaves, run, _tolerance(dtype, 1e-8, 1e-4), "eventprop_lif")

    return draw


def _li(spike_times: str, readout: str, tau: bool = False) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        events, leaves, _ = _network(d, tiny, False)
        leaves["weight"] = leaves["weight"] - 0.8 * leaves["weight"].mean()
        if spike_times == "grid":
            leaves["times"] = leaves["times"].floor()
        if tau:
            leaves |= {"tau_mem": torch.tensor(10.0), "tau_syn": torch.tensor(4.0)}
        leaves = _rounded(leaves, dtype)

        def run(x: Values) -> Results:
            given = {name: value for name, value in x.items() if name != "times"}
            voltage = eventprop_li(_moved(events, x["times"]), dt=1.0, spike_times=spike_times, readout=readout, **given)
            return {readout: voltage}

        return Case(leaves, run, _tolerance(dtype, 1e-8, 1e-4), "eventprop_li")

    return draw


def _linear_neurons(recurrent: bool, readout: str | None = None) -> Callable[[Draw, torch.dtype, bool], Case]:
    def draw(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
        events, leaves, n_out = _network(d, tiny, recurrent)
        constants = {"tau_mem": 15.0, "tau_syn": 4.0, "tau_adapt": 60.0, "a": 6.0}
        constants |= {} if readout else {"b": 0.3}
        leaves |= {name: torch.full((n_out,), value) for name, value in constants.items()}
        leaves = _rounded(leaves, dtype)

        def run(x: Values) -> Results:
            inputs, of = _moved(events, x["times"]), {name: x[name] for name in constants}
            given = {name: value for name, value in x.items() if name not in of and name != "times"}
            if readout:
                given |= {"model": ADLIF, "constants": of, "dt": _dt(tiny, "exact"), "readout": readout}
                return {readout: eventprop_linear_li(inputs, **given)}
            out = eventprop_linear(inputs, model=ADLIF, constants=of, refractory=0.5, dt=_dt(tiny, "exact"), **given)
            return {"times": out.times, "units": out.units, "offsets": out.offsets}

        return Case(leaves, run, _tolerance(dtype, 1e-8, 1e-4), "eventprop_linear_li" if readout else "eventprop_linear")

    return draw


def _event_convolution(d: Draw, dtype: torch.dtype, tiny: bool) -> Case:
    size, duration = (2, 4.0) if tiny else (8, 60.0)
    events = d.events(2, 4 if tiny else 200, 2 * size * size, duration)
    leaves = {"times": events.times, "weight": d.normal(2, 2, 2, 2, mean=12.0, spread=3.0)}
    leaves["delay"] = d.uniform(2, 2, 2, 2, high=3.0)
    leaves = _rounded(leaves, dtype)

    def run(x: Values) -> Results:
        units, offsets = (y.to(x["times"].device) for y in (events.units, events.offsets))
        inputs = SpikeEvents(x["times"], units, offsets, 2 * size * size, duration).reshape(2, size, size)
        out = eventprop_lif_convolution(inputs, x["weight"], x["delay"], dt=_dt(tiny, "exact"), spike_times="exact")
        pooled = pool_events(out, 1 if tiny else 2)
        return {"times": out.times, "units": out.units, "pooled": pooled.times, "offsets": pooled.offsets}

    return Case(leaves, run, _tolerance(dtype, 1e-8, 1e-4))


CHECKS: dict[str, Callable[[Draw, torch.dtype, bool], Case]] = {
    "AdLIF+": _adlif("adlif"),
    "SE-AdLIF": _adlif("symplectic"),
    **{f"neurons: {name}": _model(m) for name, m in MODELS.items() if isinstance(m, LinearModel)},
    "recurrent delays": _recurrent,
    "delays of two taps": _delays(LINEAR),
    "delays of two taps, support": _delays(LINEAR, "full", masked=True),
    "whole delays": _delays(WHOLE),
    "Gaussian delays": _gaussian(cut=False),
    "Gaussian delays, windows": _gaussian(cut=True),
    "few synapses": _listed,
    "discrete layer": _discrete,
    "delays step by step": _steps,
    "spike_linear": _linear,
    "convolution with delays": _convolution,
    "EventProp LIF, exact": _lif("exact", False),
    "EventProp LIF, exact, recurrent": _lif("exact", True),
    "EventProp LIF, grid": _lif("grid", False),
    "EventProp LIF, grid, recurrent": _lif("grid", True),
    "EventProp LIF, gradients of tau": _lif("exact", False, tau=True),
    "EventProp LIF, gradients of tau, recurrent": _lif("exact", True, tau=True),
    "EventProp LI, voltage": _li("exact", "voltage"),
    "EventProp LI, voltage, grid": _li("grid", "voltage"),
    "EventProp LI, weighted integral": _li("exact", "weighted_integral"),
    "EventProp LI, maximum": _li("exact", "maximum"),
    "EventProp LI, gradients of tau": _li("exact", "voltage", tau=True),
    "EventProp LI, gradients of tau, integral": _li("exact", "weighted_integral", tau=True),
    "EventProp LI, gradients of tau, maximum": _li("exact", "maximum", tau=True),
    "EventProp AdLIF": _linear_neurons(False),
    "EventProp AdLIF, recurrent": _linear_neurons(True),
    "EventProp AdLIF, readout": _linear_neurons(False, "voltage"),
    "EventProp AdLIF, readout, weighted integral": _linear_neurons(False, "weighted_integral"),
    "EventProp convolution and pooling": _event_convolution,
}
"""Every operator that this package runs on a device."""


# ------------------------------------------------------------------------------------------------ comparing


class Difference(AssertionError):
    """A result on the device that is not the CPU's."""


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """New memory holds NaN (the largest number where there is none): what a kernel leaves unwritten shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def check(name: str, device: str, dtype: torch.dtype, seed: int = 0, tiny: bool = False, shape=(100, 4, 70)) -> dict:
    """One row of the report: whether everything is equal, the largest difference (of the largest entry), what ran.

    :param device: ``"cuda"``, or ``"interpreter"``: Triton's, on the CPU.
    """
    row = {"check": name, "dtype": str(dtype).removeprefix("torch."), "shape": "tiny" if tiny else list(shape)}
    start = time.perf_counter()
    for again in range(5):  # a draw of silent neurons says nothing
        case = CHECKS[name](Draw(seed + 1000 * again, shape), dtype, tiny)
        expected = _results(case, "cpu")
        if not _blank(expected):
            break
    else:
        raise Difference(f"{_blank(expected)} are empty or zero: nothing is compared")
    on_device = contextlib.nullcontext() if device == "cuda" else interpreted()
    with on_device, poisoned():
        found = _results(case, "cuda" if device == "cuda" else "cpu")
        row["form"] = chosen()[case.operator].form if case.operator else "torch"
    if case.operator and row["form"] != "triton":
        raise Difference(f"{case.operator} ran as {row['form']}, not in Triton: nothing is compared")
    worst = max((_difference(what, found[what], expected[what]), what) for what in expected)
    equal = worst[0] <= case.tolerance
    return row | {
        "equal": equal, "difference": worst[0], "of": worst[1], "tolerance": case.tolerance,
        "seconds": round(time.perf_counter() - start, 2),
    }  # fmt: skip


def _blank(results: Results) -> list[str]:
    of = {what: x for what, x in results.items() if x.is_floating_point() and not what.startswith("gradient")}
    return [what for what, x in of.items() if what != "pooled" and not bool(x.any())]


def _results(case: Case, device: str) -> Results:
    """Of the case and the gradients of a loss that weighs every number differently."""
    leaves = {name: x.to(device).requires_grad_() for name, x in case.leaves.items()}
    results = case.run(leaves)
    loss = sum(
        (torch.arange(y.numel(), device=device, dtype=torch.float64).cos() * y.double().flatten()).sum()
        for y in results.values()
        if y.requires_grad
    )
    found = {name: y.detach().cpu() for name, y in results.items()}
    if isinstance(loss, Tensor):
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for name, g in zip(leaves, gradients, strict=True):
            if g is not None:
                found[f"gradient of {name}"] = g.cpu()
    return found


def _difference(what: str, found: Tensor, expected: Tensor) -> float:
    """The largest one, as a share of the largest entry; infinite for another shape or dtype, and for NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if not expected.numel():
        return 0.0
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else float("inf")
    gap = float((found.double() - expected.double()).abs().max())
    return gap / (float(expected.abs().max()) or 1.0) if gap == gap else float("inf")
