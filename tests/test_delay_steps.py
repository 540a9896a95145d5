"""Layers with delays one step at a time: the values and gradients of the sequence, at a cost that does not grow, and
states that nobody sees change."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

pytest.importorskip("snntorch.surrogate", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")

from snn_delay_plugins.kernels import delay_line, dispatch
from snn_delay_plugins.snntorch import AdLIFPlus, DelayedConv1d, DelayedConv2d, DelayedLinear, detach, reset

IN, OUT, STEPS, BATCH = 7, 5, 20, 3
RULES = {"slayer": {}, "gaussian": {"delay_gradient": "gaussian", "learn_sigma": True, "sigma_type": "synaptic"}}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def layer_of(rule="slayer", **options):
    return DelayedLinear(IN, OUT, **{"max_delay": 6, "delay": "uniform", **RULES[rule], **options}).double()


def trains(density=0.3, batch=BATCH, shape=(IN,)):
    if density == "graded":
        return torch.randn(STEPS, batch, *shape, dtype=torch.float64).requires_grad_()
    return (torch.rand(STEPS, batch, *shape) < density).double().requires_grad_()


def by_steps(layer, x):
    return torch.stack([layer(step) for step in x])


def gradients(loss, layer, x, **options):
    return torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True, materialize_grads=True, **options)


def assert_same(one, two, atol=1e-10):
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=atol)


def of_both_modes(layer, x):
    """Value and gradients, step by step and over the whole sequence, of a loss that does not see the last steps."""
    results, mode = [], layer.step_mode
    for steps in (True, False):
        layer.step_mode = steps
        reset(layer)
        current = by_steps(layer, x) if steps else layer(x)
        weights = torch.linspace(-1, 1, current.numel(), dtype=current.dtype).view_as(current)
        results.append((current, *gradients((current * weights)[:-4].sum(), layer, x)))
    layer.step_mode = mode
    return results


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sparse", [{}, {"synapses": 2}], ids=["dense", "sparse"])
@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("density", [0.1, 0.7, "graded"])
def test_a_step_has_the_values_and_gradients_of_the_sequence(rule, sparse, delay_type, batch, density):
    for max_delay in (0, 3, 17):
        layer = layer_of(rule, max_delay=max_delay, delay_type=delay_type, **sparse)
        assert_same(*of_both_modes(layer, trains(density, batch)))


def bursts():
    """Few spikes, many, none, few, and both in turn: each form of a step meets what the other one left on its way."""
    share = torch.cat([torch.full((n,), p) for n, p in ((25, 0.05), (10, 0.9), (30, 0.0), (5, 0.05))])
    share = torch.cat([share, torch.tensor([0.9, 0.05, 0.4]).repeat(10)])
    return (torch.rand(share.numel(), 9, IN) < share[:, None, None]).double().requires_grad_()


@pytest.mark.parametrize("options", [
    {}, {"kernel": "round", "learn_delay": False}, {"synapses": 3}, {"smoothing": torch.tensor([0.5, 0.3, 0.2, 0.1, 0.1])},
    RULES["gaussian"], {**RULES["gaussian"], "synapses": 1}, {**RULES["gaussian"], "sigma": 0.27},
])  # fmt: skip
def test_steps_with_many_spikes_and_with_few_follow_each_other(options):
    layer = layer_of(**{"max_delay": 23, **options})
    assert_same(*of_both_modes(layer, bursts()))
    assert_same(*of_both_modes(layer.eval(), bursts()))


def test_discrete_layers_take_steps_with_many_spikes_and_with_few():
    layer = layer_of(kernel="round", max_delay=23).eval().discretize()
    x = bursts().detach()
    layer.step_mode = True
    steps = by_steps(layer, x)
    layer.step_mode = False
    reset(layer)
    torch.testing.assert_close(steps, layer(x))


@pytest.mark.parametrize("options", [{}, RULES["gaussian"]])
def test_a_gradient_that_is_not_finite_reaches_its_own_sample_alone(options):
    """One sample diverges: the spikes of the others keep their gradients."""
    layer, x = layer_of(max_delay=9, **options), trains(0.7, 9)
    by_sample = torch.ones(STEPS, 9, OUT, dtype=torch.float64)
    by_sample[5, 0] = torch.inf
    current = by_steps(layer, x)
    (grad,) = torch.autograd.grad(current, x, by_sample)
    assert grad[:, 1:].isfinite().all()


@pytest.mark.parametrize("options", [
    {"kernel": "round"}, {"kernel": "floor"}, {"bias": False}, {"learn_delay": False}, {"bound_mode": "clamp"},
    {"smoothing": torch.tensor([0.5, 0.3, 0.2])}, {"kernel": "round", "learn_delay": False, "max_delay": 9},
])  # fmt: skip
def test_every_option_of_a_layer_is_the_same_in_steps(options):
    assert_same(*of_both_modes(layer_of(**options), trains()))


@pytest.mark.parametrize("rule", RULES)
def test_without_compiled_loops_steps_have_the_gradients_of_the_sequence(rule, monkeypatch):
    monkeypatch.setattr(dispatch, "_HAS_NUMBA", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(*of_both_modes(layer_of(rule), trains()))


def kept_for_the_backward_pass(run):
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    result.sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_delay", [5, 40])
def test_steps_keep_at_most_three_times_what_the_sequence_keeps(rule, max_delay):
    x = (torch.rand(60, 4, 32) < 0.05).float().requires_grad_()
    layer = DelayedLinear(32, 32, max_delay=max_delay, delay="uniform", **RULES[rule])
    of_steps = kept_for_the_backward_pass(lambda: by_steps(layer, x))
    layer.step_mode = False
    assert of_steps <= 3 * kept_for_the_backward_pass(lambda: layer(x))


@pytest.mark.parametrize("cls", [DelayedConv1d, DelayedConv2d])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "groups": 2, "bias": False}])
def test_convolutions_have_the_gradients_of_the_sequence_step_by_step(cls, rule, options):
    x = trains("graded", 2, (4, 7) if cls is DelayedConv1d else (4, 6, 5))
    rules = {"slayer": {}, "gaussian": {"delay_gradient": "gaussian", "learn_sigma": True}}
    layer = cls(4, 6, 3, max_delay=9, delay="uniform", **rules[rule], **options).double()
    for training in (True, False):
        assert_same(*of_both_modes(layer.train(training), x))


def test_convolutions_keep_their_spikes_and_one_kernel():
    x = (torch.rand(30, 2, 4, 8) < 0.1).float().requires_grad_()
    layer = DelayedConv1d(4, 8, 3, padding=1, max_delay=20, delay="uniform")
    of_steps = kept_for_the_backward_pass(lambda: by_steps(layer, x))
    layer.step_mode = False
    assert of_steps <= 3 * kept_for_the_backward_pass(lambda: layer(x))


# ------------------------------------------------------------------------- graphs that are no single chain of steps


def several_backward_passes(layer, x):
    current = by_steps(layer, x)
    first = gradients(current[:9].pow(2).sum(), layer, x, retain_graph=True)
    return *first, *gradients(current.pow(3).sum(), layer, x, retain_graph=True), *gradients(current.sum(), layer, x)


def branches_from_a_snapshot(layer, x):
    stem, kept = by_steps(layer, x[:8]), layer.history
    ends = []
    for factor in (1, 2, 3):
        layer.history = kept
        ends.append(by_steps(layer, factor * x[8:]))
    current = torch.cat([stem, *ends])
    return current, *gradients(current.pow(2).sum(), layer, x)


def a_backward_pass_at_every_step(layer, x):
    found = []
    for step in x:
        found += gradients(layer(step).pow(2).sum(), layer, x, retain_graph=True)
    return found


def an_optimizer_step_between_windows(layer, x):
    optimizer, found = torch.optim.SGD(layer.parameters(), lr=0.05), []
    for window in x.split(5):
        current = by_steps(layer, window)
        optimizer.zero_grad()
        current.pow(2).sum().backward()
        optimizer.step()
        layer.detach_states()
        found += [current.detach(), *(p.grad.clone() for p in layer.parameters())]
    return [*found, x.grad]


def windows_without_detach_of_inputs_without_gradient(layer, x):
    for window in x.detach().split(5):
        by_steps(layer, window).pow(2).sum().backward()
    return [p.grad for p in layer.parameters()]


def weights_that_change_on_the_way(layer, x):
    found = []
    for t, step in enumerate(x):
        with torch.no_grad():
            if t == 5:
                layer.weight.mul_(2)
            if t == 9:
                layer.bias.add_(1)
            if t == 12:
                layer.weight.data = layer.weight * -1
            if t == 15:
                layer.history[:2] = 0
            found.append(layer(step))
    return found


def somebody_reads_the_history(layer, x):
    extra, found = 0.0, []
    for t, step in enumerate(x):
        found.append(layer(step))
        if t % 5 == 4:
            extra = extra + (layer.history * torch.arange(layer.history.numel()).view_as(layer.history)).sum()
    return gradients(torch.stack(found).pow(2).sum() + extra, layer, x)


def inputs_that_depend_on_the_currents(layer, x):
    current, found = torch.zeros(BATCH, OUT, dtype=x.dtype), []
    for step in x:
        current = layer(step + nn.functional.pad(current.tanh(), (0, IN - OUT)))
        found.append(current)
    return gradients(torch.stack(found).pow(2).sum(), layer, x)


def modes_that_change_on_the_way(layer, x):
    found = []
    for t, step in enumerate(x):
        layer.train(t % 5 != 2)
        with torch.set_grad_enabled(t % 4 != 1):
            found.append(layer(step if t % 3 else step.detach()))
    current = torch.stack(found)
    return current, *gradients(current.pow(2).sum(), layer, x)


@pytest.mark.parametrize("use", [
    several_backward_passes, branches_from_a_snapshot, a_backward_pass_at_every_step, an_optimizer_step_between_windows,
    windows_without_detach_of_inputs_without_gradient, weights_that_change_on_the_way, somebody_reads_the_history,
    inputs_that_depend_on_the_currents, modes_that_change_on_the_way,
])  # fmt: skip
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_of_the_plain_form(rule, use, monkeypatch):
    plain, x = layer_of(rule), trains()
    layer, same = copy.deepcopy(plain), x.detach().clone().requires_grad_()
    found = use(layer, same)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    assert_same(found, use(plain, x))


# ------------------------------------------------------------------------- weights that torch does not see change


FUSED = {
    "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD, "Adagrad": torch.optim.Adagrad,
}  # fmt: skip


def assert_steps_with_the_weights_it_has(layer, x):
    """The next step, against that of the same layer with nothing remembered but the history."""
    history = layer.history.clone()
    with torch.no_grad():
        current = layer(x)
        layer.history = history
        torch.testing.assert_close(current, layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", FUSED)
def test_a_step_after_a_fused_optimizer_has_the_new_weights(name):
    layer, x = layer_of(learn_delay=False).float(), torch.ones(BATCH, IN)  # whose delays no bound writes to
    optimizer = FUSED[name](layer.parameters(), lr=0.1, fused=True)
    by_steps(layer, x.expand(4, BATCH, IN)).sum().backward()
    with torch.no_grad():
        layer(x)
    before = layer.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
    assert_steps_with_the_weights_it_has(layer, x)


def test_an_actor_in_step_mode_has_the_weights_that_a_learner_of_sequences_gave_it():
    learner, actor = (layer_of(learn_delay=False, step_mode=steps) for steps in (False, True))
    actor.weight, actor.delay, actor.bias = learner.weight, learner.delay, learner.bias
    optimizer, x = torch.optim.Adam(learner.parameters(), lr=0.1, fused=True), trains().detach()
    for _ in range(3):
        with torch.no_grad():
            by_steps(actor, x)
            kept = actor.history
        learner(x).pow(2).sum().backward()
        optimizer.step()
        assert_steps_with_the_weights_it_has(actor, x[0])
        actor.history = kept
        assert_steps_with_the_weights_it_has(actor, x[0])


def test_layers_made_in_inference_mode_have_the_weights_of_a_state_dict_at_the_next_step():
    other, x = layer_of(kernel="round").eval(), trains().detach()[0]
    with torch.inference_mode():
        plain = layer_of(kernel="round").eval()
        for layer, stored in ((plain, other), (plain.discretize(), other.discretize())):
            layer(x)
            layer.load_state_dict(stored.state_dict())
            assert_steps_with_the_weights_it_has(layer, x)


def test_numbers_that_come_to_lie_where_the_old_ones_lay_are_seen():
    layer, x = layer_of(), trains().detach()[0]
    with torch.no_grad():
        for _ in range(5):
            layer(x)
            layer.weight.data = layer.weight.data * 2
            layer.weight.data = layer.weight.data * 2
            assert_steps_with_the_weights_it_has(layer, x)


def test_a_line_goes_on_through_an_evaluation():
    layer, x = layer_of().eval(), trains().detach()
    with torch.no_grad():
        line = begun_line(layer, x[0])
        assert all(begun_line(layer, step) is line for step in x)


# ------------------------------------------------------------------- weights that are computed anew for every step


class Doubled(nn.Module):
    def forward(self, value):
        return 2 * value


def doubled(module):
    return nn.utils.parametrize.register_parametrization(module, "delay" if module.learn_delay else "bias", Doubled())


COMPUTED = {
    "weight_norm": nn.utils.parametrizations.weight_norm, "orthogonal": nn.utils.parametrizations.orthogonal,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5), "own": doubled,
    "hooked": lambda layer: doubled(prune.random_unstructured(layer, "bias", amount=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [DelayedLinear, DelayedConv1d])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("computed", COMPUTED)
def test_steps_with_a_computed_weight_go_on_and_have_the_gradients_of_the_sequence(kind, rule, computed):
    size = () if kind is DelayedLinear else (2,)
    layer = kind(IN, OUT, *size, max_delay=6, delay=2.3, **({} if rule == "slayer" else {"delay_gradient": "gaussian"}))
    layer, x = COMPUTED[computed](layer.double()), trains(shape=(IN, *(4 for _ in size)))
    assert_same(*of_both_modes(layer, x))
    reset(layer)
    lines = {id(line): line for line in (begun_line(layer, step) for step in x)}
    assert len(lines) == 1


def test_a_pruned_weight_that_changes_on_the_way_is_seen():
    layer, x = prune.l1_unstructured(layer_of(), "weight", amount=0.3), trains().detach()
    with torch.no_grad():
        by_steps(layer, x)
        layer.weight_mask[:, 1] = 0
        assert_steps_with_the_weights_it_has(layer, x[0])
        layer.weight_orig.data.mul_(3)
        assert_steps_with_the_weights_it_has(layer, x[0])


def test_a_weight_that_comes_out_different_at_every_step_is_said_once_with_the_remedy():
    layer, x = nn.utils.parametrizations.spectral_norm(layer_of()), trains().detach()
    same = copy.deepcopy(layer)
    dispatch._warned.cache_clear()
    with pytest.warns(UserWarning, match=r"weight of .*spectral_norm in training.*parametrize\.cached") as caught:
        by_steps(layer, x)
        by_steps(layer, x)
    assert len(caught) == 1
    with warnings.catch_warnings(), nn.utils.parametrize.cached():
        warnings.simplefilter("error")
        by_steps(same, x)


def test_spectral_norm_turns_once_per_step_as_in_the_plain_form(monkeypatch):
    layer, x = nn.utils.parametrizations.spectral_norm(layer_of()), trains()
    plain = copy.deepcopy(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = by_steps(layer, x)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    expected = by_steps(plain, x)
    assert_same([found, *gradients(found.pow(2).sum(), layer, x)], [expected, *gradients(expected.pow(2).sum(), plain, x)])


# --------------------------------------------------------------------------------------------------- states


def test_states_that_a_caller_holds_stay_as_they_are():
    for layer in (layer_of(), layer_of("gaussian"), layer_of("gaussian").eval(), layer_of("gaussian").discretize()):
        x, seen = trains(), []
        for step in x:
            layer(step.detach())
            seen.append((layer.history, layer.history.clone()))
        assert all(torch.equal(kept, copied) for kept, copied in seen)
        expected = torch.cat([x[-7:].detach().flip(0), x.new_zeros(0, BATCH, IN)])
        assert torch.equal(layer.history, expected)


def test_states_are_in_no_buffer_and_in_no_checkpoint():
    net = nn.Sequential(DelayedLinear(4, 3, max_delay=2), nn.BatchNorm1d(3))
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(2):
        reset(net)
        by_steps(net, torch.rand(6, 2, 4)).sum().backward()
        average.update_parameters(net)
    assert not any("history" in name for name, _ in net.named_buffers())
    twin = pickle.loads(pickle.dumps(net[0]))
    assert torch.equal(twin.history, net[0].history)
    assert net.double()[0].history.dtype == torch.float64


def test_truncated_backpropagation_runs_over_detached_windows():
    net = nn.Sequential(
        DelayedLinear(6, 5, max_delay=4, delay=2.0), AdLIFPlus(features=5, init_hidden=True),
        DelayedConv1d(5, 3, 1, max_delay=4, delay=3.0),
    )  # fmt: skip

    def window():
        return sum(net[2](net[1](net[0](step))[..., None]).sum() for step in torch.rand(6, 2, 6))

    for cut in (lambda: detach(net), lambda: (net[0].detach_hidden(), net[1].detach_hidden(), net[2].detach_hidden())):
        for _ in range(2):
            window().backward()
            cut()
            assert net[0].history.any()  # the spikes go on
    window().backward()
    with pytest.raises(RuntimeError, match=r"freed.*reset.*detach"):
        window().backward()
    reset(net)
    window().backward()


def test_a_second_derivative_is_refused_with_the_remedy(monkeypatch):
    x = trains()
    with pytest.raises(NotImplementedError, match="SNN_DELAY_PLUGINS_METHOD=torch"):
        torch.autograd.grad(by_steps(layer_of(), x).pow(2).sum(), x, create_graph=True)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    (first,) = torch.autograd.grad(by_steps(layer_of(), x).pow(2).sum(), x, create_graph=True)
    assert torch.autograd.grad(first.pow(2).sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize("layer", [
    DelayedLinear(IN, OUT, max_delay=3, delay=1.5), DelayedConv1d(IN, OUT, 1, max_delay=3, delay=1.5),
])  # fmt: skip
def test_several_gradients_at_once_are_refused_with_the_remedies(layer, monkeypatch):
    def current(x):
        reset(layer)
        return by_steps(layer, x) if layer.step_mode else layer(x)

    x = torch.rand(4, 1, IN, *([2] if isinstance(layer, DelayedConv1d) else []))
    with pytest.raises(RuntimeError, match=r"vectorize=False.*whole sequences.*SNN_DELAY_PLUGINS_METHOD=torch"):
        torch.autograd.functional.jacobian(current, x, vectorize=True)
    out = current(x.requires_grad_())
    with pytest.raises(RuntimeError, match="several gradients at once"):
        torch.func.vmap(lambda grad: torch.autograd.grad(out, x, grad))(torch.rand(3, *out.shape))
    x = x.detach()
    found = [torch.autograd.functional.jacobian(current, x)]
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    found.append(torch.autograd.functional.jacobian(current, x, vectorize=True))
    for one in found:
        assert one.any()
        torch.testing.assert_close(one, found[0])


@pytest.mark.parametrize("rule", RULES)
def test_forward_mode_gives_the_tangent_of_the_sequence(rule):
    layer, x, tangent = layer_of(rule), trains().detach(), torch.randn(STEPS, BATCH, IN, dtype=torch.float64)
    _, of_steps = torch.func.jvp(lambda y: by_steps(layer, y), (x,), (tangent,))
    reset(layer)
    layer.step_mode = False
    torch.testing.assert_close(of_steps, layer(x + tangent) - layer(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", [
    DelayedLinear(IN, OUT, max_delay=3, delay=1.5), DelayedConv1d(IN, OUT, 1, max_delay=3, delay=1.5),
])  # fmt: skip
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_around_a_step_is_refused(layer, reentrant):
    x = torch.rand(BATCH, IN, requires_grad=True)
    x = x[..., None] if isinstance(layer, DelayedConv1d) else x
    reset(layer)
    current = sum((t + 1) * checkpoint(layer, x, use_reentrant=reentrant).pow(2).sum() for t in range(3))
    with pytest.raises(RuntimeError, match="checkpoint"):
        current.backward()


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"), reason="torch 2.6 refuses it with its own error"
)
def test_a_checkpoint_around_a_step_that_is_given_its_history_has_the_gradients_of_the_plain_call():
    layer, x, results = layer_of(), trains(), []
    for run in (lambda f, *given: f(*given), lambda f, *given: checkpoint(f, *given, use_reentrant=False)):
        history, found = torch.zeros(7, BATCH, IN, dtype=torch.float64), []
        for step in x:
            current, history = run(layer.step_currents, step, history)
            found.append(current)
        results.append(gradients(torch.stack(found).pow(2).sum(), layer, x))
    assert_same(*results)


def test_a_neuron_that_starts_anew_behind_a_layer_that_does_not_is_said_once():
    net, other = (
        nn.Sequential(DelayedLinear(4, 3, max_delay=5), AdLIFPlus(features=3, init_hidden=True)).eval() for _ in range(2)
    )

    def run(net):
        with torch.no_grad():
            by_steps(net, torch.ones(3, 2, 4))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(net)
        run(other)
        reset(other)  # next to it
        run(net)
        net[1].reset_mem()  # one after the other
        net[0].reset_delay()
        run(net)
        reset(net)
        run(net)
    net[1].reset_mem()
    with pytest.warns(UserWarning, match=r"24 in the last 6 steps.*reset\(net\)") as caught:
        run(net)
    assert len(caught) == 1


# --------------------------------------------------------------------------------------------- frozen layers


def test_discretize_says_by_how_much_it_changes_a_layer_that_is_not_evaluated_with_rounded_delays():
    half = DelayedLinear(1, 2, max_delay=3, delay=torch.tensor([[1.5], [2.0]]))
    with torch.no_grad():
        half.weight.fill_(1.0)
    share = round(100 * (0.5 / (0.5 + 1.0)) ** 0.5)  # half a spike is missing at one step and too much at another
    with pytest.warns(UserWarning, match=rf"'linear' interpolation: 1 of 2 synapses change, .* by {share} %.*='round'"):
        half.discretize()
    with pytest.warns(UserWarning, match="'floor' interpolation: 1 of 1"):
        DelayedLinear(1, 1, max_delay=3, delay=1.6, kernel="floor").discretize()
    with pytest.warns(UserWarning, match="'linear' interpolation: 12 of 12"):
        DelayedConv1d(2, 2, 3, max_delay=3, delay=1.6).discretize()


@pytest.mark.parametrize("options", [
    {"kernel": "round"}, {"delay": 2.0}, {"delay": 2.0, "kernel": "floor"}, {"delay": 1.4, "kernel": "floor"},
    {"delay_gradient": "gaussian"},
])  # fmt: skip
def test_discretize_is_silent_where_nothing_changes(options):
    layer = DelayedLinear(IN, OUT, **{"max_delay": 6, "delay": "uniform", **options}).eval()
    x = trains().detach().float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen = layer.discretize()
        DelayedConv1d(2, 2, 3, **{"max_delay": 6, "delay": "uniform", **options}).discretize()
    torch.testing.assert_close(by_steps(frozen, x), by_steps(layer, x))


@pytest.mark.parametrize("method", ["numba", "torch"])
@pytest.mark.parametrize(("name", "value"), [
    ("targets", OUT), ("targets", -1), ("delays", 7), ("delays", -1), ("starts", 9), ("starts", -1),
])  # fmt: skip
def test_a_step_of_a_frozen_layer_whose_synapses_do_not_fit_is_refused(name, value, method, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
    frozen = DelayedLinear(IN, OUT, max_delay=6, delay=2.0).discretize()
    frozen(torch.ones(BATCH, IN))
    getattr(frozen, name)[0] = value
    with pytest.raises(ValueError, match=r"list of synapses|starts|targets|delays"):
        frozen(torch.ones(BATCH, IN))


def test_a_line_keeps_no_memory_of_the_layer_that_somebody_could_write_into():
    x = torch.ones(BATCH, IN)
    for layer in (
        DelayedLinear(IN, OUT, max_delay=6, delay="uniform", kernel="round").eval().discretize(),
        DelayedLinear(IN, 1, max_delay=6, delay=2.0, kernel="round", learn_delay=False),
        DelayedLinear(1, OUT, max_delay=6, delay=2.0, kernel="round", learn_delay=False),
    ):  # fmt: skip
        line = begun_line(layer, x[:, : layer.in_features])
        before = [table.copy() for table in line.synapses.tables]
        for value in layer.state_dict().values():
            value.fill_(10**9)
        assert all((one == two).all() for one, two in zip(line.synapses.tables, before, strict=True))


def begun_line(layer, x):
    layer(x)
    return delay_line._states[id(layer.history)][1].line


def test_synapses_whose_places_no_int32_holds_are_visited_where_they_are():
    from snn_delay_plugins.kernels.delay_line.listed import ListedSynapses

    longest, receivers = 2**24 - 2, 150
    lags = torch.full((receivers,), longest, dtype=torch.int32)
    targets, starts = torch.arange(receivers, dtype=torch.int32), torch.tensor([0, receivers])
    try:
        synapses = ListedSynapses(torch.ones(receivers, 1), lags, starts, targets, receivers, longest)
    except ValueError as error:
        assert "synapses with delays up to 16777214 would take" in str(error)  # a small machine
        return
    expected = [i * synapses.length + longest for i in range(receivers)]
    assert synapses.tables[1].tolist() == expected and expected[-1] > 2**31


@pytest.mark.parametrize(("layer", "shape"), [
    (DelayedLinear(1, 150, max_delay=2**24 - 2, delay=2.0**24 - 2).eval(), (1000, 1)),
    (DelayedLinear(1, 150, max_delay=2**24 - 2, delay=2.0**24 - 2, kernel="round").eval().discretize(), (1000, 1)),
    (DelayedConv1d(1, 128, 3, max_delay=2**24 - 2, delay=2.0**24 - 2).eval(), (1000, 1, 50)),
])  # fmt: skip
def test_steps_that_no_memory_holds_are_refused_before_they_take_any(layer, shape):
    with pytest.raises(ValueError, match=r"GiB; this machine has"), torch.no_grad():
        layer(torch.ones(shape))


# ------------------------------------------------------------------------------------ inputs that are no dense tensor


KINDS = {
    "linear": lambda **mode: DelayedLinear(3, 2, max_delay=2, delay=1.0, **mode),
    "convolution": lambda **mode: DelayedConv1d(3, 2, 1, max_delay=2, delay=1.0, **mode),
    "frozen": lambda **mode: DelayedLinear(3, 2, max_delay=2, delay=1.0, **mode).discretize(),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step_mode", [True, False])
def test_an_input_that_is_no_dense_tensor_is_refused_by_name(kind, step_mode):
    layer, x = KINDS[kind](step_mode=step_mode), torch.ones(2, 3, *([4] if kind == "convolution" else []))
    x = x if step_mode else x[None]
    for _ in range(2):  # without spikes on their way, and with
        for other in (None, [1.0, 2.0, 3.0], x.numpy()):
            with pytest.raises(TypeError, match="spikes must be a tensor"):
                layer(other)
        with pytest.raises(TypeError, match=r"spikes must be a dense tensor, got torch.sparse_coo.*to_dense"):
            layer(x.to_sparse())
        with pytest.raises(TypeError, match="complex64"):
            layer(x.to(torch.complex64).conj())
        with pytest.raises(ValueError, match="spikes must be"):
            layer(torch.tensor(1.0))
        layer(x)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_stored_negated_count_as_what_they_are(kind):
    layer = KINDS[kind]()
    x = torch.randn(4, 2, 3, *([4] if kind == "convolution" else []), dtype=torch.complex64).conj().imag
    assert x.is_neg()
    current = by_steps(layer, x)
    reset(layer)
    assert torch.equal(current, by_steps(layer, x.resolve_neg()))
    history = layer.history.clone()
    found = []
    for layer.history in (torch.complex(history, -history).conj().imag, history):
        found.append(layer(x[0]))
    assert torch.equal(*found)


def test_a_step_of_a_convolution_of_the_wrong_shape_is_told_the_layout_of_a_step():
    with pytest.raises(ValueError, match=r"spikes must be \[N, 3, L\], got shape \(2, 4, 4\)"):
        DelayedConv1d(3, 2, 1, max_delay=2)(torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match=r"spikes must be \[N, 3, H, W\]"):
        DelayedConv2d(3, 2, 1, max_delay=2)(torch.ones(2, 4, 4))
