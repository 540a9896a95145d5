"""Training over a list of synapses: the compiled form against the plain one, and both against the dense layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snn_delay_plugins.functional.dcls import gaussian_delayed_linear
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.sparse_taps import delay_window, gaussian_window, sparse_convolution
from snn_delay_plugins.kernels.sparse_taps.operator import sparse_taps, sparse_taps_backward

T, N, IN, OUT = 9, 3, 7, 20


@pytest.fixture
def layer_class():
    pytest.importorskip(
        "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
    )
    from snn_delay_plugins.spikingjelly import DelayedLinear

    return DelayedLinear


def connections(density, in_features=IN, out_features=OUT, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(out_features, in_features, generator=g) < density
    return mask, *mask.nonzero(as_tuple=True)


def by_loops(trains, kernel, lag, senders, receivers, out_features, steps):
    current = torch.zeros(steps, trains.shape[1], out_features, dtype=trains.dtype)
    for s in range(len(lag)):
        for m in range(kernel.shape[1]):
            for t in range(trains.shape[0]):
                arrival = t + int(lag[s]) + m
                if arrival < steps:
                    current[arrival, :, receivers[s]] += kernel[s, m] * trains[t, :, senders[s]]
    return current


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    st.integers(1, 20), st.integers(1, 3), st.integers(1, 6), st.integers(1, 18), st.integers(1, 9), st.integers(0, 30),
    st.integers(0, 5), st.sampled_from([0.0, 0.2, 1.0]), st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_of_both_forms(dtype, steps, batch, inputs, out, width, longest, after, density, seed):
    g = torch.Generator().manual_seed(seed)
    _, receivers, senders = connections(density, inputs, out, seed)
    lag = torch.randint(0, longest + 1, receivers.shape, generator=g)
    trains = (torch.rand(steps, batch, inputs, generator=g) < 0.3).to(dtype).requires_grad_()
    kernel = torch.randn(len(lag), width, generator=g).to(dtype).requires_grad_()
    pulled = torch.randn(steps + after, batch, out, generator=g).to(dtype)
    expected = by_loops(trains, kernel, lag, senders, receivers, out, steps + after)
    wanted = torch.autograd.grad((expected * pulled).sum() + 0 * (trains.sum() + kernel.sum()), [trains, kernel])
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-11}
    for method in ("torch", "numba"):
        current = sparse_convolution(trains, kernel, lag, senders, receivers, out, after=after, method=method)
        torch.testing.assert_close(current, expected, **tolerance)
        for actual, right in zip(torch.autograd.grad(current, [trains, kernel], pulled), wanted, strict=True):
            torch.testing.assert_close(actual, right, **tolerance)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.7, 12.3])
@pytest.mark.parametrize("longest", [0, 3, 24])
def test_windows_of_gaussians_are_the_dense_layer(longest, sigma):
    torch.manual_seed(0)
    mask, receivers, senders = connections(0.3)
    weight, delay = torch.randn(OUT, IN).double(), torch.rand(OUT, IN).double() * longest
    delay.view(-1)[:3] = torch.tensor([0.0, longest, longest / 2])
    sigma = torch.tensor(sigma, dtype=torch.float64)
    trains = (torch.rand(T, N, IN) < 0.4).double()
    leaves = [x.requires_grad_() for x in (weight, delay, trains, sigma)]
    dense = gaussian_delayed_linear(trains, weight * mask, delay, sigma, max_delay=longest, padding=4)
    window = gaussian_window(weight[mask], delay[mask], sigma, longest)
    sparse = sparse_convolution(trains, *window, senders, receivers, OUT, after=4)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(dense)
    for actual, right in zip(*(torch.autograd.grad(x, leaves, g) for x in (sparse, dense)), strict=True):
        torch.testing.assert_close(actual, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("interpolation", ["linear", "round", "floor"])
@pytest.mark.parametrize("learned", [True, False])
def test_windows_of_delays_are_the_dense_layer(interpolation, learned):
    torch.manual_seed(0)
    mask, receivers, senders = connections(0.3)
    weight, delay = torch.randn(OUT, IN).double().requires_grad_(), torch.rand(OUT, IN).double() * 6
    delay.view(-1)[:3] = torch.tensor([0.0, 6.0, 3.0])
    delay.requires_grad_(learned)
    trains = (torch.rand(T, N, IN) < 0.4).double().requires_grad_()
    options = {"max_delay": 6, "interpolation": interpolation, "padding": 3}
    dense = delayed_linear(trains, weight * mask, delay, **options, method="direct")
    window = delay_window(weight[mask], delay[mask], 6, interpolation)
    sparse = sparse_convolution(trains, *window, senders, receivers, OUT, after=3)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    g, leaves = torch.randn_like(dense), [weight, trains, delay][: 2 + learned]
    for actual, right in zip(*(torch.autograd.grad(x, leaves, g) for x in (sparse, dense)), strict=True):
        torch.testing.assert_close(actual, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [
    {"delay_gradient": "gaussian", "sigma": 1.4}, {"delay_gradient": "gaussian", "sigma_type": "synaptic"},
    {"delay_gradient": "gaussian", "sigma_type": "synaptic", "learn_sigma": True},
    {}, {"interpolation": "round", "learn_delay": False}, {"delay_type": "axonal"}, {"bias": False, "padding": 5},
])  # fmt: skip
def test_layers_with_few_synapses_give_the_same_in_both_ways(options, training, monkeypatch, layer_class):
    torch.manual_seed(0)
    layer = layer_class(40, OUT, max_delay=8, delay="uniform", synapses=4, step_mode="m", **options).train(training)
    spikes = (torch.rand(T, N, 40) < 0.3).float().requires_grad_()
    runs = []
    for below in (1.0, 0.0):
        monkeypatch.setattr("snn_delay_plugins.kernels.dispatch.SPARSE_BELOW", below)
        leaves = [spikes, *layer.parameters()]
        current = layer(spikes)
        g = torch.linspace(-1, 1, current.numel()).view_as(current)
        runs.append((current, *torch.autograd.grad(current, leaves, g, allow_unused=True, materialize_grads=True)))
        layer.reset()
    for sparse, dense in zip(*runs, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)


def test_few_synapses_are_visited_alone(caplog, layer_class):
    layer = layer_class(40, OUT, max_delay=8, delay="uniform", synapses=2, step_mode="m")
    with caplog.at_level("DEBUG", "snn_delay_plugins"):
        layer(torch.rand(T, N, 40))
    assert "sparse_taps" in caplog.text


def test_opcheck():
    _, receivers, senders = connections(0.2)
    lag = torch.arange(len(receivers)) % 6
    trains, kernel = torch.rand(T, N, IN).double().requires_grad_(), torch.rand(len(lag), 3).double().requires_grad_()
    torch.library.opcheck(sparse_taps, (trains, kernel, lag, senders, receivers, OUT, T + 2))
    grad = torch.rand(T + 2, N, OUT).double()
    for wanted in ((True, True), (False, True), (True, False)):
        arguments = (grad, trains.detach(), kernel.detach(), lag, senders, receivers, *wanted)
        torch.library.opcheck(sparse_taps_backward, arguments)


def test_negative_lags_are_refused():
    one = torch.zeros(1, dtype=torch.int64)
    for method in ("torch", "numba"):
        with pytest.raises(ValueError, match="lags"):
            sparse_convolution(torch.ones(2, 1, 1), torch.ones(1, 1), one - 1, one, one, 1, method=method)


def test_results_are_bit_equal_on_one_and_two_threads():
    before, runs = torch.get_num_threads(), []
    torch.manual_seed(0)
    _, receivers, senders = connections(0.3, 60, 50)
    lag = torch.randint(0, 12, receivers.shape)
    trains, kernel = torch.randn(30, 7, 60).requires_grad_(), torch.randn(len(lag), 5).requires_grad_()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            current = sparse_convolution(trains, kernel, lag, senders, receivers, 50)
            runs.append((current, *torch.autograd.grad(current.square().sum(), [trains, kernel])))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sigma_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        gaussian_window(torch.ones(2), torch.ones(2), torch.tensor(bad), 4)


@pytest.mark.parametrize("method", ["torch", "numba"])
@pytest.mark.parametrize(("name", "values", "message"), [
    ("senders", (0, 10**8), r"senders\[1\] = 100000000 is outside \[0, the number of inputs = 3\)"),
    ("senders", (-1, 1), r"senders\[0\] = -1 is outside"),
    ("receivers", (0, 3), r"receivers\[1\] = 3 is outside \[0, out_features = 3\)"),
    ("receivers", (1, 0), r"ordered by receiver, but receivers\[1\] = 0 comes after 1"),
    ("lag", (0, -1), "lags must not be negative, got -1"),
    ("lag", (0,), r"lag must be \[2\], got shape \(1,\)"),
])  # fmt: skip
def test_indices_that_do_not_fit_or_are_not_ordered_are_refused_by_both_forms(method, name, values, message):
    i = torch.tensor([0, 1])
    arguments = {"lag": i, "senders": i, "receivers": i} | {name: torch.tensor(values)}
    with pytest.raises(ValueError, match=message):
        sparse_convolution(torch.ones(9, 2, 3), torch.ones(2, 1), out_features=3, method=method, **arguments)
