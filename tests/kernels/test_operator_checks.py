"""What operators refuse, by torch.ops: arguments that fit, one of them changed."""

import math

import pytest
import torch
from torch.autograd import forward_ad

import snn_delay_plugins.kernels.delayed_linear.operator
import snn_delay_plugins.kernels.event_patches.operator
import snn_delay_plugins.kernels.eventprop.linear.operator
import snn_delay_plugins.kernels.eventprop.operator
import snn_delay_plugins.kernels.linear_neuron.operator
import snn_delay_plugins.kernels.recurrent_neuron.operator
import snn_delay_plugins.kernels.sparse_delay.operator
import snn_delay_plugins.kernels.sparse_taps.operator
import snn_delay_plugins.kernels.spike_linear.operator  # noqa: F401 - they register the operators
from snn_delay_plugins.kernels.linear_neuron.structure import Structure

OPERATORS = torch.ops.snn_delay_plugins
F64 = torch.float64


def ones(*shape, dtype=F64):
    return torch.ones(shape, dtype=dtype)


def whole(*values, dtype=torch.int64):
    return torch.tensor(values, dtype=dtype)


def linear_neuron():
    structure = Structure(("A00", "A10", "A11", "r0", "r1", "B0", "theta"), subtracted=True)
    return {
        "current": ones(5, 6),
        **{name: ones(6) for name in ("x0", "x1", "s")},
        "coefficients": 0.5 * ones(7, 2),
        "code": structure.code,
        "traces": False,
        "support": False,
        "width": 0.5,
        "height": 0.5,
    }


def linear_neuron_backward():
    inputs = linear_neuron()
    for name in ("traces", "support"):
        del inputs[name]
    absent = dict.fromkeys(("g_x0", "g_x1", "g_x0T", "g_x1T", "g_sT", "phi"))
    return {"g_spikes": ones(5, 6), **absent, "x0_seq": ones(0, 6), "x1_seq": ones(0, 6), **inputs}


def recurrent_neuron():
    structure = Structure(("A00", "A10", "A11", "r0", "r1", "B0", "theta"), subtracted=True)
    return {
        "current": ones(5, 2, 3),
        **{name: ones(2, 3) for name in ("x0", "x1", "s")},
        "coefficients": 0.5 * ones(7, 3),
        "taps": ones(2, 4),
        "lags": whole(0, 1, 2, 9),
        "ends": whole(*4 * [0, 2]).view(2, 4),
        "past": ones(1, 2, 3),
        "code": structure.code,
        "traces": False,
        "width": 0.5,
        "height": 0.5,
    }


def recurrent_neuron_backward():
    inputs = recurrent_neuron()
    del inputs["traces"]
    absent = dict.fromkeys(("g_x0", "g_x1", "g_x0T", "g_x1T", "g_sT", "phi"))
    run = {"spikes": ones(5, 2, 3), "total": inputs.pop("current"), "x0_seq": ones(0, 2, 3), "x1_seq": ones(0, 2, 3)}
    return {"g_spikes": ones(5, 2, 3), **absent, **run, **inputs, "wants_past": True}


def delayed_linear():
    return {
        "trains": ones(5, 2, 3),
        "taps": ones(2, 4, 3),
        "lags": whole(*12 * [1]).view(4, 3),
        "support": None,
        "max_delay": 7,
        "steps": 6,
        "method": "shifted",
    }


def delayed_linear_backward():
    inputs = delayed_linear()
    return {"grad": ones(inputs.pop("steps"), 2, 4), **inputs, "for_trains": True, "for_taps": True}


def sparse_linear():
    return {"x": ones(5, 3), "weight": ones(4, 3), "bias": ones(4), "support": None, "method": "events"}


def sparse_linear_backward():
    inputs = sparse_linear()
    del inputs["bias"]
    return {"grad": ones(5, 4), **inputs, "for_x": True, "for_weight": True, "for_bias": True}


def synapse_list():
    return {
        "starts": whole(0, 2, 3),
        "targets": whole(0, 1, 1, dtype=torch.int32),
        "delays": whole(2, 0, 1, dtype=torch.int32),
        "weights": ones(3),
    }


def sparse_delayed_linear():
    return {"spikes": ones(5, 3, 2), **synapse_list(), "out_features": 2, "steps": 6}


def sparse_delayed_linear_step():
    return {"spikes": ones(3, 2), **synapse_list(), "pending": 0 * ones(3, 3, 2), "now": 1}


def sparse_taps():
    return {
        "trains": ones(5, 3, 2),
        "kernel": ones(3, 2),
        "lag": whole(2, 0, 1),
        "senders": whole(0, 1, 1),
        "receivers": whole(0, 0, 1),
        "out_features": 2,
        "steps": 6,
    }


def sparse_taps_backward():
    inputs = sparse_taps()
    return {
        "grad": ones(inputs.pop("steps"), 3, inputs.pop("out_features")),
        **inputs,
        "for_trains": True,
        "for_kernel": True,
    }


def eventprop_lif():
    constants = {"tau_mem": 20 * ones(), "tau_syn": 5 * ones(), "threshold": ones()}
    return {
        "times": torch.tensor([1.0, 4.0, 2.0], dtype=F64),
        "units": whole(0, 1, 1),
        "offsets": whole(0, 2, 3),
        "weight": 8 * ones(3, 2),
        "delay": ones(3, 2),
        "recurrent_weight": None,
        "recurrent_delay": None,
        **constants,
        "duration": 30.0,
        "dt": 1.0,
        "grid": False,
        "max_spikes": 100,
    }


def eventprop_lif_backward():
    inputs = eventprop_lif()
    del inputs["max_spikes"]
    spikes = {
        "out_units": whole(0, 2, 1),
        "out_offsets": whole(0, 2, 3),
        "exact": torch.tensor([3.0, 5.0, 4.0], dtype=F64),
        "slope": ones(3),
    }
    return {
        "g_time": ones(3),
        "g_potential": None,
        **inputs,
        **spikes,
        "for_times": True,
        "for_synapses": True,
        "for_tau": False,
    }


def eventprop_li():
    inputs = eventprop_lif()
    for name in ("recurrent_weight", "recurrent_delay", "threshold", "max_spikes"):
        del inputs[name]
    return {**inputs, "kind": "maximum"}


def eventprop_li_backward():
    peaks = {"peak_time": ones(2, 3), "peak_event": whole(-1, 0, 2, 1, -1, -1).view(2, 3), "peak_slope": ones(2, 3)}
    return {"grad": ones(2, 3), **eventprop_li(), **peaks, "for_times": True, "for_synapses": True, "for_tau": False}


def eventprop_arrivals():
    inputs = {name: eventprop_lif()[name] for name in ("times", "units", "offsets", "weight", "delay", "duration")}
    return {**inputs, "rate": 0.1}


def eventprop_arrivals_backward():
    return {"grad": ones(2, 3), **eventprop_arrivals(), "for_times": True}


def eventprop_linear():
    shared = {name: eventprop_lif()[name] for name in ("times", "units", "offsets", "weight", "delay")}
    M = torch.tensor([[-0.2, 0.0, 0.0], [0.05, -0.05, -0.05], [0.0, 0.005, -0.01]], dtype=F64).repeat(3, 1, 1)
    jump = 0 * M
    jump[:, 1, 1] = -1
    return {
        **shared,
        "recurrent_weight": None,
        "recurrent_delay": None,
        "M": M,
        "J": jump,
        "r": torch.tensor([0.0, 0.0, 0.2], dtype=F64).repeat(3, 1),
        "theta": ones(3),
        "refractory": ones(3),
        "B": torch.tensor([1.0, 0.0, 0.0], dtype=F64),
        "c": torch.tensor([0.0, 1.0, 0.0], dtype=F64),
        "kept": torch.tensor([1.0, 0.0, 1.0], dtype=F64),
        "duration": 30.0,
        "dt": 1.0,
        "max_spikes": 100,
    }


def eventprop_linear_backward():
    inputs = eventprop_linear()
    del inputs["max_spikes"]
    duration, dt = inputs.pop("duration"), inputs.pop("dt")
    before = torch.tensor([5.0, 1.0, 0.1], dtype=F64).repeat(3, 1)
    spikes = {
        "out_units": whole(0, 2, 1),
        "out_offsets": whole(0, 2, 3),
        "exact": torch.tensor([3.0, 5.0, 4.0], dtype=F64),
        "before": before,
        "at_ready": before.clone(),
    }
    options = {"duration": duration, "dt": dt, "for_times": True, "for_constants": True}
    return {"g_time": ones(3), "g_potential": None, **inputs, **spikes, **options}


def event_patches():
    times = torch.tensor([1.0, 2.0, 1.5], dtype=F64)
    wiring = {"starts": whole(0, 1, 3), "patches": whole(0, 0, 1), "taps": whole(0, 1, 0)}
    sizes = {"num_units": 2, "num_patches": 2, "num_taps": 2, "first_channel": 0, "channels": 1}
    return {"times": times, "units": whole(0, 1, 1), "offsets": whole(0, 2, 3), **wiring, **sizes}


def event_patches_backward():
    inputs = event_patches()
    del inputs["times"]
    return {"g_times": ones(5), **inputs}


FITTING = [
    linear_neuron,
    linear_neuron_backward,
    recurrent_neuron,
    recurrent_neuron_backward,
    delayed_linear,
    delayed_linear_backward,
    sparse_linear,
    sparse_linear_backward,
    sparse_delayed_linear,
    sparse_delayed_linear_step,
    sparse_taps,
    sparse_taps_backward,
    eventprop_lif,
    eventprop_lif_backward,
    eventprop_li,
    eventprop_li_backward,
    eventprop_arrivals,
    eventprop_arrivals_backward,
    eventprop_linear,
    eventprop_linear_backward,
    event_patches,
    event_patches_backward,
]


def refused(fitting, message, **changes):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(OPERATORS, fitting.__name__)(**{**fitting(), **changes})


TENSORS = [
    pytest.param(f, name, id=f"{f.__name__}-{name}")
    for f in FITTING
    for name, value in f().items()
    if isinstance(value, torch.Tensor) and value.dim()
]


@pytest.mark.parametrize(("fitting", "name"), TENSORS)
def test_a_tensor_of_another_length_dtype_or_dimension_is_refused(fitting, name):
    value = fitting()[name]
    wrong_types = [value.to(dtype) for dtype in (torch.float16, torch.complex64, torch.uint8)]
    for wrong in (*wrong_types, value.to_sparse(), value[None], value.sum()):
        refused(fitting, "must be", **{name: wrong})
    dim = {"kernel": 0, "pending": 1, "grad": 1, "coefficients": 0, "M": 0, "J": 0, "r": 0}.get(
        name, -1
    )  # their other sizes are free
    if name != "trains" or not fitting.__name__.startswith("sparse_taps"):  # some of them without synapses
        refused(fitting, "must be|rise|columns", **{name: torch.cat([value, value], dim)})
    if name != "delay" or value.shape[1] > 2:  # one delay for all inputs
        fewer = value.narrow(dim, 0, value.shape[dim] - 1)
        refused(fitting, "must be|rise|columns|is outside", **{name: fewer})


INDICES = {
    "units": "num_units = 2",
    "out_units": "num_units = 3",
    "targets": "out_features = 2",
    "delays": r"max_delay \+ 1",
    "senders": "the number of inputs = 2",
    "receivers": "out_features = 2",
    "patches": "num_patches = 2",
    "taps": "num_taps = 2",
}


INDEX_TENSORS = [p for p in TENSORS if p.values[1] in INDICES and not p.values[0]()[p.values[1]].is_floating_point()]


@pytest.mark.parametrize(("fitting", "name"), INDEX_TENSORS)
@pytest.mark.parametrize("value", [-1, 100, -(10**8), 2**31 - 1, -(2**31)])
def test_an_index_that_does_not_fit_is_refused_and_named(fitting, name, value):
    indices = fitting()[name].clone()
    indices[-1] = value
    if name == "delays" and "steps" in fitting() and value > 0:  # it arrives after the last step
        return
    refused(
        fitting,
        rf"{'units' if name == 'out_units' else name}\[2\] = {value} is outside \[0, {INDICES[name]}",
        **{name: indices},
    )


@pytest.mark.parametrize(("fitting", "name"), [p for p in TENSORS if p.values[1] in ("starts", "offsets", "out_offsets")])
@pytest.mark.parametrize("values", [(0, 2, 10**8), (-1, 2, 3), (0, 2, 2), (0, 10**8, 3), (0, -(10**8), 3), (1, 2, 3)])
def test_offsets_that_do_not_rise_from_zero_to_the_end_are_refused(fitting, name, values):
    if name == "starts" and values in ((0, 2, 2), (1, 2, 3)):  # each sender's part lies inside: fewer synapses
        return
    refused(fitting, "rise from 0", **{name: whole(*values)})


@pytest.mark.parametrize("fitting", [f for f in FITTING if f.__name__.startswith("eventprop")])
@pytest.mark.parametrize(("name", "value"), [
    ("times", math.nan), ("times", -1.0), ("times", 31.0), ("times", math.inf), ("weight", math.nan), ("weight", math.inf),
    ("delay", math.nan), ("delay", -1.0), ("delay", math.inf), ("exact", math.nan), ("exact", -1.0), ("exact", 31.0),
    ("peak_time", math.nan), ("peak_time", 31.0), ("peak_time", -1e300),
])  # fmt: skip
def test_times_weights_and_delays_that_are_no_numbers_or_lie_outside_are_refused(fitting, name, value):
    if name not in fitting():
        return
    broken = fitting()[name].clone()
    broken.view(-1)[0] = value
    refused(fitting, "not within|not finite|negative|peak_time must", **{name: broken})


@pytest.mark.parametrize("fitting", [f for f in FITTING if f.__name__.startswith("eventprop")])
@pytest.mark.parametrize("name", ["duration", "dt", "tau_mem", "tau_syn"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 5e-324, 1e-300, 1e-12])
def test_constants_that_need_tables_without_end_are_refused(fitting, name, value):
    if name not in fitting() or (name == "duration" and value > 0 and value < 1):
        return
    wrong = torch.tensor(value, dtype=F64) if name.startswith("tau") else value
    refused(fitting, rf"{name} must be positive and finite|{name} = .* would", **{name: wrong})


@pytest.mark.parametrize(("fitting", "name", "value", "message"), [
    (linear_neuron, "code", -1, "code must be a structure's, got -1"),
    (linear_neuron, "code", 1 << 40, "code must be a structure's"),
    (linear_neuron, "code", Structure(("A00", "r0", "r1", "B0", "B1", "c", "q0")).code, "threshold theta"),
    (linear_neuron, "current", ones(0, 6), "at least one time step"),
    (linear_neuron, "current", ones(5, 7), "no multiple of the 2"),
    (linear_neuron, "coefficients", ones(7, 0), "no multiple of the 0"),
    (linear_neuron, "x1", ones(0), "x1 must be"),
    (recurrent_neuron, "code", -1, "code must be a structure's, got -1"),
    (recurrent_neuron, "current", ones(0, 2, 3), "current must not be empty"),
    (recurrent_neuron, "ends", whole(0, 1, 2, 3, 0, 0, 0, 0).view(2, 4), r"receivers\[3\] = 3 is outside \[0, the number"),
    (recurrent_neuron, "ends", whole(0, 0, 0, 0, 0, -1, 0, 0).view(2, 4), r"senders\[1\] = -1 is outside"),
    (recurrent_neuron, "ends", None, r"taps must be \[\*, 9\]"),
    (recurrent_neuron, "lags", whole(0, -1, 2, 9), "lags must not be negative, got -1"),
    (recurrent_neuron, "taps", ones(0, 4), "at least one per synapse"),
    (recurrent_neuron, "past", ones(1, 1, 3), "past must be"),
    (delayed_linear, "method", "nonsense", "method must be one of"),
    (delayed_linear, "method", "triton", "method must be one of"),
    (delayed_linear, "taps", ones(3, 4, 3), "taps must be one or two per synapse, got 3"),
    (delayed_linear, "max_delay", -1, "max_delay must not be negative"),
    (delayed_linear, "lags", (math.nan * ones(4, 3)).long(), r"lags must lie in \[0, max_delay=7\]"),
    (delayed_linear, "lags", whole(*12 * [8]).view(4, 3), r"lags must lie in \[0, max_delay=7\], got 8 ... 8"),
    (delayed_linear, "steps", -1, "steps must not be negative"),
    (delayed_linear, "steps", 2**60, "steps = .* would take"),
    (sparse_linear, "method", "triton", "method must be one of"),
    (sparse_delayed_linear, "steps", -5, "steps must not be negative"),
    (sparse_delayed_linear, "steps", 2**60, "steps = .* would take"),
    (sparse_delayed_linear, "out_features", -1, "out_features must not be negative"),
    (sparse_delayed_linear, "out_features", 2**60, "would take"),
    (sparse_delayed_linear, "out_features", 1, r"targets\[1\] = 1 is outside \[0, out_features = 1\)"),
    (sparse_delayed_linear_step, "now", 3, r"now = 3 is outside \[0, 3\)"),
    (sparse_delayed_linear_step, "now", -(10**12), "now = -1000000000000 is outside"),
    (sparse_delayed_linear_step, "pending", 0 * ones(2, 3, 2), r"delays\[0\] = 2 is outside \[0, max_delay \+ 1 = 2\)"),
    (sparse_taps, "lag", whole(0, 0, -1), "lags must not be negative, got -1"),
    (sparse_taps, "receivers", whole(1, 0, 1), r"receivers\[1\] = 0 comes after 1"),
    (sparse_taps, "steps", 2**60, "steps = .* would take"),
    (event_patches, "num_units", 3, "channels 0 to 1 of 2 sites are not among num_units = 3"),
    (event_patches, "channels", 2, "channels 0 to 2 of 2 sites are not among"),
    (event_patches, "first_channel", -1, "first_channel must not be negative"),
    (event_patches, "num_patches", 2**60, "the rows of .* would take"),
    (event_patches, "num_taps", 2**60, "make more inputs than there can be"),
    (event_patches_backward, "g_times", ones(4), r"g_times must be \[5\]"),
    (eventprop_lif, "max_spikes", 0, "max_spikes must be positive"),
    (eventprop_lif, "recurrent_weight", ones(3, 3), "given together"),
    (eventprop_li, "kind", "nonsense", "kind must be one of"),
    (eventprop_li, "grid", True, r"kind must be one of \('voltage',\), got 'maximum'"),
    (eventprop_arrivals, "rate", math.nan, "rate must be finite"),
    (eventprop_linear, "max_spikes", 0, "max_spikes must be positive"),
    (eventprop_linear, "recurrent_weight", ones(3, 3), "given together"),
    (eventprop_linear, "theta", 0 * ones(3), "theta must be positive"),
    (eventprop_linear, "refractory", -ones(3), "refractory not negative"),
    (eventprop_linear, "kept", 0.5 * ones(3), "kept must be 0 for the states"),
    (eventprop_linear, "c", ones(3), "must not make the potential jump"),
    (eventprop_linear, "M", math.nan * ones(3, 3, 3), "the neurons' M holds values that are not finite"),
    (eventprop_linear, "M", 1e200 * ones(3, 3, 3), "steps: tables of 8 neurons would be too long"),
    (eventprop_linear, "M", 1e300 * ones(3, 3, 3).triu(1), "would be too long"),
    (eventprop_linear, "B", ones(4), r"takes neurons of up to 3 states|up to 3 states, got 4"),
    (eventprop_linear, "duration", 1e-310, "duration = 1e-310 would be too short|not within"),
    (eventprop_linear_backward, "exact", torch.tensor([5.0, 3.0, 4.0], dtype=F64), "in the order of their times"),
    (eventprop_lif_backward, "exact", torch.tensor([5.0, 3.0, 4.0], dtype=F64), "in the order of their times"),
    (eventprop_li_backward, "peak_event", 3 + 0 * whole(*range(6)).view(2, 3), "peak_event must lie in"),
])  # fmt: skip
def test_other_arguments_that_do_not_fit_are_refused_and_named(fitting, name, value, message):
    refused(fitting, message, **{name: value})


@pytest.mark.parametrize("fitting", FITTING)
def test_tensors_on_two_devices_are_refused(fitting):
    from snn_delay_plugins.kernels.checks import check_tensor

    name, value = next((n, v) for n, v in fitting().items() if isinstance(v, torch.Tensor))
    with pytest.raises(ValueError, match=f"{name} is on meta but the first tensor on cpu"):
        check_tensor(name, value.to("meta"), tuple(value.shape), (value.dtype,), value.device)


def test_a_delay_longer_than_32_bits_reaches_nothing():
    inputs = {**delayed_linear(), "max_delay": 2**40}
    inputs["taps"][:], inputs["lags"][:] = 0.5, 3_000_000_000
    for method in ("events", "shifted"):
        assert not OPERATORS.delayed_linear(**{**inputs, "method": method}).any()
    inputs["lags"][0, 0] = 1
    near = OPERATORS.delayed_linear(**inputs)
    assert near[:, 0, 0].tolist() == [0, 0.5, 1, 1, 1, 1] and not near[:, :, 1:].any()


def test_a_ring_that_lies_anywhere_in_memory_takes_the_currents():
    straight = sparse_delayed_linear_step()
    turned = {**straight, "pending": straight["pending"].transpose(0, 2).contiguous().transpose(0, 2)}
    for inputs in (straight, turned):
        OPERATORS.sparse_delayed_linear_step(**inputs)
    assert not turned["pending"].is_contiguous() and straight["pending"].any()
    assert torch.equal(turned["pending"], straight["pending"])


def test_weights_that_overflow_make_no_time_that_is_no_number():
    weight = torch.tensor([[-1.7e308, -1.7e308], [1.7e308, -1.7e308], [-1.7e308, 1.7e308]], dtype=F64)
    for row in weight:
        try:
            times, *_ = OPERATORS.eventprop_lif(**{**eventprop_lif(), "weight": row[None], "delay": ones(1, 1)})
            assert times.isfinite().all()
        except RuntimeError as error:
            assert "max_spikes" in str(error)


def test_a_state_that_overflows_is_refused_and_makes_no_time_that_is_no_number():
    weight = 1.7e308 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    with pytest.raises(RuntimeError, match="neuron 0 in sample 0 grows beyond what a float64 holds"):
        OPERATORS.eventprop_linear(**{**eventprop_linear(), "weight": weight, "units": whole(0, 0, 1)})
    recurrent = {"recurrent_weight": 0 * ones(3, 3), "recurrent_delay": ones(3, 3)}
    with pytest.raises(RuntimeError, match=r"max_spikes|grows beyond"):
        OPERATORS.eventprop_linear(**{**eventprop_linear(), "weight": weight, **recurrent})


def test_gradients_of_spikes_whose_slope_is_no_number_are_refused():
    inputs = eventprop_linear_backward()
    inputs["before"][1] = math.nan
    with pytest.raises(RuntimeError, match="grazes the threshold"):
        OPERATORS.eventprop_linear_backward(**inputs)


FORWARD = [f for f in FITTING if not f.__name__.endswith("_backward")]


@pytest.mark.parametrize("fitting", FORWARD)
def test_an_operator_called_in_forward_mode_says_that_it_has_reverse_mode_alone(fitting):
    """Torch would drop the tangents in silence."""
    inputs = fitting()
    name = next(name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point())
    with forward_ad.dual_level():
        inputs[name] = forward_ad.make_dual(inputs[name], torch.ones_like(inputs[name]))
        with pytest.raises(NotImplementedError, match=r"forward mode: .*(method=|reverse mode alone)"):
            getattr(OPERATORS, fitting.__name__)(**inputs)
