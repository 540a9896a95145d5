"""Delayed recurrent synapses over sequences: against loops over time, receivers and senders, and the forms against each
other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snn_delay_plugins.delays import RULES, WHOLE
from snn_delay_plugins.functional import AdLIFState, Coefficients, Recurrence, adlif, linear_neuron
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.kernels import dispatch

METHODS = ["torch", pytest.param("numba", marks=pytest.mark.skipif(not dispatch._HAS_NUMBA, reason="numba is missing"))]
STEPS, BATCH, NEURONS, LONGEST = 30, 4, 2, 9  # several windows of the compiled form
BOXCAR = Boxcar()


def linear_tap(weight: Tensor, delay: Tensor, lag: int) -> Tensor:
    """What a spike of ``lag`` whole delays ago adds, by linear interpolation between two steps."""
    whole = int(delay.detach().floor())
    part = delay - whole
    return weight * (1 - part) if lag == whole else weight * part if lag == whole + 1 else 0 * weight


def triangle_tap(weight: Tensor, delay: Tensor, lag: int, sigma: float = 0.8) -> Tensor:
    """DelRec's triangle of half base 1 + sigma."""
    base = 1 + sigma
    return weight * (base - (lag - delay).abs()).clamp(min=0) / base**2


def loop(x, weight, delay, alpha, beta, a, b, u0, w0, history, tap) -> tuple[list, list]:
    """AdLIF neurons (Deckers et al., Eq. 1) whose spikes reach each other after 1 + d steps, one number at a time."""
    u, w = [list(row) for row in u0], [list(row) for row in w0]
    fired: dict[int, list] = {-1 - h: [list(row) for row in past] for h, past in enumerate(history)}
    spikes: dict[int, list] = {-1: [[BOXCAR(u[n][i] - 1) for i in range(NEURONS)] for n in range(BATCH)]}
    for t in range(len(x)):
        now = []
        for n in range(BATCH):
            row = []
            for i in range(NEURONS):
                current = x[t, n, i]
                for j in range(NEURONS):
                    for lag in range(LONGEST + 2):
                        past = fired.get(t - 1 - lag)
                        if past is not None:
                            current = current + tap(weight[i, j], delay[i, j], lag) * past[n][j]
                s = spikes[t - 1][n][i]
                u_next = alpha[i] * u[n][i] + (1 - alpha[i]) * (current - w[n][i]) - s
                w[n][i] = beta[i] * w[n][i] + (1 - beta[i]) * a[i] * u[n][i] + b[i] * s
                u[n][i] = u_next
                row.append(BOXCAR(u_next - 1))
            now.append(row)
        spikes[t] = fired[t] = now
    return [spikes[t] for t in range(len(x))], [u, w]


def drawn(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    F = NEURONS
    values = {
        "x": uniform(-1, 4, STEPS, BATCH, F),
        "weight": uniform(-4, 5, F, F),
        "delay": uniform(0, LONGEST - 0.01, F, F),
        "alpha": uniform(0.3, 0.9, F),
        "beta": uniform(0.9, 0.99, F),
        "a": uniform(0, 1, F),
        "b": uniform(0, 0.5, F),
        "u0": uniform(0, 1.4, BATCH, F),
        "w0": uniform(0, 0.5, BATCH, F),
        "history": uniform(0, 1, LONGEST + 2, BATCH, F).round(),
    }
    return {name: value.requires_grad_() for name, value in values.items()}


def stacked(nested: list) -> Tensor:
    return torch.stack([stacked(each) if isinstance(each, list) else each for each in nested])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rule", "tap"), [("slayer", linear_tap), ("triangle", triangle_tap)])
def test_values_and_every_gradient_are_those_of_three_loops(rule, tap, method):
    by_loop, here = drawn(), drawn()
    spikes, (u, w) = loop(*by_loop.values(), tap)
    expected, last = stacked(spikes), (stacked(u), stacked(w))
    p = here
    recurrence = Recurrence(
        weight=p["weight"],
        delay=p["delay"],
        rule=RULES[rule],
        max_delay=LONGEST,
        parameters={"sigma": 0.8} if rule == "triangle" else {},
        history=p["history"],
    )
    state = AdLIFState(p["u0"], p["w0"], BOXCAR(p["u0"] - 1))
    options = {name: p[name] for name in ("alpha", "beta", "a", "b")}
    got, final, traces = adlif(p["x"], state, **options, recurrence=recurrence, method=method, traces=True)
    assert 0.1 < expected.mean() < 0.6
    assert torch.equal(got, expected)
    for one, two in zip(final[:2], last, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)
    assert torch.equal(traces[0][-1], final.u)

    wave = torch.sin(torch.arange(float(expected.numel()), dtype=torch.float64)).view_as(expected)
    for values, s, (u, w) in ((by_loop, expected, last), (here, got, final[:2])):
        ((wave * s).sum() + (u * w).sum() + u.square().sum()).backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in values.values())
    for name, value in here.items():
        torch.testing.assert_close(value.grad, by_loop[name].grad, rtol=1e-10, atol=1e-10, msg=f"gradient of {name}")


TWO_STATES = {"A": ((0.8, -0.3), (0.3, 0.8)), "B": (0.5, 0.2), "r": (-1.0, 0.1), "c": 0.2}
NEURON_KINDS = {
    "two coupled states": TWO_STATES,
    "jumps in the same step": {
        "A": ((0.8, 0), (0.4, 0.9)), "B": (0.2,), "r": (0, 0.3), "J": ((-1.0, 0), (0, 0)), "subtracted": True,
        "symplectic": True,
    },
}  # fmt: skip


def run(method, kind="two coupled states", *, rule="slayer", mask=None, neurons=40, batch=11, longest=7, steps=40, **more):
    torch.manual_seed(3)
    double = {"dtype": torch.float64}
    x = (torch.randn(steps, batch, neurons, **double) * 2).requires_grad_()
    weight = (torch.randn(neurons, neurons, **double) / 2).requires_grad_()
    delay = (torch.rand(neurons, neurons, **double) * longest).requires_grad_()
    named = NEURON_KINDS[kind]
    k = {name: torch.full((neurons,), float(value), **double).requires_grad_() for name, value in
         {"a00": named["A"][0][0], "b0": named["B"][0], "theta": 1.0}.items()}  # fmt: skip
    A = ((k["a00"], *named["A"][0][1:]), *named["A"][1:])
    coefficients = Coefficients(**{**named, "theta": k["theta"], "A": A, "B": (k["b0"], *named["B"][1:])})
    parameters = {name: torch.tensor(0.9, **double) for name in RULES[rule].parameters}
    recurrence = Recurrence(
        weight=weight, delay=delay, rule=RULES[rule], max_delay=longest, parameters=parameters, mask=mask
    )
    spikes, state = linear_neuron(x, coefficients, recurrence=recurrence, method=method, **more)
    loss = (spikes * torch.cos(torch.arange(float(spikes.numel()), **double)).view_as(spikes)).sum() + state.x0.sum()
    return spikes.detach(), torch.autograd.grad(loss, [x, weight, delay, *k.values()])


@pytest.mark.parametrize(
    "options",
    [
        *({"kind": kind} for kind in NEURON_KINDS),
        {"rule": "gaussian"},
        {"rule": "quantised"},
        {"longest": 300},  # longer than the sequence
        {"neurons": 100, "steps": 12},  # several blocks of receivers
        {"batch": 1, "neurons": 3},
        {"surrogate": lambda x: Boxcar()(x)},  # of which nobody knows that it is the boxcar
    ],
    ids=lambda options: "-".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items()),
)
def test_the_compiled_form_equals_the_plain_one(options):
    pytest.importorskip("numba")
    plain, compiled = run("torch", **options), run("numba", **options)
    assert 0.01 < plain[0].mean() < 0.6
    assert torch.equal(plain[0], compiled[0])
    for one, two in zip(plain[1], compiled[1], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_synapses_that_do_not_exist_carry_nothing_and_learn_nothing(share):
    pytest.importorskip("numba")
    mask = torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) < share
    plain, compiled = run("torch", mask=mask), run("numba", mask=mask)
    assert torch.equal(plain[0], compiled[0])
    assert compiled[1][1][~mask].abs().max() == 0
    for one, two in zip(plain[1], compiled[1], strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


def test_results_do_not_depend_on_the_number_of_threads():
    pytest.importorskip("numba")
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(run("numba", batch=35, neurons=70, steps=20))
    finally:
        torch.set_num_threads(threads)
    (one, its), (other, others) = results
    assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(its, others, strict=True))


def test_a_spike_arrives_one_step_later_at_the_earliest():
    relay = Coefficients(theta=1.0, A=((0,),), B=(1.0,))
    at_once = Recurrence(weight=torch.ones(1, 1), delay=torch.zeros(1, 1), rule=WHOLE, max_delay=0)
    spikes, _ = linear_neuron(torch.eye(4)[:, :1, None], relay, recurrence=at_once)
    assert spikes.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


def test_what_does_not_fit_is_refused():
    square = {"weight": torch.zeros(3, 3), "delay": torch.zeros(3, 3), "rule": WHOLE, "max_delay": 4}
    lif = Coefficients(theta=1.0, A=((0.9,),), B=(0.1,))
    with pytest.raises(ValueError, match=r"weight must be \[F, F\]"):
        Recurrence(**{**square, "weight": torch.zeros(3, 2), "delay": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match=r"mask must be bool \(3, 3\)"):
        Recurrence(**square, mask=torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"current must be \[T, N, 3\]"):
        linear_neuron(torch.zeros(5, 2, 4), lif, recurrence=Recurrence(**square))
    with pytest.raises(ValueError, match="history must be"):
        linear_neuron(torch.zeros(5, 2, 3), lif, recurrence=Recurrence(**square, history=torch.zeros(4, 1, 3)))
    for wrong in (-1.0, 4.5, float("nan")):
        with pytest.raises(ValueError, match=r"delays must lie in \[0, max_delay=4\]"):
            linear_neuron(
                torch.zeros(5, 2, 3), lif, recurrence=Recurrence(**{**square, "delay": torch.full((3, 3), wrong)})
            )
