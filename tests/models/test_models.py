"""Every neuron model against a scalar loop over its equation, written without the package."""

import cmath
import math

import pytest
import torch

from snn_delay_plugins.functional.linear_neuron import LinearState, linear_neuron
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.models import MODELS, LinearModel, Parameter
from snn_delay_plugins.models.run import prepare

STEPS, SAMPLES, FEATURES, THETA = 60, 2, 4, 0.8


def lif(current, k, reset):
    u = s = 0.0
    for i in current:
        kept = 0.0 if reset == "zero" and s else u
        u = k["alpha"] * kept + (1 - k["alpha"]) * i - (THETA * s if reset == "subtract" else 0)
        s = float(u >= THETA)
        yield s, u


def cuba_lif(current, k, reset):
    u = syn = s = 0.0
    for i in current:
        syn = k["alpha"] * syn + (1 - k["alpha"]) * i
        kept = 0.0 if reset == "zero" and s else u
        u = k["beta"] * kept + (1 - k["beta"]) * syn - (THETA * s if reset == "subtract" else 0)
        s = float(u >= THETA)
        yield s, u


def adlif(current, k, reset):
    u = w = s = 0.0
    for i in current:
        kept = 0.0 if reset == "zero" and s else u
        new = k["alpha"] * kept + (1 - k["alpha"]) * (i - w) - (THETA * s if reset == "subtract" else 0)
        w = k["beta"] * w + (1 - k["beta"]) * k["a"] * u + k["b"] * s
        u = new
        s = float(u >= THETA)
        yield s, u


def se_adlif(current, k, reset):
    u = w = 0.0
    for i in current:
        before = k["alpha"] * u + (1 - k["alpha"]) * (i - w)
        s = float(before >= THETA)
        u = before * (1 - s) if reset == "zero" else before - THETA * s if reset == "subtract" else before
        w = k["beta"] * w + (1 - k["beta"]) * (k["a"] * u + k["b"] * s)
        yield s, before


def alif(current, k, reset):
    u = a = s = 0.0
    for i in current:
        kept = 0.0 if reset == "zero" and s else u
        u = k["alpha"] * kept + (1 - k["alpha"]) * i - (THETA * s if reset == "subtract" else 0)
        a = k["rho"] * a + (1 - k["rho"]) * s
        s = float(u >= THETA + k["beta"] * a)
        yield s, u


def resonate_and_fire(current, k, reset):
    x, s = 0j, 0.0
    turn = cmath.exp(complex(-k["decay"], k["omega"]))
    for i in current:
        x = complex(0, x.imag) if reset == "zero" and s else x
        x = turn * x + (1 - math.exp(-k["decay"])) * i - (THETA * s if reset == "subtract" else 0)
        s = float(x.real >= THETA)
        yield s, x.real


def silif(current, k, reset):
    u = w = s = 0.0
    alpha, beta = (math.exp(-math.exp(k[name]) * math.exp(k["log_dt"])) for name in ("log_alpha", "log_beta"))
    for i in current:
        w = beta * w + k["a"] * u + k["b"] * s
        kept = u - THETA * s if reset == "subtract" else u * (1 - s) if reset == "zero" else u
        u = alpha * kept + (1 - alpha) * (i - w)
        s = float(u >= THETA)
        yield s, u


def c_silif(current, k, reset):
    x, s = 0j, 0.0  # the paper's state: its spike is at 2 Re x = theta, and half a threshold is taken away
    turn = cmath.exp(complex(-math.exp(k["log_alpha"]), k["omega"]) * math.exp(k["log_dt"]))
    for i in current:
        kept = x - 0.5 * THETA * s if reset == "subtract" else complex(0, x.imag) if reset == "zero" and s else x
        x = turn * kept + k["b"] * i
        s = float(2 * x.real >= THETA)
        yield s, 2 * x.real


LOOPS = {
    "HeterogeneousLIF": lif, "CubaLIF": cuba_lif, "AdLIFPlus": adlif, "SEAdLIF": se_adlif, "ALIF": alif,
    "ResonateAndFire": resonate_and_fire, "SiLIF": silif, "CSiLIF": c_silif,
}  # fmt: skip
LINEAR = {name: model for name, model in MODELS.items() if isinstance(model, LinearModel)}
CASES = [(name, reset) for name, model in LINEAR.items() for reset in model.resets]
COMPILED = [(name, model.resets[0]) for name, model in LINEAR.items()]  # every structure is compiled: those of the defaults


def drawn(model, dtype=torch.float64):
    values = {}
    for name, parameter in model.parameters.items():
        low, high = parameter.draw
        values[name] = (torch.rand(FEATURES, dtype=dtype) * (high - low) + low).requires_grad_()
    return values


def test_every_linear_model_has_a_scalar_loop_here():
    assert LOOPS.keys() == LINEAR.keys()


@pytest.mark.parametrize(
    ("name", "reset", "method"), [(*case, "torch") for case in CASES] + [(*case, "numba") for case in COMPILED]
)
def test_spikes_and_potential_are_those_of_a_scalar_loop(name, reset, method):
    model, parameters = LINEAR[name], drawn(LINEAR[name])
    current = torch.randn(STEPS, SAMPLES, FEATURES, dtype=torch.float64) * 2 + 0.5
    coefficients = model.coefficients(parameters, THETA, reset, False)
    spikes, _, (x0, _) = linear_neuron(current, coefficients, traces=True, method=method)
    assert 0 < spikes.mean() < 1
    for n in range(SAMPLES):
        for f in range(FEATURES):
            k = {key: value[f].item() for key, value in parameters.items()}
            expected = torch.tensor(list(LOOPS[name](current[:, n, f].tolist(), k, reset)), dtype=torch.float64)
            assert torch.equal(spikes[:, n, f].detach(), expected[:, 0])
            torch.testing.assert_close(x0[:, n, f].detach(), expected[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "reset", "detach_reset"),
    [(*case, False) for case in COMPILED] + [("AdLIFPlus", "subtract", True), ("SEAdLIF", "zero", True)],
)
def test_gradients_of_the_kernel_are_those_of_the_plain_form(name, reset, detach_reset):
    model, parameters = LINEAR[name], drawn(LINEAR[name])
    current = (torch.randn(STEPS, SAMPLES, FEATURES, dtype=torch.float64) * 2 + 0.5).requires_grad_()
    leaves, weights = [current, *parameters.values()], torch.randn(STEPS, SAMPLES, FEATURES, dtype=torch.float64)
    gradients = []
    for method in ("torch", "numba"):
        spikes, _ = linear_neuron(current, model.coefficients(parameters, THETA, reset, detach_reset), method=method)
        gradients.append(torch.autograd.grad((spikes * weights).sum(), leaves, allow_unused=True))
    assert gradients[0][0].abs().max() > 0
    for plain, compiled in zip(*gradients, strict=True):
        if plain is None or compiled is None:  # a parameter without effect under this reset
            assert (plain is None or plain.abs().max() == 0) and (compiled is None or compiled.abs().max() == 0)
        else:
            torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "reset"), CASES)
def test_gradients_of_a_smooth_spike_are_finite_differences(name, reset):
    model, parameters = LINEAR[name], drawn(LINEAR[name])
    current = torch.randn(6, 1, FEATURES, dtype=torch.float64).requires_grad_()

    def run(current, *values):
        coefficients = model.coefficients(dict(zip(parameters, values, strict=True)), THETA, reset, False)
        return linear_neuron(current, coefficients, surrogate=torch.sigmoid, method="torch")[0]

    assert torch.autograd.gradcheck(run, (current, *parameters.values()))


def test_a_smooth_state_of_one_step_continues_a_sequence():
    model = LINEAR["SiLIF"]
    coefficients = model.coefficients(drawn(model), THETA, "subtract", False)
    current = torch.randn(20, 3, FEATURES, dtype=torch.float64) * 2
    whole, end = linear_neuron(current, coefficients, surrogate=Boxcar())
    first, middle = linear_neuron(current[:7], coefficients)
    second, last = linear_neuron(current[7:], coefficients, LinearState(*middle))
    assert torch.equal(torch.cat([first, second]), whole) and torch.equal(last.x1, end.x1)


@pytest.mark.parametrize(
    ("low", "high", "initial"), [(1, 0, None), (0, math.inf, None), (0, 1, (0.5, 2)), (0, 1, (0.5, math.nan))]
)
def test_a_parameter_whose_intervals_do_not_fit_is_refused(low, high, initial):
    with pytest.raises(ValueError, match="interval"):
        Parameter(low, high, initial)


def balanced_resonate_and_fire(current, k):
    x, q, s, dt = 0j, 0.0, 0.0, 0.01
    sustained = (math.sqrt(1 - (dt * k["omega"]) ** 2) - 1) / dt
    for i in current:
        q = 0.9 * q + s
        x = x + dt * complex(sustained - k["decay"] - q, k["omega"]) * x + 0.15 * i
        s = float(x.real - THETA - q >= 0)
        yield s, x.real


def test_a_balanced_resonate_and_fire_neuron_is_a_scalar_loop_of_complex_numbers():
    model, parameters = MODELS["BalancedResonateAndFire"], drawn(MODELS["BalancedResonateAndFire"])
    current = torch.randn(STEPS, SAMPLES, FEATURES, dtype=torch.float64) * 4 + 1
    rest = torch.zeros(SAMPLES, FEATURES, dtype=torch.float64)
    run = prepare(model, parameters, THETA, Boxcar(), "none")
    spikes, _, (re, *_), _ = run.sequence(current, (rest, rest, rest), traces=True)
    assert 0.02 < spikes.mean() < 0.9
    for n in range(SAMPLES):
        for f in range(FEATURES):
            k = {key: value[f].item() for key, value in parameters.items()}
            expected = torch.tensor(list(balanced_resonate_and_fire(current[:, n, f].tolist(), k)), dtype=torch.float64)
            assert torch.equal(spikes[:, n, f].detach(), expected[:, 0])
            torch.testing.assert_close(re[:, n, f].detach(), expected[:, 1], rtol=0, atol=1e-12)


def test_gradients_of_a_smooth_balanced_neuron_are_finite_differences():
    model, parameters = MODELS["BalancedResonateAndFire"], drawn(MODELS["BalancedResonateAndFire"])
    current = torch.randn(6, 1, FEATURES, dtype=torch.float64).requires_grad_()
    rest = torch.zeros(1, FEATURES, dtype=torch.float64)

    def run(current, *values):
        neuron = prepare(model, dict(zip(parameters, values, strict=True)), THETA, torch.sigmoid, "none")
        return neuron.sequence(current, (rest, rest, rest)).spikes

    assert torch.autograd.gradcheck(run, (current, *parameters.values()))


def test_silif_parameters_are_drawn_as_published():
    draws = {name: parameter.draw for name, parameter in MODELS["SiLIF"].parameters.items()}
    assert {name: tuple(round(math.exp(value), 6) for value in draws[name]) for name in list(draws)[:3]} == {
        "log_alpha": (10.0, 250.0), "log_beta": (2.5, 10.0), "log_dt": (0.004, 0.004),
    }  # fmt: skip
    assert draws["a"] == (0.0, 1.0) and draws["b"] == (0.0, 2.0)
    complex_one = MODELS["CSiLIF"].all_presets["published"]
    assert [round(math.exp(value), 6) for value in complex_one["log_dt"].draw] == [0.01, 0.5]
    assert round(math.exp(complex_one["log_alpha"].draw[0]), 6) == 0.5 and complex_one["b"].draw == (0.0, 1.0)
    assert complex_one["omega"].draw == (math.pi, math.pi)
