"""AdLIFPlus and StateAdLIFPlus as snnTorch modules."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

pytest.importorskip("snntorch.surrogate", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")

import snntorch as snn
from snntorch import surrogate

from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.parameters import ADLIF_PRESETS
from snn_delay_plugins.snntorch import AdLIFPlus, StateAdLIFPlus, reset

RESETS = ("subtract", "zero", "none")
STEPS, BATCH, NEURONS = 12, 3, 5


def currents(steps=STEPS, batch=BATCH, neurons=(NEURONS,), dtype=torch.float64, scale=5.0):
    return torch.rand(steps, batch, *neurons, dtype=dtype) * scale


def by_steps(neuron, current):
    """Explicit states, as in snnTorch's tutorials."""
    w, mem = neuron.reset_mem()
    outputs = []
    for current_t in current:
        spk, w, mem = neuron(current_t, w, mem)
        outputs.append((spk, w, mem))
    return tuple(torch.stack(values) for values in zip(*outputs, strict=True))


def by_hidden_steps(neuron, current):
    neuron.reset_mem()
    return tuple(torch.stack(values) for values in zip(*(neuron(current_t) for current_t in current), strict=True))


def twins(**options):
    """The step and the sequence form with equal parameters."""
    step = AdLIFPlus(features=NEURONS, **options).double()
    sequence = StateAdLIFPlus(features=NEURONS, output=True, **options).double()
    sequence.load_state_dict(step.state_dict())
    return step, sequence


def gradients(module, outputs, extra=()):
    torch.manual_seed(7)
    loss = sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in outputs)
    return torch.autograd.grad(loss, [*module.parameters(), *extra])


# ---------------------------------------------------------------- steps, sequences and the function agree


@pytest.mark.parametrize("preset", ADLIF_PRESETS)
@pytest.mark.parametrize("reset_mechanism", RESETS)
@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
def test_steps_and_sequences_agree_in_spikes_states_and_gradients(preset, variant, reset_mechanism):
    options = {"preset": preset, "variant": variant, "reset_mechanism": reset_mechanism}
    step, sequence = twins(**options)
    hidden = AdLIFPlus(features=NEURONS, init_hidden=True, output=True, **options).double()
    hidden.load_state_dict(step.state_dict())
    current = currents().requires_grad_()
    of_steps, of_hidden, of_sequence = by_steps(step, current), by_hidden_steps(hidden, current), sequence(current)

    assert 0.05 < of_steps[0].mean() < 0.95
    for name, one, two, three in zip(("spk", "w", "mem"), of_steps, of_hidden, of_sequence, strict=True):
        assert torch.equal(one, two), name
        torch.testing.assert_close(one, three, rtol=0, atol=1e-12)
    expected = gradients(step, of_steps, [current])
    for module, outputs in ((hidden, of_hidden), (sequence, of_sequence)):
        for one, two in zip(expected, gradients(module, outputs, [current]), strict=True):
            assert one.abs().sum() > 0
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
def test_the_neuron_is_the_function_with_its_parameters(variant):
    step, _ = twins(variant=variant, threshold=0.75)
    current = currents()
    spk, w, mem = by_steps(step, current)
    parameters = {name: getattr(step, name) for name in ("alpha", "beta", "a", "b")}
    spikes, state, (u_trace, w_trace) = adlif(current, **parameters, threshold=0.75, variant=variant, traces=True)
    assert torch.equal(spk, spikes) and spk.sum() > 0
    for one, two in ((mem, u_trace), (w, w_trace), (mem[-1], state.u), (w[-1], state.w)):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


SURROGATES = [
    surrogate.fast_sigmoid(), surrogate.atan(), surrogate.sigmoid(), surrogate.straight_through_estimator(),
    surrogate.triangular(), surrogate.spike_rate_escape(), surrogate.SFS(B=-1), surrogate.heaviside(),
    surrogate.custom_surrogate(lambda x, grad, spikes: grad / (1 + x.abs())),
]  # fmt: skip


@pytest.mark.parametrize("spike_grad", SURROGATES)
def test_every_surrogate_of_snntorch_serves_steps_and_sequences_alike(spike_grad):
    step, sequence = twins(spike_grad=spike_grad)
    current = currents().requires_grad_()
    of_steps, of_sequence = by_steps(step, current), sequence(current)
    assert torch.equal(of_steps[0], of_sequence[0])
    expected, got = gradients(step, of_steps, [current]), gradients(sequence, of_sequence, [current])
    for one, two in zip(expected, got, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # snnTorch's surrogates return float32


def test_without_a_surrogate_the_gradient_still_flows_through_the_membrane():
    step, sequence = twins(surrogate_disable=True)
    current = currents().requires_grad_()
    expected = gradients(step, by_steps(step, current)[2:], [current])
    got = gradients(sequence, sequence(current)[2:], [current])
    for one, two in zip(expected, got, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_a_neuron_exactly_on_the_threshold_fires_with_every_surrogate():
    for spike_grad in (None, surrogate.atan(), surrogate.fast_sigmoid()):
        neuron = AdLIFPlus(alpha=0.5, features=1, spike_grad=spike_grad, preset="lif")
        assert neuron(torch.full((1, 1), 2.0))[0].item() == 1.0


def test_uniform_initial_states_agree_between_steps_and_sequences_in_evaluation():
    step, sequence = twins(init_state="uniform")
    step.eval()
    sequence.eval()
    current = currents()
    for one, two in zip(by_steps(step, current), sequence(current), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    assert not torch.equal(by_steps(step.train(), current)[2], by_steps(step, current)[2])


# ---------------------------------------------------------------- returned values, states, reset


def test_what_is_returned_follows_init_hidden_and_output_as_in_snntorch():
    x = torch.rand(2, 3)
    for init_hidden in (False, True):
        for output in (False, True):
            ours = AdLIFPlus(init_hidden=init_hidden, output=output)(x)
            theirs = snn.Synaptic(0.9, 0.8, init_hidden=init_hidden, output=output)(x)
            assert isinstance(ours, torch.Tensor) == isinstance(theirs, torch.Tensor)
            if isinstance(ours, tuple):
                assert [value.shape for value in ours] == [value.shape for value in theirs]


def test_states_that_are_not_passed_back_persist_until_they_are_reset():
    neuron = AdLIFPlus(features=3)
    x = torch.rand(2, 3)
    first = neuron(x)[2]
    second = neuron(x)[2]
    assert not torch.equal(first, second)
    w, mem = neuron.reset_mem()
    assert w.numel() == mem.numel() == 0
    assert torch.equal(neuron(x)[2], first)
    assert neuron.init_synaptic()[0].numel() == 0


def test_only_one_state_may_be_passed():
    neuron = AdLIFPlus(features=3)
    x, mem = torch.rand(2, 3), torch.full((2, 3), 0.5)
    _, _, of_mem = neuron(x, mem=mem)
    neuron.reset_mem()
    _, _, of_both = neuron(x, torch.zeros(2, 3), mem)
    assert torch.equal(of_mem, of_both)


def test_passing_states_beside_init_hidden_is_refused_as_in_snntorch():
    with pytest.raises(TypeError, match="should not be passed as an argument while `init_hidden=True`"):
        AdLIFPlus(init_hidden=True)(torch.rand(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("init_hidden", [False, True])
def test_another_batch_size_without_a_reset_is_an_error_that_says_what_to_call(init_hidden):
    neuron = AdLIFPlus(features=3, init_hidden=init_hidden)
    neuron(torch.rand(4, 3))
    with pytest.raises(ValueError, match=r"\(4, 3\) but the input \(2, 3\): call reset_mem\(\)"):
        neuron(torch.rand(2, 3))
    neuron.reset_mem()
    neuron(torch.rand(2, 3))


def test_detach_hidden_cuts_the_graph_of_every_neuron_of_the_class_copies_included():
    net = nn.Sequential(AdLIFPlus(features=3, init_hidden=True))
    twin = copy.deepcopy(net)
    for n in (net, twin):
        n(torch.rand(2, 3))
        assert n[0].mem.grad_fn is not None
    AdLIFPlus.detach_hidden()
    for n in (net, twin):
        assert n[0].mem.grad_fn is None and n[0].w.grad_fn is None and n[0].mem.shape == (2, 3)
        n(torch.rand(2, 3)).sum().backward()
    AdLIFPlus.reset_hidden()
    for n in (net, twin):
        assert n[0].mem.numel() == 0


def test_truncated_backpropagation_does_not_reach_behind_the_cut():
    neuron = AdLIFPlus(features=3, init_hidden=True, output=True)
    early, late = torch.rand(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    neuron(early)
    AdLIFPlus.detach_hidden()
    neuron(late)[2].sum().backward()
    assert early.grad is None
    assert late.grad is not None


def test_states_are_not_saved():
    neuron = AdLIFPlus(features=3)
    neuron(torch.rand(2, 3))
    assert set(neuron.state_dict()) == {
        "alpha", "beta", "a", "b", "threshold", "graded_spikes_factor", "reset_mechanism_val",
    }  # fmt: skip


def test_a_single_neuron_takes_scalars_as_in_snntorchs_tutorials():
    neuron = AdLIFPlus(alpha=0.5, preset="lif")
    w, mem = neuron.init_synaptic()
    trace = []
    for x in torch.tensor([1.0, 1.0, 1.0]):
        _, w, mem = neuron(x, w, mem)
        trace.append(mem.item())
    assert trace == [0.5, 0.75, 0.875]


# ---------------------------------------------------------------- the options of snn.Synaptic


@pytest.mark.parametrize("threshold", [2, 0.5, torch.tensor(0.5), torch.tensor([0.2, 0.4, 0.6])])
def test_the_threshold_is_a_number_or_one_per_neuron(threshold):
    neuron = AdLIFPlus(threshold=threshold, features=3)
    spk, _, mem = by_steps(neuron, currents(neurons=(3,), dtype=torch.float32))
    assert torch.equal(spk, (mem >= torch.as_tensor(threshold)).float()) and 0 < spk.mean() < 1


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
@pytest.mark.parametrize("threshold", [1, torch.tensor([0.5, 1.0, 1.5])])
def test_a_learned_threshold_gets_its_gradient(cls, threshold):
    neuron = cls(threshold=threshold, learn_threshold=True, features=3)
    assert isinstance(neuron.threshold, nn.Parameter)
    current = currents(neurons=(3,), dtype=torch.float32)
    spk = by_steps(neuron, current)[0] if cls is AdLIFPlus else neuron(current)
    spk.sum().backward()
    assert neuron.threshold.grad.abs().sum() > 0
    assert neuron.threshold.grad.shape == neuron.threshold.shape


def test_what_is_not_learned_is_a_buffer():
    neuron = AdLIFPlus(features=3, learn_alpha=False, learn_beta=False, learn_a=False, learn_b=False)
    assert list(neuron.parameters()) == []
    assert {"alpha", "beta", "a", "b"} <= set(dict(neuron.named_buffers()))


def test_graded_spikes_scale_what_is_returned_and_not_the_dynamics():
    plain = AdLIFPlus(features=3)
    graded = AdLIFPlus(features=3, graded_spikes_factor=3, learn_graded_spikes_factor=True)
    graded.load_state_dict({**plain.state_dict(), "graded_spikes_factor": torch.tensor(3.0)})
    current = currents(neurons=(3,), dtype=torch.float32)
    one, two = by_steps(plain, current), by_steps(graded, current)
    assert torch.equal(3 * one[0], two[0]) and one[0].sum() > 0
    assert torch.equal(one[2], two[2])
    two[0].sum().backward()
    assert graded.graded_spikes_factor.grad.item() == one[0].sum().item()


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_under_inhibition_only_the_neuron_with_the_highest_potential_passes_on_its_spike():
    neuron = AdLIFPlus(features=6, inhibition=True)
    spk, _, mem = by_steps(neuron, currents(steps=30, neurons=(6,), dtype=torch.float32))
    assert spk.sum(-1).max() == 1
    fired = mem >= 1
    assert fired.sum(-1).max() > 1, "several are above the threshold at once"
    assert torch.equal(spk.argmax(-1)[spk.sum(-1) > 0], mem.argmax(-1)[spk.sum(-1) > 0])


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_inhibition_of_symplectic_neurons_is_refused():
    with pytest.raises(ValueError, match="inhibition"):
        AdLIFPlus(inhibition=True, variant="symplectic")


@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
def test_state_quantisation_is_applied_to_both_states_and_neurons_still_fire(variant):
    def eighths(x):
        return (x * 8).round() / 8

    neuron = AdLIFPlus(features=5, state_quant=eighths, variant=variant)
    spk, w, mem = by_steps(neuron, currents(dtype=torch.float32))
    for state in (w, mem):
        assert torch.equal(state, eighths(state))
    assert 0.05 < spk.mean() < 0.95
    if variant == "adlif":
        assert torch.equal(spk, (mem >= 1).float())


def test_identity_quantisation_changes_nothing():
    for variant in ("adlif", "symplectic"):
        plain, quantised = (
            AdLIFPlus(features=5, variant=variant),
            AdLIFPlus(features=5, variant=variant, state_quant=lambda x: x),
        )
        quantised.load_state_dict(plain.state_dict())
        current = currents(dtype=torch.float32)
        for one, two in zip(by_steps(plain, current), by_steps(quantised, current), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_delay": False}, "reset_delay=False: Eq. 1 resets in the step after"),
        ({"reset_mechanism": "half"}, "reset_mechanism must be set to either"),
        ({"variant": "euler"}, "variant must be one of"),
        ({"preset": "alif"}, "preset must be one of"),
        ({"features": 4, "alpha": 4}, "the number of neurons is the argument features"),
    ],
)
def test_options_that_make_no_such_neuron_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        AdLIFPlus(**options)


@pytest.mark.parametrize("option", ["init_hidden", "inhibition", "state_quant"])
@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_sequences_refuse_what_acts_between_steps(option):
    with pytest.raises(ValueError, match=f"{option} acts between time steps"):
        StateAdLIFPlus(**{option: True})


def test_the_warning_about_a_clipped_value_points_at_the_users_line():
    with pytest.warns(UserWarning, match="beta=0.8") as caught:
        AdLIFPlus(alpha=0.9, beta=0.8)
    assert caught[0].filename == __file__


def test_the_signature_lists_the_arguments_of_synaptic_in_their_order():
    import inspect

    theirs = list(inspect.signature(snn.Synaptic).parameters)
    for cls in (AdLIFPlus, StateAdLIFPlus):
        assert list(inspect.signature(cls).parameters)[: len(theirs)] == theirs


# ---------------------------------------------------------------- shapes, copies, dtypes, compilation


@pytest.mark.parametrize("shape", [(5,), (4, 6, 6)])
def test_parameters_take_the_shape_of_linear_and_of_conv_features(shape):
    sequence, step = StateAdLIFPlus(), AdLIFPlus()
    x = torch.rand(3, 2, *shape) * 4
    assert sequence(x).shape == x.shape
    assert sequence.alpha.shape == sequence.b.shape == shape
    assert by_steps(step, x)[0].shape == x.shape
    assert step.alpha.shape == shape


def test_an_input_of_other_features_is_refused():
    with pytest.raises(ValueError, match=r"alpha of shape \(3,\) does not broadcast"):
        AdLIFPlus(features=3)(torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"input must be \(T, B, C\), got shape \(2, 3\)"):
        StateAdLIFPlus(features=3)(torch.rand(2, 3))


def test_an_optimizer_made_before_the_first_forward_trains_the_lazy_parameters():
    neuron = AdLIFPlus(init_hidden=True)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=0.01)
    sum(neuron(x).sum() for x in currents(dtype=torch.float32)).backward()
    before = neuron.alpha.detach().clone()
    optimizer.step()
    assert not torch.equal(neuron.alpha, before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("forward_first", [False, True])
@pytest.mark.parametrize("features", [None, NEURONS])
def test_copies_before_and_after_a_forward_pass_with_gradients_continue_like_the_original(copied, forward_first, features):
    neuron = AdLIFPlus(features=features, init_hidden=True, output=True, init_state="uniform").eval()
    current = currents(dtype=torch.float32)
    if forward_first:
        for x in current[:4]:
            neuron(x)
        assert neuron.mem.grad_fn is not None
    twin = copied(neuron)
    if features is None and not forward_first:
        twin(current[0])
        neuron.load_state_dict(twin.state_dict())
        twin.reset_mem()
    for x in current[4:]:
        for one, two in zip(neuron(x), twin(x), strict=True):
            assert torch.equal(one, two)
    assert twin.alpha is not neuron.alpha
    twin(current[0])[2].sum().backward()
    assert neuron.alpha.grad is None


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_a_state_dict_makes_a_fresh_lazy_neuron_the_same(cls):
    neuron, twin = (cls(init_state="uniform", threshold=torch.tensor(0.7), learn_threshold=True) for _ in range(2))
    current = currents(dtype=torch.float32)
    x = current if cls is StateAdLIFPlus else current[0]
    neuron(x)
    twin.load_state_dict(neuron.state_dict())
    if cls is AdLIFPlus:
        neuron.reset_mem()
    neuron.eval()
    twin.eval()
    one, two = neuron(x), twin(x)
    if cls is AdLIFPlus:
        one, two = one[2], two[2]
    assert torch.equal(one, two)


@pytest.mark.parametrize("convert", ["double", "bfloat16", "half"])
@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_converted_neurons_run_and_learn_in_their_dtype(cls, convert):
    neuron = getattr(cls(features=NEURONS, init_state="uniform"), convert)()
    current = currents(dtype=neuron.alpha.dtype)
    outputs = by_steps(neuron, current) if cls is AdLIFPlus else (neuron(current),)
    for value in outputs:
        assert value.dtype == current.dtype and value.isfinite().all()
    outputs[0].sum().backward()
    assert neuron.alpha.grad.dtype == current.dtype and neuron.alpha.grad.abs().sum() > 0


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_wrong_dtypes_are_refused_with_the_remedy(cls):
    neuron = cls(features=3)
    x = torch.ones(4, 2, 3) if cls is StateAdLIFPlus else torch.ones(2, 3)
    with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
        neuron(x.long())
    with pytest.raises(TypeError, match=r"convert the module \(e.g. .double\(\)\)"):
        neuron(x.double())


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_under_bfloat16_autocast_states_and_gradients_stay_float32(cls):
    fc, neuron = nn.Linear(4, NEURONS), cls(features=NEURONS, **({"output": True} if cls is StateAdLIFPlus else {}))
    x = torch.rand(6, 2, 4) * 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spk, w, mem = by_steps(neuron, fc(x)) if cls is AdLIFPlus else neuron(fc(x))
        assert spk.dtype == torch.bfloat16
        assert w.dtype == mem.dtype == torch.float32
        loss = spk.float().sum() + mem.sum()
    loss.backward()
    assert neuron.alpha.grad.dtype == fc.weight.grad.dtype == torch.float32
    assert neuron.alpha.grad.isfinite().all() and fc.weight.grad.abs().sum() > 0


def test_states_move_with_the_module_to_another_dtype():
    neuron = AdLIFPlus(features=3)
    neuron(torch.rand(2, 3))
    neuron.double()
    assert neuron.mem.dtype == torch.float64
    assert neuron(torch.rand(2, 3, dtype=torch.float64))[2].dtype == torch.float64


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinite_inputs_are_refused(cls, bad):
    x = torch.zeros(4, 2, 3)
    x[0, 1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        cls(features=3)(x if cls is StateAdLIFPlus else x[0])


def test_an_empty_sequence_gives_empty_spikes_and_an_empty_batch_too():
    neuron = StateAdLIFPlus(features=3, output=True)
    for shape in ((0, 2, 3), (4, 0, 3)):
        for value in neuron(torch.rand(shape)):
            assert value.shape == shape
    assert AdLIFPlus(features=3)(torch.rand(0, 3))[0].shape == (0, 3)


@pytest.mark.parametrize(("training", "init_state"), [(True, "zeros"), (True, "uniform"), (False, "uniform")])
@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_the_neurons_compile_in_one_graph(cls, training, init_state):
    torch._dynamo.reset()
    options = {"init_hidden": True} if cls is AdLIFPlus else {}
    neuron = cls(features=NEURONS, init_state=init_state, **options).train(training)
    compiled = torch.compile(copy.deepcopy(neuron), fullgraph=True, backend="aot_eager")
    current = currents(steps=2, dtype=torch.float32, scale=8.0)
    results = []
    for module in (neuron, compiled):
        torch.manual_seed(2)
        spk = torch.stack([module(x) for x in current]) if cls is AdLIFPlus else module(current)
        (spk * torch.arange(spk.numel()).view_as(spk)).sum().backward()
        results.append((spk, *(p.grad for p in module.parameters())))
    assert results[0][0].sum() > 0
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_lazy_neurons_can_be_compiled_after_their_first_forward():
    torch._dynamo.reset()
    neuron = AdLIFPlus(init_hidden=True)
    x = torch.rand(2, 3)
    expected = neuron(x)
    neuron.reset_mem()
    assert torch.equal(torch.compile(neuron, fullgraph=True, backend="aot_eager")(x), expected)


@pytest.mark.filterwarnings("ignore")  # of the tracer about the checks of shapes
def test_a_jit_trace_computes_with_its_input():
    neuron = StateAdLIFPlus(features=3)
    x, other = torch.rand(4, 2, 3), torch.rand(4, 2, 3) * 9
    traced = torch.jit.trace(neuron, x)
    assert torch.equal(traced(other), neuron(other)) and neuron(other).sum() > neuron(x).sum()


def test_initial_parameters_follow_the_seed():
    def draw(seed):
        torch.manual_seed(seed)
        neuron = AdLIFPlus()
        neuron(torch.rand(2, 3))
        return neuron.alpha.detach()

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_reset_reaches_neurons_at_any_depth():
    net = nn.Sequential(nn.ModuleDict({"deep": nn.ModuleList([AdLIFPlus(init_hidden=True)])}))
    neuron = net[0]["deep"][0]
    neuron(torch.rand(2, 3))
    reset(net)
    assert neuron.mem.numel() == neuron.w.numel() == 0
