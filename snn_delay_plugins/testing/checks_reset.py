"""Forgetting: through the framework's own function, at any depth, and nothing else than what was meant."""

from __future__ import annotations

import torch
from torch import nn

from .comparing import assert_equal, assert_true
from .registry import check
from .subject import Case


@check("reset", "what is left of the sequence before changes the next one, or breaks its backward (SpikingJelly 420)")
def a_network_that_was_reset_computes_as_a_new_one(case: Case) -> None:
    case.needs_states()
    x, net = case.inputs(), case.as_net(case.module())
    case.run(net, case.inputs(seed=4))
    case.reset(net)
    assert_equal(case.run(net, x), case.ran(x), "a network after its reset and a new one")


@check("reset-depth", "snnTorch 1.0's utils.reset looks at direct children alone (snntorch 414)")
def a_reset_reaches_modules_at_any_depth(case: Case) -> None:
    case.needs_states()
    x, module = case.inputs(), case.module()
    net = nn.Sequential(nn.ModuleDict({"inner": nn.Sequential(nn.Sequential(module))})["inner"])
    case.run(net, case.inputs(seed=4))
    case.reset(net)
    assert_equal(case.run(net, x), case.ran(x), "a deep network after its reset and a new one")


@check("reset-others", "snnTorch 1.0's utils.reset clears every neuron of a class that is alive (snntorch 438, 449)")
def a_reset_leaves_other_networks_alone(case: Case) -> None:
    case.needs_states()
    x, net, other = case.inputs(), case.as_net(case.module()), case.as_net(case.module())
    start = case.run(other, x[:4])
    case.run(net, x)
    case.reset(net)
    assert_equal(torch.cat([start, case.run(other, x[4:])]), case.ran(x), "a network beside one that is reset and alone")


@check("reset-itself", "the frameworks' functions call it, and the next snnTorch on every module of a network")
def a_module_resets_itself(case: Case) -> None:
    case.needs_states()
    x, module = case.inputs(), case.module()
    case.run(module, case.inputs(seed=4))
    case.framework.reset_one(module)
    assert_equal(case.run(module, x), case.ran(x), "a module after its reset and a new one")


@check("reset-graph", "a state that hangs on the old graph keeps all of its memory")
def no_state_hangs_on_the_graph_after_a_reset(case: Case) -> None:
    case.needs_states()
    net = case.as_net(case.module())
    case.run(net, case.inputs().requires_grad_())
    case.reset(net)
    hanging = [name for name, value in case.states(net).items() if value.grad_fn is not None]
    assert_true(not hanging, f"{', '.join(hanging)} still hang on the graph of the sequence before")


@check("reset-unused", "networks are reset before their first batch, too")
def a_reset_before_the_first_use_changes_nothing(case: Case) -> None:
    case.needs_states()
    x, net = case.inputs(), case.as_net(case.module())
    case.reset(net)
    case.reset(net)
    assert_equal(case.run(net, x), case.ran(x), "a network that was reset before its first use and a new one")


@check("batch-size", "the last batch of an epoch is smaller (SpikingJelly 369)")
def another_batch_size_after_a_reset_is_taken(case: Case) -> None:
    case.needs_states()
    net, x = case.as_net(case.module()), case.inputs(batch=5)
    case.run(net, case.inputs(batch=2))
    case.reset(net)
    assert_equal(case.run(net, x), case.ran(x), "another batch size after a reset and a new network")


@check("batch-size-without-reset", "states of one sample broadcast to a whole batch without any error")
def another_batch_size_without_a_reset_is_refused_or_starts_anew(case: Case) -> None:
    case.needs_states()
    net, x = case.as_net(case.module()), case.inputs(batch=4)
    case.run(net, case.inputs(batch=1, seed=4))
    try:
        output = case.run(net, x)
    except Exception:
        return  # refused
    assert_equal(output, case.ran(x), "another batch size without a reset and a new network")
