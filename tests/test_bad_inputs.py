"""What makes no sense is refused where it is given, by a message that names the argument: one table over every public name.

A row is a call that must raise; an id reads ``who(argument=value)``. Nothing here may pass in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.delayed import connection_mask
from snn_delay_plugins.functional import adlif as neurons
from snn_delay_plugins.functional import convolution, dcls, delay, delay_convolution, losses, surrogate
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.parameters import BoundedModule, preset_bounds, project_
from snn_delay_plugins.schedules import ExponentialSigma, PublishedSigma, anneal_sigma, sigma_annealing

NAN, INF = math.nan, math.inf
NO_NUMBER = {"text": "1", "True": True, "None": None, "complex": 1j, "list": [1.0, 2.0], "two": torch.ones(2)}
WRONG_TYPES = {*NO_NUMBER, "object", "module", "class"}
HUGE = {"huge": 1e300}  # beyond float32
POSITIVE = {**NO_NUMBER, "nan": NAN, "inf": INF, "zero": 0.0, "negative": -1.0}
NOT_NEGATIVE = {key: value for key, value in POSITIVE.items() if key != "zero"}
FINITE = {key: value for key, value in NOT_NEGATIVE.items() if key != "negative"}
WHOLE = {**NOT_NEGATIVE, "fraction": 2.5}
COUNT = {**WHOLE, "zero": 0}
STEPS = {**WHOLE, "huge": 1e18}
FLAG = {"text": "False", "None": None, "2": 2, "list": []}
CHOICE = {"unknown": "hope", "None": None, "number": 3, "list": ["linear"]}
TENSOR = {"text": "x", "number": 1.0, "None": None, "list": [[1.0]]}
BOUNDS = {"nan": (NAN, 1.0), "turned": (0.9, 0.5), "one": (0.5,), "number": 0.5, "text": ("low", "high"),
          "complex": (0.1, 1j), "inf": (INF, INF)}  # fmt: skip
DELAYS = {"None": None, "True": True, "nan": NAN, "inf": INF, "negative": -1.0, "long": 99.0, "unknown": "hope",
          "complex": torch.ones(5, 6) * 1j, "bool": torch.ones(5, 6, dtype=torch.bool), "shape": torch.ones(2, 2),
          "nan inside": torch.full((5, 6), NAN)}  # fmt: skip
FUNCTION = {"object": object(), "text": "boxcar", "class": surrogate.Boxcar}


def but(values: dict, *keys: str) -> dict:
    return {key: value for key, value in values.items() if key not in keys}


class Row(NamedTuple):
    id: str
    call: Callable
    words: str
    error: type | tuple = (TypeError, ValueError)


def rows(who: str, call: Callable, **arguments: dict) -> Iterator[Row]:
    """One row per argument and bad value: ``call(argument=value)`` must say ``argument``."""
    for name, values in arguments.items():
        for label, value in values.items():
            yield Row(f"{who}({name}={label})", partial(call, **{name: value}), name if len(name) > 1 else f"{name} must")


def cases(who: str, call: Callable, *several: tuple[str, dict, str]) -> Iterator[Row]:
    """Rows of other words: (label, arguments, words)."""
    for label, arguments, words in several:
        yield Row(f"{who}({label})", partial(call, **arguments), words)


# ------------------------------------------------------------------------------------------------ functions

X, W, D = torch.zeros(4, 2, 6), torch.ones(5, 6), torch.ones(5, 6)
SPACE, KERNEL = torch.zeros(4, 2, 3, 8), torch.ones(5, 3, 3)
EVENTS = SpikeEvents.from_lists([[1.0, 2.0]], [[0, 1]], num_units=2, duration=10.0)
FIRED = SpikeEvents(EVENTS.times, EVENTS.units, EVENTS.offsets, 2, 10.0, potential=torch.ones(2, dtype=torch.float64))
TARGET = torch.tensor([1])
TARGETS = {
    "number": 1,
    "list": [1],
    "shape": torch.tensor([1, 0]),
    "dtype": torch.tensor([1.0]),
    "outside": torch.tensor([7]),
    "negative": torch.tensor([-1]),
    "device": torch.tensor([1], device="meta"),
}


def with_defaults(function: Callable, **defaults) -> Callable:
    return lambda **given: function(**{**defaults, **given})


def surrogates() -> Iterator[Row]:
    yield from rows("Boxcar", surrogate.Boxcar, width=POSITIVE | HUGE, height=POSITIVE | HUGE)
    fire = with_defaults(surrogate.fire, x=torch.zeros(3))
    yield from cases(
        "fire",
        fire,
        ("surrogate shortens", {"surrogate": lambda x: x[:1]}, "shape"),
        ("surrogate gives a number", {"surrogate": lambda x: 1.0}, "surrogate must return a tensor"),
    )


def adlif() -> Iterator[Row]:
    current, alpha = torch.zeros(4, 2, 3), torch.tensor(0.5)
    call = with_defaults(neurons.adlif, current=current, alpha=alpha, beta=alpha, a=alpha, b=alpha)
    leaks = {**but(FINITE, "two"), "large": 1.5, "negative": -0.1}
    yield from rows(
        "adlif", call, current=but(TENSOR, "list"), threshold=POSITIVE, surrogate=FUNCTION, variant=CHOICE,
        reset=but(CHOICE, "None"), detach_reset=FLAG, method={"unknown": "hope"},
        state={"number": 0.0, "tensor": current[0]}, alpha=leaks, beta=but(leaks, "None"),
        a=but(FINITE, "None", "two", "list"), b=but(FINITE, "None", "two", "list"),
    )  # fmt: skip
    yield from cases(
        "adlif", call,
        ("current without time", {"current": torch.zeros(3)}, "current must be [T, N, *]"),
        ("current of int", {"current": current.long()}, "current must be floating point"),
        ("current of complex", {"current": current * 1j}, "current must be floating point"),
        ("current of double", {"current": current.double()}, "alpha"),
        ("current nan", {"current": current + NAN}, "NaN or infinite"),
        ("alpha nan inside", {"alpha": torch.tensor(NAN), "current": current + 1}, "NaN or infinite"),
        ("threshold nan inside", {"threshold": torch.tensor(NAN), "reset": "none"}, "threshold must be finite"),
        ("alpha of another shape", {"alpha": torch.ones(7)}, "alpha"),
        ("beta without a", {"a": None}, "a missing"),
        ("alpha elsewhere", {"alpha": torch.ones(3, device="meta")}, "alpha is on meta"),
        ("state of another batch", {"state": neurons.AdLIFState(*torch.zeros(3, 5, 3))}, "state u"),
        ("state of complex", {"state": neurons.AdLIFState(*torch.zeros(3, 2, 3) * 1j)}, "state u must hold real"),
        ("state elsewhere", {"state": neurons.AdLIFState(*torch.zeros(3, 2, 3, device="meta"))}, "state u is on meta"),
        ("threshold of complex", {"threshold": torch.tensor(1j)}, "threshold must hold real numbers"),
        ("beta of complex", {"beta": torch.tensor(1j)}, "beta must hold real numbers"),
        ("traces a text", {"traces": "no"}, "traces must be True or False"),
        ("support a text", {"support": "no"}, "support must be True or False"),
    )  # fmt: skip
    state = neurons.AdLIFState(*torch.zeros(3, 2, 3))
    step = with_defaults(neurons.adlif_step, current=current[0], state=state, alpha=alpha)
    yield from rows(
        "adlif_step", step, current=TENSOR, threshold=POSITIVE, variant=CHOICE, state={"None": None, "text": "x"}
    )


def delays() -> Iterator[Row]:
    call = with_defaults(delay.delayed_linear, spikes=X, weight=W, delay=D)
    yield from rows(
        "delayed_linear", call, spikes=TENSOR, weight=TENSOR, delay=TENSOR, max_delay=but(STEPS, "None"),
        interpolation=CHOICE, method=but(CHOICE, "None"), bias=but(TENSOR, "None"), history=but(TENSOR, "None"),
        support=but(TENSOR, "None"), smoothing=but(TENSOR, "None"),
        padding=but({**STEPS, "unknown": "valid"}, "two"),
    )  # fmt: skip
    yield from cases(
        "delayed_linear", call,
        ("spikes of a step", {"spikes": X[0]}, "spikes must be [T, N, 6]"),
        ("spikes of int", {"spikes": X.long()}, "floating point"),
        ("spikes of bool", {"spikes": X.bool()}, "floating point"),
        ("spikes of half", {"spikes": X.half()}, "convert one of them"),
        ("spikes elsewhere", {"spikes": X.to("meta")}, "spikes are on meta"),
        ("spikes a number", {"spikes": torch.tensor(1.0)}, "spikes must be"),
        ("weight of complex", {"weight": W * 1j}, "floating point"),
        ("weight of one axis", {"weight": W[0]}, "weight must be [out, in]"),
        ("delay of complex", {"delay": D * 1j}, "delay must hold real numbers"),
        ("delay of bool", {"delay": D.bool()}, "delay must hold real numbers"),
        ("delay nan", {"delay": D * NAN}, "delays"),
        ("delay infinite", {"delay": D * INF}, "delays"),
        ("delay negative", {"delay": -D}, "delays must lie in [0"), ("delay huge", {"delay": 1e18 * D}, "longest delay"),
        ("delay too long", {"delay": 9 * D, "max_delay": 3}, "max_delay=3"),
        ("delay elsewhere", {"delay": D.to("meta")}, "delay is on meta"),
        ("bias of another length", {"bias": torch.zeros(3)}, "bias must be [5]"),
        ("bias elsewhere", {"bias": torch.zeros(5, device="meta")}, "bias is on meta"),
        ("history of another batch", {"history": torch.zeros(3, 7, 6)}, "history must be [H, 2, 6]"),
        ("history of a step", {"history": X[0]}, "history must be"),
        ("smoothing empty", {"smoothing": torch.zeros(0)}, "smoothing must be"),
        ("smoothing of complex", {"smoothing": torch.ones(2) * 1j}, "smoothing"),
        ("support of another shape", {"support": X[:1]}, "support must have the shape"),
    )  # fmt: skip
    step = with_defaults(delay.delayed_linear_step, spikes=X[0], history=None, weight=W, delay=D, max_delay=2)
    yield from rows(
        "delayed_linear_step",
        step,
        spikes=TENSOR,
        weight=TENSOR,
        delay=TENSOR,
        max_delay=STEPS,
        interpolation=CHOICE,
        history=but(TENSOR, "None"),
        bias=but(TENSOR, "None"),
    )
    yield from cases("delayed_linear_step", step, ("history too short", {"history": torch.zeros(1, 2, 6)}, "history"))
    yield from rows(
        "delay_kernel",
        with_defaults(delay.delay_kernel, weight=W, delay=D, max_delay=2),
        weight=TENSOR,
        delay=TENSOR,
        max_delay=STEPS,
        interpolation=CHOICE,
    )


def gaussians() -> Iterator[Row]:
    call = with_defaults(dcls.gaussian_delayed_linear, spikes=X, weight=W, delay=D, sigma=1.0, max_delay=3)
    yield from rows(
        "gaussian_delayed_linear", call, spikes=TENSOR, weight=TENSOR, delay=TENSOR, sigma=POSITIVE, max_delay=STEPS,
        shape=CHOICE, padding=but(STEPS, "two"), method=but(CHOICE, "None"), history=but(TENSOR, "None"),
    )  # fmt: skip
    yield from cases(
        "gaussian_delayed_linear", call,
        ("sigma nan inside", {"sigma": W * NAN}, "sigma"), ("sigma of complex", {"sigma": W * 1j}, "sigma"),
        ("sigma of bool", {"sigma": W > 0}, "sigma"), ("sigma of another shape", {"sigma": torch.ones(3)}, "sigma"),
        ("delay too long", {"delay": 9 * D}, "max_delay=3"),
    )  # fmt: skip
    yield from rows(
        "gaussian_kernel",
        with_defaults(dcls.gaussian_kernel, weight=W, delay=D, sigma=1.0, max_delay=3),
        weight=TENSOR,
        delay=TENSOR,
        sigma=POSITIVE,
        max_delay=STEPS,
        shape=CHOICE,
    )
    step = with_defaults(
        dcls.gaussian_delayed_linear_step, spikes=X[0], history=None, weight=W, delay=D, sigma=1.0, max_delay=3
    )
    yield from rows("gaussian_delayed_linear_step", step, sigma=POSITIVE, max_delay=STEPS, history=but(TENSOR, "None"))
    yield from cases("gaussian_delayed_linear_step", step, ("history too short", {"history": X[:1]}, "history must have"))
    ring = with_defaults(
        dcls.rounded_delayed_linear_step, spikes=X[0], ring=torch.zeros(3, 2, 6), newest=0, weight=W, delay=D
    )
    yield from rows("rounded_delayed_linear_step", ring, ring=TENSOR, newest={**WHOLE, "outside": 3}, weight=TENSOR)
    for name, argument in (("delay_from_position", "position"), ("position_from_delay", "delay")):
        yield from rows(
            name, with_defaults(getattr(dcls, name), **{argument: D, "max_delay": 3}), max_delay=STEPS, **{argument: TENSOR}
        )
    yield from rows("sigma_from_width", with_defaults(dcls.sigma_from_width, width=D), width=TENSOR, shape=CHOICE)
    yield from rows(
        "width_from_sigma",
        with_defaults(dcls.width_from_sigma, sigma=D),
        shape=CHOICE,
        sigma={**TENSOR, "small": 0.1 * D, "nan": NAN * D},
    )
    yield from rows(
        "parameters_from_dcls",
        with_defaults(dcls.parameters_from_dcls, state={}, max_delay=3),
        max_delay=STEPS,
        shape=CHOICE,
    )


def convolutions() -> Iterator[Row]:
    call = with_defaults(convolution.causal_convolution, trains=X, kernel=torch.ones(3, 5, 6))
    yield from rows(
        "causal_convolution",
        call,
        trains=TENSOR,
        method=but(CHOICE, "None"),
        after=WHOLE,
        kernel={**TENSOR, "senders": torch.ones(3, 5, 7), "taps": torch.ones(0, 5, 6), "axes": W},
    )
    yield from cases(
        "causal_convolution",
        call,
        ("kernel of double", {"kernel": torch.ones(3, 5, 6).double()}, "kernel"),
        ("kernel elsewhere", {"kernel": torch.ones(3, 5, 6, device="meta")}, "kernel on meta"),
    )
    space = with_defaults(delay_convolution.delayed_convolution, spikes=SPACE, weight=KERNEL, delay=KERNEL, max_delay=2)
    pair = {"three": (1, 1, 1)}
    yield from rows(
        "delayed_convolution", space, spikes=TENSOR, weight=TENSOR, delay=TENSOR, max_delay=STEPS,
        sigma=but(POSITIVE, "None"), interpolation=CHOICE, stride=but({**COUNT, **pair}, "list"), groups=COUNT,
        padding=but({**WHOLE, **pair}, "list"), dilation=but({**COUNT, **pair}, "list"), bias=but(TENSOR, "None"),
        history=but(TENSOR, "None"),
    )  # fmt: skip
    yield from cases(
        "delayed_convolution", space,
        ("groups that divide nothing", {"groups": 2, "spikes": torch.zeros(4, 2, 6, 8)}, "groups"),
        ("time_padding negative", {"time_padding": -1}, "padding must be"),
        ("delay of int", {"delay": -KERNEL.int()}, "delays"),
        ("spikes of a step", {"spikes": SPACE[0]}, "spikes must be"),
        ("history of another batch", {"history": SPACE[:, :1]}, "history must be"),
    )  # fmt: skip


def eventprop() -> Iterator[Row]:
    weight = torch.ones(3, 2)
    lif = with_defaults(eventprop_lif, events=EVENTS, weight=weight)
    li = with_defaults(eventprop_li, events=EVENTS, weight=weight)
    for name, call in (("eventprop_lif", lif), ("eventprop_li", li)):
        yield from rows(
            name,
            call,
            events=TENSOR,
            weight=TENSOR,
            delay=but(TENSOR, "None"),
            tau_mem=but(POSITIVE, "two"),
            tau_syn=but(POSITIVE, "two"),
            dt=POSITIVE,
            spike_times=CHOICE,
        )
        yield from cases(
            name,
            call,
            ("tau_mem of complex", {"tau_mem": torch.tensor(2j)}, "tau_mem must be a real number"),
            ("tau_mem of bool", {"tau_mem": torch.tensor(True)}, "tau_mem must be a real number"),
            ("tau_syn of two", {"tau_syn": torch.ones(2)}, "tau_syn must be a single number"),
        )
    yield from rows(
        "eventprop_lif", lif, threshold=but(POSITIVE, "two"), max_spikes=COUNT, recurrent_weight=but(TENSOR, "None")
    )
    yield from rows("eventprop_li", li, readout=CHOICE)


def losses_() -> Iterator[Row]:
    voltage = torch.zeros(3, 1, 2)
    voltages = {**TENSOR, "axes": voltage[0], "int": voltage.long(), "complex": voltage * 1j, "no time": voltage[:0]}
    for name, more in (("reduce_voltage", {"how": "sum"}), ("voltage_cross_entropy", {"target": TARGET})):
        yield from rows(
            name, with_defaults(getattr(losses, name), voltage=voltage, **more), voltage=voltages, how=CHOICE, dt=POSITIVE
        )
    yield from rows("voltage_cross_entropy", with_defaults(losses.voltage_cross_entropy, voltage=voltage), target=TARGETS)
    first = with_defaults(losses.first_spike_cross_entropy, events=EVENTS, target=TARGET)
    yield from rows(
        "first_spike_cross_entropy",
        first,
        events=TENSOR,
        tau=POSITIVE,
        early=NOT_NEGATIVE,
        tau_early=POSITIVE,
        target=TARGETS,
    )
    invariant = with_defaults(losses.time_invariant_mse, events=EVENTS, target=TARGET, delta_t=1.0)
    yield from rows("time_invariant_mse", invariant, events=TENSOR, delta_t=NOT_NEGATIVE, target=TARGETS)
    regular = with_defaults(losses.spike_count_regularisation, events=FIRED, strength=1.0)
    yield from rows(
        "spike_count_regularisation",
        regular,
        events=TENSOR,
        strength=NOT_NEGATIVE,
        target=NOT_NEGATIVE,
        mean_counts={
            **but(TENSOR, "None"),
            "shape": torch.ones(3),
            "nan": torch.tensor([NAN, 1.0]),
            "negative": -torch.ones(2),
            "complex": torch.ones(2) * 1j,
        },
    )
    yield from cases("spike_count_regularisation", regular, ("events of inputs", {"events": EVENTS}, "membrane potential"))
    bump = with_defaults(losses.bump_silent_, weight=torch.ones(3, 2), spike_counts=torch.tensor([0, 1, 2]))
    yield from rows(
        "bump_silent_",
        bump,
        bump=NOT_NEGATIVE,
        weight={**TENSOR, "axes": torch.ones(3), "int": W.long()},
        spike_counts={
            **TENSOR,
            "axes": torch.tensor(3),
            "nan": torch.full((3,), NAN),
            "negative": -torch.ones(3),
            "bool": torch.ones(3, dtype=torch.bool),
        },
    )
    yield from cases(
        "bump_silent_", bump, ("another layer's counts", {"spike_counts": torch.ones(4)}, "4 spike counts for 3")
    )
    yield from rows(
        "ease_in",
        with_defaults(losses.ease_in, batch=3),
        batch={**WHOLE, "huge": 10**400},
        start=POSITIVE,
        final=POSITIVE,
        growth={**POSITIVE, "one": 1.0},
    )
    yield from cases("ease_in", losses.ease_in, ("start above final", {"batch": 1, "start": 1.0}, "final"))


# ------------------------------------------------------------------------------------------------ schedules, parameters


class Leak(BoundedModule):
    def __init__(self):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.tensor(0.5))


def schedules() -> Iterator[Row]:
    published, plain = PublishedSigma(8, 4), ExponentialSigma(8, 4.0)
    yield from rows(
        "PublishedSigma",
        with_defaults(PublishedSigma, epochs=8, max_delay=4),
        epochs=COUNT,
        max_delay=STEPS,
        final={**POSITIVE, "at the offset": 0.27},
    )
    yield from rows(
        "ExponentialSigma",
        with_defaults(ExponentialSigma, epochs=8, initial=4.0),
        epochs=COUNT,
        initial=POSITIVE,
        final=POSITIVE,
    )
    for name, schedule in (("published", published), ("exponential", plain)):
        yield from rows(name, lambda epoch, s=schedule: s(epoch), epoch=NOT_NEGATIVE)
    anneal = with_defaults(anneal_sigma, network=torch.nn.Identity(), schedule=plain, epoch=0)
    yield from rows(
        "anneal_sigma",
        anneal,
        network=but(TENSOR, "list"),
        epoch=NOT_NEGATIVE,
        schedule={"number": 1.0, "class": ExponentialSigma},
    )
    yield from cases("anneal_sigma", anneal, ("no such layer", {}, "no layer with"))
    if find_spec("lightning"):
        yield from rows("sigma_annealing", sigma_annealing, schedule={"number": 1.0, "None": None})


def parameters() -> Iterator[Row]:
    yield from rows("preset_bounds", preset_bounds, preset=CHOICE)
    for label, bounds in BOUNDS.items():
        yield from cases(
            "preset_bounds",
            preset_bounds,
            (f"bounds {label}", {"preset": "lif", "overrides": {"alpha": bounds}}, "bounds of 'alpha'"),
        )
        if label not in ("one", "number"):
            yield from cases(
                "BoundedModule.bound",
                lambda low, high: Leak().bound("alpha", low, high),
                (label, {"low": bounds[0], "high": bounds[1]}, "bounds of 'alpha'"),
            )
    yield from cases(
        "preset_bounds", with_defaults(preset_bounds, preset="lif"),
        ("leak above 1", {"overrides": {"alpha": (0.5, 1.5)}}, "alpha is a leak"),
        ("leak below 0", {"overrides": {"alpha": (-0.5, 0.5)}}, "alpha is a leak"),
        ("no such parameter", {"overrides": {"beta": (0.5, 0.9)}}, "no parameter 'beta'"),
        ("not a dict", {"overrides": [("alpha", (0.5, 0.9))]}, "bounds must be a dict"),
    )  # fmt: skip
    yield from rows("BoundedModule.bound", lambda mode: Leak().bound("alpha", 0.0, 1.0, mode), mode=CHOICE)
    yield from rows("project_", lambda module: project_(module), module=TENSOR)
    mask = with_defaults(connection_mask, out_features=3, in_features=8)
    yield from rows(
        "connection_mask",
        mask,
        density={**but(POSITIVE, "None"), "large": 1.5},
        synapses={**but(COUNT, "None"), "large": 9},
    )
    yield from cases("connection_mask", mask, ("both", {"density": 0.5, "synapses": 2}, "not both"))


# ------------------------------------------------------------------------------------------------ layers and neurons

NORMAL = {"number": 0.5, "None": None, "one": (0.5,), "nan": (NAN, 0.1), "negative std": (0.0, -0.1), "text": ("a", "b"),
          "inf": (0.0, INF)}  # fmt: skip
SIZES = {**COUNT, "huge": 10**30}
EVENT_DELAYS = but(DELAYS, "None", "long")


def eventprop_layers() -> Iterator[Row]:
    common = {
        "in_features": SIZES, "out_features": SIZES, "delay": EVENT_DELAYS, "max_delay": but(NOT_NEGATIVE, "inf"),
        "delay_type": CHOICE, "learn_delay": FLAG, "weight_init": NORMAL, "tau_mem": POSITIVE, "tau_syn": POSITIVE,
        "learn_tau_mem": FLAG, "learn_tau_syn": FLAG, "dt": POSITIVE, "spike_times": CHOICE,
    }  # fmt: skip
    lif, li = (with_defaults(layer, in_features=6, out_features=5) for layer in (EventPropLIF, EventPropLI))
    yield from rows("EventPropLI", li, **common, readout=CHOICE)
    yield from rows(
        "EventPropLIF",
        lif,
        **common,
        threshold=POSITIVE,
        learn_threshold=FLAG,
        output=CHOICE,
        recurrent={**FLAG},
        max_spikes={**COUNT, "huge": 1e18},
    )
    yield from rows(
        "EventPropLIF",
        with_defaults(lif, recurrent=True),
        recurrent_weight_init=NORMAL,
        recurrent_delay=but(EVENT_DELAYS, "complex", "bool"),
    )
    for name, make in (("EventPropLIF", lif), ("EventPropLI", li)):
        extremes = {"huge": 1e300, "tiny": 1e-300, "a float32 too large": 1e38}
        yield from rows(name, make, dt=extremes, tau_mem=extremes, tau_syn=extremes)
        yield from cases(name, make, ("seconds and nanoseconds", {"tau_syn": 1e-9}, "are the two in one unit"))
        yield from cases(
            name, lambda x, make=make: make()(x),
            ("dense of two axes", {"x": X[0]}, "expected spikes [T, N, 6]"),
            ("graded", {"x": X + 0.5}, "not a spike count"),
            ("nan", {"x": X * NAN}, "not a spike count"), ("negative", {"x": X - 1}, "not a spike count"),
            ("complex", {"x": X * 1j}, "must be real"), ("text", {"x": "x"}, "SpikeEvents or a tensor"),
            ("a number", {"x": torch.tensor(1.0)}, "expected spikes [T, N, 6]"),
            ("events of other units", {"x": EVENTS}, "events come from 2 units"),
        )  # fmt: skip


def delay_layers(framework: str, parts, interpolation: str, step_modes: dict, sequences) -> Iterator[Row]:
    """``sequences``: the step mode for whole sequences."""
    common = {
        "max_delay": STEPS, "delay": DELAYS, "learn_delay": FLAG, "delay_gradient": CHOICE, "bias": FLAG,
        interpolation: CHOICE, "learn_sigma": FLAG, "step_mode": step_modes, "bound_mode": but(CHOICE),
    }  # fmt: skip
    call = with_defaults(parts.DelayedLinear, in_features=6, out_features=5, max_delay=4, step_mode=sequences)
    who = f"{framework}.DelayedLinear"
    for row in rows(
        who, call, in_features=SIZES, out_features=SIZES, delay_type=CHOICE, **common,
        padding=but({**STEPS, "unknown": "valid"}, "None", "two", "list"), synapses={**but(COUNT, "None"), "large": 7},
        density={**but(POSITIVE, "None"), "large": 1.5},
        smoothing={"number": 1.0, "axes": torch.ones(2, 2), "empty": torch.ones(0), "nan": torch.tensor([NAN]),
                   "complex": torch.ones(2) * 1j},
    ):  # fmt: skip
        yield row._replace(words=row.words.replace(interpolation, "interpolation").replace("bound_mode", "bound mode"))
    gaussian = with_defaults(call, delay_gradient="gaussian")
    yield from rows(who, gaussian, sigma=but(POSITIVE | HUGE, "None"), sigma_type=CHOICE)
    yield from rows(f"{who}.set_sigma", lambda sigma: gaussian().set_sigma(sigma), sigma=POSITIVE | HUGE)
    yield from cases(
        who, lambda x, **options: call(**options)(x), ("a step", {"x": X[0]}, "spikes must be [T, N, 6]"),
        ("spikes of int", {"x": X.long()}, "floating point"), ("spikes of complex", {"x": X * 1j}, "floating point"),
        ("spikes of double", {"x": X.double()}, "convert one of them"),
        ("spikes elsewhere", {"x": X.to("meta")}, "on meta"),
        ("text", {"x": "x"}, "spikes must be a tensor") if framework == "snntorch" else ("None", {"x": None}, "spikes"),
    )  # fmt: skip
    yield from cases(who, call, ("sigma without Gaussians", {"sigma": 1.0}, "sigma belongs to"))
    for conv, x in (("DelayedConv1d", SPACE), ("DelayedConv2d", torch.zeros(4, 2, 3, 8, 8))):
        who = f"{framework}.{conv}"
        space = with_defaults(
            getattr(parts, conv), in_channels=3, out_channels=5, kernel_size=3, max_delay=4, step_mode=sequences
        )
        numbers, more = but(COUNT, "list"), but({**STEPS, "unknown": "valid"}, "None", "two", "list")
        for row in rows(
            who, space, in_channels=COUNT, out_channels=COUNT, groups=COUNT, kernel_size=numbers, stride=numbers,
            dilation=numbers, padding=but(WHOLE, "list"), time_padding=more,
            **{**common, "delay": but(DELAYS, "complex", "bool", "nan inside")},
        ):  # fmt: skip
            words = row.words.replace(interpolation, "interpolation") if row.words == interpolation else row.words
            yield row._replace(words=words.replace("bound_mode", "bound mode").replace("time_padding", "padding"))
        gaussian = with_defaults(space, delay_gradient="gaussian")
        yield from rows(who, gaussian, sigma=but(POSITIVE, "None"), sigma_type=CHOICE)
        yield from cases(
            who,
            lambda x, space=space: space()(x),
            ("a step", {"x": x[0]}, "spikes must be"),
            ("spikes of int", {"x": x.long()}, "floating point"),
            ("channels", {"x": x[:, :, :2]}, "spikes must be"),
        )


def snntorch_rows() -> Iterator[Row]:
    from snn_delay_plugins import snntorch as parts

    yield from delay_layers("snntorch", parts, "kernel", {"text": "m", "None": None, "1": 1}, False)
    leaks = {**but(FINITE, "None", "two"), "large": 1.5, "negative": -0.5}
    for name, x in (("AdLIFPlus", torch.zeros(2, 3)), ("StateAdLIFPlus", torch.zeros(4, 2, 3))):
        make, who = with_defaults(getattr(parts, name), features=3), f"snntorch.{name}"
        for row in rows(
            who, make, alpha=leaks, beta=leaks, a=but(FINITE, "None", "two", "list"), b=but(FINITE, "None", "two", "list"),
            threshold=but(POSITIVE, "two", "list"), graded_spikes_factor=but(FINITE, "two", "list"), spike_grad=FUNCTION,
            state_quant={"text": "x", "number": 8}, reset_mechanism=but(CHOICE, "None"), preset=CHOICE, variant=CHOICE,
            init_state=CHOICE, bound_mode=CHOICE,
            bounds={"list": [1], "nan": {"alpha": (NAN, 1.0)}, "leak": {"alpha": (0, 2)}},
            features={"zero": 0, "negative": -1, "fraction": 2.5, "True": True, "text": "three", "list": [3, 0]},
            **dict.fromkeys(("surrogate_disable", "init_hidden", "inhibition", "learn_alpha", "learn_beta", "learn_a",
                             "learn_b", "learn_threshold", "output", "reset_delay", "learn_graded_spikes_factor"), FLAG),
        ):  # fmt: skip
            word = {"bound_mode": "bound mode", "bounds": ""}.get(row.words, row.words)
            yield row._replace(words=word)
        yield from cases(
            who, lambda x, make=make: make(features=None)(x), ("of int", {"x": x.long()}, "input must be floating point"),
            ("of complex", {"x": x * 1j}, "input must be floating point"),
            ("of bool", {"x": x > 0}, "input must be floating point"),
            ("text", {"x": "x"}, "input must be a tensor"),
            ("nan", {"x": x + NAN}, "NaN or infinite"), ("inf", {"x": x + INF}, "NaN or infinite"),
            ("double", {"x": x.double()}, "convert the module"),
        )  # fmt: skip
    neuron = parts.AdLIFPlus(features=3)
    yield from cases(
        "snntorch.AdLIFPlus",
        partial(neuron, torch.zeros(2, 3)),
        ("w a number", {"w": 0.0}, "w must be"),
        ("mem of another batch", {"mem": torch.zeros(5, 3)}, "mem has shape"),
    )
    yield from cases("snntorch.AdLIFPlus", parts.AdLIFPlus, ("no reset delay", {"reset_delay": False}, "reset_delay=False"))


def spikingjelly_rows() -> Iterator[Row]:
    from snn_delay_plugins import spikingjelly as parts

    modes = {"unknown": "multi", "True": True, "None": None}
    yield from delay_layers("spikingjelly", parts, "interpolation", modes, "m")
    leaks = {**but(FINITE, "None", "two"), "large": 1.5, "negative": -0.5}
    make, who, x = with_defaults(parts.AdLIFPlusNode, features=3, step_mode="m"), "spikingjelly.AdLIFPlusNode", X[..., :3]
    for row in rows(
        who, make, tau={**but(POSITIVE, "None"), "one": 1.0}, v_threshold=POSITIVE | HUGE,
        v_reset={**but(FINITE, "None"), "one": 1.0},
        surrogate_function=FUNCTION, step_mode=modes, preset=CHOICE, variant=CHOICE, init_state=CHOICE, bound_mode=CHOICE,
        alpha=leaks, beta=leaks, a=but(FINITE, "None", "two", "list"), b=but(FINITE, "None", "two", "list"),
        features={"zero": 0, "negative": -1, "fraction": 2.5, "True": True, "text": "three"},
        **dict.fromkeys(("decay_input", "detach_reset", "store_v_seq", "learn"), FLAG),
    ):  # fmt: skip
        yield row._replace(words={"bound_mode": "bound mode"}.get(row.words, row.words))
    yield from cases(
        who, lambda x, make=make: make(features=None)(x), ("of int", {"x": x.long()}, "input must be floating point"),
        ("of complex", {"x": x * 1j}, "input must be floating point"), ("nan", {"x": x + NAN}, "NaN or infinite"),
        ("a number", {"x": torch.tensor(1.0)}, "input must be"), ("double", {"x": x.double()}, "convert the module"),
    )  # fmt: skip
    yield from cases(
        who,
        make,
        ("tau and alpha", {"tau": 2.0, "alpha": 0.5}, "both give the leak"),
        ("decay_input", {"decay_input": False}, "decay_input=False"),
    )


def every_row() -> list[Row]:
    parts = [surrogates, adlif, delays, gaussians, convolutions, eventprop, losses_, schedules, parameters]
    parts += [eventprop_layers, *([snntorch_rows] if find_spec("snntorch") else [])]
    parts += [spikingjelly_rows] if find_spec("spikingjelly") else []
    return [row for part in parts for row in part()]


ROWS = every_row()


def test_the_table_is_long_and_its_ids_differ():
    assert len(ROWS) >= 400
    ids = [row.id for row in ROWS]
    assert len(set(ids)) == len(ids), sorted({name for name in ids if ids.count(name) > 1})


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_a_bad_input_is_refused_by_name(row):
    with pytest.raises(row.error) as refusal:
        row.call()
    assert row.words in str(refusal.value)
