"""DelayedLinear as a SpikingJelly layer."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from spikingjelly.activation_based import base, functional
from torch import nn

from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedConv1d, DelayedLinear

IN, OUT, STEPS, BATCH = 4, 3, 15, 2
EPS = torch.tensor([0.5, 0.3, 0.2])


def spikes(steps=STEPS, batch=BATCH, dtype=torch.float32):
    return (torch.rand(steps, batch, IN) < 0.4).to(dtype)


def twins(**options):
    """The same layer in step mode 's' and in step mode 'm'."""
    single = DelayedLinear(IN, OUT, **{"max_delay": 6, "delay": "uniform", **options})
    multi = copy.deepcopy(single)
    multi.step_mode = "m"
    return single, multi


def run(layer, x):
    layer.reset()
    return layer(x) if layer.step_mode == "m" else torch.stack([layer(x_t) for x_t in x])


def gradients(layer, current, extra):
    torch.manual_seed(7)
    loss = (current * torch.randn(current.shape, dtype=current.dtype)).sum()
    return torch.autograd.grad(loss, [*layer.parameters(), *extra])


@pytest.mark.parametrize("max_delay", [0, 1, 6, 30])
@pytest.mark.parametrize("interpolation", ["linear", "round", "floor"])
@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
def test_steps_parts_and_whole_sequences_agree_in_currents_and_gradients(delay_type, interpolation, max_delay):
    single, multi = twins(delay_type=delay_type, interpolation=interpolation, max_delay=max_delay, smoothing=EPS)
    single.double()
    multi.double()
    x = spikes(dtype=torch.float64).requires_grad_()
    expected = run(multi, x)
    expected_gradients = gradients(multi, expected, [x])
    multi.reset()
    in_parts = torch.cat([multi(x[:4]), multi(x[4:5]), multi(x[5:5]), multi(x[5:])])
    in_parts_gradients = gradients(multi, in_parts, [x])
    for current, got in ((run(single, x), None), (in_parts, in_parts_gradients)):
        torch.testing.assert_close(current, expected, rtol=0, atol=1e-12)
        got = got or gradients(single, current, [x])
        for one, two in zip(got, expected_gradients, strict=True):
            assert one.abs().sum() > 0
            torch.testing.assert_close(one, two, rtol=0, atol=1e-11)
    torch.testing.assert_close(single.history, multi.history, rtol=0, atol=0)


def test_the_layer_is_the_function_with_its_parameters():
    _, layer = twins()
    x = spikes()
    assert torch.equal(layer(x), delayed_linear(x, layer.weight, layer.delay, layer.bias, max_delay=6))


def test_the_step_mode_may_change_in_the_middle_of_a_sequence():
    single, multi = twins()
    x = spikes()
    whole = run(multi, x)
    first = torch.stack([single(x_t) for x_t in x[:4]])
    single.step_mode = "m"
    second = single(x[4:9])
    single.step_mode = "s"
    third = torch.stack([single(x_t) for x_t in x[9:]])
    torch.testing.assert_close(torch.cat([first, second, third]), whole)


def test_full_padding_lets_every_spike_arrive_and_leaves_nothing_on_its_way():
    layer = DelayedLinear(IN, OUT, max_delay=6, delay=6.0, bias=False, padding="full", step_mode="m")
    x = spikes()
    current = layer(x)
    assert current.shape == (STEPS + 6, BATCH, OUT)
    torch.testing.assert_close(current[6:], x @ layer.weight.T)
    assert layer.history == 0.0
    assert torch.equal(layer(x), current)
    layer.step_mode = "s"
    with pytest.raises(ValueError, match='needs step_mode="m"'):
        layer(x[0])


def test_spikes_on_their_way_arrive_until_the_net_is_reset():
    layer = DelayedLinear(1, 1, max_delay=3, delay=2.0, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert [layer(x).item() for x in (one, zero, zero, zero)] == [0, 0, 1, 0]
    layer(one)
    functional.reset_net(layer)
    assert [layer(zero).item() for _ in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_detach_net_cuts_the_graph_between_parts_and_keeps_the_spikes_on_their_way(step_mode):
    layer = DelayedLinear(IN, OUT, max_delay=6, delay="uniform", step_mode=step_mode)
    x = spikes()
    whole = run(layer, x).detach()
    layer.reset()
    early, late = x[:8].clone().requires_grad_(), x[8:].clone().requires_grad_()

    def part(x):
        return layer(x) if step_mode == "m" else torch.stack([layer(x_t) for x_t in x])

    part(early)
    functional.detach_net(layer)
    current = part(late)
    torch.testing.assert_close(current, whole[8:])
    current.sum().backward()
    assert early.grad is None and late.grad.abs().sum() > 0
    functional.reset_net(layer)
    assert layer.history == 0.0


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_another_batch_size_without_a_reset_is_an_error_that_says_what_to_call(step_mode):
    layer = DelayedLinear(IN, OUT, max_delay=6, step_mode=step_mode)
    x = spikes()
    layer(x if step_mode == "m" else x[0])
    with pytest.raises(ValueError, match=r"batch of 2 .* batch of 1: call .*reset_net"):
        layer(x[:, :1] if step_mode == "m" else x[0, :1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "left"}, "padding must be one of"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
        ({"smoothing": torch.ones(2, 2)}, "smoothing must be a tensor"),
        ({"delay": -1.0}, r"initial delays must lie in \[0, 6\]"),
        ({"step_mode": "x"}, "step_mode can only be"),
        ({"bound_mode": "hope"}, "bound mode must be one of"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        DelayedLinear(IN, OUT, **{"max_delay": 6, **arguments})


def test_inputs_that_do_not_fit_are_refused():
    single, multi = twins()
    with pytest.raises(ValueError, match=r"spikes must be \[N, 4\], got shape \(15, 2, 4\)"):
        single(spikes())
    with pytest.raises(ValueError, match=r"spikes must be \[T, N, 4\], got shape \(2, 4\)"):
        multi(spikes()[0])
    with pytest.raises(TypeError, match=r"spikes are torch\.float64 but weight is torch\.float32"):
        multi(spikes().double())
    with pytest.raises(TypeError, match="must be floating point"):
        multi(spikes().long())


def test_delays_learn_and_stay_in_their_range_under_adam_with_a_learning_rate_of_5():
    _, layer = twins()
    optimizer = torch.optim.Adam(layer.parameters(), lr=5.0)
    before = layer.delay.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        (layer(spikes()) - 1).pow(2).sum().backward()
        optimizer.step()
        functional.reset_net(layer)
        assert layer.delay.min() >= 0 and layer.delay.max() <= 6
    assert not torch.equal(layer.delay, before)


def test_clamped_delays_are_read_inside_their_range():
    layer = DelayedLinear(IN, OUT, max_delay=2, delay="uniform", step_mode="m", bound_mode="clamp")
    with torch.no_grad():
        layer.delay.fill_(5.0)
    x = spikes()
    expected = delayed_linear(x, layer.weight, torch.full((OUT, IN), 2.0), layer.bias, max_delay=2)
    assert torch.equal(layer(x), expected)


def test_learn_delay_false_keeps_the_delays():
    layer = DelayedLinear(IN, OUT, max_delay=6, delay="uniform", learn_delay=False, step_mode="m")
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer(spikes()).sum().backward()
    assert layer.delay.grad is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_copy_in_the_middle_of_a_sequence_continues_like_the_original(step_mode, copied):
    layer = DelayedLinear(IN, OUT, max_delay=6, delay="uniform", step_mode=step_mode)
    x = spikes().requires_grad_()

    def part(layer, x):
        return layer(x) if step_mode == "m" else torch.stack([layer(x_t) for x_t in x])

    part(layer, x[:7])
    twin = copied(layer)
    assert layer.history.requires_grad and not twin.history.requires_grad
    assert torch.equal(part(layer, x[7:]), part(twin, x[7:]))


def test_a_state_dict_makes_another_layer_the_same_and_leaves_the_history_out():
    _, layer = twins()
    x = spikes()
    current = layer(x)
    assert set(layer.state_dict()) == {"weight", "bias", "delay"}
    other = DelayedLinear(IN, OUT, max_delay=6, step_mode="m")
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), current)
    assert [name for name, _ in base.named_memories(other)] == ["history"]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_layer_compiles_in_one_graph(step_mode):
    torch._dynamo.reset()
    layer = DelayedLinear(IN, OUT, max_delay=9, delay="uniform", step_mode=step_mode)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    x, results = spikes(), []
    for module in (layer, compiled):
        parts = (x[:7], x[7:14]) if step_mode == "m" else x[:3]
        current = torch.cat([module(part).flatten() for part in parts])
        (current * torch.arange(current.numel())).sum().backward()
        results.append((current, *(p.grad for p in module.parameters())))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_bfloat16_autocast_currents_follow_the_spikes_and_gradients_stay_float32(step_mode, dtype):
    layer = DelayedLinear(IN, OUT, max_delay=6, delay="uniform", step_mode=step_mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        current = run(layer, spikes(dtype=dtype))
    assert current.dtype == dtype
    current.float().sum().backward()
    assert layer.delay.grad.dtype == torch.float32 and layer.delay.grad.isfinite().all()


@pytest.mark.parametrize("convert", ["double", "bfloat16", "half"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_converted_layers_run_and_learn_in_their_dtype(step_mode, convert):
    layer = getattr(DelayedLinear(IN, OUT, max_delay=6, delay="uniform", step_mode=step_mode), convert)()
    current = run(layer, spikes(dtype=layer.weight.dtype))
    assert current.dtype == layer.history.dtype == layer.weight.dtype
    current.sum().backward()
    assert layer.delay.grad.dtype == layer.weight.dtype and layer.delay.grad.isfinite().all()


def test_the_history_moves_with_the_module_to_another_dtype():
    layer, _ = twins()
    layer(spikes()[0])
    layer.double()
    assert layer.history.dtype == torch.float64
    assert layer(spikes(dtype=torch.float64)[1]).dtype == torch.float64


def test_an_empty_sequence_gives_no_currents_and_keeps_the_history():
    _, layer = twins()
    layer(spikes())
    history = layer.history
    assert layer(spikes()[:0]).shape == (0, BATCH, OUT)
    assert torch.equal(layer.history, history)


def test_a_network_of_delays_and_neurons_gives_the_same_in_both_step_modes():
    net = nn.Sequential(
        DelayedLinear(IN, 8, max_delay=3, delay="uniform"), AdLIFPlusNode(features=8),
        DelayedLinear(8, 2, max_delay=9, delay="uniform"), AdLIFPlusNode(features=2),
    ).double()  # fmt: skip
    with torch.no_grad():
        for weight in (net[0].weight, net[2].weight):
            weight.abs_().mul_(5.0)
    x = spikes(dtype=torch.float64)
    results = []
    for step_mode in ("s", "m"):
        functional.set_step_mode(net, step_mode)
        out = net(x) if step_mode == "m" else torch.stack([net(x_t) for x_t in x])
        v = net[3].v
        results.append((out, v, *torch.autograd.grad(v.sum() + out.sum(), net.parameters())))
        functional.reset_net(net)
    assert results[0][0].sum() > 0
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_an_input_that_is_no_dense_tensor_is_refused_by_name(step_mode):
    linear, convolution = DelayedLinear(3, 2, max_delay=2, delay=1.0), DelayedConv1d(3, 2, 1, max_delay=2, delay=1.0)
    for layer in (linear, linear.discretize(), convolution):
        x = torch.ones(2, 3, 4) if layer is convolution else torch.ones(2, 3)
        layer.step_mode, x = step_mode, x if step_mode == "s" else x[None]
        for _ in range(2):  # without spikes on their way, and with
            for other in (None, [1.0, 2.0, 3.0], x.numpy()):
                with pytest.raises(TypeError, match="spikes must be a tensor"):
                    layer(other)
            with pytest.raises(TypeError, match="spikes must be a dense tensor"):
                layer(x.to_sparse())
            with pytest.raises(TypeError, match=r"float32|floating"):
                layer(x.long())
            layer(x)
