"""The states of AdLIFPlus: not mistaken for something learned, moved and copied with the module, freed with it."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import snntorch as snn
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from snn_delay_plugins.snntorch import AdLIFPlus, DelayedLinear, StateAdLIFPlus, detach, reset

ROOT = Path(__file__).resolve().parents[2]


def neuron_with_states(**options):
    neuron = AdLIFPlus(features=3, init_hidden=True, output=True, **options)
    neuron(torch.rand(2, 3) * 5)
    return neuron


def test_states_are_neither_parameters_nor_buffers_and_can_be_read_and_assigned():
    neuron = neuron_with_states()
    assert not {"w", "mem"} & (set(dict(neuron.named_buffers())) | set(dict(neuron.named_parameters())))
    assert neuron.mem.shape == neuron.w.shape == (2, 3)
    neuron.mem, neuron.w = torch.full((2, 3), 0.25), torch.zeros(2, 3)
    _, _, mem = neuron(torch.zeros(2, 3))
    torch.testing.assert_close(mem, (0.25 * neuron.alpha).expand(2, 3))
    neuron.load_state_dict(AdLIFPlus(features=3).state_dict(), strict=True)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed training")
def test_each_rank_of_data_parallel_training_keeps_its_own_states(tmp_path):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("states_by_ranks.py")), str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_weights_pairs_the_buffers_of_the_network(use_buffers):
    net = nn.Sequential(AdLIFPlus(features=4, init_hidden=True, output=False), nn.Linear(4, 3), nn.BatchNorm1d(3))
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for batch in (2, 5):
        reset(net)
        torch.stack([net(x) for x in torch.rand(6, batch, 4)]).sum().backward()
        optimizer.step()
        average.update_parameters(net)
    assert average.module[2].running_mean.abs().sum() > 0
    assert average(torch.rand(3, 4)).shape == (3, 3)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_takes_the_states_along_without_their_graph(how, tmp_path):
    neuron = neuron_with_states()
    if how == "torch.save":
        torch.save(neuron, tmp_path / "neuron.pt")
        twin = torch.load(tmp_path / "neuron.pt", weights_only=False)
    else:
        twin = copy.deepcopy(neuron) if how == "deepcopy" else pickle.loads(pickle.dumps(neuron))
    assert neuron.mem.grad_fn is not None and twin.mem.grad_fn is None
    assert torch.equal(twin.mem, neuron.mem) and torch.equal(twin.w, neuron.w)
    x = torch.rand(2, 3)
    assert torch.equal(twin(x)[2], neuron(x)[2])


def test_a_neuron_that_was_pickled_with_states_in_buffers_has_them_as_attributes():
    neuron = neuron_with_states()
    state = neuron.__getstate__()
    state["_buffers"] = {**state["_buffers"], "w": state.pop("w"), "mem": state.pop("mem")}
    state["_non_persistent_buffers_set"] = {"w", "mem"}
    twin = AdLIFPlus.__new__(AdLIFPlus)
    twin.__setstate__(state)
    assert torch.equal(twin.mem, neuron.mem)
    assert not {"w", "mem"} & set(dict(twin.named_buffers()))
    assert not twin._non_persistent_buffers_set


def test_states_move_with_the_module_and_those_without_values_are_forgotten():
    neuron = neuron_with_states().double()
    assert neuron.mem.dtype == neuron.w.dtype == torch.float64
    assert nn.Sequential(neuron).to(torch.float32)[0].mem.dtype == torch.float32
    with torch.device("meta"):
        shapes = AdLIFPlus(features=3, init_hidden=True)
    shapes.w = shapes.mem = torch.rand(2, 3, device="meta")
    assert shapes.to_empty(device="cpu").mem.numel() == 0


def test_a_functional_call_computes_with_the_given_parameters():
    neuron = AdLIFPlus(features=3, init_hidden=True, output=True)
    twin = copy.deepcopy(neuron)
    given = {name: value.detach() * 0.5 for name, value in neuron.named_parameters()}
    x = torch.rand(2, 3)
    out = torch.func.functional_call(neuron, given, (x,))[2]
    with torch.no_grad():
        for name, value in twin.named_parameters():
            value.copy_(given[name])
    assert torch.equal(out, twin(x)[2])
    assert torch.func.stack_module_state([neuron, twin])[0]["alpha"].shape == (2, 3)


# ---------------------------------------------------------------- freed, threads


@pytest.mark.parametrize("cls", [AdLIFPlus, StateAdLIFPlus])
def test_a_neuron_that_nobody_uses_is_freed_with_its_network(cls):
    net = nn.Sequential(nn.Linear(4, 3), cls(features=3, **({"init_hidden": True} if cls is AdLIFPlus else {})))
    net(torch.rand(5, 2, 4) if cls is StateAdLIFPlus else torch.rand(2, 4)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    gone = [weakref.ref(net[1]), weakref.ref(net[0].weight)]
    del net
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_snntorchs_list_keeps_its_own_neurons_and_none_of_ours():
    before = list(snn.SpikingNeuron.instances)
    leaky, ours = snn.Leaky(beta=0.9), AdLIFPlus()
    with pytest.raises(ValueError, match="reset_mechanism"):
        AdLIFPlus(reset_mechanism="half")
    assert snn.SpikingNeuron.instances == [*before, leaky] and ours not in snn.SpikingNeuron.instances
    snn.SpikingNeuron.instances.remove(leaky)


def test_states_are_reset_and_detached_while_other_threads_build_neurons():
    stop, errors = threading.Event(), []

    def build():
        while not stop.is_set():
            try:
                AdLIFPlus(features=2)
            except Exception as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=build) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            AdLIFPlus.detach_hidden()
            AdLIFPlus.reset_hidden()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not errors


# ---------------------------------------------------------------- a second forward pass in the backward pass


def loss_with_checkpoints(neuron, chunks, function, use_reentrant):
    first, *others = chunks
    outputs = [function(neuron, first)]
    outputs += [checkpoint(function, neuron, chunk, use_reentrant=use_reentrant) for chunk in others]
    return torch.cat(outputs).sum()


def loss_by_plain_calls(neuron, chunks, function, use_reentrant):
    return torch.cat([function(neuron, chunk) for chunk in chunks]).sum()


def carried(neuron, chunk):
    return torch.stack([neuron(x)[2] for x in chunk])


def from_reset(neuron, chunk):
    neuron.reset_mem()
    return carried(neuron, chunk)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_a_step_with_carried_states_inside_of_a_checkpoint_is_refused(use_reentrant, detach):
    """The states have gone on when the backward pass runs it again: the gradient was wrong by half."""
    neuron = neuron_with_states()
    chunks = torch.rand(3, 4, 2, 3, requires_grad=True)
    loss = loss_with_checkpoints(neuron, chunks, carried, use_reentrant)
    if detach:
        neuron.detach_states()
    with pytest.raises(RuntimeError, match=r"torch.utils.checkpoint calls it a second time.*pass the states as arguments"):
        loss.backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_that_resets_or_passes_states_has_the_gradient_of_the_plain_loop(use_reentrant):
    def passed(neuron, chunk):
        w, mem, out = torch.zeros(2, 3), torch.zeros(2, 3), []
        for x in chunk:
            _, w, mem = neuron(x, w, mem)
            out.append(mem)
        return torch.stack(out)

    for function, hidden in ((from_reset, True), (passed, False)):
        neuron, grads = AdLIFPlus(features=3, init_hidden=hidden, output=True), []
        for losses in (loss_by_plain_calls, loss_with_checkpoints):
            chunks = torch.rand(3, 4, 2, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
            losses(neuron, chunks, function, use_reentrant).backward()
            grads.append(neuron.alpha.grad)
            neuron.alpha.grad = None
            neuron.reset_mem()
        torch.testing.assert_close(*grads)


# ---------------------------------------------------------------- lazy parameters where torch reads them


LAZY = r"give features= to the neuron, or run one batch"


@pytest.mark.parametrize("use", [
    lambda n: AveragedModel(n).update_parameters(n),
    lambda n: torch.func.stack_module_state([n, n]),
    lambda n: sum(p.numel() for p in n.parameters()),
    lambda n: nn.utils.parameters_to_vector(n.parameters()),
    lambda n: n.alpha.shape,
])  # fmt: skip
def test_parameters_that_have_no_shape_yet_name_the_argument_that_gives_it(use):
    with pytest.raises((ValueError, RuntimeError), match=LAZY):
        use(AdLIFPlus())


def test_a_functional_call_makes_the_lazy_parameters_of_the_neuron():
    neuron = AdLIFPlus(init_hidden=True)
    torch.func.functional_call(neuron, dict(neuron.named_parameters()), torch.rand(2, 3))
    assert neuron.alpha.shape == (3,)


def test_detaching_every_neuron_detaches_the_delays_that_feed_them():
    net = nn.Sequential(DelayedLinear(6, 5, max_delay=3), AdLIFPlus(features=5, init_hidden=True),
                        DelayedLinear(5, 4, max_delay=3), AdLIFPlus(features=4, init_hidden=True))  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    for window in torch.rand(3, 7, 2, 6):
        optimizer.zero_grad()
        sum(net(x).sum() for x in window).backward()
        optimizer.step()
        AdLIFPlus.detach_hidden()
        assert net[0].history.any() and not net[0].history.requires_grad


def test_a_checkpoint_around_a_frozen_layer_with_states_is_refused():
    layer = DelayedLinear(5, 4, max_delay=3, delay="uniform", kernel="round").eval().discretize()
    x = torch.rand(2, 5, requires_grad=True)
    readout = nn.Linear(4, 2)
    out = sum(checkpoint(lambda step: readout(layer(step)) + step[:, :2], x, use_reentrant=False).sum() for _ in range(2))
    with pytest.raises(RuntimeError, match="second time in the backward pass"):
        out.backward()


def test_after_a_checkpoint_that_resets_inside_the_network_goes_on_and_can_be_copied():
    net = nn.Sequential(nn.Linear(5, 4), AdLIFPlus(features=4, init_hidden=True))
    x = torch.rand(3, 2, 5, requires_grad=True)
    checkpoint(lambda x: (reset(net), torch.stack([net(t) for t in x]))[1], x, use_reentrant=False).sum().backward()
    twin = pickle.loads(pickle.dumps(net))
    assert torch.equal(net(x[0]), twin(x[0]))


def test_a_compiled_first_step_and_eager_ones_after_it_are_no_accident():
    net = nn.Sequential(DelayedLinear(5, 6, max_delay=3, delay=1.0), AdLIFPlus(features=6, init_hidden=True)).eval()
    compiled, x = torch.compile(net, backend="eager"), torch.ones(2, 5)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="a neuron was reset")
        net(x)
        reset(net)
        compiled(x)
        net(x)


def mixed_network(neuron) -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), neuron), DelayedLinear(4, 2, max_delay=3, delay="uniform"))


@pytest.mark.parametrize(
    "neuron",
    [lambda: snn.Leaky(0.9, init_hidden=True), lambda: snn.RSynaptic(0.9, 0.8, linear_features=4, init_hidden=True)],
)
def test_reset_and_detach_reach_snntorchs_own_neurons_in_the_network_alone(neuron):
    net, other = mixed_network(neuron()), mixed_network(neuron())
    x = 3 * torch.rand(6, 5, 3)

    def run(net):
        return torch.stack([net(step) for step in x])

    run(other)
    kept = other[0][1].mem.clone()
    first = run(net)
    first.sum().backward()
    reset(net)
    again = run(net)
    assert torch.equal(again, first) and again.any()
    again.sum().backward()  # on a graph of its own
    detach(net)
    assert all(value.grad_fn is None for value in net[0][1].buffers())
    going_on = run(net)
    going_on.sum().backward()
    assert not torch.equal(going_on, first)
    assert torch.equal(other[0][1].mem, kept) and kept.any()
