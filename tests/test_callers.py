"""Warnings point at the user's line, whatever lies between it and this package."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import snn_delay_plugins
from snn_delay_plugins.frameworks import installed

NEURONS = {"snntorch": "AdLIFPlus", "spikingjelly": "AdLIFPlusNode"}
SEQUENCE = torch.rand(20, 4, 40)  # into a neuron of single steps: warned of


@pytest.fixture(params=NEURONS)
def neuron(request):
    if request.param not in {framework.name for framework in installed()}:
        pytest.skip(f"{request.param} is missing: pip install 'snn_delay_plugins[{request.param}]'")
    return getattr(snn_delay_plugins, NEURONS[request.param])(features=40)


def here() -> int:
    """The line that this is called in."""
    return inspect.currentframe().f_back.f_lineno


def place_of_the_warning(call) -> tuple[str, int]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    (warning,) = told
    return warning.filename, warning.lineno


def test_the_line_of_the_forward_method_that_calls_a_neuron_is_named(neuron):
    class Net(nn.Module):
        def forward(self, x):
            self.line = here() + 1
            return neuron(x)

    net = Net()
    assert place_of_the_warning(lambda: nn.Sequential(net)(SEQUENCE)) == (__file__, net.line)


def test_a_decorator_of_torch_is_passed_over(neuron):
    @torch.no_grad()
    def decorated(x):
        lines.append(here() + 1)
        return neuron(x)

    lines: list[int] = []
    assert place_of_the_warning(lambda: decorated(SEQUENCE)) == (__file__, lines[0])


def test_a_sequential_is_passed_over(neuron):
    assert place_of_the_warning(lambda: nn.Sequential(neuron)(SEQUENCE)) == (__file__, here())


def test_a_checkpoint_is_passed_over(neuron):
    assert place_of_the_warning(lambda: checkpoint(neuron, SEQUENCE, use_reentrant=False)) == (__file__, here())


@pytest.mark.parametrize("between", [functools, contextlib], ids=lambda module: module.__name__)
def test_decorators_of_the_standard_library_between_package_and_user_are_passed_over(between):
    """As of a cached property or a decorated function of the package."""
    inside = Path(snn_delay_plugins.__file__).with_name("somewhere.py")
    warns = "from snn_delay_plugins.callers import user_level\nimport warnings\n"
    warns += "def told():\n    warnings.warn('of the package', stacklevel=user_level())"
    package, wrapper = {}, {}
    exec(compile(warns, str(inside), "exec"), package)
    exec(compile("def through(call):\n    call()", between.__file__, "exec"), wrapper)
    assert place_of_the_warning(lambda: wrapper["through"](package["told"])) == (__file__, here())


def test_a_thread_without_a_line_of_the_user_warns_once_and_goes_on(neuron):
    with ThreadPoolExecutor(1) as pool:
        place_of_the_warning(lambda: pool.submit(neuron, SEQUENCE).result())
