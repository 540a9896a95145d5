"""The compiled delay layers against the plain convolution: values and all gradients, edge cases, threads, operators."""

import logging
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delay_plugins.functional.delay import delayed_linear, history_after
from snn_delay_plugins.kernels import dispatch
from snn_delay_plugins.kernels.delayed_linear.operator import delayed_linear as operator
from snn_delay_plugins.kernels.delayed_linear.operator import delayed_linear_backward

KINDS = {"synaptic": lambda o, i: (o, i), "axonal": lambda o, i: (1, i), "dendritic": lambda o, i: (o, 1)}
COMPILED = ["events", "shifted"]


def problem(steps, batch, inputs, out, max_delay, density, kind="synaptic", whole=False, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    spikes = (draw(steps, batch, inputs) < density) * (0.5 + draw(steps, batch, inputs))  # graded
    delay = draw(*KINDS[kind](out, inputs)) * max_delay
    if whole:
        delay = delay.round()  # includes 0 and the cap
    return spikes.to(dtype), (draw(out, inputs) - 0.5).to(dtype), delay.to(dtype).clamp(max=max_delay)


def value_and_gradients(method, leaves, seed=0, **options):
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    current = delayed_linear(*leaves, method=method, **options)
    g = torch.randn(current.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(current.dtype)
    return current.detach(), *torch.autograd.grad(current, leaves, g)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    interpolation=st.sampled_from(["linear", "round", "floor"]),
    padding=st.sampled_from(["same", "full", 3]),
    taps=st.sampled_from([0, 0, 1, 3]),
    method=st.sampled_from(COMPILED),
    steps=st.integers(1, 70),
    batch=st.integers(1, 3),
    inputs=st.integers(1, 70),
    out=st.integers(1, 70),
    max_delay=st.integers(0, 90),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    whole=st.booleans(),
    support=st.booleans(),
    history=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float64, torch.float32]),
    seed=st.integers(0, 10_000),
)
def test_values_and_gradients_equal_the_plain_form(
    kind, interpolation, padding, taps, method, steps, batch, inputs, out, max_delay, density, whole, support,
    history, dtype, seed,
):  # fmt: skip
    leaves = problem(steps, batch, inputs, out, max_delay, density, kind, whole, dtype, seed)
    smoothing = torch.rand(taps, dtype=dtype) if taps else None
    options = {
        "max_delay": max_delay, "interpolation": interpolation, "padding": padding, "smoothing": smoothing,
        "support": torch.rand(leaves[0].shape) < 0.3 if support else None,
        "history": history_after(leaves[0].flip(1), None, max_delay, smoothing) if history else None,
    }  # fmt: skip
    plain = value_and_gradients("direct", leaves, **options)
    fast = value_and_gradients(method, leaves, **options)
    tolerance = 1e-11 if dtype == torch.float64 else 2e-5
    for expected, actual in zip(plain, fast, strict=True):
        scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("method", [*COMPILED, "numba", None])
@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (1, 1), (4, 0)])
def test_empty_and_shortest_inputs(method, steps, batch):
    leaves = problem(steps, batch, 3, 2, 5, 1.0)
    if 0 in (steps, batch) and method:
        with pytest.raises(ValueError, match="empty"):
            delayed_linear(*leaves, max_delay=5, method=method)
        return
    value, *gradients = value_and_gradients(method, leaves, max_delay=5)
    assert value.shape == (steps, batch, 2) and all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("method", COMPILED)
def test_a_spike_that_arrives_past_the_end_is_lost_and_one_at_the_cap_is_not(method):
    spikes = torch.zeros(6, 1, 1)
    spikes[1] = 2.0
    arriving = [delayed_linear(spikes, torch.ones(1, 1), torch.full((1, 1), d), max_delay=40, method=method)
                for d in (4.0, 4.25, 5.0, 40.0)]  # fmt: skip
    assert [x.flatten().tolist() for x in arriving] == [
        [0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 1.5], [0] * 6, [0] * 6]  # fmt: skip
    late = torch.full((1, 1), 40.0)
    full = delayed_linear(spikes, torch.ones(1, 1), late, max_delay=40, method=method, padding="full")
    assert full.nonzero()[:, 0].tolist() == [41]


@pytest.mark.parametrize("method", COMPILED)
def test_results_are_bit_equal_on_one_and_two_threads(method):
    leaves = problem(60, 5, 90, 100, 30, 0.1, dtype=torch.float32)
    support = torch.rand(leaves[0].shape) < 0.02
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in (5, 1):  # split by samples, or by receivers
                parts = (leaves[0][:, :batch], *leaves[1:])
                runs.append(value_and_gradients(method, parts, max_delay=30, support=support[:, :batch]))
    finally:
        torch.set_num_threads(before)
    for one, two in zip((*runs[0], *runs[1]), (*runs[2], *runs[3]), strict=True):
        assert torch.equal(one, two)


def test_density_decides_the_form_and_debug_messages_say_so(caplog, monkeypatch):
    def forms(density, **options):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="snn_delay_plugins"):
            value_and_gradients(None, problem(50, 2, 40, 30, 9, density), max_delay=9, **options)
        said = [m.split(": ")[1].split(" ")[0] for m in caplog.messages if "delayed_linear" in m]
        return said[1:] if said[0] == "auto" else said  # the kernel was chosen, and its form pass by pass

    assert forms(0.01) == ["events", "events"]
    assert forms(0.9) == ["shifted", "shifted"]
    assert forms(0.9, support=torch.zeros(50, 2, 40)) == ["shifted", "shifted", "events"]
    assert forms(0.9, support=torch.ones(50, 2, 40)) == ["shifted", "shifted", "shifted"]
    monkeypatch.setattr(dispatch, "EVENTS_BELOW", {"forward": 1.1, "synapses": 0.0, "trains": 0.0})
    assert forms(0.9) == ["events", "shifted"]
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    assert forms(0.01) == ["torch"]


def test_a_method_that_is_not_possible_is_refused():
    leaves = problem(5, 1, 2, 2, 3, 1.0)
    with pytest.raises(ValueError, match="the input is on cpu"):
        delayed_linear(*leaves, max_delay=3, method="triton")
    with pytest.raises(ValueError, match="method must be one of"):
        delayed_linear(*leaves, max_delay=3, method="cuda")


def test_an_unknown_method_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "magic")
    with pytest.raises(ValueError, match=r"SNN_DELAY_PLUGINS_METHOD.*magic"):
        delayed_linear(*problem(5, 1, 2, 2, 3, 1.0), max_delay=3)


def test_a_support_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="support must have the shape"):
        delayed_linear(*problem(5, 1, 2, 2, 3, 1.0), max_delay=3, support=torch.ones(5, 2))


def windows(spikes, weight, delay, width=2):
    """Arguments of the operator."""
    return spikes, torch.stack((weight, delay - delay.floor()))[:width], delay.floor().long()


@pytest.mark.parametrize("bad", [-0.5, 4.5, float("nan")])
def test_the_operator_itself_refuses_lags_outside_of_memory(bad):
    spikes, weight, delay = problem(5, 1, 2, 2, 3, 1.0)
    delay[1, 1] = bad
    with pytest.raises(ValueError, match=r"\[0, max_delay=3\]"):
        operator(*windows(spikes, weight, delay), None, 3, 5, "auto")


@pytest.mark.parametrize("method", COMPILED)
@pytest.mark.parametrize(("support", "width"), [(False, 2), (True, 2), (True, 1)])
def test_opcheck(method, support, width):
    spikes, taps, lags = windows(*problem(7, 2, 3, 4, 5, 0.4), width=width)
    mask = torch.rand(spikes.shape) < 0.5 if support else None
    torch.library.opcheck(operator, (spikes.requires_grad_(), taps.requires_grad_(), lags, mask, 5, 9, method))
    grad = torch.randn(9, 2, 4, dtype=torch.float64)
    inputs = grad, spikes.detach(), taps.detach(), lags, mask, 5, method
    torch.library.opcheck(delayed_linear_backward, (*inputs, True, True))
    torch.library.opcheck(delayed_linear_backward, (*inputs, False, True))


def test_compile_traces_through_without_a_graph_break():
    leaves = problem(20, 2, 6, 5, 4, 0.3, dtype=torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def layer(spikes, weight, delay):
        return delayed_linear(2 * spikes, weight, delay, max_delay=4).relu()

    runs = []
    for function in (layer, lambda s, w, d: delayed_linear(2 * s, w, d, max_delay=4).relu()):
        inputs = [x.clone().requires_grad_() for x in leaves]
        current = function(*inputs)
        runs.append((current, *torch.autograd.grad(current.square().sum(), inputs)))
    for compiled, eager in zip(*runs, strict=True):
        assert torch.equal(compiled, eager)


def test_autocast_computes_in_float32():
    spikes, weight, delay = problem(20, 2, 6, 5, 4, 0.3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        half = delayed_linear(spikes.bfloat16(), weight, delay, max_delay=4)
    assert half.dtype == torch.bfloat16
    whole = delayed_linear(spikes.bfloat16().float(), weight, delay, max_delay=4)
    torch.testing.assert_close(half, whole.bfloat16())


GROWTH = """
import resource, torch
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.delay import delayed_linear
torch.set_num_threads(2)
weight, delay = torch.randn(20, 30, requires_grad=True), (torch.rand(20, 30) * 9).requires_grad_()
p = {name: torch.rand(20).requires_grad_() for name in ("alpha", "beta", "a", "b")}
spikes = (torch.rand(40, 3, 30) < 0.05).float()
def step(method):
    s, _ = adlif(delayed_linear(spikes, weight, delay, max_delay=9, method=method), **p)
    s.sum().backward()
peaks = []
for k in range(600):
    step(("events", "shifted")[k % 2])
    if k in (100, 599):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is not on Windows")
def test_hundreds_of_steps_do_not_make_memory_grow():
    run = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=300)
    assert int(run.stdout) < 4096  # KiB; one sequence leaked per step would be 7 MiB
