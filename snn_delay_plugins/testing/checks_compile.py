"""torch.compile."""

from __future__ import annotations

import torch

from .comparing import assert_equal
from .derivatives import gradients
from .registry import NotApplicable, check
from .subject import Case


@check("compile", "one graph break in a neuron is one per step and per layer")
def a_compiled_module_is_one_graph_and_computes_alike(case: Case) -> None:
    x = case.inputs(3)
    torch._dynamo.reset()
    try:
        net = torch.compile(case.module(), fullgraph=True, backend="aot_eager", dynamic=False)
        assert_equal(case.run(net, x), case.ran(x), "a compiled module and an uncompiled one")
        try:
            expected = gradients(case, case.module(), x)
        except NotApplicable:
            return
        net = case.module()
        found = gradients(case, net, x, lambda net, x: case.run(torch.compile(net, fullgraph=True, backend="aot_eager"), x))
        for name, gradient in expected.items():
            if name not in found:
                raise AssertionError(f"compiled, {name} has no gradient")
            assert_equal(found[name], gradient, f"the gradients of {name} compiled and uncompiled")
    finally:
        torch._dynamo.reset()
