"""The operator of linear neurons: compiled code passes through it, and it refuses what its loops could not read."""

import pytest
import torch

from snn_delay_plugins.functional.linear_neuron import linear_neuron
from snn_delay_plugins.kernels.linear_neuron import operator  # noqa: F401 - registers it
from snn_delay_plugins.models import ADLIF_PLUS

STRUCTURE = ADLIF_PLUS.coefficients(dict.fromkeys(("alpha", "beta", "a", "b"), torch.tensor(0.5)), 1.0, "subtract", False)


def arguments(**changes):
    code = STRUCTURE.structure.code
    fitting = {
        "current": torch.rand(5, 6),
        "x0": torch.rand(6),
        "x1": torch.rand(6),
        "s": torch.zeros(6),
        "coefficients": torch.rand(7, 3),
        "code": code,
        "traces": False,
        "support": True,
        "width": 0.5,
        "height": 0.5,
    }
    return fitting | changes


@pytest.mark.parametrize("changes", [
    {"current": torch.rand(5, 7)}, {"current": torch.rand(5)}, {"current": torch.rand(5, 6).double()},
    {"x0": torch.rand(5)}, {"x1": torch.rand(0)}, {"s": torch.rand(6).double()}, {"coefficients": torch.rand(6, 3)},
    {"coefficients": torch.rand(7, 0)},
    {"coefficients": torch.rand(7, 4)}, {"code": -1}, {"code": 1 << 40}, {"current": torch.rand(5, 6).half()},
], ids=lambda changes: next(iter(changes)))  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(changes):
    torch.ops.snn_delay_plugins.linear_neuron(**arguments())
    with pytest.raises((TypeError, ValueError)):
        torch.ops.snn_delay_plugins.linear_neuron(**arguments(**changes))


def test_compiled_code_has_the_values_and_gradients_of_eager_code():
    parameters = {name: torch.full((3,), 0.5, requires_grad=True) for name in ("alpha", "beta", "a", "b")}
    current = torch.rand(40, 2, 3, requires_grad=True)

    def run(current):
        return linear_neuron(current * 4, ADLIF_PLUS.coefficients(parameters, 1.0, "subtract", False))[0]

    found = []
    for form in (run, torch.compile(run, backend="aot_eager", fullgraph=True)):
        spikes = form(current)
        found.append((spikes, *torch.autograd.grad((spikes * torch.arange(3.0)).sum(), [current, *parameters.values()])))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)
