"""Training: bounds of parameters, evaluation, checkpoints of activations."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from .comparing import assert_equal, assert_true
from .derivatives import gradients
from .registry import NotApplicable, check
from .subject import Case

_OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1.0),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1.0),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1.0),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=1.0),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1.0),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=1.0),
}


@check(
    "bounds",
    "a leak above one explodes; a clamp in the forward pass leaves a parameter outside without a gradient",
    once=True,
)
def bounds_are_kept_by_every_optimizer(case: Case) -> None:
    if not case.bounds(case.module()):
        raise NotApplicable("declares no bounds")
    for name, made in _OPTIMIZERS.items():
        for sign in (1.0, -1.0):
            net = case.module(torch.float32)
            optimizer = made(net.parameters())
            for _ in range(3):
                for parameter in net.parameters():
                    parameter.grad = torch.full_like(parameter, sign * 100)
                optimizer.step()
            for path, (low, high) in case.bounds(net).items():
                value = net.get_parameter(path) if path in dict(net.named_parameters()) else None
                if value is not None:
                    inside = bool(((value >= low - 1e-6) & (value <= high + 1e-6)).all())
                    assert_true(inside, f"{name} took {path} to {float(value.min()):g} ... {float(value.max()):g}, "
                                f"out of [{low:g}, {high:g}]")  # fmt: skip


@check("evaluation", "a benchmark is run twice; what it measures must not depend on that")
def evaluation_repeats_itself_and_changes_no_weight(case: Case) -> None:
    x, net = case.inputs(), case.module()
    net.eval()
    assert_true(not any(module.training for module in net.modules()), "eval() did not reach every part")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        first = case.run(net, x)
        if case.carried:
            case.framework.reset_one(net)
        second = case.run(net, x, seed=99)
    assert_equal(second, first, "the second evaluation and the first", rtol=0, atol=0)
    for name, value in net.state_dict().items():
        assert_equal(value, before[name], f"{name} after evaluation and before", rtol=0, atol=0)


@check("train-eval-states", "a network is validated in the middle of a stream")
def changing_between_training_and_evaluation_leaves_the_states(case: Case) -> None:
    case.needs_states()
    net = case.module()
    with torch.no_grad():
        case.run(net, case.inputs())
        before = {name: value.clone() for name, value in case.states(net).items()}
        net.eval().train()
    after = case.states(net)
    assert_true(before.keys() == after.keys(), "the change of mode took states away")
    for name, value in before.items():
        assert_equal(after[name], value, f"{name} after a change of mode and before", rtol=0, atol=0)


@check("checkpoint", "torch.utils.checkpoint calls the function twice; a reset inside of it makes the two alike")
def a_checkpoint_that_resets_inside_has_the_plain_gradient(case: Case) -> None:
    def run(net, x):
        def function(x):
            if case.carried:
                case.framework.reset_one(net)
            return case.run(net, x)

        return checkpoint(function, x, use_reentrant=False)

    x = case.inputs()
    _same_gradients(gradients(case, case.module(), x, run), gradients(case, case.module(), x))


@check(
    "checkpoint-carried", "the second call of a checkpoint starts from states that have gone on: a wrong gradient, silently"
)
def a_checkpoint_without_a_reset_has_the_plain_gradient_or_is_refused(case: Case) -> None:
    def run(net, x):
        return checkpoint(lambda x: case.run(net, x), x, use_reentrant=False)

    x = case.inputs()
    expected = gradients(case, case.module(), x)
    try:
        found = gradients(case, case.module(), x, run)
    except Exception:
        return  # refused
    _same_gradients(found, expected)


def _same_gradients(found: dict, expected: dict) -> None:
    assert_true(found.keys() == expected.keys(), f"a checkpoint has gradients of {sorted(found)}, not {sorted(expected)}")
    for name, gradient in expected.items():
        assert_equal(found[name], gradient, f"the gradients of {name} with a checkpoint and without")
