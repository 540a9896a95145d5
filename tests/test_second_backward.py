"""A forgotten reset in training is told in a user's words, and nothing else is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

snntorch = pytest.importorskip("snn_delay_plugins.snntorch")
spikingjelly = pytest.importorskip("snn_delay_plugins.spikingjelly")
functional = pytest.importorskip("spikingjelly.activation_based.functional")

FORMS = pytest.mark.parametrize("form", ["snnTorch", "s", "m"])


def network(form: str, **options) -> nn.Sequential:
    torch.manual_seed(3)
    if form == "snnTorch":
        return nn.Sequential(nn.Linear(3, 5), snntorch.AdLIFPlus(features=5, init_hidden=True, **options))
    return nn.Sequential(nn.Linear(3, 5), spikingjelly.AdLIFPlusNode(features=5, step_mode=form, **options))


def loss(net: nn.Sequential, form: str, steps: int = 4) -> torch.Tensor:
    x = 5 * torch.rand(steps, 2, 3, generator=torch.Generator().manual_seed(1))
    return net(x).sum() if form == "m" else sum(net(step).sum() for step in x)


def frozen(form: str) -> dict:
    if form == "snnTorch":
        return {f"learn_{name}": False for name in ("alpha", "beta", "a", "b")}
    return {"learn": False}


@FORMS
@pytest.mark.parametrize("step", [True, False], ids=["optimizer", "no optimizer"])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed neurons", "learned neurons"])
def test_a_forgotten_reset_names_reset_and_detach(form, step, fixed):
    net = network(form, **(frozen(form) if fixed else {}))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    loss(net, form).backward()
    if step:
        optimizer.step()
    second = loss(net, form)
    names = r"snntorch\.reset\(net\).*detach\(net\)" if form == "snnTorch" else r"reset_net\(net\).*detach_net\(net\)"
    with pytest.raises(RuntimeError, match=f"a second backward pass reached steps of AdLIFPlus.*{names}"):
        second.backward()


def test_states_that_the_user_passes_on_are_told_of_too():
    neuron = snntorch.AdLIFPlus(features=3)
    w, mem = neuron.reset_mem()
    _, w, mem = neuron(torch.rand(2, 3), w, mem)
    mem.sum().backward()
    _, _, mem = neuron(torch.rand(2, 3), w, mem)
    with pytest.raises(RuntimeError, match=r"reset\(net\)"):
        mem.sum().backward()


@FORMS
def test_detached_windows_and_fresh_batches_train(form):
    net = network(form)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    package, suffix = (snntorch, "") if form == "snnTorch" else (functional, "_net")
    for forget in (getattr(package, f"detach{suffix}"), getattr(package, f"reset{suffix}")):
        for _ in range(3):
            optimizer.zero_grad()
            loss(net, form).backward()
            assert net[0].weight.grad.isfinite().all()
            optimizer.step()
            forget(net)


@FORMS
def test_evaluation_after_training_may_carry_states_on(form):
    net, twin = network(form), network(form)
    for each in (net, twin):
        optimizer = torch.optim.SGD(each.parameters(), 0.1)
        loss(each, form).backward()
        optimizer.step()
    value = loss(net, form)  # without no_grad(), without a backward pass
    with torch.no_grad():
        assert torch.equal(loss(twin, form), value)


@FORMS
def test_a_retained_graph_gives_the_gradient_of_both_windows(form):
    options = {"bound_mode": "clamp"}
    net, whole = network(form, **options), network(form, **options)
    first = loss(net, form)
    first.backward(retain_graph=True)
    net.zero_grad()
    (first + loss(net, form)).backward()
    (loss(whole, form) + loss(whole, form)).backward()
    for got, wanted in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)
