"""AdLIF neurons against scalar loops written from the papers' equations alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.adlif import AdLIFState, adlif, adlif_step
from snn_delay_plugins.functional.surrogate import Boxcar

ALL_OPTIONS = [
    (variant, reset, adaptive)
    for variant in ("adlif", "symplectic")
    for reset in ("subtract", "zero", "none")
    for adaptive in (True, False)
]


DEFAULTS = [("adlif", "subtract", True), ("symplectic", "zero", True)]


def eq1_by_hand(current, u, w, s, alpha, beta, a, b, theta):
    """Deckers et al., Eq. 1, one neuron, Python floats."""
    spikes, us, ws = [], [], []
    for i in current:
        u_new = alpha * u + (1 - alpha) * (i - w) - theta * s
        w_new = beta * w + (1 - beta) * a * u + b * s
        s = 1.0 if u_new >= theta else 0.0
        u, w = u_new, w_new
        spikes.append(s)
        us.append(u)
        ws.append(w)
    return spikes, us, ws


def se_adlif_by_hand(current, u, w, alpha, beta, a, b, theta):
    """Baronig et al. 2024, Eq. 6, one neuron, Python floats."""
    spikes, us, ws = [], [], []
    for i in current:
        u_hat = alpha * u + (1 - alpha) * (-w + i)
        s = 1.0 if u_hat >= theta else 0.0
        u = u_hat * (1 - s)
        w = beta * w + (1 - beta) * (a * u + b * s)
        spikes.append(s)
        us.append(u)
        ws.append(w)
    return spikes, us, ws


def random_neurons(steps, batch, features, dtype=torch.float64, seed=0, adaptive=True):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, low=0.0, high=1.0):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).mul(high - low).add(low).to(dtype)

    current = (torch.randn(steps, batch, *features, generator=generator, dtype=torch.float64) * 3 + 1).to(dtype)
    state = AdLIFState(draw(batch, *features), draw(batch, *features), draw(batch, *features).round())
    parameters = {"alpha": draw(*features, low=0.36, high=0.96)}
    if adaptive:
        parameters |= {"beta": draw(*features, low=0.96, high=0.99), "a": draw(*features), "b": draw(*features, high=2.0)}
    return current, state, parameters


@pytest.mark.parametrize("method", ["torch", "numba"])
@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_sequence_equals_the_equations_computed_by_a_scalar_loop(method, variant, dtype, tolerance):
    current, state, p = random_neurons(60, 3, (4,), dtype)
    threshold = 0.9
    spikes, final, (u, w) = adlif(current, state, **p, threshold=threshold, variant=variant, traces=True, method=method)
    assert 0.05 < spikes.mean() < 0.95
    for n in range(3):
        for f in range(4):
            values = [p[name][f].item() for name in ("alpha", "beta", "a", "b")]
            start = (state.u[n, f].item(), state.w[n, f].item())
            column = current[:, n, f].tolist()
            if variant == "adlif":
                expected = eq1_by_hand(column, *start, state.s[n, f].item(), *values, threshold)
            else:
                expected = se_adlif_by_hand(column, *start, *values, threshold)
            assert spikes[:, n, f].tolist() == expected[0]
            torch.testing.assert_close(
                u[:, n, f].double(),
                torch.tensor(expected[1], dtype=torch.float64),
                rtol=0,
                atol=tolerance * 10 if dtype == torch.float32 else tolerance,
            )
            torch.testing.assert_close(
                w[:, n, f].double(),
                torch.tensor(expected[2], dtype=torch.float64),
                rtol=0,
                atol=tolerance * 10 if dtype == torch.float32 else tolerance,
            )
    assert torch.equal(final.u, u[-1]) and torch.equal(final.w, w[-1]) and torch.equal(final.s, spikes[-1])


def test_steps_one_by_one_equal_the_sequence():
    current, state, p = random_neurons(40, 2, (3, 2))
    spikes, final = adlif(current, state, **p, method="torch")
    for t in range(40):
        state = adlif_step(current[t], state, **p)
        assert torch.equal(state.s, spikes[t])
    assert all(torch.equal(x, y) for x, y in zip(state, final, strict=True))


def test_a_neuron_on_the_threshold_fires():
    spikes, state = adlif(torch.full((1, 1, 1), 2.0), alpha=torch.tensor(0.5))
    assert state.u.item() == 1.0 and spikes.item() == 1.0


def test_boxcar_gradients_equal_a_recursion_derived_by_hand():
    """dL/dI for L = sum_t g[t] s[t], one neuron: adjoints of Eq. 1 with Eq. 6, Python floats."""
    current, state, p = random_neurons(50, 1, (1,), seed=3)
    state = AdLIFState(*(torch.zeros(1, 1, dtype=torch.float64) for _ in range(3)))
    alpha, beta, a, b = (p[name].item() for name in ("alpha", "beta", "a", "b"))
    g = torch.linspace(-1, 1, 50, dtype=torch.float64)
    leaf = current.clone().requires_grad_()
    spikes, _, (u, _) = adlif(leaf, state, **p, traces=True, method="torch")
    (spikes.flatten() * g).sum().backward()

    bar_u = bar_w = bar_s = 0.0  # dL/d(u, w, s)[t] through everything later than t
    expected = [0.0] * 50
    for t in reversed(range(50)):
        du, dw = bar_u, bar_w
        ds = g[t].item() + bar_s
        du += ds * (0.5 if abs(u[t].item() - 1.0) <= 0.5 else 0.0)
        expected[t] = (1 - alpha) * du
        bar_u = alpha * du + (1 - beta) * a * dw
        bar_w = beta * dw - (1 - alpha) * du
        bar_s = -1.0 * du + b * dw
    assert leaf.grad.abs().max() > 0.01
    torch.testing.assert_close(leaf.grad.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def smooth(x):
    return torch.sigmoid(4 * x)


@pytest.mark.parametrize(("variant", "reset", "adaptive"), ALL_OPTIONS)
def test_gradcheck_with_a_smooth_spike(variant, reset, adaptive):
    current, state, p = random_neurons(6, 2, (2,), adaptive=adaptive)
    threshold = torch.tensor([0.8, 1.1], dtype=torch.float64)
    names = list(p)
    leaves = [x.clone().requires_grad_() for x in (current, *state, threshold, *p.values())]

    def run(current, u, w, s, threshold, *values):
        spikes, final, traces = adlif(
            current, AdLIFState(u, w, s), **dict(zip(names, values, strict=True)), threshold=threshold,
            surrogate=smooth, variant=variant, reset=reset, traces=True, method="torch",
        )  # fmt: skip
        return spikes, *final, *traces

    assert torch.autograd.gradcheck(run, leaves)


def gradients_of(method, variant, reset, adaptive, detach_reset, traces, dtype, shape, seed, surrogate):
    steps, batch, features = shape
    current, state, p = random_neurons(steps, batch, features, dtype, seed, adaptive)
    threshold = torch.tensor(0.9, dtype=dtype)
    leaves = [x.clone().requires_grad_() for x in (current, *state, threshold, *p.values())]
    out = adlif(
        leaves[0], AdLIFState(*leaves[1:4]), **dict(zip(p, leaves[5:], strict=True)), threshold=leaves[4],
        surrogate=surrogate, variant=variant, reset=reset, detach_reset=detach_reset, traces=traces, method=method,
    )  # fmt: skip
    values = [out[0], *out[1], *(out[2] if traces else ())]
    generator = torch.Generator().manual_seed(seed + 1)
    loss = sum((v * torch.randn(v.shape, generator=generator, dtype=torch.float64).to(dtype)).sum() for v in values)
    return values, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


@settings(max_examples=60, deadline=None)
@given(
    served=st.one_of(  # each structure, dtype and kind of surrogate is compiled: the defaults in all of them
        st.tuples(st.sampled_from(ALL_OPTIONS), st.just(torch.float64), st.just(True), st.just(False)),
        st.tuples(st.sampled_from(DEFAULTS), st.just(torch.float64), st.booleans(), st.booleans()),
        st.tuples(st.sampled_from(DEFAULTS), st.just(torch.float32), st.booleans(), st.just(False)),
    ),
    traces=st.booleans(),
    steps=st.integers(1, 70),
    batch=st.integers(1, 4),
    features=st.sampled_from([(1,), (5,), (2, 3), (300,)]),
    seed=st.integers(0, 1000),
)
def test_the_compiled_kernel_equals_the_plain_form(served, traces, steps, batch, features, seed):
    options, dtype, boxcar, detach_reset = served
    snntorch_surrogate = pytest.importorskip("snntorch.surrogate") if not boxcar else None
    surrogate = Boxcar() if boxcar else snntorch_surrogate.fast_sigmoid(2)
    arguments = (*options, detach_reset, traces, dtype, (steps, batch, features), seed, surrogate)
    plain_values, plain_gradients = gradients_of("torch", *arguments)
    fast_values, fast_gradients = gradients_of("numba", *arguments)
    for plain, fast in zip(plain_values, fast_values, strict=True):
        assert torch.equal(plain, fast)
    scale = max(g.abs().max().item() for g in plain_gradients)
    # snnTorch's surrogates compute their gradient in float32 whatever the input
    tolerance = 1e-11 if dtype == torch.float64 and boxcar else 2e-4
    for plain, fast in zip(plain_gradients, fast_gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=tolerance, atol=tolerance * scale)


def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    arguments = ("adlif", "subtract", True, False, True, torch.float32, (50, 8, (40,)), 0, Boxcar())
    try:
        torch.set_num_threads(1)
        one = gradients_of("numba", *arguments)
        torch.set_num_threads(2)
        two = gradients_of("numba", *arguments)
    finally:
        torch.set_num_threads(before)
    for x, y in zip((*one[0], *one[1]), (*two[0], *two[1]), strict=True):
        assert torch.equal(x, y)


def test_parameters_that_broadcast_get_their_summed_gradient():
    """One value per channel of a Conv layer, [C, 1, 1], against the same value per neuron."""
    current, _, _ = random_neurons(12, 2, (3, 4, 5))
    per_channel = torch.tensor([0.5, 0.7, 0.9], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    per_neuron = per_channel.detach().expand(3, 4, 5).clone().requires_grad_()
    for alpha in (per_channel, per_neuron):
        adlif(current, alpha=alpha)[0].cumsum(0).sum().backward()
    torch.testing.assert_close(per_channel.grad, per_neuron.grad.sum((1, 2), keepdim=True))


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("batch", [0, 2])
def test_short_sequences_and_empty_batches_keep_their_shapes(steps, batch):
    spikes, state, traces = adlif(torch.zeros(steps, batch, 3), alpha=torch.full((3,), 0.5), traces=True)
    assert spikes.shape == (steps, batch, 3) and state.u.shape == (batch, 3)
    assert all(trace.shape == (steps, batch, 3) for trace in traces)


def test_every_neuron_spiking_and_none_spiking():
    p = {"alpha": torch.tensor(0.5), "beta": torch.tensor(0.97), "a": torch.tensor(0.0), "b": torch.tensor(0.0)}
    assert adlif(torch.full((20, 2, 3), 100.0), **p)[0].min() == 1
    assert adlif(torch.full((20, 2, 3), -100.0), **p)[0].max() == 0


def test_half_precision_currents_meet_float32_states():
    current = torch.randn(10, 2, 3).bfloat16()
    spikes, state = adlif(current, alpha=torch.full((3,), 0.9))
    assert spikes.dtype == torch.bfloat16 and state.u.dtype == torch.float32


ALPHA = torch.full((3,), 0.5)


@pytest.mark.parametrize(
    ("error", "message", "current", "options"),
    [
        (TypeError, "floating point", torch.zeros(4, 2, 3, dtype=torch.int64), {}),
        (TypeError, "float64", torch.zeros(4, 2, 3, dtype=torch.float64), {}),
        (ValueError, r"\[T, N, \*\]", torch.zeros(4), {}),
        (ValueError, "alpha of shape", torch.zeros(4, 2, 5), {}),
        (ValueError, "alpha of shape", torch.zeros(4, 2, 1), {}),
        (ValueError, "together", torch.zeros(4, 2, 3), {"beta": ALPHA}),
        (ValueError, "variant", torch.zeros(4, 2, 3), {"variant": "plus"}),
        (ValueError, "reset", torch.zeros(4, 2, 3), {"reset": "hard"}),
        (ValueError, "method", torch.zeros(4, 2, 3), {"method": "cuda"}),
        (ValueError, "state u", torch.zeros(4, 2, 3), {"state": AdLIFState(*torch.zeros(3, 1, 3))}),
        (ValueError, "NaN", torch.full((4, 2, 3), float("nan")), {}),
        (ValueError, "infinite", torch.full((4, 2, 3), float("inf")), {}),
        (ValueError, "not known to emit", torch.zeros(4, 2, 3), {"method": "numba", "surrogate": smooth}),
    ],
)
def test_what_does_not_fit_is_refused_clearly(error, message, current, options):
    with pytest.raises(error, match=message):
        adlif(current, alpha=ALPHA, **options)


def test_a_nan_early_in_the_sequence_is_found_by_either_method():
    current = torch.zeros(50, 2, 3)
    current[3, 1, 2] = float("nan")
    for method in ("torch", "numba"):
        for variant in ("adlif", "symplectic"):
            with pytest.raises(ValueError, match="NaN"):
                adlif(current, alpha=ALPHA, variant=variant, method=method)


def test_the_environment_variable_turns_kernels_off(monkeypatch, caplog):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    with caplog.at_level("DEBUG", logger="snn_delay_plugins"):
        adlif(torch.zeros(4, 2, 3), alpha=ALPHA)
    assert "adlif (4, 2, 3): torch" in caplog.text
