"""EventPropLIF and EventPropLI: framework-free, and as parts of snnTorch and SpikingJelly."""

import copy
import importlib.util
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif


def _front_doors():
    yield pytest.param("snn_delay_plugins.eventprop", id="torch alone")
    for name in ("snntorch", "spikingjelly"):
        absent = importlib.util.find_spec(name) is None
        yield pytest.param(f"snn_delay_plugins.{name}", id=name, marks=pytest.mark.skipif(absent, reason=f"{name} absent"))


@pytest.fixture(params=_front_doors())
def door(request):
    return importlib.import_module(request.param)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def spikes(steps=60, batch=3, units=12, rate=0.1) -> torch.Tensor:
    return (torch.rand(steps, batch, units, generator=torch.Generator().manual_seed(1)) < rate).double()


def lif(door, **options):
    options = {
        "recurrent": True,
        "weight_init": (0.8, 0.3),
        "recurrent_weight_init": (0.1, 0.2),
        "delay": "uniform",
        "recurrent_delay": "uniform",
        "max_delay": 8.0,
    } | options
    return door.EventPropLIF(12, 7, **options).double()


def test_a_layer_is_the_function_of_its_parameters(door):
    hidden, readout = lif(door), door.EventPropLI(7, 4, delay=2.5).double()
    events = SpikeEvents.from_dense(spikes(), 1.0)
    out = hidden(events)
    same = eventprop_lif(
        events,
        hidden.weight,
        hidden.delay,
        recurrent_weight=hidden.recurrent_weight,
        recurrent_delay=hidden.recurrent_delay,
    )
    assert len(out) > 20
    assert torch.equal(out.times, same.times) and torch.equal(out.units, same.units)
    assert torch.equal(readout(out), eventprop_li(same, readout.weight, readout.delay))


def test_dense_spikes_go_in_as_events_and_come_out_binned(door):
    x = spikes()
    hidden = lif(door)
    events = hidden(x)
    assert isinstance(events, SpikeEvents) and events.duration == 60
    dense = copy.deepcopy(hidden)
    dense.output = "dense"
    assert torch.equal(dense(x), events.to_dense(1.0, 60))
    assert torch.equal(dense(SpikeEvents.from_dense(x, 1.0)), events.to_dense(1.0, 60))
    dense.output = "same"
    assert torch.equal(dense(x), events.to_dense(1.0, 60))
    assert isinstance(dense(SpikeEvents.from_dense(x, 1.0)), SpikeEvents)


def test_dt_is_the_width_of_a_bin(door):
    hidden = lif(door, dt=0.5, output="dense")
    x = spikes()
    assert hidden._events(x).duration == 30
    assert hidden(x).shape == (60, 3, 7)
    readout = door.EventPropLI(12, 2, dt=0.5).double()
    assert readout(x).shape == (60, 3, 2)


@pytest.mark.parametrize(
    "readout, shape", [("voltage", (60, 3, 4)), ("integral", (3, 4)), ("weighted_integral", (3, 4)), ("maximum", (3, 4))]
)
def test_readouts_come_in_the_dtype_of_the_weight(door, readout, shape):
    layer = door.EventPropLI(12, 4, readout=readout)
    y = layer(spikes().float())
    assert y.shape == shape and y.dtype == torch.float32


def test_gradients_reach_every_parameter_and_equal_the_functions(door):
    hidden = lif(door, learn_tau_mem=True, learn_tau_syn=True, learn_threshold=True)
    readout = door.EventPropLI(7, 4, delay=1.0, readout="weighted_integral", learn_tau_mem=True, learn_tau_syn=True)
    readout.double()
    loss = (readout(hidden(spikes())) ** 2).sum()
    loss.backward()
    gradients = {n: p.grad for layer in (hidden, readout) for n, p in layer.named_parameters()}
    assert set(gradients) == {"weight", "delay", "recurrent_weight", "recurrent_delay", "tau_mem", "tau_syn", "threshold"}
    assert all(g is not None and g.abs().max() > 0 for g in gradients.values())
    h = 1e-6
    for layer, name in ((hidden, "weight"), (hidden, "recurrent_delay"), (hidden, "tau_mem"), (readout, "delay")):
        parameter = getattr(layer, name)
        direction = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * h * direction
                values.append(float((readout(hidden(spikes())) ** 2).sum()))
                parameter -= sign * h * direction
        difference = (values[0] - values[1]) / (2 * h)
        assert float((parameter.grad * direction).sum()) == pytest.approx(difference, rel=1e-4)


def test_delays_and_constants_stay_in_bounds_after_every_step(door):
    hidden = lif(door, learn_tau_mem=True, learn_threshold=True)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=1.0)
    for p in hidden.parameters():
        p.grad = torch.full_like(p, 1e3)
    optimizer.step()
    assert hidden.delay.min() == 0 == hidden.recurrent_delay.max()
    assert hidden.tau_mem.item() == 1.0 and hidden.threshold.item() == pytest.approx(0.05)
    for p in hidden.parameters():
        p.grad = torch.full_like(p, -1e3)
    optimizer.step()
    assert hidden.delay.min() == 8 == hidden.recurrent_delay.max()


@pytest.mark.parametrize("delay_type, shape", [("synaptic", (7, 12)), ("axonal", (1, 12)), ("dendritic", (7, 1))])
def test_delay_types(door, delay_type, shape):
    layer = lif(door, delay_type=delay_type, recurrent=False)
    assert layer.delay.shape == shape
    t = layer(spikes())
    (t.times**2).sum().backward()
    assert layer.delay.grad.shape == shape and layer.delay.grad.abs().max() > 0


def test_no_delays_and_fixed_delays(door):
    plain = lif(door, delay=None, recurrent_delay=None)
    assert {n for n, _ in plain.named_parameters()} == {"weight", "recurrent_weight"}
    fixed = lif(door, learn_delay=False)
    assert {n for n, _ in fixed.named_parameters()} == {"weight", "recurrent_weight"}
    assert {"delay", "recurrent_delay"} <= set(fixed.state_dict())
    with torch.no_grad():
        fixed.delay.zero_(), fixed.recurrent_delay.zero_()
    fixed.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(plain(spikes()).times, fixed(spikes()).times)


def test_copies_and_saved_states_give_the_same_spikes(door):
    hidden = lif(door, learn_tau_mem=True)
    hidden(spikes()).times.sum().backward()
    want = hidden(spikes()).times
    for other in (copy.deepcopy(hidden), pickle.loads(pickle.dumps(hidden))):
        assert torch.equal(other(spikes()).times, want)
    file = io.BytesIO()
    torch.save(hidden.state_dict(), file)
    file.seek(0)
    other = lif(door, learn_tau_mem=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(spikes()).times, want)


def test_a_layer_keeps_nothing_between_calls(door):
    hidden = lif(door)
    first = hidden(spikes()).times
    hidden(spikes(batch=5))
    assert torch.equal(hidden(spikes()).times, first)


def test_the_grid_scheme_is_an_option(door):
    layer = lif(door, spike_times="grid")
    t = layer(spikes()).times
    assert len(t) and torch.equal(t, t.round())


def test_a_silent_layer_warns_once_and_only_in_training(door):
    layer = lif(door, weight_init=(0.0, 0.001))
    with pytest.warns(UserWarning, match="no neuron .* fired .* weight_init"):
        layer(spikes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(spikes())
        quiet = lif(door, weight_init=(0.0, 0.001)).eval()
        quiet(spikes())
        lif(door)(torch.zeros(10, 2, 12))  # nothing came in: nothing to say


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output": "sparse"}, "output must be one of"),
        ({"max_delay": -1.0}, "max_delay"),
        ({"delay": -1.0}, "initial delays"),
        ({"delay": float("nan")}, "initial delays"),
        ({"delay": 9.0}, "initial delays"),
        ({"max_delay": float("inf")}, "finite max_delay"),
        ({"recurrent_delay": "random"}, "recurrent_delay must be"),
        ({"delay_type": "somatic"}, "delay_type"),
        ({"tau_mem": 0.0}, "tau_mem must be positive"),
        ({"threshold": float("nan")}, "threshold must be positive"),
    ],
)
def test_options_that_cannot_be_meant(door, options, message):
    with pytest.raises(ValueError, match=message):
        lif(door, **options)


def test_inputs_that_cannot_be_meant(door):
    layer = lif(door)
    with pytest.raises(ValueError, match=r"spikes \[T, N, 12\]"):
        layer(torch.zeros(10, 2, 11))
    with pytest.raises(ValueError, match=r"spikes \[T, N, 12\]"):
        layer(torch.zeros(10, 12))
    with pytest.raises(ValueError, match="not a spike count"):
        layer(torch.full((10, 2, 12), 0.5))
    with pytest.raises(TypeError, match="SpikeEvents or a tensor"):
        layer([1.0])
    with pytest.raises(TypeError, match="float32 or float64"):
        lif(door).half()(spikes())


@pytest.mark.parametrize("layer", [nn.Linear(7, 2), nn.BatchNorm1d(7), nn.Dropout(), nn.ReLU()])
def test_a_dense_layer_behind_events_says_what_to_do(layer):
    events = lif(importlib.import_module("snn_delay_plugins.eventprop"))(spikes())
    with pytest.raises((TypeError, AttributeError), match='output="dense"'):
        layer(events)


def _timing_task(net, steps=150, rate=0.02):
    """Two classes that differ in the order of their input spikes alone; the loss before and after training."""
    x = torch.zeros(40, 2, 2)
    x[2, 0, 0] = x[12, 0, 1] = x[12, 1, 0] = x[2, 1, 1] = 1
    target = torch.tensor([0, 1])
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], min(losses[-5:])


class _Last(nn.Module):
    """Voltages [T, N, C] to logits: a sum that weighs late steps more, so that time matters."""

    def forward(self, y):
        return torch.einsum("t,tnc->nc", torch.linspace(0, 1, y.shape[0]), y)


class _First(nn.Module):
    """The spikes of a snnTorch sequence module, which returns (spikes, states)."""

    def forward(self, pair):
        return pair[0]


def test_mixed_with_snntorchs_own_layers_it_trains():
    snn = pytest.importorskip("snntorch")
    door = importlib.import_module("snn_delay_plugins.snntorch")
    net = nn.Sequential(
        door.EventPropLIF(2, 16, weight_init=(4.0, 2.0), delay="uniform", max_delay=15.0, output="dense"),
        nn.Linear(16, 16),
        snn.StateLeaky(beta=0.9, channels=16),
        _First(),
        nn.Linear(16, 2),
        _Last(),
    )
    before, after = _timing_task(net)
    assert after < 0.5 * before
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (net[0].delay, net[0].weight, net[1].weight))


def test_mixed_with_spikingjellys_own_layers_it_trains():
    activation_based = pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, layer, neuron

    assert activation_based
    door = importlib.import_module("snn_delay_plugins.spikingjelly")
    net = nn.Sequential(
        layer.Linear(2, 16),
        neuron.LIFNode(tau=5.0),
        door.EventPropLIF(16, 16, weight_init=(2.0, 1.0), delay="uniform", max_delay=15.0, output="dense"),
        layer.Linear(16, 2),
        _Last(),
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(16, 2) * 20)
    functional.set_step_mode(net, "m")

    class Fresh(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            functional.reset_net(self.net)
            return self.net(x)

    before, after = _timing_task(Fresh())
    assert after < 0.5 * before
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (net[0].weight, net[2].delay, net[2].weight))


def test_spikingjellys_single_step_mode_is_refused():
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional

    door = importlib.import_module("snn_delay_plugins.spikingjelly")
    layer = door.EventPropLIF(3, 2)
    assert layer.step_mode == "m"
    functional.set_step_mode(nn.Sequential(layer), "m")
    with pytest.raises(ValueError, match="step_mode"):
        functional.set_step_mode(nn.Sequential(layer), "s")
    functional.reset_net(nn.Sequential(layer))


def test_top_level_names_are_the_framework_free_layers():
    from snn_delay_plugins import eventprop

    assert EventPropLI is eventprop.EventPropLI and EventPropLIF is eventprop.EventPropLIF


@pytest.mark.parametrize("name", ["delay", "recurrent_delay"])
@pytest.mark.parametrize(("value", "message"), [
    (9.5, r"{name}\[2, 1\] = 9.5 of EventPropLIF exceeds max_delay = 8; raise max_delay"),
    (float("inf"), r"{name}\[2, 1\] = inf of EventPropLIF exceeds max_delay = 8"),
    (float("nan"), r"{name}\[2, 1\] = nan is not finite"),
    (-0.5, r"{name}\[2, 1\] = -0.5 is negative"),
])  # fmt: skip
def test_loaded_delays_outside_their_interval_are_refused_by_the_next_forward(door, name, value, message):
    layer = lif(door)
    state = {key: entry.clone() for key, entry in layer.state_dict().items()}
    state[name][2, 1] = value
    layer.load_state_dict(state)
    with pytest.raises(ValueError, match=message.format(name=name)):
        layer(spikes())


def test_loaded_weights_that_are_no_numbers_are_refused_by_the_next_forward(door):
    layer = lif(door)
    state = {key: entry.clone() for key, entry in layer.state_dict().items()}
    state["weight"][2, 1] = float("nan")
    layer.load_state_dict(state)
    with pytest.raises(ValueError, match=r"weight\[2, 1\] = nan is not finite"):
        layer(spikes())


def test_delays_at_a_max_delay_that_float32_rounds_up_are_accepted(door):
    layer = door.EventPropLIF(12, 7, delay=0.1, max_delay=0.1, weight_init=(2.0, 0.1))
    assert len(layer(spikes().float())) and len(layer.double()(spikes()))


def test_no_time_steps_and_an_empty_batch_give_empty_spikes(door):
    layer = lif(door, output="dense")
    assert layer(torch.zeros(0, 2, 12).double()).shape == (0, 2, 7)
    assert layer(torch.zeros(5, 0, 12).double()).shape == (5, 0, 7)
