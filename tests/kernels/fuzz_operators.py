"""Calls operators by ``torch.ops`` with arguments that fit and arguments that do not; test_operator_fuzzing.py starts it.

    python fuzz_operators.py OPERATOR,OPERATOR,... CALLS [thorough]

thorough: every form of the loops, which takes minutes to compile.

Every call must return, twice the same, or raise one of EXPECTED. It runs in a process of its own, with numba's bounds check
compiled into the loops: an IndexError is memory that would have been read or written outside of an array.
"""

from __future__ import annotations

import faulthandler
import json
import math
import random
import sys
from collections import Counter

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import snn_delay_plugins.kernels.delayed_linear.operator
import snn_delay_plugins.kernels.event_patches.operator
import snn_delay_plugins.kernels.eventprop.linear.operator
import snn_delay_plugins.kernels.eventprop.linear.readout_operator
import snn_delay_plugins.kernels.eventprop.operator
import snn_delay_plugins.kernels.linear_neuron.operator
import snn_delay_plugins.kernels.recurrent_neuron.operator
import snn_delay_plugins.kernels.sparse_delay.operator
import snn_delay_plugins.kernels.sparse_taps.operator
import snn_delay_plugins.kernels.spike_linear.operator  # noqa: F401 - they register the operators
from snn_delay_plugins.kernels.linear_neuron.structure import NAMES, Structure

EXPECTED = (TypeError, ValueError, RuntimeError)
OPERATORS = torch.ops.snn_delay_plugins
# Arguments of which every entry is looked at: an index that does not fit must be refused.
POINTERS = {"units", "offsets", "out_units", "out_offsets", "senders", "receivers", "patches", "taps", "ends"}
F64 = torch.float64
THOROUGH = "thorough" in sys.argv


# ------------------------------------------------------------------------------------------------ arguments that fit


SE_ADLIF = Structure(("A00", "A10", "A11", "J00", "r0", "r1", "B0", "theta"), subtracted=True, symplectic=True)


def _structure(r: random.Random) -> Structure:
    """Few of them, as each is compiled."""
    if not THOROUGH:
        full = Structure(tuple(name for name in NAMES if name not in ("q0", "q1")))
        return r.choice([full, full._replace(detached=("J", "r1")), SE_ADLIF])
    if r.random() < 0.3:
        return SE_ADLIF._replace(names=tuple(n for n in SE_ADLIF.names if n == "theta" or r.random() < 0.7))
    return Structure(tuple(n for n in NAMES if n == "theta" or r.random() < 0.5), r.random() < 0.3)


def linear_neuron(r: random.Random) -> dict:
    steps, features, samples = r.choice([1, 3, 31, 33, 70]), r.randint(1, 5), r.randint(0, 3)
    columns, structure = features * samples, _structure(r)
    return {
        "current": 3 * torch.randn(steps, columns, dtype=F64),
        "x0": torch.rand(columns, dtype=F64),
        "x1": torch.rand(columns * structure.two, dtype=F64),
        "s": torch.rand(columns, dtype=F64).round(),
        "coefficients": torch.rand(len(structure.names), features, dtype=F64) / 2,
        "code": structure.code,
        "traces": r.random() < 0.5,
        "support": r.random() < 0.5,
        "width": 0.5,
        "height": 0.5,
    }


def linear_neuron_backward(r: random.Random) -> dict:
    inputs = linear_neuron(r)
    traces = inputs.pop("traces")
    spikes, x0_seq, x1_seq, *last, _ = OPERATORS.linear_neuron(**{**inputs, "traces": traces})
    del inputs["support"]
    current = inputs.pop("current")
    two = Structure.of(inputs["code"]).two
    of_traces = {
        name: torch.randn_like(current) if traces and exists and r.random() < 0.5 else None
        for name, exists in (("g_x0", True), ("g_x1", two))
    }
    names = ("x0", "x1", "s")
    of_last = {f"g_{n}T": torch.randn_like(g) if r.random() < 0.5 else None for n, g in zip(names, last, strict=True)}
    phi = torch.rand_like(current) if traces and r.random() < 0.5 else None
    return {
        "g_spikes": torch.randn_like(spikes),
        **of_traces,
        **of_last,
        "phi": phi,
        "current": current,
        "x0_seq": x0_seq,
        "x1_seq": x1_seq,
        **inputs,
    }


def recurrent_neuron(r: random.Random) -> dict:
    steps, features, samples = r.choice([1, 3, 31, 33, 70]), r.randint(1, 5), r.choice([1, 3, 9])
    structure, count = _structure(r), r.choice([None, 0, 1, 7])
    synapses = features * features if count is None else count
    one = (samples, features)
    return {
        "current": 3 * torch.randn(steps, *one, dtype=F64),
        "x0": torch.rand(one, dtype=F64),
        "x1": torch.rand(one if structure.two else (0, 0), dtype=F64),
        "s": torch.rand(one, dtype=F64).round(),
        "coefficients": torch.rand(len(structure.names), features, dtype=F64) / 2,
        "taps": torch.randn(r.randint(1, 4), synapses, dtype=F64) / 4,
        "lags": torch.randint(r.choice([1, 9, 200]), (synapses,)),
        "ends": None if count is None else torch.randint(features, (2, synapses)),
        "past": torch.rand(r.choice([0, 1, 12]), *one, dtype=F64).round(),
        "code": structure.code,
        "traces": r.random() < 0.5,
        "width": 0.5,
        "height": 0.5,
    }


def recurrent_neuron_backward(r: random.Random) -> dict:
    inputs = recurrent_neuron(r)
    spikes, total, x0_seq, x1_seq, *last = OPERATORS.recurrent_neuron(**inputs)
    traces, _ = inputs.pop("traces"), inputs.pop("current")
    names = ("g_x0", "g_x1", "g_x0T", "g_x1T", "g_sT")
    given = [x0_seq if traces else None, x1_seq if traces else None, *last]
    some = [None if g is None or r.random() < 0.5 else torch.randn_like(g) for g in given]
    return {
        "g_spikes": torch.randn_like(spikes),
        **dict(zip(names, some, strict=True)),
        "phi": torch.rand_like(spikes) if traces and r.random() < 0.5 else None,
        **{"spikes": spikes, "total": total, "x0_seq": x0_seq, "x1_seq": x1_seq},
        **inputs,
        "wants_past": r.random() < 0.5,
    }


def delayed_linear(r: random.Random) -> dict:
    steps, samples, senders, receivers = r.choice([1, 5, 40]), r.randint(1, 5), r.randint(1, 6), r.choice([1, 3, 35])
    max_delay = r.choice([0, 3, 60])
    trains = torch.rand(steps, samples, senders, dtype=F64) * (torch.rand(steps, samples, senders) < 0.3)
    return {
        "trains": trains,
        "taps": torch.randn(r.choice([1, 2]), receivers, senders, dtype=F64),
        "lags": torch.randint(0, max_delay + 1, (receivers, senders)),
        "support": torch.rand(trains.shape) < 0.5 if r.random() < 0.5 else None,
        "max_delay": max_delay,
        "steps": steps + r.choice([0, 0, 7, max_delay]),
        "method": r.choice(["events", "shifted", "auto"]),
    }


def delayed_linear_backward(r: random.Random) -> dict:
    inputs = delayed_linear(r)
    grad = torch.randn(inputs.pop("steps"), inputs["trains"].shape[1], inputs["taps"].shape[1], dtype=F64)
    return {"grad": grad, **inputs, "for_trains": r.random() < 0.7, "for_taps": r.random() < 0.7}


def sparse_linear(r: random.Random) -> dict:
    rows, inputs, outputs = r.choice([1, 5, 70]), r.choice([1, 4, 19]), r.choice([1, 4, 130])
    x = torch.rand(rows, inputs, dtype=F64) * (torch.rand(rows, inputs) < 0.3)
    return {
        "x": x,
        "weight": torch.randn(outputs, inputs, dtype=F64),
        "bias": torch.randn(outputs, dtype=F64) if r.random() < 0.5 else None,
        "support": torch.rand(x.shape) < 0.5 if r.random() < 0.5 else None,
        "method": r.choice(["events", "auto"]),
    }


def sparse_linear_backward(r: random.Random) -> dict:
    inputs = sparse_linear(r)
    del inputs["bias"]
    wanted = {name: r.random() < 0.7 for name in ("for_x", "for_weight", "for_bias")}
    return {"grad": torch.randn(inputs["x"].shape[0], inputs["weight"].shape[0], dtype=F64), **inputs, **wanted}


def _synapse_list(r: random.Random, max_delay: int) -> tuple[dict, int, int]:
    senders, receivers = r.randint(1, 6), r.randint(1, 6)
    sizes = torch.tensor([r.randint(0, 4) for _ in range(senders)])
    count = int(sizes.sum())
    return (
        {
            "starts": torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
            "targets": torch.randint(receivers, (count,), dtype=torch.int32),
            "delays": torch.randint(max_delay + 1, (count,), dtype=torch.int32),
            "weights": torch.randn(count, dtype=F64),
        },
        senders,
        receivers,
    )


def sparse_delayed_linear(r: random.Random) -> dict:
    max_delay, steps = r.choice([0, 3, 60]), r.choice([1, 5, 40])
    synapses, senders, receivers = _synapse_list(r, max_delay)
    spikes = torch.rand(steps, r.randint(0, 4), senders, dtype=F64)
    return {
        "spikes": spikes * (spikes < 0.5),
        **synapses,
        "out_features": receivers,
        "steps": steps + r.choice([0, 7]),
        "max_delay": r.choice([None, max_delay]),
    }


def sparse_delayed_linear_step(r: random.Random) -> dict:
    max_delay = r.choice([0, 3, 60])
    synapses, senders, receivers = _synapse_list(r, max_delay)
    spikes = torch.rand(r.randint(0, 4), senders, dtype=F64)
    pending = torch.zeros(max_delay + 1, spikes.shape[0], receivers, dtype=F64)
    return {"spikes": spikes, **synapses, "pending": pending, "now": r.randint(0, max_delay)}


def sparse_taps(r: random.Random) -> dict:
    steps, senders, receivers, count = r.choice([1, 5, 40]), r.randint(1, 6), r.randint(1, 6), r.randint(0, 12)
    trains = torch.rand(steps, r.randint(0, 4), senders, dtype=F64)
    return {
        "trains": trains * (trains < 0.5),
        "kernel": torch.randn(count, r.randint(0, 9), dtype=F64),
        "lag": torch.randint(r.choice([1, 4, 60]), (count,)),
        "senders": torch.randint(senders, (count,)),
        "receivers": torch.randint(receivers, (count,)).sort().values,
        "out_features": receivers,
        "steps": steps + r.choice([0, 7]),
    }


def sparse_taps_backward(r: random.Random) -> dict:
    inputs = sparse_taps(r)
    grad = torch.randn(inputs.pop("steps"), inputs["trains"].shape[1], inputs.pop("out_features"), dtype=F64)
    return {"grad": grad, **inputs, "for_trains": r.random() < 0.7, "for_kernel": r.random() < 0.7}


def _events(r: random.Random, units: int, duration: float) -> dict:
    counts = torch.tensor([r.choice([0, 3, 12]) for _ in range(r.randint(0, 3))], dtype=torch.int64)
    times = [torch.rand(int(n), dtype=F64).sort().values * duration for n in counts]
    return {
        "times": torch.cat([torch.empty(0, dtype=F64), *times]),
        "units": torch.randint(units, (int(counts.sum()),)),
        "offsets": torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
    }


def _layer(r: random.Random, prefix: str, n_out: int, n_in: int) -> dict:
    shape = r.choice([(n_out, n_in), (1, n_in), (n_out, 1), (1, 1)])
    return {
        f"{prefix}weight": 4 * torch.randn(n_out, n_in, dtype=F64) + 2 * (not prefix),
        f"{prefix}delay": r.choice([0.0, 5.0, 100.0]) * torch.rand(shape, dtype=F64),
    }


def _constants(r: random.Random, *names: str) -> dict:
    return {name: torch.tensor(r.choice([1.0, 5.0]), dtype=F64) for name in names}


def eventprop_lif(r: random.Random) -> dict:
    n_in, n_out, duration = r.randint(1, 4), r.choice([1, 3, 9]), r.choice([5.0, 30.0])
    recurrent = {"recurrent_weight": None, "recurrent_delay": None}
    if THOROUGH and r.random() < 0.5:
        recurrent = _layer(r, "recurrent_", n_out, n_out)
    return {
        **_events(r, n_in, duration),
        **_layer(r, "", n_out, n_in),
        **recurrent,
        **_constants(r, "tau_mem", "tau_syn", "threshold"),
        "duration": duration,
        "dt": r.choice([0.7, 1.0, 10.0]),
        "grid": r.random() < 0.5,
        "max_spikes": r.choice([40, 1000]),
    }


def eventprop_lif_backward(r: random.Random) -> dict:
    inputs = eventprop_lif(r)
    inputs["max_spikes"] = 1000
    times, _, units, offsets, exact, slope = OPERATORS.eventprop_lif(**inputs)
    del inputs["max_spikes"]
    options = {name: inputs.pop(name) for name in ("duration", "dt", "grid")}
    gradients = {name: torch.randn_like(times) if r.random() < 0.8 else None for name in ("g_time", "g_potential")}
    return {
        **gradients,
        **inputs,
        "out_units": units,
        "out_offsets": offsets,
        "exact": exact,
        "slope": slope,
        **options,
        "for_times": r.random() < 0.7,
        "for_synapses": r.random() < 0.7,
        "for_tau": THOROUGH and not options["grid"] and r.random() < 0.3,
    }


def eventprop_li(r: random.Random) -> dict:
    n_in, n_out, duration = r.randint(1, 4), r.choice([1, 3, 9]), r.choice([5.0, 30.0])
    grid = r.random() < 0.3
    kind = "voltage" if grid else r.choice(["voltage", "final", "maximum"])
    return {
        **_events(r, n_in, duration),
        **_layer(r, "", n_out, n_in),
        **_constants(r, "tau_mem", "tau_syn"),
        "duration": duration,
        "dt": r.choice([0.7, 1.0, 10.0]),
        "grid": grid,
        "kind": kind,
    }


def eventprop_li_backward(r: random.Random) -> dict:
    inputs = eventprop_li(r)
    result, *peak = OPERATORS.eventprop_li(**inputs)
    options = {name: inputs.pop(name) for name in ("duration", "dt", "grid", "kind")}
    peaks = dict(zip(("peak_time", "peak_event", "peak_slope"), peak, strict=True))
    return {
        "grad": torch.randn_like(result),
        **inputs,
        **peaks,
        **options,
        "for_times": r.random() < 0.7,
        "for_synapses": r.random() < 0.7,
        "for_tau": THOROUGH and r.random() < 0.3,
    }


def eventprop_arrivals(r: random.Random) -> dict:
    n_in, n_out, duration = r.randint(1, 4), r.choice([1, 3, 9]), r.choice([5.0, 30.0])
    return {**_events(r, n_in, duration), **_layer(r, "", n_out, n_in), "rate": r.choice([0.0, 0.1]), "duration": duration}


def eventprop_arrivals_backward(r: random.Random) -> dict:
    inputs = eventprop_arrivals(r)
    return {
        "grad": torch.randn(OPERATORS.eventprop_arrivals(**inputs).shape, dtype=F64),
        **inputs,
        "for_times": r.random() < 0.7,
    }


def eventprop_linear(r: random.Random) -> dict:
    n_in, n_out, duration, n = r.randint(1, 4), r.choice([1, 3, 9]), r.choice([5.0, 30.0]), r.randint(2, 3)
    recurrent = {"recurrent_weight": None, "recurrent_delay": None}
    if r.random() < 0.5:
        recurrent = _layer(r, "recurrent_", n_out, n_out)
    M = 0.1 * torch.randn(n_out, n, n, dtype=F64) - 0.2 * torch.eye(n, dtype=F64)
    jump = r.choice([0.0, 0.1]) * torch.randn(n_out, n, n, dtype=F64)
    jump[:, 1] = 0
    jump[:, 1, 1] = -1
    return {
        **_events(r, n_in, duration),
        **_layer(r, "", n_out, n_in),
        **recurrent,
        "M": M,
        "J": jump,
        "r": r.choice([0.0, 0.3]) * torch.randn(n_out, n, dtype=F64),
        "theta": torch.rand(n_out, dtype=F64) + 0.2,
        "refractory": r.choice([0.0, 0.0, 2.0, 100.0]) * torch.rand(n_out, dtype=F64),
        "B": torch.eye(n, dtype=F64)[0],
        "c": torch.eye(n, dtype=F64)[1],
        "kept": torch.tensor([1.0, 0.0, 1.0], dtype=F64)[:n],
        "duration": duration,
        "dt": r.choice([0.7, 1.0, 10.0]),
        "max_spikes": r.choice([40, 1000]),
    }


def eventprop_linear_backward(r: random.Random) -> dict:
    inputs = eventprop_linear(r)
    inputs["max_spikes"] = 1000
    times, _, units, offsets, exact, before, at_ready = OPERATORS.eventprop_linear(**inputs)
    del inputs["max_spikes"]
    options = {name: inputs.pop(name) for name in ("duration", "dt")}
    gradients = {name: torch.randn_like(times) if r.random() < 0.8 else None for name in ("g_time", "g_potential")}
    return {
        **gradients,
        **inputs,
        "out_units": units,
        "out_offsets": offsets,
        "exact": exact,
        "before": before,
        "at_ready": at_ready,
        **options,
        "for_times": r.random() < 0.7,
        "for_constants": r.random() < 0.7,
    }


def eventprop_linear_li(r: random.Random) -> dict:
    n_in, n_out, duration, n = r.randint(1, 4), r.choice([1, 3, 9]), r.choice([5.0, 30.0]), r.randint(2, 3)
    return {
        **_events(r, n_in, duration),
        **_layer(r, "", n_out, n_in),
        "M": 0.1 * torch.randn(n_out, n, n, dtype=F64) - 0.2 * torch.eye(n, dtype=F64),
        "B": torch.eye(n, dtype=F64)[0],
        "c": torch.eye(n, dtype=F64)[1],
        "duration": duration,
        "dt": r.choice([0.7, 1.0, 10.0]),
        "kind": r.choice(["voltage", "final", "maximum"]),
    }


def eventprop_linear_li_backward(r: random.Random) -> dict:
    inputs = eventprop_linear_li(r)
    return {
        "grad": torch.randn_like(OPERATORS.eventprop_linear_li(**inputs)),
        **inputs,
        "for_times": r.random() < 0.7,
        "for_constants": r.random() < 0.7,
    }


def event_patches(r: random.Random) -> dict:
    sites, channels, num_patches, num_taps = r.randint(1, 4), r.randint(1, 3), r.randint(1, 5), r.randint(1, 4)
    sizes = torch.tensor([r.randint(0, 3) for _ in range(sites)])
    first, count = r.randint(0, channels - 1), int(sizes.sum())
    return {
        **_events(r, channels * sites, 30.0),
        "starts": torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
        "patches": torch.randint(num_patches, (count,)),
        "taps": torch.randint(num_taps, (count,)),
        "num_units": channels * sites,
        "num_patches": num_patches,
        "num_taps": num_taps,
        "first_channel": first,
        "channels": r.randint(0, channels - first),
    }


def event_patches_backward(r: random.Random) -> dict:
    inputs = event_patches(r)
    times, *_ = OPERATORS.event_patches(**inputs)
    del inputs["times"]
    return {"g_times": torch.randn_like(times), **inputs}


FITTING = {f.__name__: f for f in (
    linear_neuron, linear_neuron_backward, recurrent_neuron, recurrent_neuron_backward, delayed_linear,
    delayed_linear_backward, sparse_linear, sparse_linear_backward, sparse_delayed_linear, sparse_delayed_linear_step,
    sparse_taps, sparse_taps_backward, eventprop_lif, eventprop_lif_backward, eventprop_li, eventprop_li_backward,
    eventprop_arrivals, eventprop_arrivals_backward, eventprop_linear, eventprop_linear_backward,
    eventprop_linear_li, eventprop_linear_li_backward, event_patches, event_patches_backward,
)}  # fmt: skip


# ------------------------------------------------------------------------------------------------ and that do not


def changed(value, name: str, r: random.Random):
    """Another value in its place."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return r.choice([-1, 0, value - 1, value + 1, 3 * value + 5, 10_000, 1 << 40, 1 << 62, -(1 << 63)])
    if isinstance(value, float):
        return r.choice([math.nan, math.inf, -math.inf, 0.0, -1.0, 5e-324, 1e-300, 1e-9, 0.3, 1e9, 1e300])
    if isinstance(value, str):
        return r.choice(["", "events", "triton", "round", "zero", "final", "nonsense"])
    if isinstance(value, Tensor):
        if value.is_meta or value.is_sparse:
            return value
        return r.choice([_reshaped, _other_entry, _other_entry, _other_dtype, _laid_out])(value, name, r)
    return torch.rand(3, dtype=F64)  # of None


def _reshaped(x: Tensor, name: str, r: random.Random) -> Tensor:
    dim = r.randrange(x.dim()) if x.dim() else 0
    shapes = [lambda: x.flatten(), lambda: x[None], lambda: x.new_zeros(()), lambda: x.new_zeros(0)]
    if x.dim():
        size = x.shape[dim]
        shapes += [
            lambda: x.narrow(dim, 0, max(size - 1, 0)),
            lambda: torch.cat([x, x], dim),
            lambda: x.narrow(dim, 0, 0),
            lambda: torch.cat([x, x.narrow(dim, 0, min(size, 1))], dim),
            lambda: x.transpose(0, -1),
        ]
    return r.choice(shapes)()


def _other_entry(x: Tensor, name: str, r: random.Random) -> Tensor:
    if not x.numel():
        return _reshaped(x, name, r)
    x = x.clone(memory_format=torch.contiguous_format)
    place = r.randrange(x.numel())
    if x.dtype == torch.bool:
        x.view(-1)[place] ^= True
    elif x.is_floating_point():
        x.view(-1)[place] = r.choice([math.nan, math.inf, -math.inf, -1.0, 1e9, 1e30, 1e300, -1e308, 5e-324])
    elif not x.is_complex():
        most = torch.iinfo(x.dtype)
        x.view(-1)[place] = r.choice([-1, -10, 7, 100, 10**6, 10**8, -(10**8), most.max, most.min])
    return x


def _other_dtype(x: Tensor, name: str, r: random.Random) -> Tensor:
    dtypes = [torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool, torch.complex64, torch.uint8]
    return x.to(r.choice(dtypes if "delay" in name else [*dtypes, torch.float32]))


def _laid_out(x: Tensor, name: str, r: random.Random) -> Tensor:
    """The same values elsewhere, or on no device; not in a row, which is no fault."""
    if r.random() < 0.25:
        return x.to("meta")
    if r.random() < 0.2:
        return x.to_sparse() if x.dim() else x
    return torch.stack([x, x], -1)[..., 0]


def _must_be_refused(name: str, before, after) -> bool:
    """A pointer that does not fit, everything else being as it was."""
    if (
        name not in POINTERS
        or before.is_floating_point()
        or (after.dtype, after.shape, after.layout) != (before.dtype, before.shape, before.layout)
    ):
        return False
    return bool(((after < 0) | (after >= 10**6)).any())


# ------------------------------------------------------------------------------------------------ calls


def _called(operator: str, arguments: dict) -> list[Tensor]:
    own = {name: value.clone() if name == "pending" else value for name, value in arguments.items()}
    result = getattr(OPERATORS, operator)(**own)
    return [own["pending"]] if result is None else list(result) if isinstance(result, tuple) else [result]


def _description(operator: str, arguments: dict) -> str:
    return f"{operator}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def fuzz(operator: str, calls: int) -> Counter:
    outcomes = Counter()

    @settings(
        max_examples=calls,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32 - 1), changes=st.integers(0, 3))
    def run(seed: int, changes: int) -> None:
        r = random.Random(seed)
        torch.manual_seed(seed)
        try:
            fitting = FITTING[operator](r)
        except EXPECTED as error:  # a backward pass of a forward pass that has none: too many spikes
            assert "max_spikes" in str(error) or "grazes" in str(error), error
            return
        arguments = dict(fitting)
        forms = set() if THOROUGH else {"code", "for_tau", "recurrent_weight", "recurrent_delay"}
        for _ in range(changes):
            name = r.choice(sorted(arguments.keys() - forms))
            arguments[name] = changed(arguments[name], name, r)
        # what is left of a process that dies
        print(_description(operator, arguments), file=sys.stderr, end="\0", flush=True)
        shapes_alone = any(isinstance(value, Tensor) and value.is_meta for value in arguments.values())
        try:
            first, second = _called(operator, arguments), _called(operator, arguments)
        except EXPECTED as error:
            if changes == 0:
                assert "max_spikes" in str(error) or "grazes" in str(error), error
            outcomes["refused"] += 1
            return
        except Exception:
            if not shapes_alone:
                raise
            return
        outcomes["returned"] += 1
        if shapes_alone:
            return
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one.nan_to_num(), other.nan_to_num()), "two calls differ"
        broken = [
            name
            for name in arguments
            if isinstance(arguments[name], Tensor)
            and isinstance(fitting[name], Tensor)
            and _must_be_refused(name, fitting[name], arguments[name])
        ]
        assert not broken, f"{broken} should have been refused"

    run()
    return outcomes


if __name__ == "__main__":
    faulthandler.enable()
    torch.set_num_threads(1)
    torch.set_printoptions(threshold=20)
    for operator in sys.argv[1].split(","):
        print(json.dumps({operator: fuzz(operator, int(sys.argv[2]))}), flush=True)
