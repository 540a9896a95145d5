"""Linear neurons as a torch operator: registrations, torch.compile, autocast, data-parallel training, surrogates served."""

import contextlib
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from snn_delay_plugins.functional.adlif import AdLIFState, adlif
from snn_delay_plugins.functional.linear_neuron import Coefficients, LinearState, linear_neuron
from snn_delay_plugins.functional.surrogate import Boxcar
from snn_delay_plugins.kernels import dispatch
from snn_delay_plugins.kernels.linear_neuron.operator import EVERY
from snn_delay_plugins.kernels.linear_neuron.structure import Structure

operator = torch.ops.snn_delay_plugins.linear_neuron
ADLIF = Structure(("A00", "A10", "A11", "r0", "r1", "B0", "theta"), subtracted=True)
SE_ADLIF = Structure(("A00", "A10", "A11", "J00", "r1", "B0", "theta"), subtracted=True, detached=("J",), symplectic=True)
LIF = Structure(("A00", "r0", "B0", "theta"))


def flat_inputs(structure, steps, batch, features, dtype=torch.float64):
    columns = batch * features
    tensors = [torch.randn(steps, columns, dtype=dtype) * 3 + 1, torch.rand(columns, dtype=dtype)]
    tensors += [torch.rand(columns * structure.two, dtype=dtype), torch.rand(columns, dtype=dtype).round()]
    tensors += [torch.rand(len(structure.names), features, dtype=dtype)]
    return [x.clone().requires_grad_() for x in tensors]


def parameters(features, dtype=torch.float32):
    torch.manual_seed(1)
    return {name: torch.rand(features, dtype=dtype).requires_grad_() for name in ("alpha", "beta", "a", "b")}


@pytest.mark.parametrize("traces", [True, False])
@pytest.mark.parametrize("structure", [ADLIF, SE_ADLIF, LIF], ids=["AdLIF", "SE-AdLIF", "LIF"])
def test_opcheck(structure, traces):
    inputs, boxcar = flat_inputs(structure, 6, 2, 3), (0.5, 0.5)
    torch.library.opcheck(operator.default, (*inputs, structure.code, traces, not traces, *boxcar))
    current, *state = (x.detach() for x in inputs)
    out = operator(current, *state, structure.code, traces, False, *boxcar)
    gradients = [torch.randn_like(x) for x in out[:6]]
    for phi in (None, torch.rand_like(current)):
        arguments = (*gradients, phi, current, *out[1:3], *state, structure.code, *boxcar)
        torch.library.opcheck(torch.ops.snn_delay_plugins.linear_neuron_backward.default, arguments)


def test_a_structure_is_its_code_and_others_are_refused():
    for structure in (ADLIF, SE_ADLIF, LIF, ADLIF._replace(detached=("r0",)), LIF._replace(symplectic=True)):
        assert Structure.of(structure.code) == structure
    for structure in (SE_ADLIF._replace(subtracted=False), LIF._replace(names=(*LIF.names, "c"), symplectic=True)):
        with pytest.raises(ValueError, match="code must be a structure's"):
            Structure.of(structure.code)
    for code in (-1, 1 << 40):
        with pytest.raises(ValueError, match="code must be a structure's"):
            Structure.of(code)


@pytest.mark.parametrize("variant", ["adlif", "symplectic"])
def test_compile_traces_through_without_a_graph_break(variant):
    current = torch.randn(20, 3, 7) * 3

    def network(x, p):
        spikes, state, (u, w) = adlif(x.mul(2), **p, variant=variant, traces=True)
        return spikes.sum() + u.square().sum() + w.sum() + state.u.sum()

    runs = []
    for function in (torch.compile(network, fullgraph=True, backend="aot_eager"), network):
        p, leaf = parameters(7), current.clone().requires_grad_()
        value = function(leaf, p)
        runs.append((value, *torch.autograd.grad(value, [leaf, *p.values()])))
    for compiled, eager in zip(*runs, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)


def test_autocast_keeps_states_in_float32():
    current = torch.randn(20, 3, 7) * 3
    with torch.autocast("cpu", torch.bfloat16):
        spikes, state = adlif(current.bfloat16(), **parameters(7))
    assert spikes.dtype == torch.bfloat16 and state.u.dtype == torch.float32
    assert torch.equal(spikes.float(), adlif(current.bfloat16().float(), **parameters(7))[0])


def test_data_parallel_training_passes_through(process_group):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.ParameterDict({k: v.detach() for k, v in parameters(7).items()})

        def forward(self, x):
            return adlif(x, **self.p)[0]

    net, x = Net(), torch.randn(20, 3, 7) * 3
    net(x).sum().backward()
    alone = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    nn.parallel.DistributedDataParallel(net)(x).sum().backward()
    for p, expected in zip(net.parameters(), alone, strict=True):
        assert torch.equal(p.grad, expected)


def test_wide_layers_are_bit_equal_on_one_and_two_threads():
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            p, leaf = parameters(700), (torch.randn(12, 5, 700) * 3).requires_grad_()  # several blocks of columns
            spikes, state = adlif(leaf, **p)
            runs.append((spikes, *torch.autograd.grad(spikes.sum() + state.u.sum(), [leaf, *p.values()])))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("steps", [1, EVERY - 1, EVERY, EVERY + 1, 2 * EVERY, 3 * EVERY + 5])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize(("variant", "adaptive"), [("adlif", True), ("adlif", False), ("symplectic", True)])
def test_traces_computed_anew_give_the_gradients_of_traces_that_were_kept(variant, adaptive, reset, steps):
    torch.manual_seed(0)
    p = parameters(180, torch.float64)
    leaf = (torch.randn(steps, 13, 180).double() * 3).requires_grad_()  # 2340 columns: more than one block
    p = p if adaptive else {"alpha": p["alpha"]}
    start = AdLIFState(*torch.rand(2, 13, 180).double(), torch.rand(13, 180).double().round())
    start = AdLIFState(*(value.requires_grad_() for value in start))
    runs = []
    for traces in (False, True):
        spikes, state, *_ = adlif(leaf, start, **p, variant=variant, reset=reset, traces=traces)
        loss = (spikes * torch.arange(180)).sum() + state.u.square().sum() + state.w.sum()
        runs.append(torch.autograd.grad(loss, [leaf, *start, *p.values()], allow_unused=True, materialize_grads=True))
    for anew, kept in zip(*runs, strict=True):
        assert torch.equal(anew, kept)


@pytest.mark.parametrize(("variant", "adaptive"), [("adlif", True), ("adlif", False), ("symplectic", True)])
def test_the_support_is_where_gradients_of_spikes_have_an_effect(variant, adaptive):
    p, leaf = parameters(5), (torch.randn(30, 4, 5) * 3).requires_grad_()
    p = p if adaptive else {"alpha": p["alpha"]}
    spikes, _, support = adlif(leaf, **p, variant=variant, support=True, surrogate=Boxcar(0.3, 0.7))
    assert support.dtype == torch.bool and support.shape == spikes.shape and not support.requires_grad
    assert 0 < support.sum() < support.numel()
    g = torch.randn(spikes.shape)
    whole = torch.autograd.grad(spikes, [leaf, *p.values()], g, retain_graph=True)
    for some, all_ in zip(torch.autograd.grad(spikes, [leaf, *p.values()], g * support), whole, strict=True):
        assert torch.equal(some, all_)
    if variant == "adlif":
        u = adlif(leaf, **p, traces=True)[2][0]
        assert torch.equal(support, (u - 1.0).abs() <= 0.3)


def test_without_a_boxcar_and_in_the_plain_form_the_support_is_everywhere():
    p, current = parameters(5), torch.randn(9, 2, 5)
    assert adlif(current, **p, support=True, method="torch")[-1] is None
    assert adlif(current, **p, support=True, surrogate=lambda x: _Linear.apply(x))[-1] is None


def test_memory_holds_few_traces_that_nobody_asked_for():
    steps = 2 * EVERY + 6
    inputs = [x.detach() for x in flat_inputs(ADLIF, steps, 2, 3)]
    for traces, held in ((False, 2), (True, steps)):
        out = operator(*inputs, ADLIF.code, traces, False, 0.5, 0.5)
        assert out[1].shape == out[2].shape == (held, 6)
    saved = []  # in eager mode too, by an autograd function
    leaf = torch.randn(steps, 1, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(tuple(x.shape)) or x, lambda x: x):
        adlif(leaf, **parameters(6))
    assert saved.count((2, 6)) == 2 and saved.count((steps, 6)) == 1


def test_only_the_final_state_in_the_loss():
    for method in ("torch", "numba"):
        p, leaf = parameters(4, torch.float64), torch.ones(6, 2, 4, dtype=torch.float64, requires_grad=True)
        _, state = adlif(leaf, **p, method=method)
        gradients = torch.autograd.grad(state.u.sum() + 2 * state.w.sum(), [leaf, *p.values()])
        expected = gradients if method == "torch" else expected  # noqa: F821
    for actual, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


class _ClippedBackward(torch.autograd.Function):
    """A surrogate whose backward clips what comes in: not a number per neuron times the gradient."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-0.1, 0.1)


class _RandomBackward(_ClippedBackward):
    @staticmethod
    def backward(ctx, g):
        return g * torch.rand_like(g)


class _Linear(_ClippedBackward):
    @staticmethod
    def backward(ctx, g):
        return 0.3 * g


@pytest.mark.parametrize("function", [_ClippedBackward, _RandomBackward])
def test_a_surrogate_that_is_no_factor_runs_in_the_plain_form_and_warns_once(function, recwarn):
    def surrogate(x):
        return function.apply(x)

    current = torch.randn(20, 3, 7) * 3
    dispatch._warned.cache_clear()
    runs = []
    for method in (None, None, "torch"):
        p = parameters(7)
        torch.manual_seed(2)
        spikes, _ = adlif(current, **p, surrogate=surrogate, method=method)
        runs.append(torch.autograd.grad(spikes.cumsum(0).sum(), list(p.values())))
    for chosen, plain in zip(runs[1], runs[2], strict=True):
        assert torch.equal(chosen, plain)
    assert ["backward is not ds/dx" in str(w.message) for w in recwarn.list].count(True) == 1
    with pytest.raises(ValueError, match="backward is not ds/dx"):
        adlif(current, **parameters(7), surrogate=surrogate, method="numba")


def test_any_function_that_spikes_and_scales_its_gradient_is_served():
    runs = []
    for method in ("numba", "torch"):
        p = parameters(7)
        spikes, _ = adlif(torch.randn(20, 3, 7, generator=torch.Generator().manual_seed(0)) * 3, **p,
                          surrogate=lambda x: _Linear.apply(x), method=method)  # fmt: skip
        runs.append((spikes, *torch.autograd.grad(spikes.cumsum(0).sum(), list(p.values()))))
    for fast, plain in zip(*runs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_every_surrogate_of_snntorch_equals_the_plain_form():
    surrogates = pytest.importorskip("snntorch.surrogate")
    for surrogate in (surrogates.atan(), surrogates.fast_sigmoid(5), surrogates.sigmoid(5), surrogates.triangular(),
                      surrogates.straight_through_estimator(), surrogates.heaviside(),
                      surrogates.spike_rate_escape()):  # fmt: skip
        runs = []
        for method in (None, "torch"):
            p = parameters(7, torch.float64)
            torch.manual_seed(3)
            spikes, _ = adlif(torch.randn(15, 2, 7, dtype=torch.float64), **p, surrogate=surrogate, method=method)
            runs.append((spikes, *torch.autograd.grad(spikes.sum(), list(p.values()))))
        for fast, plain in zip(*runs, strict=True):
            torch.testing.assert_close(fast, plain, rtol=2e-4, atol=2e-4)


class _Slotted:
    """Can neither be hashed nor referred to weakly."""

    __slots__ = ("height",)
    __hash__ = None

    def __call__(self, x):
        return _Linear.apply(x)


def test_a_callable_of_any_kind_is_probed():
    current = torch.randn(6, 2, 3) * 3
    plain = adlif(current, alpha=torch.full((3,), 0.5), surrogate=_Slotted(), method="torch")
    assert torch.equal(adlif(current, alpha=torch.full((3,), 0.5), surrogate=_Slotted(), method="numba")[0], plain[0])


def test_a_surrogate_that_cannot_be_tried_runs_in_the_plain_form():
    def only_double(x):
        if x.dtype != torch.float64:
            raise TypeError("double, please")
        return _Linear.apply(x)

    dispatch._warned.cache_clear()
    with pytest.warns(UserWarning, match=r"could not be tried.*double, please"):
        adlif(torch.zeros(3, 1, 2, dtype=torch.float64), alpha=torch.full((2,), 0.5, dtype=torch.float64),
              surrogate=only_double)  # fmt: skip


def test_probing_a_surrogate_draws_no_random_numbers():
    state = torch.random.get_rng_state()
    adlif(torch.zeros(3, 1, 2), alpha=torch.full((2,), 0.5), surrogate=lambda x: (x > torch.rand_like(x)).to(x.dtype))
    after_plain_form = torch.random.get_rng_state()
    torch.random.set_rng_state(state)
    adlif(torch.zeros(3, 1, 2), alpha=torch.full((2,), 0.5), method="torch",
          surrogate=lambda x: (x > torch.rand_like(x)).to(x.dtype))  # fmt: skip
    assert torch.equal(torch.random.get_rng_state(), after_plain_form)


def test_gradients_of_the_kernel_cannot_be_differentiated_again():
    for surrogate in (Boxcar(), _Linear.apply):
        leaf = torch.randn(5, 2, 3, requires_grad=True)
        spikes, _ = adlif(leaf, **parameters(3), surrogate=surrogate, method="numba")
        (g,) = torch.autograd.grad(spikes.sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match=r"cannot be differentiated again .*method=\"torch\""):
            g.sum().backward()


def test_states_can_be_carried_from_part_to_part():
    current = torch.randn(30, 2, 5, dtype=torch.float64) * 3
    gradients = []
    for split in ([30], [7, 1, 22]):
        p, state, spikes = parameters(5, torch.float64), None, []
        for part in current.split(split):
            s, state = adlif(part, state and AdLIFState(*state), **p)
            spikes.append(s)
        gradients.append((torch.cat(spikes), *torch.autograd.grad(torch.cat(spikes).cumsum(0).sum(), list(p.values()))))
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-10)


class _Seen(TorchDispatchMode):
    """Somebody who looks at operators as they run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("surrogate", [Boxcar(), _Linear.apply], ids=["boxcar", "another"])
def test_who_looks_at_operators_sees_them_with_the_same_values(surrogate):
    leaf, p = torch.randn(40, 2, 3, requires_grad=True), parameters(3)
    found = []
    for mode in (contextlib.nullcontext(), seen := _Seen()):
        with mode:
            spikes, _ = adlif(leaf, **p, surrogate=surrogate)
            found.append((spikes, *torch.autograd.grad(spikes.sum(), [leaf, *p.values()])))
    ours = [name for name in seen.names if name.startswith("snn_delay_plugins")]
    assert ours == ["snn_delay_plugins::linear_neuron", "snn_delay_plugins::linear_neuron_backward"]
    for alone, watched in zip(*found, strict=True):
        assert torch.equal(alone, watched)


FULL = {
    "A": ((0.6, -0.3), (0.3, 0.7)), "J": ((-0.5, 0.1), (0.2, -0.3)), "r": (-0.4, 0.3), "B": (0.8, 0.3), "c": -0.4,
    "through": (0.2, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("through", [False, True])
def test_a_neuron_with_every_coefficient_is_compiled_as_in_the_plain_form(through):
    current = torch.randn(40, 2, 3, dtype=torch.float64) * 2
    start = LinearState(*torch.rand(2, 2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64).round())
    runs = []
    for method in ("torch", "numba"):
        leaves = [x.clone().requires_grad_() for x in (current, *start)]

        def neuron(value, leaves=leaves):
            value = torch.full((3,), value, dtype=torch.float64, requires_grad=True)
            leaves.append(value)
            return value

        full = {name: torch.utils._pytree.tree_map(neuron, value) for name, value in FULL.items() if name != "through"}
        of = Coefficients(neuron(0.5), **full, through=FULL["through"] if through else None)
        spikes, state, x = linear_neuron(leaves[0], of, LinearState(*leaves[1:4]), traces=True, method=method)
        loss = sum((value * torch.arange(3)).sum() for value in (spikes, *state, *x))
        runs.append(((spikes, *state, *x), torch.autograd.grad(loss, leaves)))
    assert 0.1 < spikes.mean() < 0.9
    for plain, compiled in zip(runs[0][0], runs[1][0], strict=True):
        assert torch.equal(plain, compiled)
    for plain, compiled in zip(runs[0][1], runs[1][1], strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-10, atol=1e-10)


def test_several_gradients_at_once_are_those_one_by_one():
    leaf, p = torch.randn(9, 1, 2, requires_grad=True), parameters(2)

    def last(x):
        return adlif(x, **p)[1].u.sum(0)

    one_by_one = torch.autograd.functional.jacobian(last, leaf)
    assert one_by_one.abs().max() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it loops
        assert torch.equal(torch.autograd.functional.jacobian(last, leaf, vectorize=True), one_by_one)
