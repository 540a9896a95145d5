"""A conformance kit for plug-ins of snnTorch and SpikingJelly: neurons and layers, ours or anybody's.

In the manner of scikit-learn's ``check_estimator``: one suite of named checks that every plug-in runs. pytest is needed for
the decorator alone::

    from snn_delay_plugins.testing import parametrize_with_checks
    import my_plugin

    @parametrize_with_checks({"my neuron": lambda: my_plugin.MyNeuron(beta=0.9)},
                             expected_failures={"bfloat16": "computes in float32 only"})
    def test_my_plugin(check):
        check()

:func:`check_neuron` and :func:`check_layer` run the same checks and return a report that prints, and
``python -m snn_delay_plugins.testing "my_plugin:MyNeuron(beta=0.9)"`` does so from a command line. The checks by name, with
what each asserts and why: ``docs/testing.md``.
"""

from .registry import Check, NotApplicable, all_checks
from .running import ConformanceError, Report, Result, check_layer, check_neuron, check_plugin
from .subject import Plugin, UnclearPlugin
from .with_pytest import parametrize_with_checks

__all__ = [
    "Check", "ConformanceError", "NotApplicable", "Plugin", "Report", "Result", "UnclearPlugin", "all_checks",
    "check_layer", "check_neuron", "check_plugin", "parametrize_with_checks",
]  # fmt: skip
