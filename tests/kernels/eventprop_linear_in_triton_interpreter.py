"""EventProp of linear neurons: Triton's kernels in the interpreter against the CPU's and the plain form, as operators;
test_eventprop_linear_triton.py starts it."""

import os

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

from dataclasses import replace  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from snn_delay_plugins.events import SpikeEvents  # noqa: E402
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif  # noqa: E402
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear, eventprop_linear_reference  # noqa: E402
from snn_delay_plugins.functional.eventprop_linear_readout import eventprop_linear_li  # noqa: E402
from snn_delay_plugins.functional.eventprop_models import ADAPTIVE_LI, ADLIF, LIF, RESONATE_AND_FIRE  # noqa: E402
from snn_delay_plugins.kernels.eventprop import operator as lif_operators  # noqa: E402
from snn_delay_plugins.kernels.eventprop import triton as eventprop_triton  # noqa: E402
from snn_delay_plugins.kernels.eventprop.linear import operator as operators  # noqa: E402
from snn_delay_plugins.kernels.eventprop.linear import readout_operator  # noqa: E402
from snn_delay_plugins.kernels.eventprop.linear import triton as linear_triton  # noqa: E402

_call, _called = interpreter.InterpretedFunction.__call__, set()


def _call_without_patching_again(self, *args, **kwargs):
    """The interpreter prepares triton.language at every call of a function by a kernel; once is enough, and faster."""
    if self.fn in _called:
        return self.rewrite()(*args, **kwargs)
    _called.add(self.fn)
    return _call(self, *args, **kwargs)


interpreter.InterpretedFunction.__call__ = _call_without_patching_again

# numbers of lanes that are not asked for are computed all the same
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:overflow encountered")


# In place of functions of many operations, for each of which the interpreter takes long; the test of spikes that
# others found runs them all. Arguments and results are lanes.


def _in_numpy(function):
    def call(*lanes):
        *_, last = lanes
        out = function(*(x.handle.data if isinstance(x, tl.tensor) else x for x in lanes))
        made = [tl.tensor(interpreter.TensorHandle(x, last.handle.dtype), last.type) for x in out]
        return made[0] if len(made) == 1 else tuple(made)

    return call


def _rows(of, count, distance=32):
    """[count, lanes], from pointers to the first row."""
    where = of + (8 * distance * np.arange(count, dtype=np.uint64))[:, None]
    return interpreter._interpreter.load(where, np.ones(where.shape, bool), np.zeros(where.shape), np.dtype(np.float64))


@_in_numpy
def dot(of, x0, x1, x2):
    a, b, c = _rows(of, 3)
    return [a * x0 + b * x1 + c * x2]


@_in_numpy
def times(m, x0, x1, x2):
    return (_rows(m, 9).reshape(3, 3, -1) * np.stack([x0, x1, x2])).sum(1)


@_in_numpy
def times_back(m, p0, p1, p2):
    return (_rows(m, 9).reshape(3, 3, -1) * np.stack([p0, p1, p2])[:, None]).sum(0)


@_in_numpy
def ahead(of, held, moments, x0, x1, x2):
    step = 8 * 32 * held.astype(np.uint64)
    P, C = (_rows(of + 8 * 32 * first + more * step, size) for first, more, size in ((18, 9, 9), (36, 24, 24)))
    arrived = (_rows(moments, 8, 1)[:, None] * C.reshape(8, 3, -1)).sum(0)
    return arrived + (P.reshape(3, 3, -1) * np.stack([x0, x1, x2])).sum(1)


@_in_numpy
def exponential(*numbers):
    *m, u, x0, x1, x2 = numbers
    m, x = np.stack(m).reshape(3, 3, -1) * u, np.stack([x0, x1, x2])
    y = x
    for k in range(1, 12):
        x = (m * x).sum(1) / k
        y = y + x
    return y


@_in_numpy
def value(u, *series):
    return [np.polynomial.polynomial.polyval(u, np.stack(series), tensor=False)]


@_in_numpy
def slope(u, *series):
    powers = np.arange(1, 12.0)[:, None] * np.stack(series)
    return [np.polynomial.polynomial.polyval(u, powers, tensor=False)]


IN_NUMPY = {
    "dot": dot, "times": times, "times_back": times_back, "ahead": ahead, "exponential": exponential, "_value": value,
    "_slope": slope,
}  # fmt: skip


@pytest.fixture
def in_triton(monkeypatch):
    """Calls a function with the operators running the Triton kernels, whatever the device."""

    def call(function, *args, quick=True, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(operators, "_device_kernels", lambda tensor: linear_triton)
            patch.setattr(readout_operator, "_device_kernels", lambda tensor: linear_triton)
            patch.setattr(lif_operators, "_device_kernels", lambda tensor: eventprop_triton)
            for module in MODULES if quick else ():
                for name in set(IN_NUMPY) & set(vars(module)):
                    patch.setattr(module, name, IN_NUMPY[name])
            return function(*args, **kwargs)

    return call


MODULES = linear_triton.flow, *(getattr(linear_triton.layer, f"{x}_kernels") for x in ("forward", "adjoint", "constants"))


def halved(k, theta):
    """A jump that keeps half of V and mixes the states, on no model's list."""
    return replace(ADLIF.system(k, theta), J=((-0.1, 0, 0), (0, -0.5, 0), (0.1, 0.2, -0.3)))


def without_reset(k, theta):
    """V has to fall below the threshold before it can spike again."""
    return replace(RESONATE_AND_FIRE.system(k, theta), J=None)


def to_zero(k, theta):
    return replace(ADLIF.system(k, theta), J=None, r=(0, -theta, k["b"]))


HALVED, WITHOUT_RESET, TO_ZERO = (
    replace(model, system=system)
    for model, system in ((ADLIF, halved), (RESONATE_AND_FIRE, without_reset), (ADLIF, to_zero))
)
REAL = {"tau_mem": 9.0, "tau_syn": 4.0, "tau_adapt": 30.0, "a": 0.2, "b": 0.4}
OSCILLATING = REAL | {"a": 8.0, "b": 0.2}
RESONATE = {"tau_syn": 3.0, "decay": 0.05, "omega": 0.8}


def network(seed=0, counts=(5,), n_in=3, n_out=3, duration=8.0, scale=12.0, delay=2.0, recurrent=None, grid=None):
    """Inputs and parameters. recurrent: the longest recurrent delay; every neuron has a synapse to itself."""
    g = np.random.default_rng(seed)
    times = [np.sort(g.uniform(0, 0.7 * duration, n)) for n in counts]
    times = [np.floor(t / grid) * grid if grid else t for t in times]
    units = [g.integers(0, n_in, n) for n in counts]
    p = {"weight": scale * g.uniform(-0.2, 1, (n_out, n_in)), "delay": delay * g.uniform(0, 1, (n_out, n_in))}
    if recurrent is not None:
        p["recurrent_weight"] = g.normal(0.0, 1.5, (n_out, n_out))
        p["recurrent_delay"] = recurrent * g.uniform(0, 1, (n_out, n_out))
    events = SpikeEvents.from_lists(times, units, num_units=n_in, duration=duration)
    return events, {k: torch.tensor(v) for k, v in p.items()}


def layer_and_gradients(events, p, constants=REAL, refractory=0.0, form=eventprop_linear, model=ADLIF, **options):
    """Spikes and the gradients of some loss by everything, all constants one per neuron."""
    n_out, dtype = p["weight"].shape[0], p["weight"].dtype
    leaves = {k: v.clone().requires_grad_() for k, v in p.items()}
    shape = torch.linspace(0.95, 1.05, n_out, dtype=torch.float64)
    neurons = {k: (x * shape).requires_grad_() for k, x in (constants | {"theta": 1.0, "refractory": refractory}).items()}
    inputs = SpikeEvents(
        events.times.clone().requires_grad_(), events.units, events.offsets, events.num_units, events.duration
    )
    out = form(
        inputs, **leaves, model=model, constants={k: neurons[k] for k in constants}, threshold=neurons["theta"],
        refractory=neurons["refractory"], **{"dt": 2.0, **options},
    )  # fmt: skip
    k = torch.arange(len(out), dtype=dtype)
    loss = (torch.cos(1.7 * k) * out.times).sum()
    if out.potential is not None and form is eventprop_linear:
        loss = loss + (torch.sin(k) * out.potential).sum()
    wanted = leaves | neurons | {"times": inputs.times}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return out, dict(zip(wanted, grads, strict=True))


def assert_equal_layers(in_triton, events, p, tolerance=1e-10, **options):
    wanted, by_wanted = layer_and_gradients(events, p, **options)
    got, by_got = in_triton(layer_and_gradients, events, p, **options)
    assert got.units.tolist() == wanted.units.tolist() and torch.equal(got.offsets, wanted.offsets)
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got.times, wanted.times, rtol=0, atol=tolerance)
    for name, grad in by_wanted.items():
        assert by_got[name].dtype == grad.dtype
        largest = float(grad.abs().max()) if grad.numel() else 0.0
        torch.testing.assert_close(by_got[name], grad, rtol=0, atol=tolerance * max(largest, 1.0), msg=name)
    return wanted


@pytest.mark.parametrize(("model", "constants", "refractory", "recurrent"), [
    (ADLIF, REAL, 0.0, None), (ADLIF, OSCILLATING, 1.5, 1.5), (TO_ZERO, OSCILLATING, 0.0, None), (HALVED, REAL, 0.3, 1.0),
    (RESONATE_AND_FIRE, RESONATE, 2.2, None), (WITHOUT_RESET, RESONATE, 0.0, 1.5),
    (LIF, {"tau_mem": 9.0, "tau_syn": 9.0}, 0.5, None),
])  # fmt: skip
def test_every_model_has_the_spikes_and_gradients_of_the_cpu(in_triton, model, constants, refractory, recurrent):
    options = {"model": model, "constants": constants, "refractory": refractory}
    assert len(assert_equal_layers(in_triton, *network(recurrent=recurrent), **options)) > 3


LAYERS = {
    "two programs, an empty sample": {"n_out": 34, "counts": (2, 0), "duration": 5.0},
    "no events": {"counts": (0, 0), "duration": 4.0},
    "no spikes": {"scale": 0.01},
    "delays of zero, simultaneous arrivals": {"delay": 0.0, "grid": 2.0},
    "delays past the end": {"delay": 12.0, "scale": 30.0},
    "one step": {"duration": 1.0, "scale": 60.0, "delay": 0.3},
    "recurrent, delays of zero": {"recurrent": 0.0, "grid": 2.0, "delay": 0.0},
    "recurrent, delays shorter than a step": {"recurrent": 0.4, "counts": (3, 0, 2)},
    "recurrent, no events": {"recurrent": 2.0, "counts": (0,), "duration": 4.0},
}


@pytest.mark.parametrize("name", LAYERS)
def test_borders_are_those_of_the_cpu(in_triton, name):
    out = assert_equal_layers(in_triton, *network(**LAYERS[name]), refractory=0.4)
    assert (len(out) == 0) == (name.endswith("no events") or name == "no spikes")


def by_everything(function, events, p, constants):
    """The result and, in order, its derivatives by parameters, constants and event times."""
    leaves, of = ({k: torch.as_tensor(v).clone().requires_grad_() for k, v in x.items()} for x in (p, constants))
    inputs = SpikeEvents(
        events.times.clone().requires_grad_(), events.units, events.offsets, events.num_units, events.duration
    )
    out = function(inputs, leaves, of)
    result = out.times if isinstance(out, SpikeEvents) else out
    weights = torch.arange(result.numel(), dtype=torch.float64).cos().view(result.shape)
    return result.detach(), *torch.autograd.grad((weights * result).sum(), [*leaves.values(), *of.values(), inputs.times])


def assert_all_equal(got, wanted, tolerance=1e-10):
    assert bool(wanted[0].any())
    for x, y in zip(got, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance * max(1.0, float(y.abs().max())))


@pytest.mark.parametrize("readout", ["voltage", "integral", "weighted_integral"])
def test_readouts_are_those_of_the_cpu(in_triton, monkeypatch, readout):
    monkeypatch.setattr(linear_triton.layer, "WORKSPACE", 1)  # sample by sample
    events, p = network(n_out=33 if readout == "voltage" else 3, counts=(4, 0, 2), delay=3.0)
    constants = {"tau_mem": 9.0, "tau_syn": 4.0, "tau_adapt": 30.0, "a": 2.0}

    def form(inputs, p, k):
        return eventprop_linear_li(inputs, **p, model=ADAPTIVE_LI, constants=k, dt=1.5, readout=readout)

    wanted = by_everything(form, events, p, constants)
    assert_all_equal(in_triton(by_everything, form, events, p, constants), wanted)


@pytest.mark.parametrize("what", ["spikes", "recurrent spikes", "voltage", "weighted_integral", "maximum"])
def test_gradients_of_the_time_constants_of_lif_are_those_of_the_cpu(in_triton, what):
    events, p = network(seed=4, counts=(4, 0), recurrent=1.5 if what == "recurrent spikes" else None, delay=1.0)

    def form(inputs, p, k):
        if what.endswith("spikes"):
            return eventprop_lif(inputs, **p, **k, dt=2.0, spike_times="exact")
        return eventprop_li(inputs, **p, **k, dt=2.0, spike_times="exact", readout=what)

    constants = {"tau_mem": torch.tensor(10.0, dtype=torch.float64), "tau_syn": torch.tensor(4.0, dtype=torch.float64)}
    wanted = by_everything(form, events, p, constants)
    assert_all_equal(in_triton(by_everything, form, events, p, constants), wanted, 1e-9)


@pytest.mark.parametrize("recurrent", [None, 1.5])
def test_the_plain_form_has_the_same_spikes_and_gradients(in_triton, recurrent):
    options = {"constants": OSCILLATING, "refractory": 0.8}
    events, p = network(seed=2, recurrent=recurrent)
    plain, wanted = layer_and_gradients(events, p, form=eventprop_linear_reference, **options)

    def without_potential():
        def form(*args, **kwargs):
            return eventprop_linear(*args, **kwargs)

        return layer_and_gradients(events, p, form=form, **options)

    got, grads = in_triton(without_potential)
    assert len(plain) > 5 and got.units.tolist() == plain.units.tolist()
    torch.testing.assert_close(got.times, plain.times, rtol=0, atol=1e-10)
    for name, grad in wanted.items():
        torch.testing.assert_close(grads[name], grad, rtol=0, atol=1e-8 * max(float(grad.abs().max()), 1.0), msg=name)


def test_float32_parameters_have_float32_gradients(in_triton):
    events, p = network(recurrent=1.0)
    p = {name: x.float() for name, x in p.items()}
    assert len(assert_equal_layers(in_triton, events.to(torch.float32), p, tolerance=1e-5)) > 3


@pytest.mark.parametrize("recurrent", [None, 1.5])
def test_buffers_that_are_too_small_grow_and_batches_are_cut(in_triton, monkeypatch, recurrent):
    monkeypatch.setattr(eventprop_triton.spikes, "_FIRST_CAPACITY", 1)
    monkeypatch.setattr(linear_triton.layer, "_NODES", 1)
    monkeypatch.setattr(linear_triton.layer, "WORKSPACE", 1)
    counts = (2, 1) if recurrent is None else (2,)
    out = assert_equal_layers(in_triton, *network(recurrent=recurrent, counts=counts, n_out=2, duration=5.0, scale=15.0))
    assert (out.samples() * 2 + out.units).bincount().max() > 1


@pytest.mark.parametrize("recurrent", [None, 1.5])
def test_too_many_spikes_and_states_that_overflow_raise_as_on_the_cpu(in_triton, recurrent):
    events, p = network(recurrent=recurrent, scale=40.0)
    with pytest.raises(RuntimeError, match=r"neuron \d in sample 0 fires more than max_spikes = 1"):
        in_triton(eventprop_linear, events, **p, model=ADLIF, max_spikes=1)
    huge = p | {"weight": torch.full_like(p["weight"], -1.7e308)}
    with pytest.raises(RuntimeError, match=r"the state of neuron \d in sample 0 grows beyond what a float64 holds"):
        in_triton(eventprop_linear, events, **huge, model=ADLIF)


def test_two_runs_are_bit_for_bit_the_same_and_a_sample_does_not_depend_on_its_batch(in_triton):
    events, p = network(counts=(2, 3), n_out=2, duration=5.0, recurrent=1.0)
    one, by_one = in_triton(layer_and_gradients, events, p)
    two, by_two = in_triton(layer_and_gradients, events, p)
    assert torch.equal(one.times, two.times) and all(torch.equal(g, by_two[name]) for name, g in by_one.items())
    batch, alone = (in_triton(eventprop_linear, x, **p, model=ADLIF, dt=2.0) for x in (events, events[1]))
    assert len(alone) and torch.equal(batch[1].times, alone.times) and torch.equal(batch[1].units, alone.units)


def test_the_first_spikes_of_an_adaptive_network_that_others_made(in_triton, shared):
    arrays = np.load(shared / "fixtures" / "eventprop_adaptive_gold" / "feedforward_oscillating_subtract.npz")
    names = {"weight": "W", "delay": "D", "recurrent_weight": "Wr", "recurrent_delay": "Dr"}
    p = {k: torch.tensor(arrays[short].T.copy()) for k, short in names.items() if short in arrays}
    constants = {"tau_mem": "tm", "tau_syn": "ts", "tau_adapt": "tw", "a": "a", "b": "b"}
    constants = {k: torch.tensor(arrays[short]) for k, short in constants.items()}
    until = 25.0
    early = arrays["input_times"] < until
    events = SpikeEvents.from_lists(
        [arrays["input_times"][early]], [arrays["input_units"][early]], num_units=6, duration=until
    )
    out = in_triton(eventprop_linear, events, **p, model=ADLIF, constants=constants, dt=5.0, quick=False)
    wanted = arrays["hidden_times"] < until
    assert wanted.sum() > 2
    assert out.units.tolist() == arrays["hidden_units"][wanted].tolist()
    assert np.abs(out.times.numpy() - arrays["hidden_times"][wanted]).max() <= 1e-9
