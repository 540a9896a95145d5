"""EventProp's Triton kernels against the CPU's, as operators and in the interpreter; test_eventprop_triton.py starts it."""

import os

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from snn_delay_plugins.events import SpikeEvents  # noqa: E402
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif  # noqa: E402
from snn_delay_plugins.kernels.eventprop import operator as operators  # noqa: E402
from snn_delay_plugins.kernels.eventprop import triton as eventprop_triton  # noqa: E402

_call, _called = interpreter.InterpretedFunction.__call__, set()


def _call_without_patching_again(self, *args, **kwargs):
    """The interpreter prepares triton.language at every call of a function by a kernel; once is enough, and faster."""
    if self.fn in _called:
        return self.rewrite()(*args, **kwargs)
    _called.add(self.fn)
    return _call(self, *args, **kwargs)


interpreter.InterpretedFunction.__call__ = _call_without_patching_again


def _numpys_expm1(x):
    """In place of flow.expm1, whose thirty operations the interpreter takes half its time for; test_gold runs that."""
    return tl.tensor(interpreter.TensorHandle(np.expm1(x.handle.data), x.handle.dtype), x.type)


# numbers of lanes that are not asked for are computed all the same
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:overflow encountered")
TAUS = (10.0, 4.0)


@pytest.fixture
def in_triton(monkeypatch):
    """Calls a function with the operators running the Triton kernels, whatever the device."""

    def call(function, *args, quick=True, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(operators, "_device_kernels", lambda tensor: eventprop_triton)
            if quick:
                patch.setattr(eventprop_triton.flow, "expm1", _numpys_expm1)
            return function(*args, **kwargs)

    return call


def network(
    seed=0,
    counts=(3, 0, 2),
    n_in=3,
    n_out=5,
    duration=6.0,
    mean=5.0,
    spread=3.0,
    delay=3.0,
    recurrent=None,
    grid_times=None,
    dtype=torch.float64,
):
    """Input events and parameters; recurrent: the longest recurrent delay. Every neuron has a synapse to itself."""
    g = np.random.default_rng(seed)
    times = [np.sort(g.uniform(0, duration, n)) for n in counts]
    if grid_times:
        times = [np.floor(t / grid_times) * grid_times for t in times]
    units = [g.integers(0, n_in, n) for n in counts]
    p = {"weight": g.normal(mean, spread, (n_out, n_in)), "delay": g.uniform(0, delay, (n_out, n_in))}
    if recurrent is not None:
        p["recurrent_weight"] = g.normal(0.3, 0.8, (n_out, n_out))
        p["recurrent_delay"] = g.uniform(0, recurrent, (n_out, n_out)) if recurrent else np.zeros((n_out, n_out))
    events = SpikeEvents.from_lists(
        [torch.tensor(t, dtype=dtype) for t in times],
        [u.tolist() for u in units],
        num_units=n_in,
        duration=duration,
        dtype=dtype,
    )
    return events, {k: torch.tensor(v, dtype=dtype) for k, v in p.items()}


def layer_and_gradients(events, p, **options):
    """Spikes of a layer, its own slopes included, and the gradients of some loss by everything."""
    leaves = {k: v.clone().requires_grad_() for k, v in p.items()}
    leaves["threshold"] = torch.tensor(options.pop("threshold", 1.0), dtype=torch.float64, requires_grad=True)
    inputs = SpikeEvents(
        events.times.clone().requires_grad_(), events.units, events.offsets, events.num_units, events.duration
    )
    out = eventprop_lif(inputs, **leaves, **options)
    k = torch.arange(len(out), dtype=out.dtype)
    loss = (torch.cos(1.7 * k) * out.times + torch.sin(k) * out.potential).sum()
    grads = torch.autograd.grad(loss, [*leaves.values(), inputs.times])
    return out, dict(zip([*leaves, "times"], grads, strict=True))


def assert_equal_layers(in_triton, events, p, tolerance=1e-9, **options):
    dt = 0.5 if options.get("spike_times") == "grid" else 2.0
    options = {"tau_mem": TAUS[0], "tau_syn": TAUS[1], "dt": dt, **options}
    wanted, by_wanted = layer_and_gradients(events, p, **options)
    got, by_got = in_triton(layer_and_gradients, events, p, **options)
    assert torch.equal(got.units, wanted.units) and torch.equal(got.offsets, wanted.offsets)
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got.times, wanted.times, rtol=0, atol=tolerance)
    for name, grad in by_wanted.items():
        assert by_got[name].dtype == grad.dtype
        largest = grad.abs().max() if grad.numel() else 0.0
        torch.testing.assert_close(by_got[name], grad, rtol=0, atol=tolerance * max(float(largest), 1.0), msg=name)
    return wanted


LAYERS = {
    "feed-forward": {},
    "two programs": {"n_out": 35, "counts": (3,), "delay": 2.0},
    "no inhibition": {"spread": 0.1},
    "no events": {"counts": (0, 0), "duration": 4.0},
    "no spikes": {"mean": -1.0, "spread": 0.0},
    "delays of zero": {"delay": 0.0},
    "delays beyond the end": {"delay": 10.0, "mean": 20.0, "counts": (6,)},
    "simultaneous arrivals": {"delay": 0.0, "grid_times": 2.0},
    "simultaneous spikes": {"spread": 0.0, "delay": 0.0},
    "one step": {"duration": 1.0, "mean": 12.0, "delay": 0.3},
    "recurrent": {"recurrent": 3.0},
    "recurrent, delays shorter than dt": {"recurrent": 0.4, "counts": (3,), "mean": 7.0},
    "recurrent, delays of zero": {"recurrent": 0.0, "counts": (3,), "mean": 7.0},
    "recurrent, one step": {"recurrent": 0.2, "duration": 1.0, "mean": 12.0, "delay": 0.3},
    "recurrent, no events": {"recurrent": 2.0, "counts": (0, 0), "duration": 4.0},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("spike_times", ["grid", "exact"])
def test_spikes_and_gradients(in_triton, spike_times, name):
    options = LAYERS[name]
    out = assert_equal_layers(in_triton, *network(**options), spike_times=spike_times)
    silent = name.endswith("no events") or name == "no spikes" or (name.endswith("one step") and spike_times == "grid")
    assert (len(out) == 0) == silent


@pytest.mark.parametrize("tau", [(4.0, 10.0), (6.0, 6.0), (6.0, 6.0 + 1e-7)])
def test_any_time_constants(in_triton, tau):
    args = network(counts=(4,), recurrent=3.0)
    assert len(assert_equal_layers(in_triton, *args, tau_mem=tau[0], tau_syn=tau[1]))
    assert_equal_layers(in_triton, *args, tau_mem=tau[0], tau_syn=tau[1], spike_times="grid")


def test_gradients_by_time_constants_are_those_of_the_cpu(in_triton):
    events, p = network(counts=(4,))

    def gradients():
        taus = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in TAUS]
        hidden = eventprop_lif(events, **p, tau_mem=taus[0], tau_syn=taus[1], dt=2.0)
        v = eventprop_li(hidden, torch.ones(2, 5, dtype=torch.float64), tau_mem=taus[0], tau_syn=taus[1], dt=2.0)
        return torch.stack(torch.autograd.grad(hidden.times.sum() + v.square().sum(), taus))

    torch.testing.assert_close(in_triton(gradients), gradients(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("spike_times", ["grid", "exact"])
def test_steps_longer_than_any_time_constant(in_triton, spike_times):
    assert_equal_layers(in_triton, *network(mean=8.0), dt=15.0, spike_times=spike_times)


def test_float32(in_triton):
    args = network(counts=(4,), dtype=torch.float32)
    assert_equal_layers(in_triton, *args, tolerance=1e-5)
    assert_equal_layers(in_triton, *args, tolerance=1e-5, spike_times="grid")


def test_shared_delays(in_triton):
    events, p = network(counts=(4,))
    for shared in (p["delay"][:1], p["delay"][:, :1]):
        assert_equal_layers(in_triton, events, {**p, "delay": shared}, spike_times="grid")


@pytest.mark.parametrize("spike_times", ["grid", "exact"])
@pytest.mark.parametrize("recurrent", [None, 3.0])
def test_buffers_that_are_too_small_grow_and_batches_are_cut(in_triton, monkeypatch, recurrent, spike_times):
    monkeypatch.setattr(eventprop_triton.spikes, "_FIRST_CAPACITY", 1)
    monkeypatch.setattr(eventprop_triton.exact, "_NODES", 1)
    monkeypatch.setattr(eventprop_triton.layer, "WORKSPACE", 1)
    args = network(recurrent=recurrent, mean=6.0)
    out = assert_equal_layers(in_triton, *args, spike_times=spike_times, threshold=0.4)
    neurons = out.samples() * 5 + out.units
    assert neurons.bincount().max() > 1


@pytest.mark.parametrize("spike_times", ["grid", "exact"])
@pytest.mark.parametrize("recurrent", [None, 3.0])
def test_too_many_spikes_raise_as_on_the_cpu(in_triton, recurrent, spike_times):
    events, p = network(mean=30.0, recurrent=recurrent)
    options = {"max_spikes": 1, "spike_times": spike_times, "dt": 0.5}
    with pytest.raises(RuntimeError, match="max_spikes = 1"):
        eventprop_lif(events, **p, **options)
    with pytest.raises(RuntimeError, match=r"neuron \d in sample \d fires more than max_spikes = 1"):
        in_triton(eventprop_lif, events, **p, **options)


@pytest.mark.parametrize("recurrent", [None, 3.0])
def test_a_batch_of_one_equals_the_same_sample_in_a_batch(in_triton, recurrent):
    events, p = network(recurrent=recurrent, counts=(2, 4))
    for spike_times in ("grid", "exact"):
        options = {"tau_mem": TAUS[0], "tau_syn": TAUS[1], "spike_times": spike_times}
        batch = in_triton(eventprop_lif, events, **p, **options)
        alone = in_triton(eventprop_lif, events[1], **p, **options)
        assert len(alone) and torch.equal(batch[1].times, alone.times) and torch.equal(batch[1].units, alone.units)


def readout_and_gradients(events, p, **options):
    leaves = {k: v.clone().requires_grad_() for k, v in p.items()}
    inputs = SpikeEvents(
        events.times.clone().requires_grad_(), events.units, events.offsets, events.num_units, events.duration
    )
    out = eventprop_li(inputs, **leaves, **options)
    loss = (torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view(out.shape) * out).sum()
    return out, *torch.autograd.grad(loss, [*leaves.values(), inputs.times])


@pytest.mark.parametrize(("spike_times", "readout", "dt"), [
    ("grid", "voltage", 1.0), ("exact", "voltage", 1.0), ("exact", "voltage", 7.0), ("exact", "integral", 1.0),
    ("exact", "weighted_integral", 1.0), ("grid", "maximum", 1.0), ("exact", "maximum", 2.0),
])  # fmt: skip
@pytest.mark.parametrize("shape", [{}, {"n_out": 33, "counts": (2,)}])
def test_readout(in_triton, monkeypatch, spike_times, readout, dt, shape):
    monkeypatch.setattr(eventprop_triton.layer, "WORKSPACE", 2000)
    args = network(**shape)
    options = {"tau_mem": TAUS[0], "tau_syn": TAUS[1], "spike_times": spike_times, "readout": readout, "dt": dt}
    wanted, got = readout_and_gradients(*args, **options), in_triton(readout_and_gradients, *args, **options)
    for x, y in zip(got, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_a_maximum_at_the_arrival_of_inhibition_moves_with_it(in_triton):
    events = SpikeEvents.from_lists(
        [torch.tensor([0.5, 2.25]), torch.tensor([0.5, 3.0, 1.75])], [[0, 1], [0, 0, 1]],
        num_units=2, duration=6.0, dtype=torch.float64)  # fmt: skip
    weight = torch.tensor([[3.0, -50.0], [1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    p = {"weight": weight, "delay": torch.tensor([[0.0, 0.5], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)}
    options = {"tau_mem": TAUS[0], "tau_syn": TAUS[1], "readout": "maximum", "dt": 2.0}
    wanted, got = readout_and_gradients(events, p, **options), in_triton(readout_and_gradients, events, p, **options)
    for x, y in zip(got, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    assert abs(wanted[2][0, 1]) > 1e-3  # where inhibition comes later, V rises longer


@pytest.mark.parametrize("name", ["feedforward_strong", "recurrent_strong"])
def test_gold(in_triton, shared, name):
    arrays = np.load(shared / "fixtures" / "eventprop_gold" / f"{name}.npz")
    p = {k: torch.tensor(arrays[k].T.copy(), requires_grad=True) for k in ("W", "D", "Wr", "Dr", "Wo", "Do") if k in arrays}
    events = SpikeEvents.from_lists(
        [torch.tensor(arrays["input_times"])],
        [arrays["input_units"].tolist()],
        num_units=arrays["W"].shape[0],
        duration=100.0,
    )

    def run():
        hidden = eventprop_lif(events, p["W"], p["D"], dt=5.0, recurrent_weight=p.get("Wr"), recurrent_delay=p.get("Dr"))
        integral = eventprop_li(hidden, p["Wo"], p["Do"], dt=5.0, readout="integral")
        loss = (torch.tensor(arrays["c"]) * integral[0]).sum()
        loss.backward()
        return hidden, loss

    hidden, loss = in_triton(run, quick=False)
    assert hidden.units.tolist() == arrays["hidden_units"].tolist()
    assert np.abs(hidden.times.detach().numpy() - arrays["hidden_times"]).max() <= 1e-9
    assert loss.item() == pytest.approx(float(arrays["loss"]), rel=1e-9)
    for k, parameter in p.items():
        wanted = arrays[f"grad_{k}"]
        assert np.abs(parameter.grad.numpy().T - wanted).max() <= 1e-5 * np.abs(wanted).max(), k
