"""Copies: deepcopy, pickle, files, state dicts, averages, and that nothing outlives its last user."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import torch
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel

from .comparing import assert_equal, assert_true
from .registry import NotApplicable, check
from .subject import Case


def _goes_on_like(case: Case, made_copy, what: str) -> None:
    """A copy in the middle of a sequence, with its graph, goes on like the original and has a life of its own."""
    x, net = case.inputs(), case.module()
    start = case.run(net, x[:4].clone().requires_grad_())
    copied = made_copy(net)
    assert_true(copied is not net, f"{what} gave the module itself")
    shared = {id(p) for p in net.parameters()} & {id(p) for p in copied.parameters()}
    assert_true(not shared, f"{what} shares its parameters with the original")
    rest = case.run(copied, x[4:])
    whole = case.ran(x)
    if case.carried:
        assert_equal(torch.cat([start, rest]), whole, f"a sequence that {what} goes on with and one of the original")
        assert_equal(torch.cat([start, case.run(net, x[4:])]), whole, f"the original after {what} and before")
    else:
        assert_equal(case.run(copied, x), whole, f"{what} and the original")


@check("deepcopy", "targets in reinforcement learning, averages and ensembles are deep copies, also in training")
def a_deep_copy_in_training_goes_on_by_itself(case: Case) -> None:
    _goes_on_like(case, copy.deepcopy, "a deep copy")


@check("pickle", "processes are spawned with pickled modules; a closure in one ends that")
def a_pickled_module_goes_on_by_itself(case: Case) -> None:
    _goes_on_like(case, lambda net: pickle.loads(pickle.dumps(net)), "a pickled copy")


@check("save", "torch.save(net) is what many scripts do")
def a_module_saved_by_torch_goes_on_by_itself(case: Case) -> None:
    def saved(net: nn.Module) -> nn.Module:
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    _goes_on_like(case, saved, "a saved copy")


@check("no-state-in-state-dict", "a checkpoint of one batch size must load in another")
def the_state_dict_holds_no_state(case: Case) -> None:
    net = case.module()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    case.run(net, case.inputs())
    after = net.state_dict()
    assert_true(before.keys() == after.keys(), f"a run changed the keys to {sorted(after)} from {sorted(before)}")
    if nn.modules.batchnorm._BatchNorm in {c for m in net.modules() for c in type(m).__mro__}:
        return
    for name, value in before.items():
        assert_equal(after[name], value, f"{name} in the state dict after a run and before", rtol=0, atol=0)


@check("state-dict", "weights that do not all load, or load beside the ones in use, give another network without a word")
def a_state_dict_loads_strictly_into_a_fresh_and_into_a_used_module(case: Case) -> None:
    x, net = case.inputs(), case.module()
    _disturb(net)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    expected = case.run(net, x)
    for used in (False, True):
        for assign in (False, True):
            file.seek(0)
            target = case.module()
            if used:
                case.run(target, case.inputs(batch=2, seed=4))
                if case.carried:
                    case.framework.reset_one(target)
            target.load_state_dict(torch.load(file, weights_only=True), strict=True, assign=assign)
            what = f"{'a used' if used else 'a fresh'} module with the loaded weights (assign={assign})"
            assert_equal(case.run(target, x), expected, f"{what} and the original")


@check("state-dict-lazy", "a network whose sizes come from the first batch is built again from its weights alone")
def a_state_dict_loads_before_the_first_use(case: Case) -> None:
    x, net = case.inputs(), case.module()
    expected = case.run(net, x)
    target = case.subject._fresh(case.form).to(case.dtype)
    target.load_state_dict(net.state_dict(), strict=True)
    assert_equal(case.run(target, x), expected, "a module loaded before its first use and the original")


def _disturb(net: nn.Module) -> None:
    """Other weights than a fresh module has, within a tenth, towards the middle of bounds in [0, 1]."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.is_floating_point():
                parameter.mul_(0.95)


@check("functional-call", "torch.func computes with parameters that are not the module's")
def a_functional_call_computes_with_the_given_parameters(case: Case) -> None:
    x, net, other = case.inputs(), case.module(), case.module()
    if not list(net.parameters()):
        raise NotApplicable("has no parameters")
    _disturb(other)
    given = {name: parameter.detach().clone() for name, parameter in other.named_parameters()}
    output = case.run(lambda step: functional_call(net, given, (step,)), x)
    assert_equal(output, case.run(other, x), "a functional call and a module with those parameters")


@check("average", "averages of weights pair buffers by position: states among them are averaged, or do not fit")
def an_average_of_weights_is_one_of_weights_alone(case: Case) -> None:
    module = case.module()
    net = case.as_net(module)
    if not list(net.parameters()):
        raise NotApplicable("has no parameters")
    # torch itself cannot average what is true or false
    average = AveragedModel(net, use_buffers=not any(buffer.dtype == torch.bool for buffer in net.buffers()))
    for batch in (2, 3):
        case.run(net, case.inputs(batch=batch))
        if case.carried:
            case.framework.reset_one(module)
        average.update_parameters(net)
        _disturb(net)
    expected = case.as_net(case.module())
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.copy_((parameter + parameter * 0.95) / 2)
    x = case.inputs()
    averaged, mean = dict(average.module.named_parameters()), dict(expected.named_parameters())
    for name, parameter in mean.items():
        assert_equal(averaged[name], parameter, f"the average of {name} and the mean of its values", 1e-5, 1e-6)
    expected.load_state_dict(average.module.state_dict())
    assert_equal(case.run(average.module, x), case.run(expected, x), "an averaged network and one with its weights")


@check("freed", "snnTorch 1.0 lists every neuron that was ever made, with its states and their graph")
def a_module_that_nobody_uses_is_freed(case: Case) -> None:
    net = case.module()
    gone = weakref.ref(net)
    output = case.run(net, case.inputs().requires_grad_())
    del net, output
    if gone() is not None:
        gc.collect()  # a circle is no fault
    assert_true(gone() is None, "the module is still alive after its last user has let it go")
