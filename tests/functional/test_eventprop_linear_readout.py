"""Linear readouts: equal to their plain form, to EventProp's own integrators, to an ODE solver; gradients; layers."""

import importlib
import pickle

import numpy as np
import pytest
import torch

import snn_delay_plugins.kernels.eventprop.linear.readout_operator as operators
from snn_delay_plugins import EventPropAdLIF, SpikeEvents
from snn_delay_plugins.eventprop_linear_readout import EventPropAdaptiveLI, EventPropLinearLI
from snn_delay_plugins.functional.eventprop import eventprop_li
from snn_delay_plugins.functional.eventprop_linear_readout import (
    LINEAR_READOUTS,
    eventprop_linear_li,
    eventprop_linear_li_reference,
)
from snn_delay_plugins.functional.eventprop_models import ADAPTIVE_LI, LI, RESONATE_AND_FIRE, system_of

MODELS = {
    "LI": (LI, {"tau_mem": 20.0, "tau_syn": 5.0}),
    "adaptive": (ADAPTIVE_LI, {"tau_mem": 15.0, "tau_syn": 4.0, "tau_adapt": 60.0, "a": 0.5}),
    "oscillating": (ADAPTIVE_LI, {"tau_mem": 15.0, "tau_syn": 4.0, "tau_adapt": 60.0, "a": 6.0}),
    "resonator": (RESONATE_AND_FIRE, {"tau_syn": 3.0, "decay": 0.05, "omega": 0.4}),
}
N_IN, N_OUT, DURATION = 4, 10, 30.5  # more neurons than one block of the loops; no whole number of steps


def problem(name):
    """(events, weight, delay, model, constants), everything with a gradient."""
    model, constants = MODELS[name]
    make = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.rand(*shape, generator=make, dtype=torch.float64)

    units = torch.randint(N_IN, (20,), generator=make)
    times = torch.cat([draw(12).sort().values, draw(8).sort().values]) * DURATION
    events = SpikeEvents(times.requires_grad_(), units, torch.tensor([0, 12, 12, 20]), num_units=N_IN, duration=DURATION)
    each = {key: (value * (0.9 + 0.2 * draw(N_OUT))).requires_grad_() for key, value in constants.items()}
    return events, (draw(N_OUT, N_IN) - 0.3).requires_grad_(), (9 * draw(N_OUT, N_IN)).requires_grad_(), model, each


@pytest.mark.parametrize("dt", [0.4, 1.0, 7.0])
@pytest.mark.parametrize("readout", LINEAR_READOUTS)
@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients_are_those_of_the_plain_form(name, readout, dt):
    if dt != 1.0 and readout != "voltage":
        pytest.skip("dt samples the voltage")
    events, weight, delay, model, constants = problem(name)
    leaves = [weight, delay, events.times, *constants.values()]
    runs = []
    for form in (eventprop_linear_li, eventprop_linear_li_reference):
        out = form(events, weight, delay, model=model, constants=constants, dt=dt, readout=readout)
        loss = (out * torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out)).sum()
        runs.append((out, *torch.autograd.grad(loss, leaves)))
    assert runs[0][0].shape == ((int(np.ceil(DURATION / dt)), 3, N_OUT) if readout == "voltage" else (3, N_OUT))
    for got, wanted in zip(*runs, strict=True):
        assert wanted.abs().max() > 0
        assert (got - wanted).abs().max() <= 1e-10 * wanted.abs().max()


@pytest.mark.parametrize("readout", LINEAR_READOUTS)
def test_an_integrator_without_adaptation_is_that_of_lif_networks(readout):
    events, weight, delay, _, _ = problem("LI")
    wanted = eventprop_li(events, weight, delay, tau_mem=20.0, tau_syn=5.0, readout=readout)
    for model, more in ((LI, {}), (ADAPTIVE_LI, {"a": 0.0})):
        got = eventprop_linear_li(events, weight, delay, model=model, constants=more, readout=readout)
        assert (got - wanted).abs().max() <= 1e-12 * wanted.abs().max()


@pytest.mark.parametrize("name", ["oscillating", "resonator"])
def test_the_maximum_is_beyond_all_samples_and_close_to_the_largest(name):
    events, weight, delay, model, constants = problem(name)
    voltage = eventprop_linear_li(events, weight, delay, model=model, constants=constants, dt=1e-2)
    largest = voltage.amax(0)
    more = eventprop_linear_li(events, weight, delay, model=model, constants=constants, readout="maximum") - largest
    behind_the_last = 1.1 * (voltage[-1] - voltage[-2]).clamp(min=0)  # what rises until the end does so for one step more
    assert more.min() >= -1e-13
    assert torch.all(more <= 1e-4 * largest.max() + behind_the_last)


@pytest.mark.parametrize("late", [3.0, 20.0])  # in the rise, where V has a kink; behind the top
def test_a_maximum_in_a_kink_moves_with_the_arrival_that_bends_the_potential_down(late):
    start = [torch.tensor(x, dtype=torch.float64) for x in ([[1.0, -3.0]], [[0.5, 0.25]], [1.0, late])]

    def run(weight, delay, times):
        events = SpikeEvents(times, torch.tensor([0, 1]), torch.tensor([0, 2]), num_units=2, duration=40.0)
        return eventprop_linear_li(
            events, weight, delay, model=ADAPTIVE_LI, constants={"tau_mem": 20.0, "a": 2.0}, readout="maximum"
        ).sum()

    leaves = [x.clone().requires_grad_() for x in start]
    for k, grad in enumerate(torch.autograd.grad(run(*leaves), leaves)):
        for place in range(2):
            shifted = [[x.clone() for x in start] for _ in range(2)]
            shifted[0][k].view(-1)[place] += 1e-5
            shifted[1][k].view(-1)[place] -= 1e-5
            wanted = (run(*shifted[0]) - run(*shifted[1])) / 2e-5
            assert abs(grad.view(-1)[place] - wanted) <= 1e-8
    assert (grad[1] != 0) == (late < 10)


def test_a_potential_that_overflows_has_no_largest_value():
    events = SpikeEvents.from_lists([[1.0] * 30], [[0] * 30], num_units=1, duration=10.0)
    weight = torch.tensor([[1e308], [1.0]], dtype=torch.float64)
    value = eventprop_linear_li(events, weight, model=ADAPTIVE_LI, readout="maximum")[0]
    assert value.isnan().tolist() == [True, False]


def test_the_voltage_is_that_of_small_steps_of_the_equations():
    events, weight, delay, _, k = problem("oscillating")
    voltage = eventprop_linear_li(events, weight, delay, model=ADAPTIVE_LI, constants=k)[:, 0]
    k = {name: x.detach() for name, x in k.items()}
    e, h = events[0], 1e-3
    arrivals = torch.floor((e.times + delay[:, e.units]) / h).long().detach()
    i = v = w = torch.zeros(N_OUT, dtype=torch.float64)
    for n in range(30_000):
        if n % 1000 == 0:
            assert (voltage[n // 1000] - v).abs().max() <= 1e-3
        i = i + ((arrivals == n) * weight[:, e.units]).sum(1).detach()
        i, v, w = (i - h * i / k["tau_syn"], v + h * (i - v - w) / k["tau_mem"], w + h * (k["a"] * v - w) / k["tau_adapt"])


def test_threads_and_batches_change_nothing():
    events, weight, delay, model, constants = problem("adaptive")

    def run(e):
        return eventprop_linear_li(e, weight, delay, model=model, constants=constants)

    one = run(events)
    wanted = torch.autograd.grad(one.square().sum(), [weight, events.times])
    torch.set_num_threads(3)
    try:
        three = run(events)
        assert torch.equal(one, three)
        got = torch.autograd.grad(three.square().sum(), [weight, events.times])
        assert all(torch.equal(g, v) for g, v in zip(got, wanted, strict=True))
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one, torch.cat([run(events[k]) for k in range(3)], 1))


@pytest.mark.parametrize("kind", operators.KINDS)
def test_opcheck_of_the_readout(kind):
    events, weight, delay, model, constants = problem("adaptive")
    s = system_of(model, constants, 1.0, N_OUT)
    of = (events.times, events.units, events.offsets, weight, delay, s.M.detach().requires_grad_())
    options = (s.B, s.c, DURATION, 1.0, kind)
    torch.library.opcheck(operators.eventprop_linear_li, (*of, *options))
    of = tuple(x.detach() for x in of)
    out = operators.eventprop_linear_li(*of, *options)
    for wanted in ((True, True), (False, False)):
        torch.library.opcheck(operators.eventprop_linear_li_backward, (torch.ones_like(out), *of, *options, *wanted))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_layer_trains_as_uncompiled(backend):
    layer = EventPropAdaptiveLI(N_IN, 3, learn="all", delay="uniform", max_delay=5.0, tau_mem=(10.0, 30.0))
    spikes, runs = (torch.rand(20, 2, N_IN) < 0.3).float(), []
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        for call in (torch.compile(layer, fullgraph=True, backend=backend), layer):
            out = call(spikes)
            runs.append((out, *torch.autograd.grad(out.square().sum(), list(layer.parameters()))))
    assert runs[0][0].abs().max() > 0
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_with_an_adaptive_readout_learns_constants_of_both_layers():
    net = torch.nn.Sequential(
        EventPropAdLIF(10, 12, weight_init=(1.0, 0.3), learn="all"),
        EventPropAdaptiveLI(12, 2, learn="all", readout="weighted_integral"),
    )
    spikes, target = (torch.rand(50, 2, 10) < 0.1).float(), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((net(spikes) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad.abs().max() > 0 for name, p in net.named_parameters() if "delay" not in name)


def test_a_layer_keeps_itself_through_pickle_and_shapes_without_values():
    layer = EventPropLinearLI(N_IN, 3, LI, constants={"tau_mem": (10.0, 30.0)}, learn=["tau_mem"])
    spikes = (torch.rand(20, 2, N_IN) < 0.3).float()
    assert torch.equal(pickle.loads(pickle.dumps(layer))(spikes), layer(spikes))
    with torch.device("meta"):
        assert EventPropAdaptiveLI(N_IN, 3, readout="integral")(spikes.to("meta")).shape == (2, 3)
    events = SpikeEvents.from_dense(spikes, 1.0)
    assert torch.equal(layer(events), layer(spikes))


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_both_front_doors_hand_the_readouts_out(framework):
    pytest.importorskip(framework)
    door = importlib.import_module(f"snn_delay_plugins.{framework}")
    assert isinstance(door.EventPropAdaptiveLI(4, 3), EventPropAdaptiveLI)
    assert isinstance(door.EventPropLinearLI(4, 3, LI), EventPropLinearLI)


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match="readout must be one of"):
        EventPropAdaptiveLI(4, 3, readout="peak")
    with pytest.raises(ValueError, match="AdaptiveLI has no constant 'b'"):
        EventPropLinearLI(4, 3, ADAPTIVE_LI, constants={"b": 1.0})
    with pytest.raises(TypeError, match="model must be a ContinuousModel"):
        EventPropLinearLI(4, 3, "LI")


def arguments_of_the_operator(**changed):
    """Of a voltage that is right, but for what is changed."""
    events, weight, delay, _, _ = problem("LI")
    s = system_of(LI, {}, 1.0, N_OUT)
    of = {"times": events.times, "units": events.units, "offsets": events.offsets, "weight": weight, "delay": delay}
    return of | {"M": s.M, "B": s.B, "c": s.c, "duration": DURATION, "dt": 1.0, "kind": "voltage"} | changed


SHAPES = r"weight, B and M must be \[out, in\], \[n\] and \[out, n, n\], got "
CUT = r"must be positive and cut the duration of 30\.5 into fewer than 2147483648 samples: take a larger dt"
ONE = torch.tensor([1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "peak"}, r"kind must be one of \('voltage', 'final', 'maximum'\), got 'peak'"),
        ({"weight": torch.ones(N_IN, dtype=torch.float64)}, SHAPES + r"\(4,\), \(2,\), \(10, 2, 2\)"),
        ({"B": ONE[None]}, SHAPES + r"\(10, 4\), \(1, 2\), \(10, 2, 2\)"),
        ({"M": torch.eye(2, dtype=torch.float64)}, SHAPES + r"\(10, 4\), \(2,\), \(2, 2\)"),
        ({"M": torch.zeros(3, 2, 2, dtype=torch.float64)}, r"M must be \[10, 2, 2\], got shape \(3, 2, 2\)"),
        ({"c": torch.zeros(3, dtype=torch.float64)}, r"c must be \[2\], got shape \(3,\)"),
        ({"B": ONE, "c": ONE, "kind": "maximum"}, r"an arrival must not make the potential jump, but c \. B = 1"),
        ({"dt": 0.0}, "dt = 0 " + CUT),
        ({"dt": -1.0}, "dt = -1 " + CUT),
        ({"dt": float("nan")}, "dt = nan " + CUT),
        ({"dt": 1e-9}, "dt = 1e-09 " + CUT),
        ({"dt": 2e-8}, r"the voltage at 152500000\d samples \(take a larger dt than 2e-08\) would take 341 GiB"),
        ({"dt": 0.0, "kind": "final"}, "dt must be positive and finite, got 0"),
        (
            {"M": torch.full((N_OUT, 2, 2), 1e308, dtype=torch.float64)},
            "dt = 1, or the neurons' rates, have no inverse: take larger time constants or a larger dt",
        ),
    ],
)
def test_what_the_operator_cannot_compute_is_refused_by_argument_value_and_remedy(changed, message):
    with pytest.raises(ValueError, match=message):
        operators.eventprop_linear_li(**arguments_of_the_operator(**changed))


def test_a_gradient_of_another_shape_is_refused():
    wrong = arguments_of_the_operator() | {"grad": torch.ones(3, N_OUT), "for_times": True, "for_constants": True}
    with pytest.raises(ValueError, match=r"grad must be \[31, 3, 10\], got shape \(3, 10\)"):
        operators.eventprop_linear_li_backward(**wrong)
