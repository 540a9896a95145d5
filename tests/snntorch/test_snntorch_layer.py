"""DelayedLinear as a snnTorch module."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.snntorch import AdLIFPlus, DelayedLinear, reset

IN, OUT, STEPS, BATCH = 4, 3, 15, 2
EPS = torch.tensor([0.5, 0.3, 0.2])


def spikes(steps=STEPS, batch=BATCH, dtype=torch.float32):
    return (torch.rand(steps, batch, IN) < 0.4).to(dtype)


def by_steps(layer, x):
    layer.reset_delay()
    return torch.stack([layer(step) for step in x])


def twins(**options):
    """The same layer called once per step and once per sequence."""
    step = DelayedLinear(IN, OUT, **{"max_delay": 6, "delay": "uniform", **options})
    sequence = copy.deepcopy(step)
    sequence.step_mode = False
    return step, sequence


def gradients(layer, current, extra):
    torch.manual_seed(7)
    loss = (current * torch.randn(current.shape, dtype=current.dtype)).sum()
    return torch.autograd.grad(loss, [*layer.parameters(), *extra])


@pytest.mark.parametrize("max_delay", [0, 1, 6, 30])
@pytest.mark.parametrize("kernel", ["linear", "round", "floor"])
@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
def test_steps_and_sequences_agree_in_currents_and_gradients(delay_type, kernel, max_delay):
    step, sequence = twins(delay_type=delay_type, kernel=kernel, max_delay=max_delay, smoothing=EPS)
    step.double()
    sequence.double()
    x = spikes(dtype=torch.float64).requires_grad_()
    of_steps, of_sequence = by_steps(step, x), sequence(x)
    torch.testing.assert_close(of_steps, of_sequence, rtol=0, atol=1e-12)
    for one, two in zip(gradients(step, of_steps, [x]), gradients(sequence, of_sequence, [x]), strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, two, rtol=0, atol=1e-11)


def test_the_layer_is_the_function_with_its_parameters():
    _, layer = twins()
    x = spikes()
    expected = delayed_linear(x, layer.weight, layer.delay, layer.bias, max_delay=6)
    assert torch.equal(layer(x), expected)
    with torch.no_grad():
        layer.bias.fill_(2.0)
    torch.testing.assert_close(layer(x), expected + 2)


def test_full_padding_lets_every_spike_arrive():
    layer = DelayedLinear(IN, OUT, max_delay=6, delay=6.0, bias=False, padding="full", step_mode=False)
    x = spikes()
    current = layer(x)
    assert current.shape == (STEPS + 6, BATCH, OUT)
    torch.testing.assert_close(current.sum(0), x.sum(0) @ layer.weight.T)
    torch.testing.assert_close(current[6:], x @ layer.weight.T)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"padding": "full"}, ValueError, "needs step_mode=False"),
        ({"padding": "left"}, ValueError, "padding must be one of"),
        ({"kernel": "cubic"}, ValueError, r"\('linear', 'round', 'floor'\), got 'cubic'"),
        ({"smoothing": [0.5, 0.5]}, ValueError, "smoothing must be a tensor"),
        ({"smoothing": torch.ones(2, 2)}, ValueError, "smoothing must be a tensor"),
        ({"step_mode": "m"}, TypeError, r"True \(one step per call\) or False"),
        ({"delay": 7.0}, ValueError, r"initial delays must lie in \[0, 6\]"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        DelayedLinear(IN, OUT, **{"max_delay": 6, **arguments})


def test_inputs_that_do_not_fit_are_refused():
    step, sequence = twins()
    with pytest.raises(ValueError, match=r"spikes must be \[N, 4\], got shape \(15, 2, 4\)"):
        step(spikes())
    with pytest.raises(ValueError, match=r"spikes must be \[T, N, 4\], got shape \(2, 4\)"):
        sequence(spikes()[0])
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        step(spikes()[0, 0])
    with pytest.raises(TypeError, match=r"spikes are torch.float64 but weight is torch.float32"):
        step(spikes()[0].double())
    with pytest.raises(TypeError, match="must be floating point"):
        sequence(spikes().long())
    step(spikes()[0])
    with pytest.raises(ValueError, match=r"batch of 2 are still on their way .* batch of 1: call reset"):
        step(spikes()[0, :1])


def test_a_delay_that_was_written_outside_its_range_is_refused_with_the_remedy():
    _, layer = twins()
    with torch.no_grad():
        layer.delay[0, 0] = 9.0
    with pytest.raises(ValueError, match=r"\[0, max_delay=6\].*9.*project_"):
        layer(spikes())


def test_spikes_on_their_way_arrive_until_the_layer_is_reset():
    layer = DelayedLinear(1, 1, max_delay=3, delay=2.0, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert [layer(x).item() for x in (one, zero, zero, zero)] == [0, 0, 1, 0]
    layer(one)
    layer.reset_mem()
    assert [layer(zero).item() for _ in range(4)] == [0, 0, 0, 0]


def test_sequences_keep_nothing_between_calls():
    _, layer = twins()
    x = spikes()
    assert torch.equal(layer(x), layer(x))
    assert layer.history is None


def test_delays_learn_and_stay_in_their_range_under_adam_with_a_learning_rate_of_5():
    _, layer = twins()
    optimizer = torch.optim.Adam(layer.parameters(), lr=5.0)
    before = layer.delay.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        (layer(spikes()) - 1).pow(2).sum().backward()
        optimizer.step()
        assert layer.delay.min() >= 0 and layer.delay.max() <= 6
    assert not torch.equal(layer.delay, before)


def test_lbfgs_needs_and_gets_clamped_delays():
    x, target = spikes(), torch.randn(STEPS, BATCH, OUT)

    def run(layer):
        optimizer = torch.optim.LBFGS(layer.parameters(), lr=5.0, max_iter=8)

        def closure():
            optimizer.zero_grad()
            loss = (layer(x) - target).pow(2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    with pytest.raises(ValueError, match="delays must lie in"):  # it evaluates the loss outside the interval
        run(DelayedLinear(IN, OUT, max_delay=2, delay="uniform", step_mode=False))
    layer = DelayedLinear(IN, OUT, max_delay=2, delay="uniform", step_mode=False, bound_mode="clamp")
    run(layer)
    assert layer(x).isfinite().all()


def test_learn_delay_false_keeps_the_delays():
    layer = DelayedLinear(IN, OUT, max_delay=6, delay="uniform", learn_delay=False, step_mode=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer(spikes()).sum().backward()
    assert layer.delay.grad is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_in_the_middle_of_a_sequence_continues_like_the_original(copied):
    layer, _ = twins()
    x = spikes().requires_grad_()
    for step in x[:7]:
        layer(step)
    twin = copied(layer)
    assert layer.history.requires_grad and not twin.history.requires_grad
    for step in x[7:]:
        assert torch.equal(layer(step), twin(step))


def test_a_state_dict_makes_another_layer_the_same_and_leaves_the_history_out():
    layer, _ = twins(smoothing=EPS)
    layer(spikes()[0])
    assert set(layer.state_dict()) == {"weight", "bias", "delay", "smoothing"}
    other = DelayedLinear(IN, OUT, max_delay=6, smoothing=torch.zeros(3))
    other.load_state_dict(layer.state_dict())
    x = spikes()
    assert torch.equal(by_steps(layer, x), by_steps(other, x))


@pytest.mark.parametrize(("step_mode", "max_delay"), [(True, 9), (False, 2), (False, 9)])
def test_the_layer_compiles_in_one_graph(step_mode, max_delay):
    torch._dynamo.reset()
    layer, sequence = twins(max_delay=max_delay)
    layer = layer if step_mode else sequence
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    x, results = spikes(), []
    for module in (layer, compiled):
        current = torch.stack([module(step) for step in x[:3]]) if step_mode else module(x)
        (current * torch.arange(current.numel()).view_as(current)).sum().backward()
        results.append((current, *(p.grad for p in module.parameters())))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step_mode", [True, False])
def test_under_bfloat16_autocast_currents_follow_the_spikes_and_gradients_stay_float32(step_mode):
    step, sequence = twins()
    layer = step if step_mode else sequence
    for dtype in (torch.float32, torch.bfloat16):
        x = spikes(dtype=dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            current = by_steps(layer, x) if step_mode else layer(x)
        assert current.dtype == dtype
        current.float().sum().backward()
        assert layer.delay.grad.dtype == torch.float32 and layer.delay.grad.isfinite().all()


@pytest.mark.parametrize("convert", ["double", "bfloat16", "half"])
def test_converted_layers_run_and_learn_in_their_dtype(convert):
    for layer in twins():
        layer = getattr(layer, convert)()
        x = spikes(dtype=layer.weight.dtype)
        current = by_steps(layer, x) if layer.step_mode else layer(x)
        assert current.dtype == x.dtype
        current.sum().backward()
        assert layer.delay.grad.dtype == x.dtype and layer.delay.grad.isfinite().all()


def test_the_history_moves_with_the_module_to_another_dtype():
    layer, _ = twins()
    layer(spikes()[0])
    layer.double()
    assert layer(spikes(dtype=torch.float64)[1]).dtype == torch.float64


def test_an_empty_sequence_gives_no_currents():
    _, layer = twins()
    assert layer(spikes()[:0]).shape == (0, BATCH, OUT)


def test_a_network_of_delays_and_neurons_runs_step_by_step_and_resets_as_a_whole():
    net = nn.Sequential(
        DelayedLinear(IN, 8, max_delay=3, delay="uniform"),
        AdLIFPlus(init_hidden=True),
        DelayedLinear(8, 2, max_delay=3, delay="uniform"),
        AdLIFPlus(init_hidden=True, output=True),
    )

    def run():
        reset(net)
        return torch.stack([net(x)[2] for x in x_seq])

    x_seq = spikes() * 4
    first = run()
    assert torch.equal(first, run())
    first.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
