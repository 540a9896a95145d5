"""Bounds that hold after every optimizer step, presets, and lazy parameters; no framework is needed here."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import sys
import threading
import weakref

import pytest
import torch
from torch import nn

from snn_delay_plugins.models import LIF
from snn_delay_plugins.parameters import (
    ADLIF_PRESETS,
    AdLIFParameters,
    BoundedModule,
    DelayParameters,
    NeuronParameters,
    live_modules,
    preset_bounds,
    project_,
)


class Leak(BoundedModule):
    """Two bounded parameters and a free one."""

    def __init__(self, mode: str = "project"):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((2, 3), 0.9))
        self.low = nn.Parameter(torch.tensor(0.5))
        self.free = nn.Parameter(torch.tensor(0.5))
        self.bound("alpha", 0.36, 0.96, mode=mode)
        self.bound("low", 0.25, 0.75, mode=mode)

    def loss(self):
        return -self.bounded("alpha").sum() + self.bounded("low") - self.free


class Neurons(AdLIFParameters):
    """The parameters of adaptive neurons without a framework around them."""

    def __init__(self, features=None, preset="adlif+", *, learn=True, bounds=None, mode="project",
                 init_state="zeros", **initial):  # fmt: skip
        super().__init__()
        names = ("alpha", "beta", "a", "b")
        initial = {name: initial.get(name) for name in names}
        self.create_adlif_parameters(features, preset, initial, dict.fromkeys(names, learn), bounds, mode, init_state)


class Synapses(DelayParameters):
    def __init__(self, *args, bias=True, delay=0.0, delay_type="synaptic", learn=True, mode="project", max_delay=10):
        super().__init__()
        self.create_delay_parameters(*args, bias, max_delay, delay, delay_type, learn, mode)


def optimizers():
    found = {
        name: getattr(torch.optim, name)
        for name in ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta",
                     "ASGD", "Adafactor", "LBFGS")
    }  # fmt: skip
    return sorted(found.items())


def step_up(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    def closure():
        optimizer.zero_grad()
        loss = module.loss()
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize(("name", "optimizer"), optimizers())
def test_every_torch_optimizer_ends_its_step_inside_the_bounds(name, optimizer):
    module = Leak()
    step_up(module, optimizer(module.parameters(), lr=1e4))
    assert module.alpha.detach().eq(torch.tensor(0.96)).all()
    assert module.low.item() == 0.25
    assert module.free.item() > 0.96, "the optimizer did move the parameter that has no bounds"


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"maximize": True, "foreach": False}])
def test_the_fast_forms_of_adam_are_projected_too(options):
    module = Leak()
    optimizer = torch.optim.Adam(module.parameters(), lr=5.0, **options)
    for _ in range(3):
        step_up(module, optimizer)
        assert module.alpha.min().item() >= 0.36 and module.alpha.max().item() <= torch.tensor(0.96).item()
        assert 0.25 <= module.low.item() <= 0.75
    assert module.low.item() == (0.75 if options.get("maximize") else 0.25)


def test_a_projected_parameter_comes_back_where_a_clamped_one_is_stuck():
    for mode, end in (("project", 0.86), ("clamp", None)):
        module = Leak(mode)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        with torch.no_grad():
            module.alpha.fill_(3.0)
        for _ in range(2):  # the first step projects, the second moves
            optimizer.zero_grad()
            module.bounded("alpha").sum().backward()
            optimizer.step()
        if mode == "project":
            assert torch.allclose(module.alpha, torch.tensor(end))
        else:
            assert module.alpha.detach().eq(3.0).all(), "the gradient of a clamp is zero outside the interval"
            assert module.bounded("alpha").detach().eq(torch.tensor(0.96)).all()


def test_clamp_mode_never_moves_the_stored_value():
    module = Leak("clamp")
    step_up(module, torch.optim.SGD(module.parameters(), lr=10.0))
    assert module.alpha.min().item() > 0.96
    project_(module)
    assert module.alpha.min().item() > 0.96
    assert module.bounded("alpha").max().item() == torch.tensor(0.96).item()


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "deepcopy of a pickle", "torch.save"])
def test_copies_are_projected_like_the_original(how, tmp_path):
    module = Leak()
    if how == "deepcopy":
        twin = copy.deepcopy(module)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(module))
    elif how == "torch.save":
        torch.save(module, tmp_path / "module.pt")
        twin = torch.load(tmp_path / "module.pt", weights_only=False)
    else:
        twin = copy.deepcopy(pickle.loads(pickle.dumps(module)))
    step_up(twin, torch.optim.SGD(twin.parameters(), lr=10.0))
    assert twin.alpha.max().item() == torch.tensor(0.96).item()
    assert module.alpha.detach().eq(0.9).all()


def test_a_lazy_neuron_that_was_pickled_before_there_were_models_is_read():
    class Lazy(NeuronParameters):
        model = LIF

        def __init__(self, learn):
            super().__init__()
            self.create_neuron_parameters(learn={"alpha": learn})

    for learn in (True, False):
        lazy = Lazy(learn).alpha
        now = pickle.dumps(lazy, protocol=0)
        before = now.replace(b"snn_delay_plugins.models.parameters", b"snn_delay_plugins.parameters")
        assert before != now and type(pickle.loads(before)) is type(lazy)


def test_an_optimizer_projects_only_the_parameters_it_holds():
    held, other = Leak(), Leak()
    with torch.no_grad():
        other.alpha.fill_(5.0)
        held.low.fill_(5.0)
    optimizer = torch.optim.SGD([held.alpha], lr=10.0)
    held.loss().backward()
    optimizer.step()
    assert held.alpha.max().item() == torch.tensor(0.96).item()
    assert held.low.item() == 5.0
    assert other.alpha.min().item() == 5.0
    project_(nn.Sequential(held, nn.Sequential(other)))
    assert held.low.item() == 0.75
    assert other.alpha.max().item() == torch.tensor(0.96).item()


def test_bounds_hold_under_the_gradient_scaler_of_mixed_precision():
    module = Leak()
    optimizer = torch.optim.Adam(module.parameters(), lr=5.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(module.loss()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert module.alpha.max().item() == torch.tensor(0.96).item()


def test_bounds_hold_when_the_parameter_is_frozen_or_has_no_gradient():
    module = Leak()
    module.alpha.requires_grad_(False)
    optimizer = torch.optim.SGD(module.parameters(), lr=10.0)
    (module.low * 1.0).backward()
    optimizer.step()
    assert module.low.item() == 0.25
    assert module.alpha.detach().eq(0.9).all()


@pytest.mark.parametrize("why", ["frozen", "no gradient", "of another optimizer"])
def test_a_step_leaves_alone_what_it_does_not_move(why):
    module = Leak()
    with torch.no_grad():
        module.alpha.fill_(5.0)
    held = [module.low] if why == "of another optimizer" else list(module.parameters())
    other = torch.optim.SGD([module.alpha], lr=0.0)
    if why == "frozen":
        module.alpha.requires_grad_(False)
    optimizer = torch.optim.SGD(held, lr=10.0)
    for _ in range(3):
        optimizer.zero_grad()
        (module.low - (0 if why == "no gradient" else module.alpha.sum())).backward()
        optimizer.step()
    assert module.low.item() == 0.25
    assert (module.alpha == 5.0).all()
    module.alpha.grad = torch.ones_like(module.alpha)
    other.step()
    assert module.alpha.detach().eq(torch.tensor(0.96)).all()


def steps_over(module, optimizer):
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def outside(module):
    with torch.no_grad():
        module.alpha.fill_(5.0)


CHANGES_BETWEEN_STEPS = {
    "a parameter group is added": lambda m, o: o.add_param_group({"params": [m.alpha]}),
    "the list of parameters is replaced": lambda m, o: o.param_groups[0].update(params=[m.free, m.alpha]),
    "the parameter is replaced by assignment": lambda m, o: (
        setattr(m, "alpha", nn.Parameter(torch.full((2, 3), 5.0))), o.param_groups[0].update(params=[m.alpha])),
    "the parameter is replaced behind the module's back": lambda m, o: (
        m._parameters.update(alpha=nn.Parameter(torch.full((2, 3), 5.0))), o.param_groups[0].update(params=[m.alpha])),
    "load_state_dict(assign=True)": lambda m, o: (
        m.load_state_dict(m.state_dict(), assign=True), o.param_groups[0].update(params=[m.alpha])),
    "the parameter gets its interval late": lambda m, o: (
        o.param_groups[0]["params"].append(m.free), m.bound("free", 0.25, 0.75)),
    "the optimizer is unpickled": lambda m, o: o.__setstate__(
        {**pickle.loads(pickle.dumps(o.__getstate__())), "param_groups": [{**o.param_groups[0], "params": [m.alpha]}]}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES_BETWEEN_STEPS)
def test_bounds_hold_when_the_parameters_change_between_two_steps(change):
    module = Leak()
    optimizer = torch.optim.SGD([module.low], lr=0.01)
    steps_over(module, optimizer)
    outside(module)
    CHANGES_BETWEEN_STEPS[change](module, optimizer)
    with torch.no_grad():
        module.free.fill_(5.0)
    steps_over(module, optimizer)
    if change == "the parameter gets its interval late":
        assert module.free.item() == 0.75
    else:
        assert module.alpha.detach().eq(torch.tensor(0.96)).all()


def test_a_parameter_that_two_modules_share_obeys_both_intervals():
    one, two = Leak(), Leak()
    optimizer = torch.optim.SGD(one.parameters(), lr=0.01)
    steps_over(one, optimizer)
    two.alpha = one.alpha
    two.bound("alpha", 0.36, 0.5)
    outside(one)
    steps_over(one, optimizer)
    assert one.alpha.detach().eq(0.5).all()


@pytest.mark.parametrize("overwrite", [False, True])
def test_bounds_hold_after_the_module_has_moved_to_another_dtype(overwrite):
    module = Leak()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    steps_over(module, optimizer)
    torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
    try:
        module.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01) if overwrite else optimizer
    outside(module)
    steps_over(module, optimizer)
    assert module.alpha.max().item() == 0.96


def test_parameters_can_be_swapped_as_torch_swaps_them():
    module = Leak()
    steps_over(module, torch.optim.SGD(module.parameters(), lr=0.01))
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        module.double()  # refused where a weak reference to a parameter exists
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert module.alpha.dtype == torch.float64


def test_a_step_looks_at_the_modules_of_its_optimizer_alone(monkeypatch):
    module, others = Leak(), [Leak() for _ in range(5)]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    steps_over(module, optimizer)
    looked_at = []
    monkeypatch.setattr(BoundedModule, "stored", lambda self, name: looked_at.append(self) or self._parameters[name])
    steps_over(module, optimizer)
    assert {id(m) for m in looked_at} == {id(module)} and others


def test_an_optimizer_and_its_modules_are_freed():
    module = Leak()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    steps_over(module, optimizer)
    gone = [weakref.ref(optimizer), weakref.ref(module)]
    del module, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_threads_build_networks_while_another_one_trains():
    stop, errors = threading.Event(), []

    def build():
        while not stop.is_set():
            try:
                Leak()
            except Exception as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=build) for _ in range(3)]
    module = Leak()
    optimizer = torch.optim.SGD(module.parameters(), lr=10.0)
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            steps_over(module, optimizer)
            assert module.alpha.min().item() >= 0.36 - 1e-6
            live_modules()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not errors


def test_every_parameter_has_a_mode_of_its_own():
    module = Leak()
    module.bound("low", 0.25, 0.75, mode="clamp")
    module.bound("free", 0.25, 0.75)
    module.loss().backward()
    torch.optim.SGD(module.parameters(), lr=10.0).step()
    assert module.alpha.detach().eq(torch.tensor(0.96)).all(), "a later call does not undo an earlier one"
    assert module.low.item() < 0.25 and module.bounded("low").item() == 0.25
    assert module.free.item() == 0.75
    module.bound("low", 0.25, 0.75)
    assert project_(module).low.item() == 0.25, "a second call for the same name replaces the first"


def test_a_module_that_was_pickled_with_one_mode_keeps_it_for_all_of_its_parameters():
    state = Leak("clamp").__getstate__()
    del state["_bound_modes"]
    module = Leak.__new__(Leak)
    module.__setstate__({**state, "_bound_mode": "clamp"})
    outside(module)
    assert project_(module).alpha.min().item() == 5.0
    assert module.bounded("alpha").max().item() == torch.tensor(0.96).item()
    assert "_bound_mode" not in vars(module)


def test_a_module_that_is_gone_is_no_longer_watched():
    module = Leak()
    assert any(m is module for m in live_modules())
    before = len(live_modules())
    del module
    assert len(live_modules()) == before - 1


def test_a_copy_after_a_forward_pass_holds_the_values_of_its_states_without_their_graph():
    module = Leak()
    module.register_buffer("state", None)
    module.state = module.alpha * 2
    module.trace = module.alpha.sum()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin.state, module.state) and not twin.state.requires_grad
        assert torch.equal(twin.trace, module.trace) and not twin.trace.requires_grad
        assert twin.alpha.requires_grad and twin.alpha.is_leaf
    assert module.state.grad_fn is not None, "the original keeps its graph"


@pytest.mark.parametrize(("low", "high", "mode"), [
    (1.0, 0.0, "project"), (math.nan, 1.0, "project"), (0.0, math.nan, "project"), (0, 1, "hope"),
    (math.inf, math.inf, "project"), (-math.inf, -math.inf, "project"), ("low", 1.0, "project"), (None, 1.0, "project"),
])  # fmt: skip
def test_bounds_that_make_no_sense_are_refused(low, high, mode):
    with pytest.raises((TypeError, ValueError), match=r"bounds of 'free'|bound mode"):
        Leak().bound("free", low, high, mode=mode)


def test_the_bounds_of_a_module_can_be_read_but_not_changed_through_the_copy():
    module = Leak()
    assert module.parameter_bounds == {"alpha": (0.36, 0.96), "low": (0.25, 0.75)}
    module.parameter_bounds["alpha"] = (0, 0)
    assert module.parameter_bounds["alpha"] == (0.36, 0.96)


# ---------------------------------------------------------------- presets


def test_the_presets_are_the_intervals_of_the_papers():
    assert ADLIF_PRESETS["adlif+"].bounds == {
        "alpha": (0.36, 0.96), "beta": (0.96, 0.99), "a": (0.0, 1.0), "b": (0.0, 2.0),
    }  # fmt: skip
    adlif = ADLIF_PRESETS["adlif"].bounds
    assert adlif["alpha"] == pytest.approx((0.818731, 0.960789), abs=1e-6)
    assert adlif["beta"] == pytest.approx((0.967216, 0.991701), abs=1e-6)
    assert adlif["a"] == (-1.0, 1.0) and adlif["b"] == (0.0, 2.0)
    assert ADLIF_PRESETS["lif"].bounds == {"alpha": (0.36, 0.96)}


@pytest.mark.parametrize("preset", ADLIF_PRESETS)
def test_initial_values_are_uniform_in_the_intervals(preset):
    neurons = Neurons(4000, preset)
    for name, (low, high) in ADLIF_PRESETS[preset].bounds.items():
        value = getattr(neurons, name).detach()
        assert value.shape == (4000,)
        assert low <= value.min() and value.max() <= high
        quartiles = value.quantile(torch.tensor([0.25, 0.5, 0.75]))
        assert torch.allclose((quartiles - low) / (high - low), torch.tensor([0.25, 0.5, 0.75]), atol=0.05)
    assert (neurons.beta is None) == (preset == "lif")


def test_initial_values_follow_the_seed():
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach() for p in Neurons(50).parameters()])

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_bounds_replace_those_of_the_preset():
    neurons = Neurons(500, bounds={"alpha": (0.5, 0.6), "a": (-3, -2)})
    assert neurons.parameter_bounds["alpha"] == (0.5, 0.6)
    assert neurons.alpha.min() >= 0.5 and neurons.alpha.max() <= 0.6
    assert neurons.a.min() >= -3 and neurons.a.max() <= -2
    assert neurons.parameter_bounds["b"] == (0.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "alif"}, r"preset must be one of \['adlif', 'adlif\+', 'lif'\], got 'alif'"),
        ({"preset": "lif", "beta": 0.97}, "preset 'lif' has no beta"),
        ({"preset": "lif", "bounds": {"b": (0, 1)}}, "preset 'lif' has no parameter 'b'"),
        ({"alpha": 128}, "the number of neurons is the argument features"),
        ({"beta": -0.1}, r"lies in \[0, 1\]"),
        ({"a": math.nan}, "a must be finite"),
        ({"b": torch.tensor([0.1, math.inf])}, "b must be finite"),
        ({"init_state": "random"}, "init_state must be one of"),
        ({"alpha": torch.full((3,), 0.5)}, r"alpha of shape \(3,\) does not broadcast to the neurons \(4,\)"),
        ({"mode": "hope"}, "bound mode must be one of"),
    ],
)
def test_values_that_make_no_such_neuron_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Neurons(4, **arguments)


def test_a_given_value_outside_its_interval_is_clipped_with_a_warning_that_says_how_to_widen_it():
    with pytest.warns(UserWarning, match=r"beta=0\.8 lies outside its interval \[0\.96, 0\.99\].*bounds=\{'beta'"):
        neurons = Neurons(3, beta=0.8)
    assert torch.allclose(neurons.beta, torch.tensor(0.96))


def test_a_given_tensor_is_taken_neuron_by_neuron_and_copied():
    alpha = torch.tensor([0.4, 0.5, 0.6])
    neurons = Neurons(3, alpha=alpha, a=0.25)
    alpha.zero_()
    assert neurons.alpha.tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert neurons.a.tolist() == [0.25] * 3


def test_preset_bounds_do_not_change_the_preset():
    preset_bounds("adlif+", {"alpha": (0.1, 0.2)})
    assert ADLIF_PRESETS["adlif+"].alpha == (0.36, 0.96)


# ---------------------------------------------------------------- lazy parameters


@pytest.mark.parametrize("features", [0, -1, 3.0, "3", (2, 0)])
def test_features_that_are_no_shape_are_refused(features):
    with pytest.raises(ValueError, match="features must be positive whole numbers"):
        Neurons(features)


def test_a_given_tensor_may_hold_one_value_per_channel():
    neurons = Neurons((4, 5, 5), alpha=torch.full((4, 1, 1), 0.5))
    assert neurons.alpha.shape == (4, 1, 1) and neurons.b.shape == (4, 5, 5)


def test_lazy_neurons_that_took_shape_in_inference_mode_can_still_be_trained():
    neurons = Neurons()
    with torch.inference_mode():
        neurons.create_features((3,))
    (neurons.alpha * 2).sum().backward()
    assert neurons.alpha.grad.tolist() == [2.0] * 3


@pytest.mark.parametrize("features", [7, (7,), [3, 4, 5], torch.Size([2, 3])])
def test_features_give_one_value_per_neuron(features):
    shape = (features,) if isinstance(features, int) else tuple(features)
    neurons = Neurons(features, init_state="uniform")
    for name in ("alpha", "beta", "a", "b", "initial_u", "initial_w"):
        assert getattr(neurons, name).shape == shape


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_lazy_neurons_can_be_copied_and_then_take_shape_apart_from_each_other(copied, learn):
    neurons = Neurons(learn=learn, init_state="uniform")
    twin = copied(neurons)
    neurons.create_features((3,))
    twin.create_features((5,))
    assert neurons.alpha.shape == neurons.initial_u.shape == (3,)
    assert twin.alpha.shape == twin.initial_u.shape == (5,)
    assert len(list(twin.parameters())) == (4 if learn else 0)


def test_lazy_neurons_take_the_dtype_they_were_converted_to():
    neurons = Neurons(init_state="uniform", learn=False).double()
    neurons.create_features((3,))
    assert neurons.alpha.dtype == neurons.initial_u.dtype == torch.float64


def test_lazy_neurons_start_as_given():
    neurons = Neurons(alpha=0.5, b=torch.tensor([0.1, 0.2]))
    neurons.create_features((2,))
    assert neurons.alpha.tolist() == [0.5, 0.5]
    assert neurons.b.tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("source", ["lazy", "shaped"])
@pytest.mark.parametrize("target", ["lazy", "shaped"])
def test_state_dicts_go_between_lazy_and_shaped_neurons(source, target):
    source_neurons = Neurons(None if source == "lazy" else 3, init_state="uniform")
    neurons = Neurons(None if target == "lazy" else 3, init_state="uniform")
    state = source_neurons.state_dict()
    if source == "lazy" and target == "shaped":
        with pytest.raises(RuntimeError, match=r"take their shape from its first input.*give features="):
            neurons.load_state_dict(state)
        return
    neurons.load_state_dict(state)
    neurons.create_features((3,))
    if source == "shaped":
        for name, value in source_neurons.state_dict().items():
            assert torch.equal(getattr(neurons, name), value)


def test_a_state_dict_goes_through_a_file(tmp_path):
    neurons = Neurons((2, 3), init_state="uniform")
    torch.save(neurons.state_dict(), tmp_path / "neurons.pt")
    twin = Neurons(init_state="uniform")
    twin.load_state_dict(torch.load(tmp_path / "neurons.pt", weights_only=True))
    assert torch.equal(twin.alpha, neurons.alpha) and torch.equal(twin.initial_w, neurons.initial_w)


def test_a_state_dict_of_other_neurons_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for alpha"):
        Neurons(4).load_state_dict(Neurons(3).state_dict())
    with pytest.raises(RuntimeError, match=r'Missing key.*"beta"'):
        Neurons(4).load_state_dict(Neurons(4, "lif").state_dict())


def test_an_optimizer_made_before_the_parameters_have_a_shape_trains_and_projects_them():
    neurons = Neurons()
    optimizer = torch.optim.Adam(neurons.parameters(), lr=5.0)
    neurons.create_features((4,))
    (neurons.bounded("beta").sum() - neurons.bounded("alpha").sum()).backward()
    optimizer.step()
    assert neurons.alpha.detach().eq(torch.tensor(0.96)).all()
    assert neurons.beta.detach().eq(torch.tensor(0.96)).all()


# ---------------------------------------------------------------- initial states


def test_uniform_initial_states_are_new_in_every_training_pass_and_fixed_in_evaluation():
    neurons = Neurons(50, init_state="uniform")
    current = torch.zeros(40, 50)
    first, second = neurons.initial_state(current), neurons.initial_state(current)
    for a, b in zip(first, second, strict=True):
        assert a.shape == (40, 50) and a.min() >= 0 and a.max() < 1
        assert abs(a.mean().item() - 0.5) < 0.05
        assert not torch.equal(a, b)
        assert not torch.equal(a[0], a[1]), "every sample has its own draw"
    neurons.eval()
    u, w = neurons.initial_state(current)
    assert torch.equal(u, neurons.initial_u.expand(40, 50)) and torch.equal(w, neurons.initial_w.expand(40, 50))
    assert torch.equal(u, neurons.initial_state(current)[0])


def test_a_lif_neuron_starts_without_an_adaptation_current():
    neurons = Neurons(5, "lif", init_state="uniform")
    for training in (True, False):
        u, w = neurons.train(training).initial_state(torch.zeros(2, 5))
        assert u.abs().sum() > 0
        assert w.abs().sum() == 0


# ---------------------------------------------------------------- delays


@pytest.mark.parametrize(("delay_type", "shape"), [("synaptic", (4, 3)), ("axonal", (1, 3)), ("dendritic", (4, 1))])
def test_delays_have_the_shape_of_their_type(delay_type, shape):
    synapses = Synapses(3, 4, delay_type=delay_type, delay="uniform")
    assert synapses.delay.shape == shape
    assert synapses.weight.shape == (4, 3) and synapses.bias.shape == (4,)


def test_delays_stay_in_their_range_under_adam_with_a_learning_rate_of_5():
    synapses = Synapses(6, 7, delay="uniform", max_delay=4)
    optimizer = torch.optim.Adam(synapses.parameters(), lr=5.0)
    signs = torch.randn(7, 6)
    for _ in range(5):
        optimizer.zero_grad()
        (synapses.bounded("delay") * signs).sum().backward()
        optimizer.step()
        assert synapses.delay.min() >= 0 and synapses.delay.max() <= 4
    assert synapses.delay.detach()[signs > 0].eq(0).all() and synapses.delay.detach()[signs < 0].eq(4).all()


def test_initial_delays_are_zero_uniform_or_given():
    assert Synapses(3, 4, delay="zeros").delay.abs().sum() == 0
    assert Synapses(3, 4, delay=2.5).delay.detach().eq(2.5).all()
    given = torch.arange(12.0).reshape(4, 3) / 2
    synapses = Synapses(3, 4, delay=given)
    assert torch.equal(synapses.delay.detach(), given)
    given.zero_()
    assert synapses.delay.max() == 5.5, "the given tensor is copied"
    uniform = Synapses(100, 40, delay="uniform").delay.detach()
    assert uniform.min() >= 0 and uniform.max() <= 10
    assert abs(uniform.mean().item() - 5) < 0.2


def test_weights_are_drawn_from_the_seed_and_biases_are_zero():
    torch.manual_seed(1)
    synapses = Synapses(30, 50)
    torch.manual_seed(1)
    assert torch.equal(synapses.weight, nn.init.uniform_(torch.empty(50, 30), -1, 1))
    assert synapses.bias.abs().sum() == 0
    assert Synapses(3, 4, bias=False).bias is None


def test_delays_that_do_not_learn_are_saved_but_are_no_parameters():
    synapses = Synapses(3, 4, delay="uniform", learn=False)
    assert set(dict(synapses.named_parameters())) == {"weight", "bias"}
    assert set(synapses.state_dict()) == {"weight", "bias", "delay"}
    learned = Synapses(3, 4)
    learned.load_state_dict(synapses.state_dict())
    assert torch.equal(learned.delay.detach(), synapses.delay)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_delay": -1}, "max_delay must be a whole number of time steps >= 0, got -1"),
        ({"max_delay": 2.5}, "max_delay must be a whole number"),
        ({"delay": 11.0}, r"initial delays must lie in \[0, 10\], got 11 \.\.\. 11"),
        ({"delay": -0.5}, r"initial delays must lie in \[0, 10\]"),
        ({"delay": math.nan}, r"initial delays must lie in \[0, 10\]"),
        ({"delay": "random"}, "'zeros' or 'uniform', got 'random'"),
        ({"delay": torch.zeros(3, 4)}, r"have shape \(4, 3\), got shape \(3, 4\)"),
        ({"delay_type": "neuronal"}, "delay_type must be one of"),
        ({"mode": "hope"}, "bound mode must be one of"),
    ],
)
def test_delays_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Synapses(3, 4, **arguments)


def test_a_layer_without_neurons_is_refused():
    with pytest.raises(ValueError, match="must be positive, got 0 and 4"):
        Synapses(0, 4)
