"""EventProp of linear neurons against gradients that others made, against LIF, finite differences and a fine ODE solver."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear, eventprop_linear_reference
from snn_delay_plugins.functional.eventprop_models import (
    ADLIF,
    LIF,
    RESONATE_AND_FIRE,
    ContinuousModel,
    LinearSystem,
    adlif_from_discrete,
    adlif_to_discrete,
    system_of,
)  # fmt: skip
from snn_delay_plugins.kernels.eventprop import neuron as eventprop_neuron
from snn_delay_plugins.kernels.eventprop.linear import cpu

FORMS = {"plain": eventprop_linear_reference, "compiled": eventprop_linear}
GOLD = (
    "feedforward_real_zero", "feedforward_oscillating_subtract", "recurrent_oscillating_zero", "recurrent_real_subtract",
)  # fmt: skip
NAMES = {"tm": "tau_mem", "ts": "tau_syn", "tw": "tau_adapt", "a": "a", "b": "b"}
OSCILLATING = {"tau_mem": 15.0, "tau_syn": 4.0, "tau_adapt": 60.0, "a": 6.0, "b": 0.3}
REAL = {"tau_mem": 20.0, "tau_syn": 5.0, "tau_adapt": 50.0, "a": 0.2, "b": 0.4}


def network(seed, n_in=6, n_out=4, events=40, duration=60.0, samples=2, recurrent=True, scale=8.0):
    """Inputs and parameters of a strongly driven layer."""
    make = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=make, dtype=torch.float64)

    inputs = SpikeEvents.from_lists(
        [draw(events) * duration for _ in range(samples)],
        [torch.randint(n_in, (events,), generator=make) for _ in range(samples)],
        num_units=n_in, duration=duration,
    )  # fmt: skip
    parameters = {"weight": scale * (draw(n_out, n_in) - 0.2), "delay": 10 * draw(n_out, n_in)}
    if recurrent:
        parameters |= {"recurrent_weight": draw(n_out, n_out) - 0.5, "recurrent_delay": 5 * draw(n_out, n_out)}
    return inputs, {name: x.requires_grad_() for name, x in parameters.items()}


def spread(constants, n_out, seed=0):
    """Constants that differ from neuron to neuron, each within a tenth."""
    make = torch.Generator().manual_seed(seed)
    return {
        name: (value * (0.9 + 0.2 * torch.rand(n_out, generator=make, dtype=torch.float64))).requires_grad_()
        for name, value in constants.items()
    }


def gradients(spikes, leaves):
    """Of a loss that weighs the spike times unevenly."""
    weights = torch.cos(torch.arange(len(spikes), dtype=torch.float64))
    return torch.autograd.grad((weights * spikes.times).sum(), list(leaves), allow_unused=True)


def assert_close_to_largest(got, wanted, tolerance):
    assert (got is None) == (wanted is None)
    if got is not None:
        assert (got - wanted).abs().max() <= tolerance * max(wanted.abs().max(), 1e-9)


# ------------------------------------------------------------------------------------------------ gradients of others


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GOLD)
def test_adaptive_networks_have_the_exact_spikes_loss_and_gradients(shared, name, form):
    arrays = np.load(shared / "fixtures" / "eventprop_adaptive_gold" / f"{name}.npz")
    keys = [k for k in ("W", "D", "Wr", "Dr", "Wo", "Do") if k in arrays]
    p = {k: torch.tensor(arrays[k].T.copy(), requires_grad=True) for k in keys}
    constants = {long: torch.tensor(arrays[short], requires_grad=True) for short, long in NAMES.items()}
    events = SpikeEvents.from_lists([arrays["input_times"]], [arrays["input_units"]], num_units=6, duration=100.0)
    hidden = FORMS[form](
        events, p["W"], p["D"], model=ADLIF, constants=constants, recurrent_weight=p.get("Wr"), recurrent_delay=p.get("Dr")
    )
    integral = eventprop_li(hidden, p["Wo"], p["Do"], readout="integral")
    loss = (torch.tensor(arrays["c"]) * integral[0]).sum()
    loss.backward()

    assert hidden.units.tolist() == arrays["hidden_units"].tolist()
    assert np.abs(hidden.times.detach().numpy() - arrays["hidden_times"]).max() <= 1e-9
    assert loss.item() == pytest.approx(float(arrays["loss"]), rel=1e-9)
    tolerance = 3e-5 if name == "recurrent_oscillating_zero" else 1e-5  # of the finite differences
    for key, parameter in p.items() | {short: constants[long] for short, long in NAMES.items()}.items():
        wanted = torch.tensor(arrays[f"grad_{key}"].T)
        assert_close_to_largest(parameter.grad, wanted, tolerance)


# ------------------------------------------------------------------------------------------------ special cases


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tau_syn", [5.0, 19.999, 20.0])  # also the limit tau_mem = tau_syn
@pytest.mark.parametrize("as_adlif", [False, True])
def test_lif_is_the_special_case_in_value_and_gradient(form, tau_syn, as_adlif):
    inputs, parameters = network(4, scale=4.0, duration=40.0)
    tau_m, tau_s, theta = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (20.0, tau_syn, 1.1))
    leaves = [*parameters.values(), tau_m, tau_s, theta]
    wanted = eventprop_lif(inputs, **parameters, tau_mem=tau_m, tau_syn=tau_s, threshold=theta)
    constants = {"tau_mem": tau_m, "tau_syn": tau_s} | ({"a": 0.0, "b": 0.0} if as_adlif else {})
    got = FORMS[form](inputs, **parameters, model=ADLIF if as_adlif else LIF, constants=constants, threshold=theta)
    assert len(wanted) > 20
    assert got.units.tolist() == wanted.units.tolist()
    assert (got.times - wanted.times).abs().max() <= 1e-10
    for g, w in zip(gradients(got, leaves), gradients(wanted, leaves), strict=True):
        assert_close_to_largest(g, w, 1e-10)


def test_a_reset_to_zero_and_one_by_subtraction_are_the_same():
    def adlif_to_zero(k, theta):
        s = ADLIF.system(k, theta)
        return LinearSystem(M=s.M, B=s.B, c=s.c, r=(0, -theta, k["b"]), held=s.held)

    subtracting = ContinuousModel(name="Other", states=ADLIF.states, constants=ADLIF.constants, system=adlif_to_zero)
    inputs, parameters = network(2)
    theta = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    leaves = [*parameters.values(), theta]
    one, other = (
        eventprop_linear(inputs, **parameters, model=model, constants=OSCILLATING, threshold=theta)
        for model in (ADLIF, subtracting)
    )
    assert len(one) > 20
    assert (one.times - other.times).abs().max() <= 1e-10
    for g, w in zip(gradients(one, leaves), gradients(other, leaves), strict=True):
        assert_close_to_largest(g, w, 1e-9)


def test_discrete_constants_come_back_from_continuous_ones():
    discrete = {"alpha": torch.tensor([0.4, 0.9]), "beta": torch.tensor([0.96, 0.99]), "a": 0.5, "b": 1.0}
    back = adlif_to_discrete(**adlif_from_discrete(**discrete, dt=0.5), dt=0.5)
    assert torch.allclose(back["alpha"], discrete["alpha"])
    assert torch.allclose(back["beta"], discrete["beta"])
    assert (back["a"], back["b"]) == (0.5, 1.0)


# ------------------------------------------------------------------------------------------------ an ODE solver


def fine_simulation(inputs, p, k, theta=1.0, refractory=0.0, step=0.02):
    """Spikes of adaptive neurons by Runge-Kutta steps between all events, crossings by bisection. k: arrays [out]."""
    p = {name: x.detach().numpy() for name, x in p.items()}
    n_out = p["weight"].shape[0]
    arrivals = [
        [(t + p["delay"][j, i], j, p["weight"][j, i]) for j in range(n_out)]
        for t, i in zip(inputs.times.tolist(), inputs.units.tolist(), strict=True)
    ]
    queue = sorted(a for of_event in arrivals for a in of_event)
    x, t, ready, found = np.zeros((3, n_out)), 0.0, np.full(n_out, -1.0), []

    def flow(y):
        i, v, w = y
        dv = np.where(t < ready, 0.0, (i - v - w) / k["tau_mem"])
        return np.stack([-i / k["tau_syn"], dv, (k["a"] * v - w) / k["tau_adapt"]])

    def stepped(y, h):
        k1 = flow(y)
        k2 = flow(y + h / 2 * k1)
        k3 = flow(y + h / 2 * k2)
        k4 = flow(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    while t < inputs.duration:
        ends = [t + step, inputs.duration, *(r for r in ready if r > t), *(a[0] for a in queue[:1])]
        end = min(ends)
        after = stepped(x, end - t)
        if (after[1] >= theta).any():
            low, high = 0.0, end - t
            while high - low > 1e-13:
                middle = 0.5 * (low + high)
                low, high = (low, middle) if (stepped(x, middle)[1] >= theta).any() else (middle, high)
            after, end = stepped(x, high), t + high
        x, t = after, end
        for j in np.flatnonzero(x[1] >= theta):
            found.append((t, j))
            x[1, j], x[2, j] = 0.0, x[2, j] + k["b"][j]
            ready[j] = t + refractory
            if "recurrent_weight" in p:
                queue += [(t + p["recurrent_delay"][m, j], m, p["recurrent_weight"][m, j]) for m in range(n_out)]
                queue.sort()
        while queue and queue[0][0] <= t:
            _, j, w = queue.pop(0)
            x[0, j] += w
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("constants", "refractory"), [(OSCILLATING, 0.0), (REAL, 2.5)])
def test_spikes_are_those_of_a_fine_ode_solver(form, constants, refractory):
    inputs, parameters = network(5, samples=1, scale=8.0)
    k = {name: x.detach() for name, x in spread(constants, 4).items()}
    wanted = fine_simulation(inputs, parameters, {n: x.numpy() for n, x in k.items()}, refractory=refractory)
    got = FORMS[form](inputs, **parameters, model=ADLIF, constants=k, refractory=refractory)
    assert len(wanted) > 20
    assert got.units.tolist() == [j for _, j in wanted]
    assert np.abs(got.times.detach().numpy() - [t for t, _ in wanted]).max() <= 1e-8


# ------------------------------------------------------------------------------------------------ finite differences


def halved(k, theta):
    """A jump that keeps half of V and mixes the states, on no model's list."""
    s = ADLIF.system(k, theta)
    return LinearSystem(M=s.M, B=s.B, c=s.c, J=((-0.1, 0, 0), (0, -k["share"], 0), (0.1, 0.2, -0.3)), r=(0, 0, k["b"]))


HALVED = ContinuousModel(
    name="Halved", states=ADLIF.states, constants={**ADLIF.constants, "share": ADLIF.constants["a"]}, system=halved
)
RESONATE = {"tau_syn": 3.0, "decay": 0.05, "omega": 0.4}


SLOW_RISE = ContinuousModel(  # V is not reset: it has to fall below the threshold before it can spike again
    name="NoReset", states=RESONATE_AND_FIRE.states, constants=RESONATE_AND_FIRE.constants,
    system=lambda k, theta: replace(RESONATE_AND_FIRE.system(k, theta), J=None),
)  # fmt: skip


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(
    ("model", "constants", "refractory", "scale"),
    [(ADLIF, OSCILLATING, 3.0, 6.0), (ADLIF, REAL, 0.0, 4.0), (RESONATE_AND_FIRE, RESONATE, 2.0, 1.5),
     (SLOW_RISE, RESONATE, 0.0, 1.5), (HALVED, OSCILLATING | {"share": 0.5}, 0.0, 5.0)],
)  # fmt: skip
def test_both_forms_have_the_same_spikes_and_the_gradients_of_finite_differences(
    model, constants, refractory, scale, recurrent
):
    inputs, parameters = network(3, samples=1, scale=scale, duration=40.0, recurrent=recurrent)
    inputs.times.requires_grad_()
    constants = spread(constants, 4)
    rest = torch.full((4,), refractory, dtype=torch.float64, requires_grad=refractory > 0)
    theta = (1 + 0.1 * torch.arange(4.0, dtype=torch.float64)).requires_grad_()

    def run(form):
        return form(inputs, **parameters, model=model, constants=constants, threshold=theta, refractory=rest)

    leaves = [*parameters.values(), *constants.values(), theta, inputs.times] + [rest] * (refractory > 0)
    plain, spikes = run(eventprop_linear_reference), run(eventprop_linear)
    assert len(spikes) > 8
    assert spikes.units.tolist() == plain.units.tolist()
    assert (spikes.times - plain.times).abs().max() <= 1e-10
    found = gradients(spikes, leaves)
    for leaf, got, wanted in zip(leaves, found, gradients(plain, leaves), strict=True):
        assert got.shape == leaf.shape
        assert_close_to_largest(got, wanted, 1e-8)
    weights = torch.cos(torch.arange(len(spikes), dtype=torch.float64))
    make = torch.Generator().manual_seed(1)
    for leaf, gradient in zip(leaves, found, strict=True):
        direction = torch.randn(leaf.shape, generator=make, dtype=torch.float64)
        values = []
        for h in (1e-5, -1e-5, 1e-6, -1e-6):
            with torch.no_grad():
                before = leaf.clone()
                leaf += h * direction
                moved = run(eventprop_linear)
                leaf.copy_(before)
            assert moved.units.tolist() == spikes.units.tolist()
            values.append(float((weights * moved.times).sum()))
        wanted = (values[0] - values[1]) / 2e-5
        rough = abs(wanted - (values[2] - values[3]) / 2e-6)
        assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-5, abs=10 * rough + 1e-6)


# ------------------------------------------------------------------------------------------------ borders


@pytest.mark.parametrize("recurrent", [False, True])
def test_dt_bounds_the_work_and_nothing_else(recurrent):
    inputs, parameters = network(7, recurrent=recurrent)
    constants = spread(OSCILLATING, 4)
    leaves = [*parameters.values(), *constants.values()]
    runs = [eventprop_linear(inputs, **parameters, model=ADLIF, constants=constants, dt=dt) for dt in (0.1, 1.0, 1e3)]
    assert len(runs[0]) > 30
    wanted = gradients(runs[0], leaves)
    for other in runs[1:]:
        assert other.units.tolist() == runs[0].units.tolist()
        assert (other.times - runs[0].times).abs().max() <= 1e-10
        for g, w in zip(gradients(other, leaves), wanted, strict=True):
            assert_close_to_largest(g, w, 1e-8)


@pytest.mark.parametrize("recurrent", [False, True])
def test_results_do_not_depend_on_the_number_of_threads_nor_on_the_batch(recurrent):
    inputs, parameters = network(8, n_out=19, samples=5, recurrent=recurrent, scale=4.0)
    constants = spread(REAL, 19)
    leaves = [*parameters.values(), *constants.values()]

    def run(events):
        return eventprop_linear(events, **parameters, model=ADLIF, constants=constants)

    one = run(inputs)
    wanted = gradients(one, leaves)
    torch.set_num_threads(3)
    try:
        three = run(inputs)
        assert torch.equal(one.times, three.times)
        assert torch.equal(one.units, three.units)
        assert all(torch.equal(g, w) for g, w in zip(gradients(three, leaves), wanted, strict=True))
    finally:
        torch.set_num_threads(1)
    alone = SpikeEvents.cat([run(inputs[k]) for k in range(5)])
    assert torch.equal(one.times, alone.times)
    assert torch.equal(one.units, alone.units)


@pytest.mark.parametrize("form", FORMS)
def test_a_silent_layer_has_no_spikes_and_gradients_of_zero(form):
    inputs, parameters = network(1, scale=0.01)
    parameters["recurrent_weight"].data.zero_()
    spikes = FORMS[form](inputs, **parameters, model=ADLIF)
    assert len(spikes) == 0
    assert spikes.counts().tolist() == [[0] * 4] * 2


def test_events_that_arrive_past_the_end_have_no_effect():
    inputs = SpikeEvents.from_lists([[1.0, 2.0]], [[0, 1]], num_units=2, duration=30.0)
    w = torch.tensor([[8.0, 800.0]], dtype=torch.float64, requires_grad=True)
    d = torch.tensor([[0.0, 28.5]], dtype=torch.float64, requires_grad=True)
    spikes = eventprop_linear(inputs, w, d, model=ADLIF)
    assert len(spikes) > 0
    spikes.times.sum().backward()
    assert w.grad[0, 1] == d.grad[0, 1] == 0
    assert w.grad[0, 0] != 0


def test_spikes_at_one_time_and_self_connections_without_delay():
    inputs = SpikeEvents.from_lists([[1.0]], [[0]], num_units=1, duration=40.0)
    w = torch.full((3, 1), 40.0, dtype=torch.float64, requires_grad=True)
    wr = torch.tensor([[0.7, -0.3, 0.0], [0.2, 0.1, 0.4], [0.0, 0.6, -0.8]], dtype=torch.float64, requires_grad=True)
    dr = torch.zeros(3, 3, dtype=torch.float64)
    leaves = [w, wr]
    got, wanted = (
        form(inputs, w, model=ADLIF, constants=REAL, recurrent_weight=wr, recurrent_delay=dr) for form in FORMS.values()
    )
    assert wanted.times[0] == wanted.times[1] == wanted.times[2]
    assert len(wanted) > 6
    assert got.units.tolist() == wanted.units.tolist()
    assert (got.times - wanted.times).abs().max() <= 1e-10
    for g, v in zip(gradients(got, leaves), gradients(wanted, leaves), strict=True):
        assert_close_to_largest(g, v, 1e-8)


def test_runaway_activity_is_refused():
    inputs, parameters = network(1, scale=10.0)
    parameters["recurrent_weight"].data.fill_(100.0)
    with pytest.raises(RuntimeError, match=r"neuron \d in sample 0 fires more than max_spikes = 50 spikes"):
        eventprop_linear(inputs, **parameters, model=ADLIF, max_spikes=50)


@pytest.mark.parametrize("recurrent", [False, True])
def test_neurons_that_fire_almost_without_end_are_refused_whatever_max_spikes_is(recurrent, monkeypatch):
    monkeypatch.setattr(eventprop_neuron, "memory", lambda: 1 << 23)
    inputs = SpikeEvents.from_lists([[1.0]], [[0]], num_units=1, duration=30.0)
    weight = torch.tensor([[20.0 if recurrent else 1e9]], dtype=torch.float64)
    loops = {"recurrent_weight": 50 * torch.ones(1, 1).double()} if recurrent else {}
    with pytest.raises(RuntimeError, match="neuron 0 in sample 0 fires almost without end, within max_spikes = 2147483647"):
        eventprop_linear(inputs, weight, model=ADLIF, max_spikes=2**31 - 1, **loops)


def test_a_batch_without_events_and_one_of_no_duration_are_silent():
    weight = torch.ones(3, 2, requires_grad=True)
    empty = SpikeEvents.from_lists([[], []], [[], []], num_units=2, duration=10.0)
    assert len(eventprop_linear(empty, weight, model=ADLIF)) == 0
    nothing = SpikeEvents.from_dense(torch.zeros(0, 2, 2), 1.0)
    eventprop_linear(nothing, weight, model=ADLIF).times.sum().backward()
    assert weight.grad.abs().max() == 0


def test_float32_parameters_give_float32_gradients():
    inputs, parameters = network(2, scale=6.0)
    wanted = eventprop_linear(inputs, **parameters, model=ADLIF)
    leaves = list(parameters.values())
    single = {name: x.detach().float().requires_grad_() for name, x in parameters.items()}
    got = eventprop_linear(inputs.to(torch.float32), **single, model=ADLIF)
    assert got.times.dtype == torch.float32
    for g, w in zip(gradients(got, single.values()), gradients(wanted, leaves), strict=True):
        assert g.dtype == torch.float32
        assert_close_to_largest(g.double(), w, 1e-2)


def test_a_potential_takes_the_gradient_of_regularisation_as_lif_does():
    inputs, parameters = network(1, scale=4.0, duration=40.0)
    leaves = list(parameters.values())
    one, other = eventprop_linear(inputs, **parameters, model=LIF), eventprop_lif(inputs, **parameters)
    for g, w in zip(
        torch.autograd.grad(one.potential.sum(), leaves), torch.autograd.grad(other.potential.sum(), leaves), strict=True
    ):
        assert_close_to_largest(g, w, 1e-7)


# ------------------------------------------------------------------------------------------------ above the threshold


def rising_during_rest(k, theta):
    """No state is held: V may rise above the threshold in a refractory period."""
    return replace(ADLIF.system(k, theta), held=())


UNHELD = ContinuousModel(name="Unheld", states=ADLIF.states, constants=ADLIF.constants, system=rising_during_rest)


@pytest.mark.parametrize("form", FORMS)
def test_a_potential_that_stays_above_the_threshold_spikes_once_and_ends_the_search(form):
    no_reset = replace(UNHELD, system=lambda k, theta: replace(rising_during_rest(k, theta), J=None, r=None))
    inputs = SpikeEvents.from_lists([[1.0, 5.0, 5.0, 60.0]], [[0, 0, 0, 0]], num_units=1, duration=100.0)
    weight = torch.tensor([[20.0]], dtype=torch.float64)
    constants = {"tau_mem": 20.0, "tau_syn": 15.0, "a": 0.0}
    spikes = FORMS[form](inputs, weight, model=no_reset, constants=constants)
    t = torch.linspace(0, 100, 100_001, dtype=torch.float64)
    u = (t[:, None] - inputs.times).clamp(min=0)
    v = 20 * ((u / -20).exp() - (u / -15).exp()).sum(1) / (20 / 15 - 1)
    rises = t[1:][(v[:-1] < 1) & (v[1:] >= 1)]
    assert len(rises) == 1 and v[6000:90_000].min() > 1
    assert (spikes.times - rises).abs().max() <= 1e-3


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_potential_that_rose_unseen_in_a_refractory_period_falls_before_it_spikes(form, recurrent):
    """V passes the threshold again within the refractory period, ends it above, falls, and is raised by a late arrival."""
    inputs = SpikeEvents.from_lists([[1.0, 1.0, 60.0]], [[0, 0, 0]], num_units=1, duration=80.0)
    weight = torch.tensor([[10.0]], dtype=torch.float64)
    loops = {"recurrent_weight": 0 * weight, "recurrent_delay": 0 * weight} if recurrent else {}
    constants = {"tau_mem": 10.0, "tau_syn": 5.0, "a": 0.0, "b": 0.0}
    spikes = FORMS[form](inputs, weight, model=UNHELD, constants=constants, refractory=10.0, **loops)
    first = spikes.times[0]
    current = 20 * math.exp(-(float(first) - 1.0) / 5)
    u = torch.tensor(10.0, dtype=torch.float64)  # since the first spike, where V is 0
    assert current * ((-u / 10).exp() - (-u / 5).exp()) > 1  # above the threshold as the period ends
    assert len(spikes) == 2
    assert spikes.times[1] > 60


# ------------------------------------------------------------------------------------------------ equal forms


@pytest.mark.parametrize("recurrent", [False, True])
def test_constants_that_are_equal_for_all_neurons_equal_shared_ones(recurrent):
    inputs, parameters = network(2, recurrent=recurrent, duration=40.0)
    leaves = list(parameters.values())
    shared = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in OSCILLATING.items()}
    each = {name: torch.full((4,), x, dtype=torch.float64, requires_grad=True) for name, x in OSCILLATING.items()}
    one, other = (eventprop_linear(inputs, **parameters, model=ADLIF, constants=k) for k in (shared, each))
    assert len(one) > 10
    assert torch.equal(one.times, other.times)
    of_one, of_other = gradients(one, [*leaves, *shared.values()]), gradients(other, [*leaves, *each.values()])
    for g, w in zip(of_one, of_other, strict=True):
        torch.testing.assert_close(g, w.sum() if g.dim() == 0 else w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_refractory_period_of_zero_is_none_and_one_that_vanishes_tends_to_it(recurrent):
    inputs, parameters = network(2, recurrent=recurrent, duration=40.0)
    leaves = list(parameters.values())
    rests = (0.0, torch.zeros(4), torch.tensor([0.0, 0.0, 1e-13, 1e-13]))
    none, *others = (eventprop_linear(inputs, **parameters, model=ADLIF, constants=REAL, refractory=r) for r in rests)
    assert len(none) > 10
    assert torch.equal(none.times, others[0].times)
    wanted = gradients(none, leaves)
    for other in others:
        assert other.units.tolist() == none.units.tolist()
        assert (other.times - none.times).abs().max() <= 1e-10
        for g, w in zip(gradients(other, leaves), wanted, strict=True):
            assert_close_to_largest(g, w, 1e-8)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_gradient_of_no_refractory_period_is_that_of_the_shortest_one(recurrent):
    inputs, parameters = network(2, recurrent=recurrent, duration=40.0)
    found = []
    for form, length in ((eventprop_linear, 1e-9), (eventprop_linear, 0.0), (eventprop_linear_reference, 0.0)):
        rest = torch.full((4,), length, dtype=torch.float64, requires_grad=True)
        spikes = form(inputs, **parameters, model=ADLIF, constants=REAL, refractory=rest)
        found += gradients(spikes, [rest])
    assert len(spikes) > 10
    assert found[0].abs().min() > 0
    for g in found[1:]:
        assert_close_to_largest(g, found[0], 1e-6)


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_step_longer_than_every_time_constant_changes_nothing(recurrent):
    inputs, parameters = network(6, scale=60.0, duration=20.0, samples=1, recurrent=recurrent)
    constants = spread({"tau_mem": 1.5, "tau_syn": 0.2, "tau_adapt": 2.0, "a": 1.0, "b": 0.2}, 4)
    leaves = [*parameters.values(), *constants.values()]
    got, wanted = (
        form(inputs, **parameters, model=ADLIF, constants=constants, dt=20.0, refractory=0.3) for form in FORMS.values()
    )
    assert len(got) > 20
    assert got.units.tolist() == wanted.units.tolist()
    assert (got.times - wanted.times).abs().max() <= 1e-10
    for g, w in zip(gradients(got, leaves), gradients(wanted, leaves), strict=True):
        assert_close_to_largest(g, w, 1e-8)


def test_several_arrivals_at_one_time_are_one_of_their_sum():
    together = SpikeEvents.from_lists([[2.0, 2.0, 2.0]], [[0, 1, 2]], num_units=3, duration=30.0)
    alone = SpikeEvents.from_lists([[2.0]], [[0]], num_units=1, duration=30.0)
    weights = torch.tensor([[5.0, 3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    total = torch.tensor([[7.0]], dtype=torch.float64, requires_grad=True)
    one, other = (eventprop_linear(e, w, model=ADLIF) for e, w in ((together, weights), (alone, total)))
    assert len(one) >= 1
    assert (one.times - other.times).abs().max() <= 1e-12
    (g,), (w,) = gradients(one, [weights]), gradients(other, [total])
    assert (g - w).abs().max() <= 1e-12 * w.abs().max()


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_constant_of_another_name_is_refused():
    with pytest.raises(ValueError, match="AdLIF has no constant 'tau'; it has tau_mem, tau_syn"):
        system_of(ADLIF, {"tau": 1.0}, 1.0, 3)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), torch.ones(2)])
def test_a_constant_that_cannot_be_is_refused(value):
    with pytest.raises(ValueError, match="tau_syn must be"):
        system_of(ADLIF, {"tau_syn": value}, 1.0, 3)


def test_an_arrival_that_makes_the_potential_jump_is_refused():
    jumping = ContinuousModel(
        name="Jumping", states=("V",), constants={}, system=lambda k, theta: LinearSystem(M=((-0.1,),), B=(1,), c=(1,))
    )
    with pytest.raises(ValueError, match="must not make the potential of Jumping jump"):
        system_of(jumping, {}, 1.0, 3)


@pytest.mark.parametrize("value", [-1.0, float("inf")])
def test_a_refractory_period_that_cannot_be_is_refused(value):
    inputs, parameters = network(1)
    with pytest.raises(ValueError, match="refractory must be finite and not negative"):
        eventprop_linear_reference(inputs, **parameters, model=LIF, refractory=value)


def test_only_a_recurrent_layer_needs_room_for_what_every_spike_sends_to_all_neurons(monkeypatch):
    room = {0: 1 << 20, 64: 1}  # spikes, by neurons that each of them is sent to
    monkeypatch.setattr(cpu, "most_spikes", lambda _numbers, targets: room[targets])
    events = SpikeEvents.from_lists([[float(t) for t in range(0, 200, 2)]], [[0] * 100], num_units=1, duration=200.0)
    weight = torch.full((64, 1), 8.0, dtype=torch.float64)
    assert len(eventprop_linear(events, weight, model=ADLIF)) > 1024  # beyond the room that a search begins with
    with pytest.raises(RuntimeError, match="fires almost without end"):
        eventprop_linear(events, weight, recurrent_weight=torch.zeros(64, 64, dtype=torch.float64), model=ADLIF)
