"""AdLIFPlusNode as a SpikingJelly neuron."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

pytest.importorskip(
    "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
)

from spikingjelly.activation_based import base, functional, layer, monitor, neuron, surrogate

from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.parameters import ADLIF_PRESETS
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear

STEPS, BATCH, NEURONS = 12, 3, 5
RESETS = (None, 0.0)


def currents(steps=STEPS, batch=BATCH, neurons=(NEURONS,), dtype=torch.float64, scale=5.0):
    return torch.rand(steps, batch, *neurons, dtype=dtype) * scale


def twins(**options):
    """The same node in step mode 's' and in step mode 'm'."""
    single = AdLIFPlusNode(features=NEURONS, **options).double()
    multi = copy.deepcopy(single)
    multi.step_mode = "m"
    return single, multi


def run(node, x):
    """Spikes of a sequence in either step mode; the states stay in the node."""
    node.reset()
    return node(x) if node.step_mode == "m" else torch.stack([node(x_t) for x_t in x])


def gradients(node, values, extra=()):
    torch.manual_seed(7)
    loss = sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in values)
    return torch.autograd.grad(loss, [*node.parameters(), *extra])


# ---------------------------------------------------------------- step modes and the function agree


@pytest.mark.parametrize("preset", ADLIF_PRESETS)
@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
@pytest.mark.parametrize("store_v_seq", [False, True])
def test_step_modes_agree_in_spikes_states_and_gradients(preset, variant, v_reset, store_v_seq):
    single, multi = twins(preset=preset, variant=variant, v_reset=v_reset, store_v_seq=store_v_seq)
    x = currents().requires_grad_()
    results = []
    for node in (single, multi):
        spikes = run(node, x)
        values = [spikes, node.v, node.w] + ([node.v_seq] if store_v_seq else [])
        results.append((node, values, gradients(node, values, [x])))
    (_, values_s, gradients_s), (_, values_m, gradients_m) = results
    assert torch.equal(values_s[0], values_m[0]) and 0.05 < values_s[0].mean() < 0.95
    for one, two in zip(values_s, values_m, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    for one, two in zip(gradients_s, gradients_m, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("detach_reset", [False, True])
def test_the_node_is_the_function_with_its_parameters(detach_reset):
    _, node = twins(detach_reset=detach_reset, v_threshold=0.75, store_v_seq=True)
    x = currents()
    parameters = {name: getattr(node, name) for name in ("alpha", "beta", "a", "b")}
    spikes, state, (u, _) = adlif(x, **parameters, threshold=0.75, detach_reset=detach_reset, traces=True)
    expected = gradients(node, [spikes, state.u, u])
    got = run(node, x)
    assert torch.equal(got, spikes)
    torch.testing.assert_close(node.v_seq, u, rtol=0, atol=1e-12)
    torch.testing.assert_close(node.w, state.w, rtol=0, atol=1e-12)
    for one, two in zip(expected, gradients(node, [got, node.v, node.v_seq]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


SURROGATES = [
    surrogate.ATan(), surrogate.Sigmoid(), surrogate.PiecewiseQuadratic(), surrogate.PiecewiseExp(),
    surrogate.SoftSign(), surrogate.Erf(), surrogate.PiecewiseLeakyReLU(), surrogate.Sigmoid(spiking=False),
]  # fmt: skip


@pytest.mark.parametrize("function", SURROGATES, ids=lambda function: repr(function)[:40])
def test_every_surrogate_of_spikingjelly_serves_both_step_modes_alike(function):
    single, multi = twins(surrogate_function=function)
    x = currents().requires_grad_()
    results = []
    for node in (single, multi):
        spikes = run(node, x)
        results.append((spikes, *gradients(node, [spikes, node.v], [x])))
    for one, two in zip(*results, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-7)


def test_a_sequence_in_parts_is_the_whole_sequence():
    _, node = twins()
    x = currents()
    whole = run(node, x)
    v, w = node.v, node.w
    node.reset()
    assert torch.equal(torch.cat([node(x[:5]), node(x[5:6]), node(x[6:])]), whole)
    torch.testing.assert_close(node.v, v, rtol=0, atol=1e-12)
    torch.testing.assert_close(node.w, w, rtol=0, atol=1e-12)


def test_the_step_mode_may_change_in_the_middle_of_a_sequence():
    single, multi = twins()
    x = currents()
    whole = run(multi, x)
    first = [single(x_t) for x_t in x[:4]]
    single.step_mode = "m"
    assert torch.equal(torch.cat([torch.stack(first), single(x[4:])]), whole)


def test_uniform_initial_states_agree_between_step_modes_in_evaluation():
    single, multi = twins(init_state="uniform")
    x = currents()
    one, two = run(single.eval(), x), run(multi.eval(), x)
    assert torch.equal(one, two)
    torch.testing.assert_close(single.v, multi.v, rtol=0, atol=1e-12)
    assert torch.equal(run(multi, x), two), "evaluation is the same every time"
    multi.train()
    run(multi, x)
    v = multi.v
    run(multi, x)
    assert not torch.equal(multi.v, v), "training draws anew"


# ---------------------------------------------------------------- memories, reset, detach, functional state


def test_the_memories_are_v_and_w_and_reset_forgets_batch_and_values():
    node = AdLIFPlusNode(features=3)
    net = nn.Sequential(layer.Linear(4, 3), node)
    assert [name for name, _ in base.named_memories(net)] == ["1.v", "1.w"]
    x = torch.rand(2, 4)
    net(x)
    first = node.v
    assert first.shape == node.w.shape == (2, 3)
    functional.reset_net(net)
    assert node.v == node.w == 0.0
    net(x)
    assert torch.equal(node.v, first)
    functional.reset_net(net)
    net(torch.rand(5, 4))
    assert node.v.shape == (5, 3)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_another_batch_size_without_a_reset_is_an_error_that_says_what_to_call(step_mode):
    node = AdLIFPlusNode(features=3, step_mode=step_mode)
    x = torch.rand(4, 2, 3)
    node(x if step_mode == "m" else x[0])
    with pytest.raises(RuntimeError, match=r"v has shape \(2, 3\) .* \(1, 3\): call .*reset_net"):
        node(x[:, :1] if step_mode == "m" else x[0, :1])


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("store_v_seq", [False, True])
def test_detach_net_cuts_the_graph_between_parts_of_a_sequence(step_mode, store_v_seq):
    node = AdLIFPlusNode(features=3, step_mode=step_mode, store_v_seq=store_v_seq)
    early = torch.rand(4, 2, 3, requires_grad=True)
    late = torch.rand(4, 2, 3, requires_grad=True)

    def part(x):
        return node(x) if step_mode == "m" else torch.stack([node(x_t) for x_t in x])

    part(early)
    v = node.v
    functional.detach_net(node)
    assert not node.v.requires_grad and not node.w.requires_grad
    assert v.requires_grad, "what the user holds keeps its graph"
    (part(late).sum() + node.v.sum()).backward()
    assert early.grad is None
    assert late.grad.abs().sum() > 0


def test_a_memory_that_was_set_by_hand_is_where_the_node_starts():
    x = torch.zeros(2, 3)
    for value in (0.75, torch.full((2, 3), 0.75)):
        node = AdLIFPlusNode(features=3, alpha=0.5, preset="lif")
        node.v = value
        node(x)
        assert torch.equal(node.v, torch.full((2, 3), 0.375))
        node = AdLIFPlusNode(features=3, alpha=0.5)
        node.w = value
        node(x)
        assert torch.equal(node.v, torch.full((2, 3), -0.375))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_functional_form_computes_the_same_and_leaves_the_memories_alone(step_mode):
    net = nn.Sequential(
        DelayedLinear(4, 3, max_delay=2, delay="uniform"), AdLIFPlusNode(features=3), layer.Linear(3, 2),
        AdLIFPlusNode(features=2, preset="lif"),
    )  # fmt: skip
    functional.set_step_mode(net, step_mode)
    x = torch.rand(5, 2, 4) * 5
    pieces = [x] if step_mode == "m" else list(x)
    expected = [net(piece) for piece in pieces]
    after = base.extract_memories(net)
    functional.reset_net(net)

    forward = base.to_functional_forward(net)
    states = tuple(base.extract_memories(net))
    for piece, spikes in zip(pieces, expected, strict=True):
        (got,), states = forward((piece,), states)
        assert torch.equal(got, spikes)
    for one, two in zip(states, after, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(two))  # histories, and where they begin
    assert not any(isinstance(memory, torch.Tensor) for memory in base.memories(net))


def test_the_functional_form_of_one_node_takes_and_returns_its_states():
    node = AdLIFPlusNode(features=3)
    x = torch.rand(2, 3)
    forward = base.to_functional_forward(node)
    (spikes,), (v, w) = forward((x,), (0.0, 0.0))
    (_,), (v2, _) = forward((x,), (v, w))
    assert torch.equal(node(x), spikes) and torch.equal(node.v, v)
    node(x)
    assert torch.equal(node.v, v2)
    with pytest.raises(ValueError, match="expected 2 states"):
        forward((x,), (v,))


# ---------------------------------------------------------------- v_seq and monitors


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_store_v_seq_keeps_the_trace_of_v_until_reset(step_mode):
    node = AdLIFPlusNode(features=3, step_mode=step_mode, store_v_seq=True)
    x = currents(neurons=(3,), dtype=torch.float32)
    spikes = run(node, x)
    assert node.v_seq.shape == x.shape
    assert torch.equal(node.v_seq[-1], node.v)
    assert torch.equal((node.v_seq >= 1).float(), spikes) and spikes.sum() > 0
    node.reset()
    assert node.v_seq is None


def test_monitors_record_spikes_and_membrane_potentials():
    net = nn.Sequential(layer.Linear(4, 3), AdLIFPlusNode(features=3, store_v_seq=True), layer.Linear(3, 2),
                        AdLIFPlusNode(features=2, store_v_seq=True))  # fmt: skip
    functional.set_step_mode(net, "m")
    spikes = monitor.OutputMonitor(net, AdLIFPlusNode)
    voltages = monitor.AttributeMonitor("v_seq", pre_forward=False, net=net, instance=AdLIFPlusNode)
    inputs = monitor.InputMonitor(net, neuron.BaseNode)
    net(torch.rand(6, 2, 4))
    assert spikes.monitored_layers == voltages.monitored_layers == inputs.monitored_layers == ["1", "3"]
    for name, size in (("1", 3), ("3", 2)):
        for records in (spikes, voltages, inputs):
            assert [record.shape for record in records[name]] == [(6, 2, size)]
    assert torch.equal((voltages["1"][0] >= 1).float(), spikes["1"][0])


# ---------------------------------------------------------------- arguments


def test_the_signature_starts_with_that_of_lifnode():
    theirs = list(inspect.signature(neuron.LIFNode).parameters)
    assert list(inspect.signature(AdLIFPlusNode).parameters)[: len(theirs)] == theirs


def test_tau_starts_every_leak_at_that_of_a_lifnode():
    node = AdLIFPlusNode(tau=4.0, features=3)
    assert node.alpha.tolist() == [0.75] * 3
    ours, theirs = AdLIFPlusNode(tau=2.0, preset="lif", features=3), neuron.LIFNode(tau=2.0, v_reset=None)
    x = torch.full((2, 3), 0.9)  # below the threshold the two are the same neuron
    for _ in range(4):
        assert ours(x).sum() == theirs(x).sum() == 0
        torch.testing.assert_close(ours.v, theirs.v)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"decay_input": False}, ValueError, "decay_input=False: Eq. 1 scales the input"),
        ({"v_reset": -0.5}, ValueError, r"v_reset must be None .* or 0\.0, got -0\.5"),
        ({"v_threshold": torch.tensor(1.0)}, TypeError, "v_threshold must be a number"),
        ({"v_threshold": nn.Parameter(torch.tensor(1.0))}, TypeError, "v_threshold must be a number"),
        ({"tau": 2.0, "alpha": 0.5}, ValueError, "both give the leak"),
        ({"tau": 1.0}, ValueError, "tau must be longer than one step, got 1.0"),
        ({"variant": "euler"}, ValueError, "variant must be one of"),
        ({"preset": "alif"}, ValueError, "preset must be one of"),
        ({"step_mode": "x"}, ValueError, "step_mode can only be"),
        ({"features": 3, "a": float("nan")}, ValueError, "a must be finite"),
    ],
)
def test_arguments_that_make_no_such_node_are_refused_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        AdLIFPlusNode(**arguments)


def test_whole_numbers_are_thresholds_and_reset_values_too():
    node = AdLIFPlusNode(v_threshold=1, v_reset=0, features=3)
    assert node.v_threshold == 1.0 and isinstance(node.v_reset, float)
    assert node(torch.rand(2, 3)).shape == (2, 3)


def test_the_warning_about_a_clipped_value_points_at_the_users_line():
    with pytest.warns(UserWarning, match=r"alpha=0\.99.* lies outside") as caught:
        AdLIFPlusNode(tau=100.0)
    assert caught[0].filename == __file__


# ---------------------------------------------------------------- shapes, copies, dtypes, compilation


@pytest.mark.parametrize("shape", [(5,), (4, 6, 6)])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_parameters_take_the_shape_of_linear_and_of_conv_features(step_mode, shape):
    node = AdLIFPlusNode(step_mode=step_mode)
    x = torch.rand(3, 2, *shape)
    assert run(node, x).shape == x.shape
    assert node.alpha.shape == node.b.shape == shape


def test_an_input_of_other_features_is_refused():
    node = AdLIFPlusNode(features=3, step_mode="m")
    with pytest.raises(ValueError, match=r"alpha of shape \(3,\) does not broadcast"):
        node(torch.rand(4, 2, 5))
    with pytest.raises(ValueError, match="does not broadcast"):
        AdLIFPlusNode(features=3, step_mode="m")(torch.rand(2, 3))


def test_learn_false_makes_buffers():
    node = AdLIFPlusNode(features=3, learn=False)
    assert list(node.parameters()) == []
    assert {"alpha", "beta", "a", "b"} == set(node.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("store_v_seq", [False, True])
def test_copies_after_a_forward_pass_with_gradients_continue_like_the_original(copied, step_mode, store_v_seq):
    node = AdLIFPlusNode(step_mode=step_mode, store_v_seq=store_v_seq)
    x = currents(dtype=torch.float32).requires_grad_()

    def part(node, x):
        return node(x) if step_mode == "m" else torch.stack([node(x_t) for x_t in x])

    part(node, x[:5])
    assert node.v.requires_grad
    twin = copied(node)
    assert not twin.v.requires_grad and not twin.w.requires_grad
    assert torch.equal(part(node, x[5:]), part(twin, x[5:]))
    assert torch.equal(node.v, twin.v)
    twin.reset()
    assert twin.v == 0.0 and isinstance(node.v, torch.Tensor)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_state_dict_makes_a_fresh_node_the_same(lazy):
    node, twin = AdLIFPlusNode(step_mode="m"), AdLIFPlusNode(features=None if lazy else NEURONS, step_mode="m")
    x = currents(dtype=torch.float32)
    spikes = node(x)
    assert set(node.state_dict()) == {"alpha", "beta", "a", "b"}, "memories are not saved"
    twin.load_state_dict(node.state_dict())
    assert torch.equal(twin(x), spikes)


def test_an_optimizer_made_before_the_first_forward_trains_and_projects_the_lazy_parameters():
    node = AdLIFPlusNode(step_mode="m")
    optimizer = torch.optim.Adam(node.parameters(), lr=5.0)
    node(currents(dtype=torch.float32)).sum().backward()
    before = node.alpha.detach().clone()
    optimizer.step()
    assert not torch.equal(node.alpha, before)
    for name, (low, high) in node.parameter_bounds.items():
        value = getattr(node, name)
        assert low - 1e-6 <= value.min() and value.max() <= high + 1e-6


@pytest.mark.parametrize("convert", ["double", "bfloat16", "half"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_converted_nodes_run_and_learn_in_their_dtype(step_mode, convert):
    node = getattr(AdLIFPlusNode(features=NEURONS, init_state="uniform", step_mode=step_mode), convert)()
    x = currents(dtype=node.alpha.dtype)
    spikes = run(node, x)
    assert spikes.dtype == node.v.dtype == node.w.dtype == x.dtype
    spikes.sum().backward()
    assert node.alpha.grad.dtype == x.dtype and node.alpha.grad.abs().sum() > 0


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_under_bfloat16_autocast_states_and_gradients_stay_float32(step_mode):
    net = nn.Sequential(layer.Linear(4, NEURONS), AdLIFPlusNode(features=NEURONS, store_v_seq=True))
    functional.set_step_mode(net, step_mode)
    x = torch.rand(6, 2, 4) * 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spikes = net(x) if step_mode == "m" else torch.stack([net(x_t) for x_t in x])
    assert spikes.dtype == torch.bfloat16
    assert net[1].v.dtype == net[1].w.dtype == net[1].v_seq.dtype == torch.float32
    (spikes.float().sum() + net[1].v.sum()).backward()
    for parameter in net.parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


def test_states_move_with_the_module_to_another_dtype():
    node = AdLIFPlusNode(features=3)
    node(torch.rand(2, 3))
    node.double()
    assert node.v.dtype == node.w.dtype == torch.float64
    node(torch.rand(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_wrong_dtypes_nan_and_infinite_inputs_are_refused(step_mode):
    node = AdLIFPlusNode(features=3, step_mode=step_mode)
    x = torch.ones(4, 2, 3) if step_mode == "m" else torch.ones(2, 3)
    with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
        node(x.long())
    with pytest.raises(TypeError, match=r"convert the module \(e\.g\. \.double\(\)\)"):
        node(x.double())
    for bad in (float("nan"), float("inf")):
        x.flatten()[1] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            node(x)


@pytest.mark.parametrize("store_v_seq", [False, True])
@pytest.mark.parametrize("init_state", ["zeros", "uniform"])
def test_an_empty_sequence_leaves_the_node_at_its_start(init_state, store_v_seq):
    node = AdLIFPlusNode(features=3, step_mode="m", init_state=init_state, store_v_seq=store_v_seq).eval()
    assert node(torch.rand(0, 2, 3)).shape == (0, 2, 3)
    functional.detach_net(node)
    x = torch.rand(4, 2, 3)
    spikes, v = node(x), node.v
    node.reset()
    assert torch.equal(node(x), spikes) and torch.equal(node.v, v)
    node.reset()
    assert node(torch.rand(4, 0, 3)).shape == (4, 0, 3)


@pytest.mark.parametrize(("training", "init_state"), [(True, "zeros"), (True, "uniform"), (False, "uniform")])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_node_compiles_in_one_graph(step_mode, training, init_state):
    torch._dynamo.reset()
    node = AdLIFPlusNode(features=NEURONS, step_mode=step_mode, init_state=init_state, v_reset=0.0).train(training)
    compiled = torch.compile(copy.deepcopy(node), fullgraph=True, backend="aot_eager")
    x = currents(steps=2, dtype=torch.float32, scale=8.0)
    results = []
    for module in (node, compiled):
        torch.manual_seed(2)
        spikes = module(x) if step_mode == "m" else torch.stack([module(x_t) for x_t in x])
        (spikes * torch.arange(spikes.numel()).view_as(spikes)).sum().backward()
        results.append((spikes, *(p.grad for p in module.parameters())))
    assert results[0][0].sum() > 0
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (1, 0, 2)])  # the first is that of delayed currents
def test_a_current_in_another_memory_order_has_the_same_gradient(order):
    _, node = twins()
    x = currents().requires_grad_()
    expected = gradients(node, [run(node, x)], [x])
    permuted = x.detach().permute(order).contiguous().permute([order.index(i) for i in range(3)]).requires_grad_()
    assert not permuted.is_contiguous() and torch.equal(permuted, x)
    for one, two in zip(gradients(node, [run(node, permuted)], [permuted]), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
